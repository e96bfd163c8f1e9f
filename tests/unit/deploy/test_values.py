"""Releases, steps, journals and histories as values: identity, order, and what is read back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline.config.delivery import DeployedService, DeploySettings, KeepSettings
from pipeline.config.values import Count, Port, Times
from pipeline.deploy.history import Entry, add_entry, kept_releases, last_good, load_release, read_history
from pipeline.deploy.history import save_release as save
from pipeline.deploy.journal import Line, is_held, is_open, parse_journal
from pipeline.deploy.outcome import Outcome
from pipeline.deploy.records import RecordUnreadable, write_record
from pipeline.deploy.release import ImageNotPinned, Release, ReleasedService
from pipeline.deploy.resume import Resolution, decide_resolution
from pipeline.deploy.state import LocalState
from pipeline.deploy.steps import BadBatch, Step, StepId, batch_size, plan_digest, plan_steps, share_of
from tests.unit.deploy.doubles import API, release

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = "sha256:" + "0" * 64


def _released(**changed: object) -> Release:
    service = ReleasedService(image=f"api@{DIGEST}", settings=API, secrets={"TOKEN": "v-1"})
    return Release(services={"api": replace(service, **changed)})  # type: ignore[arg-type]  # its fields


def test_a_release_is_named_by_all_that_decides_what_runs() -> None:
    """Image, settings and secrets; not by what is told of where it comes from."""
    one = _released()

    assert replace(one, commit="c", version="1.0").id == one.id
    others = [
        _released(image="api@sha256:" + "1" * 64),
        _released(settings=replace(API, replicas=Count(2))),
        _released(secrets={"TOKEN": "v-2"}),
    ]
    assert len({one.id, *(other.id for other in others)}) == 4


def test_a_release_names_digests() -> None:
    """A tag may name another image tomorrow."""
    with pytest.raises(ImageNotPinned, match="cannot release `api` as `api:latest`: it names no digest"):
        _released(image="api:latest")


def test_services_come_after_those_they_need() -> None:
    """By name where that leaves a choice."""
    worker = DeployedService(needs=("api", "redis"))

    found = release(1, replace(API, needs=("redis",)), worker=worker, redis=DeployedService(port=Port(6379)))

    assert found.in_order() == ("redis", "api", "worker")


@pytest.mark.parametrize(
    ("text", "instances", "size"),
    [("1", 4, 1), ("3", 2, 2), ("25%", 4, 1), ("25%", 2, 1), ("50%", 5, 2), ("100%", 3, 3)],
)
def test_a_batch_is_a_number_or_a_share(text: str, instances: int, size: int) -> None:
    """At least one, at most all."""
    assert batch_size(text, instances) == size


@pytest.mark.parametrize("text", ["0", "-1", "many", "0%", "101%", "", "%", "1.5"])
def test_what_is_no_batch_is_refused(text: str) -> None:
    """With the key it stands at."""
    with pytest.raises(BadBatch, match='cannot use `batch = "'):
        batch_size(text, 4)


def test_shares_may_have_a_fraction() -> None:
    """As percent."""
    assert (share_of("0.5%"), share_of("100%")) == (0.5, 100.0)


def test_an_approval_is_bound_to_place_release_and_steps() -> None:
    """Another of any of them is another plan."""
    steps = plan_steps(DeploySettings())
    canary = plan_steps(DeploySettings(strategy="canary"))

    digests = {
        plan_digest("staging", "r-1", steps),
        plan_digest("production", "r-1", steps),
        plan_digest("staging", "r-2", steps),
        plan_digest("staging", "r-1", canary),
    }

    assert len(digests) == 4
    assert plan_digest("staging", "r-1", steps) in digests


def test_a_journal_is_open_until_it_is_closed() -> None:
    """And held when it waits."""
    lines = [Line(event="open", at=1), Line(event="held", step=3, at=2), Line(event="close", at=3)]

    assert [is_open(lines[:count]) for count in range(4)] == [False, True, True, False]
    assert [is_held(lines[:count]) for count in range(4)] == [False, False, True, False]


def test_a_line_that_was_cut_off_was_not_written() -> None:
    """One that is whole and makes no sense is told."""
    line = Line(event="intent", step=2, at=5.5, detail={"a": [1]})
    data = write_record(line)

    assert parse_journal(data + data[:20], "j") == (line,)
    assert parse_journal(data[:20] + b"\n" + data, "j") == (line,)
    with pytest.raises(RecordUnreadable, match="cannot read the record `j:1`: it is no Line"):
        parse_journal(b'{"event": "sleep", "at": 1}\n', "j")


STEPS = plan_steps(DeploySettings())


def _until(step: StepId, event: str) -> list[Line]:
    """A journal up to that event of that step."""
    lines = [Line(event="open", at=0)]
    for place, one in enumerate(STEPS):
        lines.append(Line(event="intent", step=place, at=place))
        if one.id is step and event == "intent":
            break
        lines.append(Line(event="done", step=place, at=place))
        if one.id is step:
            break
    return lines


@pytest.mark.parametrize(
    ("step", "event", "what"),
    [
        (StepId.FETCH, "done", "close"),
        (StepId.START, "intent", "undo"),
        (StepId.READY, "done", "undo"),
        (StepId.SHIFT, "done", "undo"),
        (StepId.BAKE, "intent", "undo"),
        (StepId.BAKE, "done", "forward"),
        (StepId.DRAIN, "intent", "forward"),
        (StepId.FINISH, "done", "forward"),
    ],
)
def test_only_what_was_watched_to_its_end_goes_on(step: StepId, event: str, what: str) -> None:
    """All else is undone, up to the step that may have begun."""
    lines = _until(step, event)

    found = decide_resolution(lines, STEPS)

    place = [one.id for one in STEPS].index(step)
    after = max(one.step for one in lines if one.event == "done") + 1
    assert (found.what, found.step) == (what, after if what == "forward" else place)


def test_an_undo_that_began_is_finished() -> None:
    """Also after the watch had passed."""
    lines = [*_until(StepId.DRAIN, "intent"), Line(event="failed", step=9, at=1)]

    assert decide_resolution(lines, STEPS).what == "undo"
    assert decide_resolution([], STEPS) == Resolution(what="close", step=-1, reason="its deployer ended")


def test_steps_are_named_for_people() -> None:
    """With their share, or their part."""
    steps = (Step(id=StepId.SHIFT, share=25.0), Step(id=StepId.START, part=2, parts=3), Step(id=StepId.KEEP))

    assert [step.name for step in steps] == ["shift 25%", "start 2/3", "keep"]


def _entry(number: int, new: str, outcome: Outcome | None = Outcome.SUCCEEDED, ended: float = 0.0) -> Entry:
    return Entry(
        deployment=f"d-{number}", environment="staging", new=new, started=0.0, ended=ended, outcome=outcome
    )


@pytest.mark.anyio
async def test_a_history_holds_each_deployment_once(tmp_path: Path) -> None:
    """Its last entry, in the order they began; what a kill cut off is passed over."""
    state = LocalState(tmp_path)
    for entry in (_entry(1, "r-1", None), _entry(2, "r-2", None), _entry(1, "r-1")):
        await add_entry(state, entry)
    with open(tmp_path / "history.jsonl", "ab") as file:
        file.write(b'{"deployment": "d-3", "env')

    assert await read_history(state) == (_entry(1, "r-1"), _entry(2, "r-2", None))


@pytest.mark.anyio
async def test_a_release_comes_back_equal(tmp_path: Path) -> None:
    """With all its settings; one that was never here is None."""
    state = LocalState(tmp_path)
    one = _released()

    await save(state, one)
    await save(state, one)

    assert await load_release(state, one.id) == one
    assert await load_release(state, "r-0") is None


def test_the_last_good_release_is_one_that_stayed() -> None:
    """Not one that was rolled back, and not the one that is asked to leave."""
    history = [
        _entry(1, "r-1"),
        _entry(2, "r-2"),
        _entry(3, "r-3", Outcome.ROLLED_BACK),
        _entry(4, "r-2", Outcome.ALREADY),
    ]

    assert last_good(history) == "r-2"
    assert last_good(history, other_than="r-2") == "r-1"
    assert last_good([], other_than="r-2") == ""


def test_releases_are_kept_by_number_or_by_age_whichever_is_more() -> None:
    """The one that runs does not count."""
    day = 86400.0
    history = [_entry(n, f"r-{n}", ended=n * day) for n in range(10)]

    few = kept_releases(history, KeepSettings(releases=Count(2), days=Times(0)), 100 * day)
    young = kept_releases(history, KeepSettings(releases=Count(1), days=Times(4)), 10 * day)

    assert few == {"r-9", "r-8", "r-7"}
    assert young == {"r-9", "r-8", "r-7"}
