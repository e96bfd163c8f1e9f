"""Every view names the images that were not the registry's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.graph.context import stand_ins_of
from pipeline.graph.events import Event, StageFinished
from pipeline.graph.outcome import Outcome
from pipeline.report.evidence import find_evidence
from pipeline.report.page import make_page
from pipeline.report.record import RunRecord, fold
from pipeline.report.summary import make_summary
from pipeline.report.terminal import final_report

if TYPE_CHECKING:
    from pathlib import Path

NOTE: Final = "python:3.13-slim: stand-in from Debian trixie"


def record(*stand_ins: str) -> RunRecord:
    """Two stages on the same images."""
    events: list[Event] = [
        StageFinished(
            at=1.0,
            stage=name,
            outcome=Outcome.SUCCESS,
            why="",
            duration_s=1.0,
            attempts=1,
            stand_ins=stand_ins,
        )
        for name in ("deps", "unit")
    ]
    return fold(events)


def test_a_stand_in_is_named_once_by_each_view(tmp_path: Path) -> None:
    told = record(NOTE)

    assert final_report(told, None).splitlines() == ["unfinished: 2 passed", f"stand-in: {NOTE}"]
    assert f"### Stand-ins for images\n\n- {NOTE}" in make_summary(told, find_evidence(tmp_path, told))
    assert NOTE in make_page(told, find_evidence(tmp_path, told))


def test_without_stand_ins_nothing_is_said_of_them(tmp_path: Path) -> None:
    told = record()

    assert "tand-in" not in final_report(told, None)
    assert "tand-in" not in make_summary(told, find_evidence(tmp_path, told))


def test_what_a_stage_noted_comes_back_from_its_stored_key() -> None:
    observed = {"image a": "sha256:1", "stand-in a": "built from Debian", "commit": "c"}

    assert stand_ins_of(observed) == ("a: built from Debian",)
