"""What all scan stages take on a repository: cold, after one file changed, and when nothing did.

    python benchmarks/scans.py [--tree FOLDER] [--store FOLDER] [--semgrep] [--keep FOLDER]

Without `--tree` a repository of 426 files and 118,000 lines is made by a fixed seed: 242 Python files,
scripts, Dockerfiles, workflows, manifests and texts, and a lock file of 165 packages with an OSV database. A
small project runs before, so that images and tools are there: what is told is beyond their installation.
CPU seconds are those of all processes, containers included; memory is the most anonymous memory that all of
them had at once, sampled ten times a second. `--store` names an engine's store that has the images; a number
that is another in each run stands in every file, so that an engine has no answers from an earlier one.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STAGES: Final = "checkout,sast,secret_scan,quality,dependency_scan"
BARS: Final = {"wall_s": 30.0, "anon_mb": 500.0}
CHANGED: Final = 0.25
SUBREAPER: Final = 36
SETTINGS: Final = """
[project]
name = "big"
version = "1"
requires-python = ">=3.11"

[tool.pipeline.images]
fallback = "recipe"

[tool.pipeline.stages.deps]
enabled = false

[tool.pipeline.stages.container_build]
enabled = false

[tool.pipeline.sast]
scanners = [SCANNERS]

[tool.pipeline.policy.rules]
fail_on = "never"

[tool.pipeline.dependency_scan.sources.own]
kind = "osv-file"
address = "osv.json"
"""
WORKFLOW: Final = """
name: w{number}
on: [push]
permissions: {{}}
jobs:
  j:
    runs-on: ubuntu-latest
    steps:
      - run: echo ${{{{ github.sha }}}}
"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run."""

    wall_s: float
    cpu_s: float
    anon_mb: float  # of all processes at once
    own_mb: float  # of the command alone
    stages: dict[str, tuple[str, float]]  # outcome and seconds


def function(number: int, chance: random.Random) -> str:
    """Some lines of code, now and then with something to find."""
    names = [f"value_{chance.randrange(1000)}" for _ in range(6)]
    lines = [f"def work_{number}({', '.join(dict.fromkeys(names))}):", f'    """Do {names[0]}."""']
    for name in names:
        lines += [
            f"    total_{name} = [{name}, {chance.randrange(99)}, len(str({name}))]",
            f"    if total_{name} and {name} != {chance.randrange(99)}:",
            f"        total_{name} = sorted(total_{name}, key=lambda one: one * {chance.randrange(1, 9)})",
            f"    text_{name} = f'{{{name}}} of {chance.randrange(99)}'.strip()",
        ]
    bad = (
        "eval(text)",
        "subprocess.call(text, shell=True)",
        "hashlib.md5(text.encode())",
        "pickle.loads(text)",
    )
    if chance.random() < 0.15:
        lines += ["    text = str(locals())", f"    {chance.choice(bad)}"]
    return "\n".join([*lines, f"    return total_{names[0]}", "", ""])


