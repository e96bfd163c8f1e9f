"""What the plugin in the tests' containers noted, and whether it and the reports agree. Pure.

A report alone proves nothing: tests end the interpreter, overwrite the report, or get lost between shards.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.stages.containers import StageBroken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NODE: Final = "pipeline_node"  # properties that `watch` gives a case of pytest's report: its id as JSON,
PLACE: Final = "failed_at"  # and where in the project it failed, `path:line`
NAMED: Final = 5  # tests that a sentence names


class TestsLost(StageBroken):
    """What was collected is not what was run and reported: nobody knows whether the tests pass."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"cannot say whether the tests passed: {what}")
        self.hint = hint or None


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What became of the tests of one container, by pytest's ids."""

    found: frozenset[str] = frozenset()  # collected, by every shard alike
    chosen: frozenset[str] = frozenset()  # of those, what was to run here
    outcomes: Mapping[str, str]  # "passed", "failed" or "skipped"
    seconds: Mapping[str, float]
    again: frozenset[str] = frozenset()  # tried more than once by a plugin of the project's own
    running: tuple[str, ...] = ()  # begun and never ended
    is_whole: bool = False  # pytest came to its end

    @property
    def failed(self) -> frozenset[str]:
        """The tests that were bad."""
        return frozenset(test for test, outcome in self.outcomes.items() if outcome == "failed")


def parse_notes(texts: Sequence[str]) -> Notes:
    """Read the notes of every process of one container. A line that is none is passed over: what it would
    have told is then missed by those who ask.
    """
    found: set[str] = set()
    chosen: set[str] = set()
    again: set[str] = set()
    outcomes: dict[str, str] = {}
    seconds: dict[str, float] = {}
    begun: dict[str, None] = {}
    is_whole = False
    for line in (line for text in texts for line in text.split("\n")):
        match _object(line):
            case {"found": list(all_), "chosen": list(mine)}:
                found.update(map(str, all_))
                chosen.update(map(str, mine))
            case {"begun": str(test)}:
                begun[test] = None
            case {
                "ended": str(test),
                "outcome": str(outcome),
                "s": int() | float() as took,
                "again": once_more,
            }:
                begun.pop(test, None)
                outcomes[test], seconds[test] = outcome, float(took)
                again.update([test] if once_more else [])
            case {"done": int()}:
                is_whole = True
            case _:
                pass
    return Notes(
        found=frozenset(found),
        chosen=frozenset(chosen),
        outcomes=outcomes,
        seconds=seconds,
        again=frozenset(again),
        running=tuple(begun),
        is_whole=is_whole,
    )


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def check_shards(shards: Sequence[Notes]) -> None:
    """Prove that the shards are a partition of what was collected.

    Raises:
        TestsLost: They collected different tests, or a test is in none or in several of them.
    """
    found = shards[0].found
    for number, shard in enumerate(shards[1:], 2):
        if shard.found != found:
            raise TestsLost(
                f"shard {number} collected other tests than shard 1: {named(shard.found ^ found)}",
                "a test's id must be the same in each process: it may hang on a set's order, a time or a "
                "random number",
            )
    everywhere = [test for shard in shards for test in shard.chosen]
    if lost := found.difference(everywhere):
        raise TestsLost(f"{counted(lost)} collected and in no shard: {named(lost)}")
    if len(everywhere) != len(set(everywhere)):
        twice = {test for test in everywhere if everywhere.count(test) > 1}
        raise TestsLost(f"{counted(twice)} in several shards: {named(twice)}")


def check_report(notes: Notes, reported: Sequence[str], bad: frozenset[str]) -> None:
    """Prove that a whole report tells of each test that was to run, and of what became of it.

    Args:
        reported: The tests the report knows.
        bad: Those it calls bad.

    Raises:
        TestsLost: It lacks tests, or calls good what the runner saw fail.
    """
    if lost := notes.chosen.difference(reported):
        raise TestsLost(f"{counted(lost)} collected and not in the report: {named(lost)}")
    if hidden := notes.failed - bad:
        raise TestsLost(f"the report calls good what failed: {named(hidden)}")


def counted(tests: frozenset[str] | set[str]) -> str:
    """Say how many tests, with the verb."""
    return "1 test was" if len(tests) == 1 else f"{len(tests)} tests were"


def named(tests: frozenset[str] | set[str]) -> str:
    """Name the first few tests."""
    names = sorted(tests)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
