"""Print how long the stage `sast` takes, and how much of what bandit finds ruff finds too.

    .venv/bin/python benchmarks/sast.py [--tree FOLDER] [--store FOLDER] [--all]

Without a tree, 242 files of the standard library are taken. The seconds of the stage, and the CPU seconds of
all processes, are compared with those of a project of one file, in one store: what is left is the scanner's
work. `--all` runs semgrep too. A first run on another file installs ruff; a number, another in each run,
stands in every file, so that an engine has no answers from an earlier one.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from scans import SUBREAPER, reap

FILES = 242
LINES = 118_000
RUFF = '[tool.pipeline.sast]\nscanners = ["ruff"]\n[tool.pipeline.policy.rules]\nfail_on = "never"\n'
EXTRA = "import pickle\n\n\ndef again(file):\n    return pickle.load(file)\n"


def standard_library() -> list[Path]:
    """Return files of the standard library, about as many and as long as the bar wants."""
    found = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"), key=lambda one: one.stat().st_size)
    some = [one for one in found if "site-packages" not in one.parts and "lib2to3" not in one.parts]
    middle = next(
        start
        for start in range(len(some) - FILES)
        if sum(one.read_bytes().count(b"\n") for one in some[start : start + FILES]) >= LINES
    )
    return some[middle : middle + FILES]


def make(root: Path, files: dict[str, bytes], settings: str) -> None:
    """Make a repository of some files."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "pyproject.toml").write_text(settings)
    (root / ".gitignore").write_text(".pipeline\n")
    for argv in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *argv], cwd=root, check=True)


def run(root: Path, store: Path) -> tuple[float, float, dict[str, Any]]:
    """Run the stage; return its seconds, the CPU seconds of the whole run and what it found."""
    environ = {**os.environ, "PIPELINE_STORE": str(store), "PIPELINE_IMAGE_FALLBACK": "recipe"}
    environ["PIPELINE_ENGINE_IDLE"] = "0"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = [sys.executable, "-m", "pipeline", "-C", str(root), "run", "--only", "sast"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    while reap():
        time.sleep(0.1)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    folder = max((root / ".pipeline" / "runs").iterdir())
    told = json.loads((folder / "run.json").read_text())["stages"]["sast"]
    kept = folder / "stages" / "sast" / "files" / "findings.json"
    if not kept.exists():
        sys.exit(done.stderr)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return told["duration_s"], cpu_s, json.loads(kept.read_text())


def overlap(findings: list[dict[str, Any]]) -> tuple[int, int]:
    """Return how many of bandit's findings ruff has at the same place, and how many there are."""
    tools = [{witness["tool"] for witness in one["witnesses"]} for one in findings]
    of_bandit = [one for one in tools if "bandit" in one]
    return sum("ruff" in one for one in of_bandit), len(of_bandit)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--all", action="store_true")
    given = parser.parse_args()
    paths = sorted(given.tree.rglob("*.py")) if given.tree else standard_library()
    mark = f"\n# {time.time_ns()}\n".encode()
    files = {f"src/f{number:04}_{path.name}": path.read_bytes() + mark for number, path in enumerate(paths)}
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    lines = sum(data.count(b"\n") for data in files.values())
    print(f"{len(files)} files, {lines} lines")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        store = given.store or work / "store"
        make(work / "first", {"a.py": b"X = 0\n" + mark}, RUFF)
        make(work / "one", {"a.py": b"X = 1\n" + mark}, RUFF)
        make(work / "big", files, RUFF)
        run(work / "first", store)
        start, start_cpu, _ = run(work / "one", store)
        cold, cold_cpu, _ = run(work / "big", store)
        (work / "big" / "src" / "new.py").write_text(EXTRA)
        subprocess.run(["git", "add", "-A"], cwd=work / "big", check=True)
        changed, changed_cpu, _ = run(work / "big", store)
        print(f"ruff: all {cold:.2f} s, a project of one file {start:.2f} s, one changed {changed:.2f} s")
        print(f"CPU: all {cold_cpu:.2f} s, one file {start_cpu:.2f} s, one changed {changed_cpu:.2f} s")
        print(f"beyond the container: {cold - start:.2f} s, CPU {cold_cpu - start_cpu:.2f} s")
        both = '"ruff", "bandit", "semgrep"' if given.all else '"ruff", "bandit"'
        shutil.rmtree(work / "big" / ".pipeline")
        (work / "big" / "pyproject.toml").write_text(RUFF.replace('"ruff"', both))
        seconds, _, document = run(work / "big", store)
        same, of_bandit = overlap([one["finding"] for one in document["verdict"]["judged"]])
        print(f"{both}: {seconds:.1f} s; {same} of bandit's {of_bandit} findings are ruff's too", end="")
        print(f" ({same / max(of_bandit, 1):.3f})")


if __name__ == "__main__":
    main()
