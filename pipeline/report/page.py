"""`report.html`: a run as one file that needs no network, no server and no script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from pipeline.report import words
from pipeline.report.findings import ACTIONS
from pipeline.report.terminal import tail_lines
from pipeline.text import clean

if TYPE_CHECKING:
    from pipeline.report.evidence import Evidence
    from pipeline.report.record import RunRecord, StageRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A stage on the time line: where it begins and how long it is, in percent of the run."""

    left: float
    width: float


def make_page(record: RunRecord, evidence: Evidence) -> str:
    """Write the page; its links go to files beside it in the run folder. Everything told is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=words.duration,
        size=words.size,
        moment=words.moment,
        command=words.command_line,
        clean=clean,
        link=quote,
    )
    stages = [stage for stage in record.stages.values() if stage.is_selected]
    return environment.get_template("page.html.j2").render(
        record=record,
        evidence=evidence,
        stages=stages,
        actions=ACTIONS,
        bars=time_line(stages, record),
        counts=words.counted(record.counts()),
        tails={stage.name: tail_lines(stage.failure) for stage in stages if stage.failure},
    )


def time_line(stages: list[StageRecord], record: RunRecord) -> dict[str, Bar]:
    """Where each stage that ran lies between start and end of the run; one still at work reaches the end."""
    ran = [stage for stage in stages if stage.started_at is not None and not stage.cached]
    if not ran:
        return {}
    ends = [stage.finished_at or stage.started_at or 0.0 for stage in ran]
    end = record.finished_at or max(ends)
    begin = min([record.started_at or end, *(stage.started_at or end for stage in ran)])
    span = max(end - begin, 0.001)
    bars = {}
    for stage in ran:
        started = stage.started_at or begin
        finished = stage.finished_at or end
        bars[stage.name] = Bar(
            left=round(100 * (started - begin) / span, 2), width=round(100 * (finished - started) / span, 2)
        )
    return bars
