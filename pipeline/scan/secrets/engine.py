"""The engine: every secret in one text, in one pass.

One automaton finds all anchors at once; only around those are expressions tried. So a text without anchors
costs a scan for literal strings, and no expression ever runs over a whole line or file.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from bisect import bisect
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pipeline.scan.secrets import (
    assignments,
    calls,
    clouds,
    files,
    manifests,
    names,
    places,
    randomness,
    rule,
    services,
    values,
    words,
)
from pipeline.scan.secrets.assignments import assignments_at, name_around, second_of_pair
from pipeline.scan.secrets.files import kind_of
from pipeline.scan.secrets.names import promise_of, snake, words_of
from pipeline.scan.secrets.rule import Hit, Named, Pattern
from pipeline.scan.secrets.values import is_elsewhere, is_stopgap, looks_like_password, looks_like_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipeline.scan.secrets.files import FileKind

    Reader = Callable[[str, int, FileKind], Iterator[Hit]]

WINDOW: Final = 4096  # characters after an anchor that an expression may look at
PATTERNS: Final[tuple[Pattern, ...]] = (*clouds.CLOUDS, *services.SERVICES)
LONGEST_NAME: Final = 40  # that is told: what is longer, or random, may be a secret itself
_ZEROS: Final = re.compile("A{6,}")
_STRENGTHS: Final = {"live": 0, "provider": 1, "structure": 2, "generic": 3}
_TELLING: Final = frozenset(
    {"key", "token", "secret", "password", "pat", "credential", "auth", "apikey", "license"}
)


class Engine:
    """All rules, ready to be asked about texts; `shared_engine` lends the one of this process."""

    def __init__(self) -> None:
        from ahocorasick_rs import AhoCorasick

        actions: dict[str, list[Pattern | Reader | None]] = {}
        for one in PATTERNS:
            for anchor in one.anchors:
                actions.setdefault(anchor, []).append(one)
        for anchor, reader in (*places.READERS, *calls.READERS):
            actions.setdefault(anchor, []).append(reader)
        actions.setdefault("kind", []).append(manifests.kubernetes_secret)
        for trigger in names.TRIGGERS:
            actions.setdefault(trigger, []).append(None)  # a name that promises a secret
        self._actions: list[list[Pattern | Reader | None]] = list(actions.values())
        self._anchors = AhoCorasick(list(actions))

    def find(self, text: str, path: str, *, is_binary: bool = False) -> list[Hit]:
        """Every secret in a text, in order, each once, with line and column from 1.

        Args:
            path: Says which language the text is in.
            is_binary: Only what has a form of its own: names promise nothing there.
        """
        kind = kind_of(path)
        found = list(self._candidates(text, kind, is_binary=is_binary))
        if not is_binary and path.endswith(("pgpass", "pgpass.conf")):
            found += places.pgpass(text)
        return _placed(text, _without_overlaps(found))

    def _candidates(self, text: str, kind: FileKind, *, is_binary: bool) -> Iterator[Hit]:
        named_to = 0  # where the last name that was looked at ends
        for index, at, _ in self._anchors.find_matches_as_indexes(_lower(text), overlapping=True):
            for action in self._actions[index]:
                if action is None:
                    if at >= named_to and not is_binary and not kind.is_listing:
                        start, named_to = name_around(text, at)
                        yield from assigned(text, start, named_to, kind)
                elif isinstance(action, Pattern):
                    yield from matched(action, text, at)
                elif not is_binary or action in _IN_BINARIES:
                    yield from action(text, at, kind)


_IN_BINARIES: Final = (places.private_key, places.jwt)


def _lower(text: str) -> str:
    lower = text.lower()
    # One letter in all of Unicode becomes two: places would not fit any more.
    return lower if len(lower) == len(text) else "".join(c.lower() if c < "\x80" else c for c in text)


def matched(one: Pattern, text: str, at: int) -> Iterator[Hit]:
    """What a pattern says around an anchor."""
    start = max(0, at - one.back)
    if one.is_bounded and not one.back and not _is_boundary(text, at):
        return
    found = one.regex.search(text, start, at + WINDOW) if one.back else one.regex.match(text, at, at + WINDOW)
    if found is None or (one.is_bounded and not _is_boundary(text, found.start())):
        return
    group = 1 if found.re.groups else 0
    value = found[group]
    if is_example(value):
        return
    yield Hit(
        rule=one.id,
        title=one.title,
        strength=one.strength,
        value=value,
        start=found.start(group),
        end=found.end(group),
    )


def is_example(value: str) -> bool:
    """Whether credentials of a vendor's form are made up: counted, repeated or worded."""
    tail = value[-30:]
    if len(value) >= 60:
        value = _ZEROS.sub("", value)  # bytes that are zero in the head of a token
    return is_stopgap(value) or randomness.bits(tail) < 1.6 * len(tail) or "{" in value


