"""What a scanner is: something that looks, says what it found, and proves what it looked at.

A scanner's exit code is never believed. A scanner of a tool says which commands to run (`commands`) and reads
what they left (`read`): both pure, so that every answer a tool ever gave can be a test. Running them in a
container is the work of `pipeline.stages.scanning`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003 - read when a result is loaded
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from pipeline.scan.finding import DataSource, Finding  # noqa: TC001 - read when a result is loaded
from pipeline.text import some

if TYPE_CHECKING:
    from collections.abc import Sequence

State: TypeAlias = Literal[
    "complete",  # everything that was to be looked at was looked at
    "incomplete",  # a part was not
    "stale",  # the data is too old to say
    "unavailable",  # the tool, its data or its service could not be had
    "unsupported",  # the tool cannot judge this kind of thing
    "error",  # the tool broke, or said what it never should
    "skipped",  # the user said so, with a reason
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A thing that was to be looked at and was not."""

    what: str  # a file, a package, a page
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What was looked at, counted."""

    unit: str  # "files", "packages", "pages", "commits"
    expected: int
    seen: int
    missed: tuple[Missed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One scanner's answer."""

    scanner: str
    state: State
    coverage: Coverage
    findings: tuple[Finding, ...] = ()
    reason: str = ""  # why the state is not "complete": one sentence
    hint: str = ""  # what to do about that
    version: str = ""  # of the tool
    data: tuple[DataSource, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # what each file uses, till `settle`


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is to be scanned, as a tool in a container sees it."""

    root: str  # absolute path of the project in the container
    files: Mapping[str, bytes] = field(
        repr=False
    )  # what the scanner has to look at: by path relative to `root`
    version: str = ""  # of the tool
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How a tool is run, with an empty home."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # by absolute path: rules, settings, canaries
    outputs: tuple[str, ...] = ()  # absolute paths of files the tool writes
    timeout_s: float = 600.0
    stdin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a tool ended."""

    exit_code: int | None  # None: it did not end in time
    stdout: bytes
    stderr: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)  # the outputs that are there
    is_cut: bool = False  # it said more than is read

    @property
    def last_words(self) -> str:
        """Its exit code and the last line it said, for people."""
        lines = (self.stderr or self.stdout).decode("utf-8", "replace").strip().splitlines()
        return f"exit code {self.exit_code}, {lines[-1][:300] if lines else 'no output'}"


class CommandScanner(Protocol):
    """A tool that is run in a container, and that judges each file alone: what it says of one can be kept."""

    @property
    def name(self) -> str:
        """The tool, as its lock file `pipeline/scan/tools/<name>.txt` is named."""

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Which of the project's files it looks at; none: the scanner is left out."""

    def settings(self, paths: Sequence[str]) -> list[str]:
        """Which of the project's files change what it says of others."""

    def expects(self, target: Target) -> list[str]:
        """The files it has to look at, of those it wants; sorted."""

    def commands(self, target: Target) -> Sequence[Command]:
        """What to run; several where one bad file would stop the tool for the others."""

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """What the runs say, one for each command, in order; never raises for what a tool printed."""


@runtime_checkable
class Settling(Protocol):
    """A tool whose answer needs all files: what it says of each is put together in the end."""

    def settle(self, scan: Scan) -> Scan:
        """The findings that hold when all files are known."""


def unchecked(missed: Sequence[Missed]) -> str:
    """Why a scan is incomplete that missed some files; "" when it missed none."""
    return f"{some(len(missed), 'file was', 'files were')} not checked" if missed else ""


def broken(scanner: str, coverage: Coverage, reason: str, *, state: State = "error", hint: str = "") -> Scan:
    """The answer of a scanner that could not look."""
    return Scan(scanner=scanner, state=state, coverage=coverage, reason=reason, hint=hint)


def counted(unit: str, expected: Sequence[str], missed: Sequence[Missed] = ()) -> Coverage:
    """Coverage of named things: all but the missed ones were seen."""
    gone = {one.what for one in missed}
    seen = sum(1 for name in expected if name not in gone)
    return Coverage(unit=unit, expected=len(expected), seen=seen, missed=tuple(missed))


def looked(
    scanner: str, version: str, expected: Sequence[str], missed: Sequence[Missed], findings: Sequence[Finding]
) -> Scan:
    """The answer of a scanner that looked at files, all but the missed ones."""
    return Scan(
        scanner=scanner,
        state="incomplete" if missed else "complete",
        reason=unchecked(missed),
        coverage=counted("files", expected, missed),
        findings=tuple(findings),
        version=version,
    )


def json_table(stdout: bytes, needed: frozenset[str]) -> dict[str, Any] | None:
    """The table a tool printed; None when it is none, or lacks one of these keys."""
    try:
        table = json.loads(stdout)
    except ValueError:
        return None
    return table if isinstance(table, dict) and needed <= table.keys() else None


def json_rows(stdout: bytes, needed: frozenset[str]) -> list[dict[str, Any]] | None:
    """The rows a tool printed as a list of tables; None when it is none, or a row lacks one of these keys."""
    try:
        rows = json.loads(stdout)
    except ValueError:
        return None
    return rows if are_rows(rows, needed) else None


def are_rows(rows: object, needed: frozenset[str]) -> bool:
    """Whether this is a list of tables, each with these keys."""
    return isinstance(rows, list) and all(isinstance(row, dict) and needed <= row.keys() for row in rows)
