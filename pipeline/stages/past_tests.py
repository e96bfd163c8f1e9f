"""What earlier runs of a stage told of its tests: how long each took, and which were good and bad. Pure.

Kept as one note of the stage, `tests.json`: it splits the tests into shards and finds those that are flaky.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOTE: Final = "tests.json"
SCHEMA: Final = 1
RUNS_KEPT: Final = 50
NAMES_KEPT: Final = 1000  # bad tests of one run


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """What one run told; tests by the runner's ids."""

    run_id: str
    key: str  # of the stage before it ran: equal keys are equal inputs; "" unknown
    tests: int
    bad: tuple[str, ...] = ()  # in their first try
    flaky: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PastTests:
    """All that is remembered; runs oldest first."""

    seconds: Mapping[str, float] = field(default_factory=dict)  # of each test, when it last ran
    runs: tuple[PastRun, ...] = ()

    def were_bad(self, key: str) -> dict[str, str]:
        """The tests that were once bad on inputs of this key, and in which run."""
        return {test: run.run_id for run in self._of(key) for test in run.bad}

    def were_good(self, key: str, tests: Sequence[str]) -> dict[str, str]:
        """Those of the tests that were once good on inputs of this key, and in which run."""
        return {test: run.run_id for run in self._of(key) for test in tests if test not in run.bad}

    def _of(self, key: str) -> list[PastRun]:
        return [run for run in self.runs if key and run.key == key]

    def with_run(self, run: PastRun, seconds: Mapping[str, float]) -> PastTests:
        """This and one more run, whole, whose tests took so long; what it did not have is forgotten."""
        return PastTests(seconds=dict(seconds), runs=(*self.runs, run)[-RUNS_KEPT:])


def parse_past(data: bytes | None) -> PastTests:
    """Read the note; one that is lost, damaged or of another version tells nothing."""
    try:
        found: Any = json.loads(data or b"{}")
        if found["schema"] != SCHEMA:
            return PastTests()
        runs = [{**run, "bad": tuple(run["bad"]), "flaky": tuple(run["flaky"])} for run in found["runs"]]
        return PastTests(
            seconds={str(test): float(took) for test, took in found["seconds"].items()},
            runs=tuple(PastRun(**run) for run in runs),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return PastTests()


def write_past(past: PastTests) -> bytes:
    """Write the note."""
    runs = [
        {**asdict(run), "bad": run.bad[:NAMES_KEPT], "flaky": run.flaky[:NAMES_KEPT]} for run in past.runs
    ]
    table = {"schema": SCHEMA, "seconds": dict(past.seconds), "runs": runs}
    return json.dumps(table, separators=(",", ":")).encode()


def flakiest(past: PastTests) -> list[tuple[str, int]]:
    """The flaky tests of the remembered runs, with the number of runs in which each was; most often first."""
    counts: dict[str, int] = {}
    for run in past.runs:
        for test in run.flaky:
            counts[test] = counts.get(test, 0) + 1
    return sorted(counts.items(), key=lambda row: (-row[1], row[0]))
