"""Which paths of a tree take part: the Moby pattern dialect, and include with exclude in combination.

Pure: paths are relative to the tree's root, with `/` between segments and none at the ends. Git's own
rules are in `gitignore`; walking a disk is in `walk`.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from pipeline.errors import EngineError
from pipeline.wildcards import ONE_SEGMENT, join_wildcards

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.engine.actions import Filters


_INNER_LIMIT: Final = 2


class BadPattern(EngineError):
    """A pattern is not in the dialect."""

    def __init__(self, pattern: str, reason: str) -> None:
        super().__init__(f"cannot use pattern `{pattern}`: {reason}")
        self.pattern = pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One compiled pattern. `parents` match the directories that may hold a match."""

    text: str
    is_negated: bool
    regex: str
    matcher: re.Pattern[str]
    parents: re.Pattern[str] | None  # None: a match may be anywhere


class Verdict(NamedTuple):
    """What the patterns say of one path; `flags` is handed to `PatternMatcher.step` for its children."""

    matched: bool
    flags: tuple[bool, ...]


NO_FLAGS: Final[tuple[bool, ...]] = ()


def parse_pattern(text: str) -> Pattern | None:
    """Compile one pattern; None when nothing but white space and slashes is in it.

    Raises:
        BadPattern: A lone `!`, an unclosed `[` or a trailing backslash.
    """
    stripped = text.strip()
    is_negated = stripped.startswith("!")
    body = stripped[1:].strip() if is_negated else stripped
    if is_negated and not body:
        raise BadPattern(text, "nothing follows the `!`")
    body = clean(body)
    if not body:
        return None
    regex = _translate(body, whole=text)
    return Pattern(
        text=("!" if is_negated else "") + body,
        is_negated=is_negated,
        regex=regex,
        matcher=re.compile(regex, re.DOTALL),
        parents=_parents(body, whole=text),
    )


def clean(pattern: str) -> str:
    """Clean a pattern lexically as Go's `filepath.Clean` does and drop the slashes at its ends."""
    cleaned = posixpath.normpath(pattern).strip("/") if pattern else ""
    return "" if cleaned == "." else cleaned


def parse_ignore_file(text: str) -> tuple[str, ...]:
    """Return the patterns of a `.dockerignore` text: without comments, blank lines and leading slashes."""
    patterns: list[str] = []
    for line in text.removeprefix("\ufeff").splitlines():
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        is_negated = pattern.startswith("!")
        body = pattern[1:].strip() if is_negated else pattern
        cleaned = clean(body)
        if is_negated and not body:
            raise BadPattern(line, "nothing follows the `!`")
        if cleaned:
            patterns.append(("!" if is_negated else "") + cleaned)
    return tuple(patterns)


class PatternMatcher:
    """Patterns as `.dockerignore`, `include` and `exclude` use them.

    Each is matched against the whole path from the root (so `*.rar` matches at the top level alone);
    one that matches a directory covers its contents; the last that matches wins, and `!` takes back.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        """Compile `patterns`.

        Raises:
            BadPattern: One of them is not in the dialect.
        """
        parsed = [pattern for text in patterns if (pattern := parse_pattern(text)) is not None]
        self.patterns: Final = tuple(parsed)
        self.has_negations: Final = any(pattern.is_negated for pattern in parsed)
        # Without negations the order does not matter, and one expression answers for all.
        alternatives = "|".join(f"(?:{pattern.regex})" for pattern in parsed)
        self._any = re.compile(alternatives, re.DOTALL) if parsed and not self.has_negations else None

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def matches(self, path: str) -> bool:
        """Say whether `path`, or a directory above it, matches and was not taken back."""
        verdict = Verdict(False, NO_FLAGS)
        end = path.find("/")
        while end != -1:
            verdict = self.step(path[:end], verdict.flags)
            end = path.find("/", end + 1)
        return self.step(path, verdict.flags).matched

    def step(self, path: str, parent: tuple[bool, ...]) -> Verdict:
        """Judge `path`, given the flags of its directory (`NO_FLAGS` at the top level)."""
        if self._any is not None:
            matched = bool(parent) or self._any.fullmatch(path) is not None
            return Verdict(matched, (True,) if matched else NO_FLAGS)
        matched = False
        flags: list[bool] = []
        for index, pattern in enumerate(self.patterns):
            hit = bool(parent) and parent[index]
            if not hit and pattern.is_negated == matched:
                hit = pattern.matcher.fullmatch(path) is not None
            if hit:
                matched = not pattern.is_negated
            flags.append(hit)
        return Verdict(matched, tuple(flags))

    def may_match_below(self, directory: str) -> bool:
        """Say whether something in `directory` may match, when the directory itself does not."""
        return self._may_be_below(directory, is_negated=False)

    def may_take_back_below(self, directory: str) -> bool:
        """Say whether something in the matching `directory` may be taken back by a `!` pattern."""
        return self.has_negations and self._may_be_below(directory, is_negated=True)

    def _may_be_below(self, directory: str, *, is_negated: bool) -> bool:
        return any(
            pattern.parents is None or pattern.parents.fullmatch(directory) is not None
            for pattern in self.patterns
            if pattern.is_negated == is_negated
        )


class FilterState(NamedTuple):
    """What is known of a directory, for judging what is in it."""

    include: tuple[bool, ...] = NO_FLAGS
    exclude: tuple[bool, ...] = NO_FLAGS


class Decision(NamedTuple):
    """Whether a path takes part, whether a directory is to be opened, and its state for what is in it."""

    keep: bool
    descend: bool
    state: FilterState


TOP: Final = FilterState()


class TreeFilter:
    """`include` and `exclude` together: a path takes part when it is included and not excluded.

    A directory that is not kept itself is made when something below it is kept, and only then.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Compile both lists; an empty `include` includes everything.

        Raises:
            BadPattern: A pattern is not in the dialect.
        """
        self._include: Final = PatternMatcher(include)
        self._exclude: Final = PatternMatcher(exclude)
        self.is_open: Final = not self._include and not self._exclude

    @classmethod
    def of(cls, filters: Filters) -> TreeFilter:
        """Compile the patterns of `filters`; its `gitignore` is not looked at."""
        return cls(filters.include, filters.exclude)

    def decide(self, path: str, parent: FilterState = TOP) -> Decision:
        """Judge `path`, given its directory's state (`TOP` at the top level); change nothing."""
        keep, descend = True, True
        include, exclude = NO_FLAGS, NO_FLAGS
        if self._include:
            keep, include = self._include.step(path, parent.include)
            descend = keep or self._include.may_match_below(path)
        if self._exclude:
            excluded, exclude = self._exclude.step(path, parent.exclude)
            if excluded:
                keep = False
                descend = descend and self._exclude.may_take_back_below(path)
        return Decision(keep, descend, FilterState(include, exclude))

    def keeps(self, path: str) -> bool:
        """Say whether `path` takes part, whatever the directories above it are."""
        included = not self._include or self._include.matches(path)
        return included and not (self._exclude and self._exclude.matches(path))