def _is_boundary(text: str, at: int) -> bool:
    """Whether what begins at `at` is no part of a longer word."""
    if at == 0:
        return True
    before = text[at - 1]
    if not (before.isascii() and before.isalnum()) and before not in "_+/":
        return before != "-" or not text[at - 2 : at - 1].isalnum()
    # "\n" in a string and "%3D" in a URL end in letters that are none.
    if before in "nrt" and text[at - 2 : at - 1] == "\\":
        return True
    return text[at - 3 : at - 2] == "%" or before == "/"


@lru_cache(maxsize=32768)
def named_rules(name: str) -> tuple[Named, ...]:
    """The rules whose vendor a name holds, if it names something secret."""
    if _TELLING.isdisjoint(words_of(name)) and not promise_of(name):
        return ()
    plain = snake(name)
    return tuple(one for one in services.NAMED if one.name.search(plain))


def assigned(text: str, start: int, end: int, kind: FileKind) -> Iterator[Hit]:
    """What is given to the name at `start` to `end`, when it looks like a secret."""
    name = text[start:end]
    promise = promise_of(name)
    rules = named_rules(name)
    is_pair = not promise and name.lower().endswith("auth")
    if is_pair:
        promise = "password"
    elif not promise and not rules:
        return
    given = second_of_pair(text, start, end) if is_pair else assignments_at(text, start, end, kind.style)
    for one in given:
        by_vendor = next((rule for rule in rules if rule.value.fullmatch(one.value)), None)
        if by_vendor is not None and not is_example(one.value):
            yield Hit(
                rule=by_vendor.id,
                title=by_vendor.title,
                strength="provider",
                value=one.value,
                start=one.start,
                end=one.end,
            )
            continue
        is_strict = kind.is_trying or (
            kind.style == "prose" and not one.is_quoted and not _is_line(text, start, one.end)
        )
        if is_elsewhere(one.value) or one.value.lower() in name.lower():
            continue
        judge = looks_like_password if promise == "password" else looks_like_token
        if promise and judge(one.value, is_strict=is_strict):
            what = "password" if promise == "password" else "key, token or secret"
            is_plain = len(one.name) <= LONGEST_NAME and randomness.bits(one.name) < 2.5 * len(one.name)
            yield Hit(
                rule=f"generic-{promise}",
                title=f"{what} in `{one.name}`" if is_plain else what,
                strength="generic",
                value=one.value,
                start=one.start,
                end=one.end,
                confidence="low",
            )


def _is_line(text: str, start: int, end: int) -> bool:
    """Whether a line holds what is from `start` to `end` and nothing besides."""
    line = text.rfind("\n", 0, start) + 1
    following = text.find("\n", end)
    around = text[line:start] + text[end : following if following >= 0 else len(text)]
    return not around.strip(" \t\r-*`")


def _without_overlaps(found: Sequence[Hit]) -> list[Hit]:
    """The surest of those that overlap, in order."""
    kept: list[Hit] = []
    starts: list[int] = []
    for one in sorted(found, key=lambda hit: (_STRENGTHS[hit.strength], hit.start, -hit.end)):
        index = bisect(starts, one.start)
        is_free = index == 0 or kept[index - 1].end <= one.start
        if is_free and (index == len(kept) or one.end <= kept[index].start):
            kept.insert(index, one)
            starts.insert(index, one.start)
    return kept


def _placed(text: str, found: Sequence[Hit]) -> list[Hit]:
    line, counted = 1, 0
    placed = []
    for one in found:
        line += text.count("\n", counted, one.start)
        counted = one.start
        placed.append(replace(one, line=line, column=one.start - text.rfind("\n", 0, one.start)))
    return placed


@lru_cache(maxsize=1)
def shared_engine() -> Engine:
    """The engine of this process."""
    return Engine()


@lru_cache(maxsize=1)
def rules_digest() -> str:
    """16 hex digits over all that decides what is found: what was scanned by other rules is scanned again."""
    digest = hashlib.sha256()
    modules = (
        assignments,
        calls,
        clouds,
        files,
        manifests,
        names,
        places,
        randomness,
        rule,
        services,
        values,
        words,
    )
    for module in (*modules, sys.modules[__name__]):
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()[:16]
