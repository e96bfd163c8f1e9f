"""What is looked at, place by place, as scanners that prove what they saw."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipeline.scan.scanner import Coverage, Missed, Scan, broken
from pipeline.scan.secrets.engine import rules_digest
from pipeline.scan.secrets.history import MOST_COMMITS, commits_of, scan_commits
from pipeline.scan.secrets.image import ArchiveUnreadable, scan_archive
from pipeline.scan.secrets.large import HistoryUnreadable
from pipeline.scan.secrets.reading import find_in
from pipeline.scan.secrets.report import COMMITS, IMAGE, LOGS, SHORT, TREE, Located
from pipeline.scan.secrets.tree import canary_missing, scan_tree

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

SHALLOW_HINT: Final = (
    "fetch the whole history: `git fetch --unshallow`, or `fetch-depth: 0` of actions/checkout"
)
BASE_HINT: Final = "fetch the branch that this one goes into, so that the change is known"
NO_FOLDER: Final = "the project's folder is not there"
NAMED: Final = 3  # missed things that a reason names


def look_at_tree(root: Path, names: Sequence[str]) -> tuple[Scan, list[Located]]:
    """Look through the files of the project, after the engine has found what is planted for it."""
    if lost := canary_missing():
        none = Coverage(unit="files", expected=len(names), seen=0)
        return broken(
            TREE, none, f"the engine did not find what was planted for {', '.join(sorted(lost))}"
        ), []
    if not names or not root.is_dir():
        none = Coverage(unit="files", expected=len(names), seen=0)
        return broken(
            TREE, none, "no file of the project was given to look at" if not names else NO_FOLDER
        ), []
    found, expected, missed = scan_tree(root, names)
    return _scan(TREE, "files", expected, missed), found


def look_at_commits(
    root: Path, base: str, known_clean: Collection[str] = ()
) -> tuple[Scan, list[Located], set[str]]:
    """Look through the commits since the branch left `base`.

    Returns:
        Also the commits in which nothing was found: they need no second look.
    """
    try:
        change = commits_of(root, base)
        new = [commit for commit in change.commits if commit not in known_clean]
        found, missed = scan_commits(root, new)
    except HistoryUnreadable as error:
        return broken(COMMITS, Coverage(unit="commits", expected=0, seen=0), str(error)), [], set()
    partly = {commit for commit in new for one in missed if one.what.endswith(commit[:SHORT])}
    clean = set(change.commits) - {one.commit for one in found} - partly
    hint = ""
    lost: list[Missed] = []
    if change.is_shallow:
        lost.append(Missed(what="older commits of the change", why="the clone is shallow"))
        hint = SHALLOW_HINT
    if change.older:
        why = f"it has more than {MOST_COMMITS} commits"
        lost.append(Missed(what=f"{change.older} older commits of the change", why=why))
        hint = hint or BASE_HINT
    expected = len(change.commits) + max(change.older, len(lost))
    scan = _scan(COMMITS, "commits", expected, [*missed, *lost])
    coverage = replace(scan.coverage, seen=len(change.commits) - len(partly))
    return replace(scan, coverage=coverage, hint=hint), found, clean


def look_at_images(
    images: Sequence[tuple[str, Path]], known_clean: Collection[str] = ()
) -> tuple[Scan, list[Located], set[str]]:
    """Look through every layer of images, given by name and archive.

    Returns:
        Also the layers in which nothing was found: they need no second look.
    """
    found: list[Located] = []
    missed: list[Missed] = []
    clean: set[str] = set()
    layers = 0
    for name, archive in images:
        try:
            scan = scan_archive(archive, name, known_clean)
        except ArchiveUnreadable as error:
            missed.append(Missed(what=name, why=str(error)))
            layers += 1
            continue
        found += scan.found
        missed += scan.missed
        clean |= scan.clean
        layers += scan.layers
    return _scan(IMAGE, "layers", layers, missed), found, clean


def look_at_logs(logs: Sequence[tuple[str, Path]]) -> tuple[Scan, list[Located]]:
    """Look through logs, given by name and file; one that is still written is read as far as it is."""
    found: list[Located] = []
    missed: list[Missed] = []
    for name, path in logs:
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0) as stream:
                hits = find_in(stream, f"{name}.log")
        except OSError as error:
            missed.append(Missed(what=name, why=str(error.strerror)))
            continue
        found += [Located(hit=hit, path=f"log of {name}", scanner=LOGS) for hit in hits]
    return _scan(LOGS, "logs", len(logs), missed), found


def _scan(scanner: str, unit: str, expected: int, missed: Sequence[Missed]) -> Scan:
    coverage = Coverage(
        unit=unit, expected=expected, seen=max(0, expected - len(missed)), missed=tuple(missed)
    )
    if not missed:
        return Scan(scanner=scanner, state="complete", coverage=coverage, version=rules_digest())
    named = "; ".join(f"{one.what}: {one.why}" for one in missed[:NAMED])
    more = f" and {len(missed) - NAMED} more" if len(missed) > NAMED else ""
    reason = f"not all {unit} could be read: {named}{more}"
    return Scan(scanner=scanner, state="incomplete", coverage=coverage, reason=reason, version=rules_digest())