def repository(chance: random.Random, python: int = 242, functions: int = 15) -> Iterator[tuple[str, str]]:
    """The files of a made-up repository, as no engine has seen it."""
    mark = time.time_ns()
    head = f'"""Module {mark}."""\n\nimport hashlib\nimport pickle\nimport subprocess\n\n\n'
    for number in range(python):
        body = "".join(function(index, chance) for index in range(functions))
        yield f"src/big/part{number % 20}/module{number}.py", head + body
    share = max(1, python // 242)
    for number in range(20 * share if python > 1 else 1):
        yield f"scripts/run{number}.sh", f"#!/bin/sh\n# {mark}\nset -e\n" + "echo $1 | cat\n" * 20
    for number in range(4 if python > 1 else 1):
        yield f"images/{number}/Dockerfile", f"FROM debian:12-slim\nRUN apt install {mark}\nUSER nobody\n"
        yield f".github/workflows/w{number}.yml", WORKFLOW.format(number=f"{number}-{mark}")
    for number in range(153 if python > 1 else 1):
        words = " ".join(chance.choice(("alpha", "beta", "gamma", "delta")) for _ in range(12))
        yield f"docs/text{number}.md", f"# Text {number}\n\n" + f"{words}\n" * 95
    pins = "".join(f"package-{number}=={number % 9}.{number % 7}.1\n" for number in range(165))
    yield "requirements.txt", pins
    yield ".gitignore", ".pipeline\nosv.json\n"


def advisories() -> str:
    """A database with a canary and two hundred records."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    records = [("django", "2.2.3"), *((f"package-{number}", "0.1") for number in range(200))]
    made: list[dict[str, Any]] = []
    for name, fixed in records:
        events = [{"introduced": "0"}, {"fixed": fixed}]
        affected = {"package": {"ecosystem": "PyPI", "name": name}}
        ranges = [{"type": "ECOSYSTEM", "events": events}]
        made.append({"id": f"GHSA-{name}", "modified": now, "affected": [{**affected, "ranges": ranges}]})
    return json.dumps(made)


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write files and commit all that is there."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for argv in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "all")):
        settings = ("-c", "user.name=b", "-c", "user.email=b@example.org")
        subprocess.run(["git", *settings, *argv], cwd=root, check=True, capture_output=True)


def run(root: Path, environ: Mapping[str, str]) -> Measured:
    """Run the stages and measure; the command's processes, orphans included, are waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    argv = [sys.executable, "-m", "pipeline", "-C", str(root), "run", "-q", "--keep-going", "--only", STAGES]
    process = subprocess.Popen(argv, env={**os.environ, **environ}, stdout=subprocess.DEVNULL)
    peak = own = 0
    wall_s = 0.0
    while True:
        everything = below(os.getpid())
        peak = max(peak, sum(everything.values()))
        own = max(own, everything.get(process.pid, 0))
        if process.poll() is not None:
            wall_s = wall_s or time.monotonic() - began
            if not reap():
                break
        time.sleep(0.1)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    folder = max((root / ".pipeline/runs").iterdir())
    stages = json.loads((folder / "run.json").read_text())["stages"]
    return Measured(
        wall_s=wall_s,
        cpu_s=used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime,
        anon_mb=peak / 1024,
        own_mb=own / 1024,
        stages={
            name: ("cached" if one["cached"] else one["outcome"], one.get("duration_s") or 0.0)
            for name, one in stages.items()
            if name in STAGES.split(",")
        },
    )


def below(pid: int) -> dict[int, int]:
    """The anonymous memory of each process below this one, in KiB."""
    parents: dict[int, list[int]] = {}
    memory: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
            parents.setdefault(int(told["PPid"]), []).append(int(entry))
            memory[int(entry)] = int(told.get("RssAnon", "0 kB").split()[0])
    found: dict[int, int] = {}
    todo = list(parents.get(pid, ()))
    while todo:
        one = todo.pop()
        found[one] = memory[one]
        todo += parents.get(one, ())
    return found


def reap() -> bool:
    """Wait for what has ended; whether something still lives."""
    try:
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
    except ChildProcessError:
        return False


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, help="a repository to copy in place of the made-up one")
    parser.add_argument("--store", type=Path, help="an engine's store with the images")
    parser.add_argument("--semgrep", action="store_true")
    parser.add_argument("--keep", type=Path, help="leave the projects here")
    given = parser.parse_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    names = '"ruff", "bandit"' + ', "semgrep"' * given.semgrep
    more = {"pyproject.toml": SETTINGS.replace("SCANNERS", names), "osv.json": advisories()}
    with tempfile.TemporaryDirectory() as name:
        folder = given.keep or Path(name)
        store = given.store or folder / "store"
        environ = {
            "PIPELINE_STORE": str(store),
            "PIPELINE_SCAN_DATA": "/nowhere",
            "PIPELINE_ENGINE_IDLE": "0",
        }
        small, root = folder / "small", folder / "project"
        chance = random.Random(20261124)  # noqa: S311 - the same repository each time
        write(small, {**dict(repository(chance, 1, 1)), **more})
        run(small, environ)
        if given.tree:
            shutil.copytree(
                given.tree, root, symlinks=True, ignore=shutil.ignore_patterns(".git", ".pipeline")
            )
        write(root, more if given.tree else {**dict(repository(chance)), **more})
        listed = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True)
        files = listed.stdout.split("\n")[:-1]
        lines = sum((root / one).read_bytes().count(b"\n") for one in files)
        print(f"{len(files)} files, {lines} lines\n")
        cold = run(root, environ)
        changed = next(root / one for one in files if one.endswith(".py"))
        changed.write_text(changed.read_text() + "\n\ndef added():\n    return eval('1')\n")
        warm = run(root, environ)
        same = run(root, environ)
    print("| | wall | CPU | all memory | the command's | stages |\n|---|---|---|---|---|---|")
    for title, one in (("cold", cold), ("one file changed", warm), ("nothing changed", same)):
        told = ", ".join(f"{stage} {how} {took:.1f}" for stage, (how, took) in one.stages.items())
        memory = f"{one.anon_mb:.0f} MB | {one.own_mb:.0f} MB"
        print(f"| {title} | {one.wall_s:.1f} s | {one.cpu_s:.1f} s | {memory} | {told} |")
    wall, cpu = warm.wall_s / cold.wall_s, warm.cpu_s / cold.cpu_s
    print(f"\none file changed over cold: {wall:.2f} of wall, {cpu:.2f} of CPU")
    print(f"bars: {BARS['wall_s']:.0f} s, {BARS['anon_mb']:.0f} MB, {CHANGED:.0%}, not run")


if __name__ == "__main__":
    main()
