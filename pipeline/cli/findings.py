"""The findings of a run, gathered from the stages that scanned."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from pipeline.cli.project import runs_folder
from pipeline.errors import UsageError
from pipeline.graph.history import find_run
from pipeline.scan.document import parse_document

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.scan.document import Document
    from pipeline.scan.policy import Judged


class NoScans(UsageError):
    """A run has no stage that scanned."""

    def __init__(self, run: str) -> None:
        super().__init__(f"cannot show findings of run `{run}`: no stage of it scanned anything")
        self.hint = "run a stage such as `sast`, or name another run"


class NoSuchScan(UsageError):
    """A stage scanned nothing in a run."""

    def __init__(self, stage: str, run: str, there: Sequence[str]) -> None:
        super().__init__(f"cannot show findings of `{stage}`: it scanned nothing in run `{run}`")
        self.hint = f"stages that did: {', '.join(there)}"


class ExportFailed(UsageError):
    """A report cannot be written where it was to be."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot write `{path}`: {(error.strerror or str(error)).lower()}")


class NoSuchFinding(UsageError):
    """No finding of a run has a name, or several have."""

    def __init__(self, name: str, run: str, found: int) -> None:
        what = "no finding has that name" if not found else f"{found} findings begin like that"
        super().__init__(f"cannot find `{name}` in run `{run}`: {what}")


def load_documents(root: Path, run: str) -> tuple[str, list[Document]]:
    """The id of a run, and what its stages found, in the order of their names.

    Raises:
        RunNotFound: There is no such run.
        NoScans: No stage of it scanned.
        FindingsUnreadable: A file is damaged.
    """
    folder = find_run(runs_folder(root), run)
    paths = sorted(folder.glob("stages/*/files/findings.json"))
    documents = [
        parse_document(path.read_text(encoding="utf-8"), str(path.relative_to(folder))) for path in paths
    ]
    if not documents:
        raise NoScans(folder.name)
    return folder.name, documents


def judged_of(documents: Sequence[Document]) -> list[Judged]:
    """All findings of a run, the worst first."""
    from pipeline.scan.finding import rank

    found = [one for document in documents for one in document.verdict.judged]
    return sorted(found, key=lambda one: rank(one.finding))


def find_judged(documents: Sequence[Document], name: str, run: str) -> list[Judged]:
    """The findings a name means: a fingerprint or its beginning; several only if they are one identity.

    Raises:
        NoSuchFinding: None has it, or different ones have.
    """
    found = [one for one in judged_of(documents) if one.finding.id.startswith(name)]
    if len({one.finding.id for one in found}) != 1:
        raise NoSuchFinding(name, run, len({one.finding.id for one in found}))
    return found


def today() -> datetime.date:
    """The day, in UTC."""
    return datetime.datetime.now(datetime.UTC).date()
