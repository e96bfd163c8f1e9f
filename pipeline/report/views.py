"""Every file a record is written to, and the record as JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pipeline.graph.files import write_atomically
from pipeline.report.evidence import find_evidence

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.report.record import RunRecord


def write_views(folder: Path, record: RunRecord) -> list[Path]:
    """Write the views into a run folder, each whole or not at all; give their paths.

    They are `summary.md`, `report.html` and, where tests ran, `junit.xml` with a suite for each stage.

    Raises:
        OSError: The folder cannot be written.
    """
    from pipeline.junit import write_junit
    from pipeline.report.page import make_page
    from pipeline.report.summary import make_summary

    evidence = find_evidence(folder, record)
    texts = {"summary.md": make_summary(record, evidence), "report.html": make_page(record, evidence)}
    data = {name: text.encode("utf-8", "replace") for name, text in texts.items()}
    if evidence.tests:
        data["junit.xml"] = write_junit(evidence.tests)
    for name, content in data.items():
        write_atomically(folder / name, content, durable=False)
    return [folder / name for name in data]


def record_as_table(record: RunRecord) -> dict[str, Any]:
    """The record as JSON, with each stage's verdict."""
    table = dataclasses.asdict(record)
    table["verdict"] = record.verdict
    table["stages"] = [
        {**stage, "verdict": record.stages[name].verdict} for name, stage in table["stages"].items()
    ]
    return table
