"""Commit messages become changes: by Conventional Commits, and as plain subjects where they follow none."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.release.repository import Commit

HEADER: Final = re.compile(
    r"(?P<type>[A-Za-z][A-Za-z0-9_-]{0,30})(?:\((?P<scope>[^()\n]{1,60})\))?(?P<bang>!)?: +(?P<text>\S.*)"
)
BREAKING: Final = re.compile(
    r"^BREAKING[ -]CHANGE: +(?P<text>\S.*(?:\n(?![\w-]+(?:: | #)).+)*)", re.MULTILINE
)
RELEASE_AS: Final = re.compile(r"^Release-As: *(?P<version>\S+) *$", re.MULTILINE | re.IGNORECASE)
REVERTS: Final = re.compile(r"\bThis reverts commit (?P<sha>[0-9a-f]{7,64})")
REVERT_REFS: Final = re.compile(r"^Refs: +(?P<shas>[0-9a-f]{7,64}(?:, *[0-9a-f]{7,64})*) *$", re.MULTILINE)
SQUASHED: Final = re.compile(r"^[*-] +(?P<line>\S.*)$", re.MULTILINE)
MERGED: Final = re.compile(r"Merge (?:pull request #\d+|branch|remote-tracking branch|tag|commit)\b")
NUMBER: Final = re.compile(r" *\((?:#|!)(?P<number>\d{1,9})\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that a commit did."""

    sha: str
    author: str
    email: str
    type: str  # "feat", "fix", ...; "" where the message follows no convention
    text: str  # one line
    scope: str = ""
    breaking: str = ""  # what breaks, one paragraph; "" when nothing does
    number: int | None = None  # of the pull or merge request


def changes_of(commits: Sequence[Commit]) -> tuple[Change, ...]:
    """Return what these commits changed, the newest first; what was reverted among them is left out.

    A revert of a commit that is not among them is a change by itself: what it takes back was released. Merge
    commits say nothing unless they follow the convention; a plain subject over a list of conventional lines
    is a squashed branch, and each line counts.
    """
    gone = _taken_back(commits)
    found: list[Change] = []
    for commit in commits:
        if commit.sha not in gone:
            found += _changes(commit)
    return tuple(dict.fromkeys(found))


def release_as(commits: Iterable[Commit]) -> str | None:
    """Return the version that the newest `Release-As:` footer asks for; None when none does."""
    for commit in commits:
        if match := RELEASE_AS.search(commit.body):
            return match["version"]
    return None


def _taken_back(commits: Sequence[Commit]) -> frozenset[str]:
    """Return the commits that cancel out: reverts, and what they revert, both of these commits.

    From the newest on, so that the revert of a revert leaves the first change as it was.
    """
    here = dict.fromkeys(commit.sha for commit in commits)
    gone: set[str] = set()
    for commit in commits:
        if commit.sha in gone:
            continue
        named = _reverted(commit)
        whole = {sha for sha in named if sha in here}
        short = {sha for start in named if start not in here for sha in here if sha.startswith(start)}
        targets = (whole | short) - {commit.sha}
        if targets and len(targets) >= len(named):
            gone |= {commit.sha, *targets}
    return frozenset(gone)


def _reverted(commit: Commit) -> tuple[str, ...]:
    """Return the commits, or beginnings of their names, that a commit says it reverts."""
    found = [match["sha"] for match in REVERTS.finditer(commit.message)]
    if commit.subject.startswith("revert") and (match := REVERT_REFS.search(commit.body)):
        found += re.split(r", *", match["shas"])
    return tuple(found)


def _changes(commit: Commit) -> list[Change]:
    header = HEADER.fullmatch(commit.subject.strip())
    if header:
        return [_conventional(commit, header)]
    squashed = [
        match for line in SQUASHED.finditer(commit.body) if (match := HEADER.fullmatch(line["line"].strip()))
    ]
    if len(commit.parents) > 1 or MERGED.match(commit.subject):
        return []
    if squashed:
        number = _number(commit.subject)[1]
        changes = [_conventional(commit, match, alone=False) for match in squashed]
        changes = [replace(one, number=one.number or number) for one in changes]
        if (breaking := _breaking(commit)) and not any(one.breaking for one in changes):
            changes[0] = replace(changes[0], breaking=breaking)
        return changes
    text, number = _number(commit.subject)
    kind = "revert" if REVERTS.search(commit.body) and text.startswith("Revert ") else ""
    if not text:
        return []
    return [
        Change(
            sha=commit.sha,
            author=commit.author,
            email=commit.email,
            type=kind,
            text=text,
            number=number,
            breaking=_breaking(commit),
        )
    ]


def _conventional(commit: Commit, header: re.Match[str], *, alone: bool = True) -> Change:
    text, number = _number(header["text"])
    breaking = _breaking(commit) if alone else ""
    if header["bang"] and not breaking:
        breaking = text
    return Change(
        sha=commit.sha,
        author=commit.author,
        email=commit.email,
        type=header["type"].lower(),
        scope=header["scope"] or "",
        text=text,
        breaking=breaking,
        number=number,
    )


def _breaking(commit: Commit) -> str:
    match = BREAKING.search(commit.body)
    return " ".join(match["text"].split()) if match else ""


def _number(text: str) -> tuple[str, int | None]:
    """Split `text (#12)`."""
    text = text.strip()
    match = NUMBER.search(text)
    return (text[: match.start()].strip(), int(match["number"])) if match else (text, None)
