"""How near do four shards of a two-minute suite come to the ideal on this machine?

A project of 24 files with 120 s of tests, some asleep and some at work, is run twice by the real command with
`shards = 4`: first with nothing known of the tests, then split by how long each took. The ideal is what no
split can beat: the longest test, the seconds of all tests over the shards, the seconds of work over the CPUs.
On a machine that others use too, work takes longer than its seconds: the second ratio is against the seconds
that the tests really took.

    python benchmarks/sharding.py --store DIR [--shards 4] [--seconds 120] [--work 0.2]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FILES = 24
LONGEST_S = 8.0
PYPROJECT = """
[project]
name = "suite"
version = "1"
requires-python = ">=3.11"
[tool.pipeline.stages.unit]
shards = {shards}
"""
TEST = """
import time

def work(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass

"""


def make_suite(root: Path, shards: int, total_s: float, work: float, seed: int) -> list[tuple[float, float]]:
    """Write the project; give the seconds of sleep and of work of each test."""
    chance = random.Random(seed)  # noqa: S311 - the same suite each time
    weights = [chance.lognormvariate(0.0, 1.0) for _ in range(FILES * 5)]
    scale = total_s / sum(weights)
    seconds = [min(weight * scale, LONGEST_S) for weight in weights]
    tests = [(one * (1 - work), one * work) for one in seconds]
    (root / "tests").mkdir(parents=True)
    (root / "pyproject.toml").write_text(PYPROJECT.format(shards=shards))
    (root / "suite.py").write_text("X = 1\n")
    for number in range(FILES):
        mine = tests[number * 5 : number * 5 + 5]
        lines = [
            f"def test_{n}():\n    time.sleep({asleep:.3f})\n    work({busy:.3f})\n"
            for n, (asleep, busy) in enumerate(mine)
        ]
        (root / "tests" / f"test_{number:02}.py").write_text(TEST + "\n".join(lines))
    for argv in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *argv], cwd=root, check=True)
    return tests


def run(root: Path, store: str) -> tuple[float, float, list[float]]:
    """Run the stage anew; give the seconds of its test containers, of the whole stage, and of each test."""
    argv = [sys.executable, "-m", "pipeline", "-C", str(root), "run", "--only", "unit", "--no-cache", "-q"]
    environ = {**os.environ, "PIPELINE_STORE": store, "PIPELINE_IMAGE_FALLBACK": "recipe"}
    subprocess.run([*argv, "-j", "99"], env=environ, check=True, stdout=subprocess.DEVNULL)
    folder = max((root / ".pipeline" / "runs").iterdir())
    events: list[dict[str, Any]] = [json.loads(line) for line in (folder / "events.jsonl").open()]
    steps = [e for e in events if e["kind"] == "StageStep" and e["stage"] == "unit" and "pytest" in e["argv"]]
    wall = max(e["at"] for e in steps) - min(e["at"] - e["duration_s"] for e in steps)
    stage = json.loads((folder / "run.json").read_text())["stages"]["unit"]["duration_s"]
    noted = json.loads((root / ".pipeline/cache/v1/notes/unit/tests.json").read_text())
    return wall, stage, list(noted["seconds"].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--store", required=True, help="folder of the engine's store")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--work", type=float, default=0.2, help="share of the seconds that is work")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--runs", type=int, default=2, help="runs with known durations")
    args = parser.parse_args()
    cpus = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "suite"
        tests = make_suite(root, args.shards, args.seconds, args.work, args.seed)
        total, busy = sum(map(sum, tests)), sum(work for _, work in tests)
        ideal = max(max(map(sum, tests)), total / args.shards, busy / cpus)
        print(f"{len(tests)} tests, {total:.1f} s, of that {busy:.1f} s of work; {cpus} CPUs")
        print(f"ideal of {args.shards} shards: {ideal:.2f} s")
        for number in range(args.runs + 1):
            wall, stage, took = run(root, args.store)
            how = "nothing known" if number == 0 else "split by known durations"
            real = max(max(took), sum(took) / args.shards)
            print(f"{how}: tests {wall:.2f} s, whole stage {stage:.2f} s", flush=True)
            print(f"  {wall / ideal:.3f} x ideal (whole stage {stage / ideal:.3f})")
            print(f"  {wall / real:.3f} x ideal of the {sum(took):.1f} s that the tests took", flush=True)


if __name__ == "__main__":
    main()
