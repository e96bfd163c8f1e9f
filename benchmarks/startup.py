"""How long commands that start nothing take, beside an empty Python in the same run.

    .venv/bin/python benchmarks/startup.py [PROJECT]

Measures the installed `pipeline` command in PROJECT (this repository) with compiled bytecode, as an installed
wheel has it: `PYTHONDONTWRITEBYTECODE` is taken away and one run of each is not counted. Rounds of all
commands are interleaved, so that a busy moment of the machine hits them alike.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 10
BUDGET_MS = 150


def measure(argv: list[str], cwd: Path, environ: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of one run; a command that fails would measure nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        argv, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stderr.decode()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_stage(command: str, cwd: Path, environ: dict[str, str]) -> str:
    """A stage of the project to explain."""
    listed = subprocess.run(
        [command, "list"], cwd=cwd, env=environ, capture_output=True, text=True, check=True
    )
    return listed.stdout.splitlines()[-1].split()[0]


def main() -> None:
    """Print minimum and median of each command, its CPU time, and the ratio to the empty Python."""
    project = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    command = str(Path(sys.executable).parent / "pipeline")
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    stage = first_stage(command, project, environ)
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "pipeline --help": [command, "--help"],
        "pipeline list": [command, "list"],
        "pipeline plan": [command, "plan"],
        "pipeline graph": [command, "graph"],
        f"pipeline explain {stage}": [command, "explain", stage],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for round_ in range(ROUNDS + 1):
        for name, argv in commands.items():
            took = measure(argv, project, environ)
            if round_:
                times[name].append(took)
    empty, _ = min(times["python -c pass"])
    print(f"{'command':28} {'min':>6} {'median':>7} {'CPU':>6} {'x empty':>8}  budget {BUDGET_MS} ms")
    for name, taken in times.items():
        least, middle = min(taken)[0], statistics.median(wall for wall, _ in taken)
        cpu = min(cpu for _, cpu in taken)
        verdict = "ok" if least * 1000 <= BUDGET_MS else "over"
        walls = f"{least * 1000:4.0f}ms {middle * 1000:5.0f}ms {cpu * 1000:4.0f}ms"
        print(f"{name:28} {walls} {least / empty:7.1f}x  {verdict}")


if __name__ == "__main__":
    main()
