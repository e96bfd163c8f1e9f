"""Whoever wants to know how a deployment ended hears of it once, after it is written down."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.deploy.execute import Request
from pipeline.deploy.history import Entry, read_history
from pipeline.deploy.outcome import Outcome, Verdict
from tests.unit.deploy.doubles import FixedJudge, deployer, release
from tests.unit.deploy.fake_target import FakeTarget

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("decision", "outcome"),
    [("pass", Outcome.SUCCEEDED), ("breach", Outcome.ROLLED_BACK), ("hold", Outcome.WAITING)],
)
async def test_the_end_is_told_with_the_entry_of_the_history(
    tmp_path: Path, decision: Any, outcome: Outcome
) -> None:
    target = FakeTarget(tmp_path)
    await deployer(target).deploy(Request(release=release(1)))
    ended: list[Entry] = []

    async def hear(entry: Entry) -> None:
        assert (await read_history(target.state))[-1] == entry
        ended.append(entry)

    one = deployer(target, judge=FixedJudge(Verdict(decision=decision, reason="so it is")))
    one.helpers = replace(one.helpers, ended=hear)
    await one.deploy(Request(release=release(2), actor="ann"))

    assert [(entry.new, entry.actor, entry.outcome) for entry in ended] == [(release(2).id, "ann", outcome)]
