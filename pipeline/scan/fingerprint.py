"""Fingerprints: the same problem keeps its name when lines move, code is reformatted or a file is renamed.

Version 1: 128 bits of SHA-256 over length-prefixed parts. For code: kind, rule, path, the function or class
around it, the statement (Python) or line without its layout, and which of the equal ones in that symbol it
is. The occurrence matters: without it a second, new problem with the same text would hide behind the first.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipeline.scan.finding import Finding, InFile, InPackage, InRequest
from pipeline.scan.fingerprint_spots import Spots

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

VERSION: Final = "pipeline/v1"
HARD_CODED: Final = frozenset({259, 321, 798})  # CWEs whose code holds a secret: its literals are left out


def fingerprint(*parts: str) -> str:
    """32 hex digits over the parts; a part cannot run into the next."""
    digest = hashlib.sha256()
    for part in (VERSION, *parts):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()[:32]


def secret_fingerprint(key: bytes, rule: str, value: str) -> str:
    """Name a secret without telling it: a keyed hash, for a plain one of a short secret can be guessed."""
    message = f"{len(rule)}:{rule}{value}".encode("utf-8", "surrogatepass")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:32]


def identify(findings: Iterable[Finding], texts: Mapping[str, str]) -> list[Finding]:
    """Give each finding its `id` and `moved_id`, and places in files their symbol and snippet.

    Args:
        findings: Findings of secrets that have an `id` keep it.
        texts: The files of the project by path; a finding in another file is named by its line number.
    """
    return identify_each([list(findings)], texts)[0]


def identify_each(
    groups: Sequence[Sequence[Finding]], texts: Mapping[str, str], spots: Spots | None = None
) -> list[list[Finding]]:
    """Name the findings of several scanners, each as if it were alone; a file is read once for all of them.

    One file's code is held at a time: that of a large project would take hundreds of megabytes.

    Args:
        spots: What is known of an earlier run; takes what this one saw.
    """
    spots = spots or Spots()
    named = [list(group) for group in groups]
    seen: list[Counter[tuple[str, ...]]] = [Counter() for _ in groups]
    order = [(number, index) for number, group in enumerate(groups) for index in range(len(group))]
    path, file = "", Spots().of("", "")
    for number, index in sorted(order, key=lambda where: _position(groups[where[0]][where[1]])):
        one = named[number][index]
        place = one.place
        if isinstance(place, InFile) and place.path in texts and one.kind != "secret":
            if place.path != path:
                path, file = place.path, spots.of(place.path, texts[place.path])
            symbol, named_by = file.at(place.line, place.column, mask=not HARD_CODED.isdisjoint(one.cwe))
            one = replace(one, place=replace(place, symbol=place.symbol or symbol, snippet=named_by))
        named[number][index] = _named(one, seen[number])
    return named


def _position(finding: Finding) -> tuple[str, int, int, str]:
    place = finding.place
    if isinstance(place, InFile):
        return (place.path, place.line, place.column, finding.rule.id)
    return ("", 0, 0, finding.rule.id)


def _named(finding: Finding, seen: Counter[tuple[str, ...]]) -> Finding:
    if finding.kind == "secret" and finding.id:
        return finding
    identity, moved = identity_of(finding)
    nth, nth_moved = seen[identity], seen[("moved", *moved)]
    seen[identity] += 1
    seen[("moved", *moved)] += 1
    return replace(
        finding,
        id=fingerprint(*identity, str(nth)),
        moved_id=fingerprint("moved", *moved, str(nth_moved)) if moved else "",
    )


def identity_of(finding: Finding) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What names a finding, and the same without its path (empty where there is no path).

    A package's identity has no version: an update that does not mend the problem does not make it a new one.
    """
    place = finding.place
    if isinstance(place, InFile):
        spot = place.snippet or str(place.line)
        code = (finding.kind, finding.rule.id, place.symbol, spot)
        return (*code, place.path), code
    if isinstance(place, InPackage):
        return (finding.kind, finding.rule.id, place.ecosystem.partition(":")[0], place.name, place.path), ()
    if isinstance(place, InRequest):
        return (finding.kind, finding.rule.id, place.method, place.route, place.parameter), ()
    raise TypeError(place)