def _translate(body: str, *, whole: str) -> str:
    """Write the pattern as a regular expression to be matched in full."""
    if body.startswith("**") and not _is_special(body[2:]):
        # A plain suffix, not only whole segments: `**foo` matches `a/barfoo` in this dialect.
        suffix = _literal(body[2:])
        return rf"(?:.*{suffix}|{suffix.removeprefix('/')})" if suffix.startswith("/") else f".*{suffix}"
    if body.endswith("**") and not _is_special(body[:-2]):
        return f"{_literal(body[:-2])}.*"
    return _translate_glob(body, whole=whole)


def _translate_glob(body: str, *, whole: str) -> str:
    out: list[str] = []
    at = inner = 0
    while at < len(body):
        char = body[at]
        if body.startswith("**", at):
            inner += bool(out) and out[-1] != "/" and body.startswith("/", at + 2)
            if inner > _INNER_LIMIT:  # each multiplies the ways to match by the length of the path
                raise BadPattern(whole, f"it has more than {_INNER_LIMIT} `**/` that begin inside a name")
            at += 3 if body.startswith("/", at + 2) else 2
            out.append("(?:.*/)?" if at < len(body) else ".*")
            continue
        if char == "*":
            out.append(ONE_SEGMENT)
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, at = _bracket(body, at, whole=whole)
            out.append(text)
            continue
        elif char == "\\":
            at += 1
            if at == len(body):
                raise BadPattern(whole, "it ends in a backslash")
            out.append(re.escape(body[at]))
        else:
            out.append(re.escape(char))
        at += 1
    return join_wildcards(out)


def _bracket(body: str, at: int, *, whole: str) -> tuple[str, int]:
    """Translate the character class that opens at `at`; return it and where it ends."""
    start = at
    at += 1
    is_negated = body.startswith("^", at)
    at += is_negated
    members: list[str] = []
    while at < len(body) and (body[at] != "]" or not members):
        low, at = _member(body, at, whole=whole)
        high = low
        if body.startswith("-", at):
            high, at = _member(body, at + 1, whole=whole)
        if high < low:
            raise BadPattern(whole, f"the range `{low}-{high}` is empty")
        members.append(re.escape(low) if low == high else f"{re.escape(low)}-{re.escape(high)}")
    if at >= len(body) or not members:
        raise BadPattern(whole, f"`{body[start:]}` is not closed")
    return f"[{'^/' if is_negated else ''}{''.join(members)}]", at + 1


def _member(body: str, at: int, *, whole: str) -> tuple[str, int]:
    """Read one character of a class, escaped or plain; return it and where the next begins."""
    is_escaped = body.startswith("\\", at)
    at += is_escaped
    if at >= len(body) or (body[at] in "-]" and not is_escaped):
        raise BadPattern(whole, "a character class is malformed")
    return body[at], at + 1


def _is_special(text: str) -> bool:
    return any(char in "*?[]\\" for char in text)


def _literal(text: str) -> str:
    return re.escape(text)


def _parents(body: str, *, whole: str) -> re.Pattern[str] | None:
    """Compile what matches the proper directory prefixes of the pattern's matches."""
    regexes: list[str] = []
    segments = body.split("/")
    is_open = False
    for index, segment in enumerate(segments):
        # From a `**` on any depth is possible; a class that holds a slash is not looked into.
        is_open = "**" in segment or segment.count("[") != segment.count("]")
        if is_open or index == len(segments) - 1:
            break
        regexes.append(_translate_glob(segment, whole=whole))
    if is_open and not regexes:
        return None
    nested = ""
    for regex in reversed(regexes):
        nested = f"{regex}(?:/{nested})?" if nested else regex
    below = f"|{'/'.join(regexes)}/.*" if is_open else ""
    return re.compile((nested or "(?!)") + below, re.DOTALL)
