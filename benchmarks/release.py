"""Planning a release of many commits: how long it takes, beside `git log` alone, and how it grows.

    .venv/bin/python benchmarks/release.py

The plan of 100, 1,000 and 10,000 commits, five times each; CPU time is of this process and of git.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from pipeline.config.release import ReleaseSettings
from pipeline.release.plan import ReleasePlan, Request, make_plan
from pipeline.release.repository import Repository

TIMES = 5
BEGAN_S = 1_767_225_600


def make_repository(root: Path, commits: int) -> None:
    """Make a repository of conventional commits by fifty people."""
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    parts = ["blob\nmark :1\ndata 1\nx"]
    for number in range(commits):
        kind = "fix" if number % 3 else "feat"
        message = f"{kind}(part{number % 7}): change number {number} (#{number})\n\nWhat it does, and why.\n"
        parts.append(
            f"commit refs/heads/main\ncommitter A{number % 50} <a{number % 50}@b> {BEGAN_S + number} +0000\n"
            f"data {len(message)}\n{message}M 100644 :1 f{number % 10}"
        )
    given = "\n".join([*parts, ""]).encode()
    subprocess.run(["git", "fast-import", "--quiet"], cwd=root, input=given, check=True)
    subprocess.run(["git", "reset", "-q", "--hard"], cwd=root, check=True)


def cpu_s() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main() -> None:
    os.environ.update(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull)
    print("commits  git log alone   plan, min   plan, median   CPU, min")
    with tempfile.TemporaryDirectory() as folder:
        for commits in (100, 1_000, 10_000):
            root = Path(folder) / str(commits)
            make_repository(root, commits)
            raw, took, used = [], [], []
            for _ in range(TIMES):
                began = time.perf_counter()
                subprocess.run(
                    ["git", "log", "-z", "--format=%H%x00%B"], cwd=root, check=True, capture_output=True
                )
                raw.append(time.perf_counter() - began)
                began, before = time.perf_counter(), cpu_s()
                plan = make_plan(Repository(root=root), ReleaseSettings(), Request(name="app"))
                took.append(time.perf_counter() - began)
                used.append(cpu_s() - before)
                assert isinstance(plan, ReleasePlan)
            print(
                f"{commits:7}  {min(raw) * 1000:10.0f} ms  {min(took) * 1000:7.0f} ms  "
                f"{statistics.median(took) * 1000:10.0f} ms  {min(used) * 1000:7.0f} ms"
            )


if __name__ == "__main__":
    main()
