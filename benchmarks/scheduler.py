"""What the scheduler costs: milliseconds a stage beside bare awaits, and makespan beside the critical path.

    python benchmarks/scheduler.py [--check]

Prints one line a figure. With `--check` it ends in 1 when a limit is missed: 1 ms a stage on 1,000 empty
stages, makespan at most 1.05 times the critical path on two slots.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from types import FunctionType
from typing import Any

from pipeline import Context, stage
from pipeline.graph.cache import StageCache
from pipeline.graph.inputs import ProjectFiles
from pipeline.graph.plan import Graph
from pipeline.graph.record import RunFolder
from pipeline.graph.run import RunSettings, run

STAGES = 1000
LIMIT_MS = 1.0
LIMIT_RATIO = 1.05
NO_FILES = ProjectFiles(digests={}, from_git=False)


async def empty(ctx: Context) -> None:
    """Do nothing."""


def make_stage(index: int, after: list[str], body: Any = empty, inputs: tuple[str, ...] = ()) -> Any:
    """A stage of its own name that does what `body` does."""
    function = FunctionType(body.__code__, body.__globals__, f"s{index}", None, body.__closure__)
    function.__annotations__ = dict(body.__annotations__)
    function.__module__ = __name__
    return stage(name=f"s{index}", after=after, inputs=inputs)(function)


def graphs() -> dict[str, Graph]:
    """Shapes of 1,000 stages: all independent, one chain, layers of ten."""
    layers = [
        make_stage(i, [f"s{j}" for j in range(i // 10 * 10 - 10, i // 10 * 10) if j >= 0])
        for i in range(STAGES)
    ]
    return {
        "independent": Graph([make_stage(i, []) for i in range(STAGES)]),
        "chain": Graph([make_stage(i, [f"s{i - 1}"] if i else []) for i in range(STAGES)]),
        "layers of ten": Graph(layers),
    }


async def bare(count: int) -> float:
    """Seconds to await the empty function, one task a stage."""
    began = time.perf_counter()
    for _ in range(count):
        await asyncio.create_task(empty(None))  # type: ignore[arg-type]  # it looks at nothing
    return time.perf_counter() - began


async def one_run(graph: Graph, folder: Path, cache: StageCache | None = None, slots: int = 2) -> float:
    """Seconds of one run of the whole graph."""
    settings = RunSettings(
        root=folder,
        folder=RunFolder.create(folder / "runs", time.time()),
        slots=slots,
        files=NO_FILES,
        cache=cache,
        handle_signals=False,
    )
    began = time.perf_counter()
    result = await run(graph.select(), settings)
    assert result.exit_code == 0, result
    return time.perf_counter() - began


def sleepers() -> tuple[Graph, float]:
    """A graph of sleeping stages for two slots, and the length of its critical path in seconds."""

    async def short(ctx: Context) -> None:
        await asyncio.sleep(0.05)

    async def long(ctx: Context) -> None:
        await asyncio.sleep(0.2)

    stages = [make_stage(0, [], short)]
    for index in range(1, 9):  # the critical path: eight long ones in a row; beside each, four short ones
        stages.append(make_stage(index, [f"s{index - 1}"], long))
    for index in range(9, 33):
        before = (index - 9) // 3
        stages.append(make_stage(index, [f"s{before}"], short))
    return Graph(stages), 0.05 + 8 * 0.2


async def measure() -> list[tuple[str, float, float | None, str]]:
    """Rows of name, figure, limit and unit."""
    rows: list[tuple[str, float, float | None, str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = await bare(STAGES) / STAGES * 1000
        rows.append(("bare await of an empty task", base, None, "ms"))
        for shape, graph in graphs().items():
            figures, used = [], []
            for _ in range(3):
                before = time.process_time()
                figures.append(await one_run(graph, folder))
                used.append(time.process_time() - before)
            figure, cpu = min(figures) / STAGES * 1000, min(used) / STAGES * 1000
            rows.append((f"a stage of 1,000, {shape}", figure - base, LIMIT_MS, "ms over bare"))
            rows.append(("  of which CPU", cpu, None, "ms"))
        cache = StageCache(folder / "cache")
        chain = graphs()["chain"]
        rows.append(("a stage stored", await one_run(chain, folder, cache) / STAGES * 1000, None, "ms"))
        rows.append(("a stage cached", await one_run(chain, folder, cache) / STAGES * 1000, None, "ms"))
        graph, critical_s = sleepers()
        ratio = await one_run(graph, folder) / critical_s
        rows.append(("makespan of sleeping stages, two slots", ratio, LIMIT_RATIO, "x critical path"))
    return rows


def main() -> int:
    """Measure, print, and check when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="end in 1 when a limit is missed")
    options = parser.parse_args()
    missed = False
    for name, figure, limit, unit in asyncio.run(measure()):
        allowed = "" if limit is None else f"   (limit {limit:g})"
        print(f"{name:45} {figure:8.3f} {unit}{allowed}")
        missed = missed or (limit is not None and figure > limit)
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
