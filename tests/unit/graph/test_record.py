"""Run folders, events on disk, history."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from pipeline.graph.context import BadArtifactName
from pipeline.graph.events import (
    Event,
    PlannedStage,
    RunFinished,
    RunStarted,
    StageFinished,
    StageOutput,
    StageQuiet,
    StageRetried,
    StageStarted,
    StageStep,
)
from pipeline.graph.history import (
    History,
    RunAmbiguous,
    RunLine,
    RunNotFound,
    StageTime,
    failed_stages,
    find_run,
    list_runs,
    read_events,
)
from pipeline.graph.outcome import Failure, Outcome
from pipeline.graph.record import RunFolder, new_run_id, prune_runs
from pipeline.graph.wire import BadEvent, event_from_line, event_to_line

if TYPE_CHECKING:
    from pathlib import Path

FAILURE = Failure(message="bad \udcff", command=("a", "b"), exit_code=2, tail=("x",), hint="try")
STARTED = RunStarted(
    at=1.0,
    run_id="r",
    command=("run",),
    project="p",
    commit="",
    dirty=False,
    environment="",
    stages=(
        PlannedStage(name="a", needs=("b",), after=(), action="run", why="w", effect=False, expected_s=1.5),
    ),
)
EVENTS: list[Event] = [
    STARTED,
    StageStarted(at=1.0, stage="a", attempt=1, why="w"),
    StageOutput(at=1.0, stage="a", stream="stdout", text="line\u2028\n"),
    StageStep(at=1.0, stage="a", argv=("sh", "-c", "x"), cached=True, exit_code=None, duration_s=0.5),
    StageQuiet(at=1.0, stage="a", quiet_s=60.0),
    StageRetried(at=1.0, stage="a", attempt=1, failure=FAILURE, wait_s=1.0),
    StageFinished(
        at=2.0,
        stage="a",
        outcome=Outcome.ERROR,
        why="w",
        duration_s=1.0,
        attempts=2,
        soft_failed=True,
        failure=FAILURE,
        kept=("f",),
    ),
    RunFinished(at=2.0, outcome=Outcome.ERROR, exit_code=1, duration_s=1.0, message="m"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_survives_its_line(event: Event) -> None:
    """One line each, whatever the text holds."""
    line = event_to_line(event)

    assert "\n" not in line
    assert event_from_line(line) == event


def test_a_field_of_a_later_version_is_left_out() -> None:
    """Old readers read new runs."""
    line = json.dumps({"kind": "StageQuiet", "at": 1.0, "stage": "a", "quiet_s": 2.0, "new": [1]})

    assert event_from_line(line) == StageQuiet(at=1.0, stage="a", quiet_s=2.0)


@pytest.mark.parametrize("line", ["", "{", "[]", "3", '{"kind": "Nothing"}', '{"kind": "StageQuiet"}', "{}"])
def test_a_line_that_is_no_event_is_refused(line: str) -> None:
    """With what was wrong."""
    with pytest.raises(BadEvent, match="cannot read the event"):
        event_from_line(line)


def test_the_folder_has_all_but_output_in_events_and_output_in_logs(tmp_path: Path) -> None:
    """Log texts end their lines; streams are kept as they come."""
    folder = RunFolder.create(tmp_path / "runs", 0.0)

    for event in EVENTS[:-1]:
        folder.write(event)
    folder.write(StageOutput(at=1.0, stage="a", stream="log", text="said"))
    folder.write(StageOutput(at=1.0, stage="a", stream="stderr", text="par"))
    folder.write(EVENTS[-1])

    assert list(read_events(folder.path)) == [e for e in EVENTS if not isinstance(e, StageOutput)]
    assert (folder.path / "stages/a/log.txt").read_text("utf-8") == "line\u2028\nsaid\npar"


def test_a_last_line_cut_short_is_left_out_and_a_damaged_one_in_the_middle_is_told(tmp_path: Path) -> None:
    """The first is what a kill leaves; the second means that somebody wrote into it."""
    line = event_to_line(EVENTS[1])
    (tmp_path / "events.jsonl").write_text(f"{line}\n{line[:20]}")
    assert list(read_events(tmp_path)) == [EVENTS[1]]

    (tmp_path / "events.jsonl").write_text(f"{line[:20]}\n{line}\n")
    with pytest.raises(BadEvent):
        list(read_events(tmp_path))


def test_run_ids_sort_by_time_and_are_unique(tmp_path: Path) -> None:
    """Also for runs that start together."""
    ids = [new_run_id(1_700_000_000 + second * 0.999) for second in range(50)]
    made: list[RunFolder] = []

    threads = [
        threading.Thread(target=lambda: made.append(RunFolder.create(tmp_path / "runs", 1_700_000_000.5)))
        for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ids == sorted(ids)
    assert ids[0].startswith("20231114-221320-000-")
    assert len({folder.run_id for folder in made}) == 50


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\\b", "a\0b", "a\nb", "x" * 201]
)
def test_names_of_kept_files_cannot_escape(tmp_path: Path, name: str) -> None:
    """Nor be unprintable or empty."""
    folder = RunFolder.create(tmp_path, 0.0)

    with pytest.raises(BadArtifactName):
        folder.keep("a", name, b"x")


def test_keeping_a_file_again_replaces_it(tmp_path: Path) -> None:
    """By content; the source may be a path."""
    folder = RunFolder.create(tmp_path, 0.0)
    source = tmp_path / "source"
    source.write_bytes(b"second")

    first = folder.keep("a", "f.txt", b"first")
    second = folder.keep("a", "f.txt", source)

    assert (first.artifact.size_bytes, second.artifact.size_bytes) == (5, 6)
    assert second.artifact.digest == "sha256:16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4"
    assert [path.name for path in second.path.parent.iterdir()] == ["f.txt"]
    assert second.path.read_bytes() == b"second"


def test_runs_are_found_by_last_id_beginning_or_end(tmp_path: Path) -> None:
    """What fits several is refused."""
    for name in ("20260101-000000-000-aaaa", "20260101-000001-000-bbbb"):
        (tmp_path / name).mkdir()

    assert find_run(tmp_path).name == "20260101-000001-000-bbbb"
    assert find_run(tmp_path, "aaaa").name == "20260101-000000-000-aaaa"
    assert find_run(tmp_path, "20260101-000000").name == "20260101-000000-000-aaaa"
    with pytest.raises(RunAmbiguous, match="it could be 20260101-000000-000-aaaa, 20260101-000001-000-bbbb"):
        find_run(tmp_path, "2026")
    with pytest.raises(RunNotFound):
        find_run(tmp_path, "zzz")
    with pytest.raises(RunNotFound):
        find_run(tmp_path / "none")


def test_old_run_folders_are_pruned_but_not_the_named_ones(tmp_path: Path) -> None:
    """The newest stay."""
    for name in "abcde":
        (tmp_path / name).mkdir()

    assert prune_runs(tmp_path, keep=2, but=["a"]) == 2
    assert [path.name for path in list_runs(tmp_path)] == ["a", "d", "e"]
    assert prune_runs(tmp_path / "none", keep=2) == 0


def test_failed_stages_are_those_that_were_to_run_and_are_not_done(tmp_path: Path) -> None:
    """Failed, softly failed, cut off and never started; not those skipped by the plan or by themselves."""
    rows = tuple(
        PlannedStage(name=n, needs=(), after=(), action=a, why="", effect=False, expected_s=None)  # type: ignore[arg-type]
        for n, a in {
            "good": "run", "hit": "cached", "bad": "run", "soft": "run", "cut": "run", "never": "run",
            "out": "skip", "self": "run", "because": "run",
        }.items()
    )  # fmt: skip

    def end(name: str, outcome: Outcome, *, attempts: int = 1, soft: bool = False) -> StageFinished:
        return StageFinished(
            at=1.0, stage=name, outcome=outcome, why="", duration_s=1.0, attempts=attempts, soft_failed=soft
        )

    folder = RunFolder.create(tmp_path, 0.0)
    for event in (
        RunStarted(
            at=1.0, run_id="r", command=(), project="", commit="", dirty=False, environment="", stages=rows
        ),
        end("good", Outcome.SUCCESS),
        end("hit", Outcome.SUCCESS, attempts=0),
        end("bad", Outcome.FAILURE),
        end("soft", Outcome.ERROR, soft=True),
        end("out", Outcome.SKIP, attempts=0),
        end("self", Outcome.SKIP),
        end("because", Outcome.SKIP, attempts=0),
        StageStarted(at=1.0, stage="cut", attempt=1, why=""),
    ):
        folder.write(event)

    assert failed_stages(folder.path) == ("bad", "soft", "cut", "never", "because")


def line(index: int, seconds: float, *, cached: bool = False, outcome: Outcome = Outcome.SUCCESS) -> RunLine:
    """A run of one stage."""
    time = StageTime(outcome=outcome, duration_s=seconds, cached=cached)
    return RunLine(run_id=str(index), at=1.0, outcome=outcome, duration_s=seconds, stages={"unit": time})


def test_expected_times_are_medians_of_real_successes(tmp_path: Path) -> None:
    """Cached, failed and damaged ones do not count; neither do very old ones."""
    history = History(tmp_path / ".pipeline/history.jsonl")
    assert (history.expected_s(), history.lines()) == ({}, [])
    for index, seconds in enumerate([100.0] * 5 + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 50.0]):
        history.add(line(index, seconds))
    history.add(line(90, 0.001, cached=True))
    history.add(line(91, 900.0, outcome=Outcome.FAILURE))
    with open(history.path, "a") as stream:
        stream.write('["cut sho')

    assert history.expected_s() == {"unit": 5.5}
    assert history.lines()[-1].run_id == "91"


def test_the_history_does_not_grow_for_ever(tmp_path: Path) -> None:
    """Old lines are dropped when it is large."""
    history = History(tmp_path / "history.jsonl")
    history.path.write_text("x" * (600 << 10) + "\n")

    history.add(line(1, 1.0))
    for index in range(2, 5):
        history.path.write_bytes(b"y" * (600 << 10) + b"\n" + history.path.read_bytes()[-200:])
        history.add(line(index, 1.0))

    assert history.lines()[-1].run_id == "4"


def test_two_writers_do_not_mix_their_lines(tmp_path: Path) -> None:
    """A line is one write."""
    history = History(tmp_path / "history.jsonl")

    def write(number: int) -> None:
        for _ in range(25):
            history.add(line(number, 1.0))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(history.lines()) == 100
