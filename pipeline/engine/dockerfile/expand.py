"""Docker's shell lexer: variables, quotes and escapes in the words of a Dockerfile. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SPECIAL: Final = frozenset("@*#?-$!0")
_MODIFIERS: Final = frozenset("+-?#%")
_DEPTH_LIMIT: Final = 50  # substitutions within one another
_PATTERN_LIMIT: Final = 1024  # letters
WORD_LIMIT: Final = 128 * 1024  # letters; the longest text that Linux hands to a process
DOCUMENT_LIMIT: Final = 4 * 1024 * 1024  # letters of an inline file


class BadSubstitution(EngineError):
    """A word cannot be expanded; the text says what is wrong with it."""


@dataclass(slots=True)
class Budget:
    """What all the expanded words of one build may take together, in letters."""

    left: int = 16 * 1024 * 1024

    def take(self, letters: int) -> None:
        """Take from what is left.

        Raises:
            BadSubstitution: So much is not left.
        """
        self.left -= letters
        if self.left < 0:
            raise BadSubstitution("what it says grows to more than 16 MiB of text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoting:
    """What becomes of quotes, escapes and unknown variables.

    By default quotes and escapes are removed and an unknown variable is empty.
    """

    escape: str = "\\"
    keep_quotes: bool = False  # quotes are understood, and stay in the result
    keep_escapes: bool = False
    ignore_quotes: bool = False  # quotes are letters like any other
    keep_unset: bool = False  # `$X` stays when X is unknown
    limit: int = WORD_LIMIT  # letters that variables may make of the text


def expand_word(text: str, env: Mapping[str, str], quoting: Quoting | None = None) -> str:
    """Return `text` as one word, expanded.

    Raises:
        BadSubstitution: Unbalanced quotes, a malformed `${…}`, `${V:?text}` without a value, or values
            that make it too long.
    """
    return _Lexer(text, env, quoting or Quoting()).run()[0]


def expand_words(text: str, env: Mapping[str, str], quoting: Quoting | None = None) -> list[str]:
    """Return the words of `text`, expanded; values are split at white space unless quoted.

    Raises:
        BadSubstitution: As for `expand_word`.
    """
    return _Lexer(text, env, quoting or Quoting()).run()[1]


def expand_document(text: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """Return an inline file with its variables expanded; quotes stay as they are.

    Raises:
        BadSubstitution: A malformed `${…}`, or `${V:?text}` without a value.
    """
    return expand_word(text, env, Quoting(escape=escape, ignore_quotes=True, limit=DOCUMENT_LIMIT))


@dataclass(slots=True)
class _Words:
    """Collects the words of one text; letters that were quoted never end a word."""

    done: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def add_plain(self, text: str) -> None:
        for char in text:
            if not char.isspace():
                self.parts.append(char)
            elif self.parts:
                self._end()

    def add_quoted(self, text: str) -> None:
        self.parts.append(text)

    def all(self) -> list[str]:
        self._end()
        return self.done

    def _end(self) -> None:
        if word := "".join(self.parts):
            self.done.append(word)
            self.parts.clear()


class _Lexer:
    """Walks one text once, from left to right."""

    def __init__(self, text: str, env: Mapping[str, str], quoting: Quoting) -> None:
        self._text = text
        self._env = env
        self._quoting = quoting
        self._at = 0
        self._depth = 0
        self._room = max(quoting.limit, len(text))

    def run(self) -> tuple[str, list[str]]:
        return self._until("", keep_escapes=self._quoting.keep_escapes)

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _next(self) -> str:
        char = self._peek()
        self._at += len(char)
        return char

    def _until(self, stop: str, *, keep_escapes: bool) -> tuple[str, list[str]]:
        """Read up to and over `stop` (or to the end when it is ""); return the text and its words."""
        out: list[str] = []
        words = _Words()
        while char := self._peek():
            if char == stop:
                self._next()
                return "".join(out), words.all()
            if char == "$":
                value = self._dollar()
                out.append(value)
                words.add_plain(value)
            elif char in "'\"" and not self._quoting.ignore_quotes:
                value = self._single() if char == "'" else self._double(keep_escapes=keep_escapes)
                out.append(value)
                words.add_quoted(value)
            elif char == self._quoting.escape:
                value = self._escaped(keep_escapes=keep_escapes)
                out.append(value)
                words.add_quoted(value)
            else:
                out.append(self._next())
                words.add_plain(char)
        if stop:
            raise BadSubstitution(f"syntax error: missing '{stop}'")
        return "".join(out), words.all()

    def _escaped(self, *, keep_escapes: bool) -> str:
        escape = self._next()
        return (escape if keep_escapes else "") + self._next()

    def _single(self) -> str:
        self._next()
        end = self._text.find("'", self._at)
        if end == -1:
            raise BadSubstitution("unexpected end of statement while looking for matching single-quote")
        body = self._text[self._at : end]
        self._at = end + 1
        return f"'{body}'" if self._quoting.keep_quotes else body

    def _double(self, *, keep_escapes: bool) -> str:
        self._next()
        out: list[str] = []
        while (char := self._peek()) != '"':
            if not char:
                raise BadSubstitution("unexpected end of statement while looking for matching double-quote")
            if char == "$":
                out.append(self._dollar())
                continue
            self._next()
            if char == self._quoting.escape:
                if keep_escapes:
                    out.append(char)
                following = self._peek()
                if not following:
                    continue
                if following in ('"', "$", self._quoting.escape):
                    char = self._next()
                elif keep_escapes:
                    continue  # the escape is there already, and escapes nothing
            out.append(char)
        self._next()
        body = "".join(out)
        return f'"{body}"' if self._quoting.keep_quotes else body

    def _dollar(self) -> str:
        value = self._substituted()
        self._room -= len(value)
        if self._room < 0:
            raise BadSubstitution(f"its variables make it longer than {self._quoting.limit:,} letters")
        return value

    def _substituted(self) -> str:
        self._next()
        if self._peek() == "{":
            self._depth += 1
            if self._depth > _DEPTH_LIMIT:
                raise BadSubstitution(f"more than {_DEPTH_LIMIT} substitutions within one another")
            value = self._braces()
            self._depth -= 1
            return value
        name = self._name()
        if not name:
            return "$"
        if name not in self._env and self._quoting.keep_unset:
            return "$" + name
        return self._env.get(name, "")

    def _name(self) -> str:
        first = self._peek()
        if first and not first.isdigit() and first in _SPECIAL:
            return self._next()
        pattern = r"[0-9]+" if first.isdigit() else r"\w*"
        found = re.compile(pattern).match(self._text, self._at)
        name = found.group() if found else ""
        self._at += len(name)
        return name

    def _braces(self) -> str:
        self._next()
        first = self._peek()
        if not first:
            raise BadSubstitution("syntax error: missing '}'")
        if first in "{}:":
            raise BadSubstitution("syntax error: bad substitution")
        name = self._name()
        mark = self._next()
        if mark == "}":
            if name not in self._env and self._quoting.keep_unset:
                return f"${{{name}}}"
            return self._env.get(name, "")
        if mark == "/":
            return self._replaced(name)
        colon = mark == ":"
        if colon:
            mark = self._next()
        if not mark and not colon:
            raise BadSubstitution("syntax error: missing '}'")
        if mark not in _MODIFIERS or (colon and mark in "#%"):
            raise BadSubstitution(f"unsupported modifier ({':' if colon else ''}{mark}) in substitution")
        word, _ = self._until("}", keep_escapes=mark in "#%")
        value = self._env.get(name)
        if value is None and self._quoting.keep_unset:
            return f"${{{name}{':' if colon else ''}{mark}{word}}}"
        return _modified(name, value, mark, word, null_is_unset=colon)

    def _replaced(self, name: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self._next()
        pattern, _ = self._until("/", keep_escapes=True)
        replacement, _ = self._until("}", keep_escapes=True)
        value = self._env.get(name)
        if value is None and self._quoting.keep_unset:
            return f"${{{name}/{'/' if everywhere else ''}{pattern}/{replacement}}}"
        text = re.sub(r"\\([/}])", r"\1", replacement)
        out = _substitute(value or "", _parse_pattern(pattern), text, everywhere=everywhere, room=self._room)
        if out is None:
            raise BadSubstitution(f"its variables make it longer than {self._quoting.limit:,} letters")
        return out


def _modified(name: str, value: str | None, mark: str, word: str, *, null_is_unset: bool) -> str:
    missing = value is None or (null_is_unset and value == "")
    match mark:
        case "-":
            return word if missing else value or ""
        case "+":
            return "" if missing else word
        case "?":
            if missing:
                state = "unset" if value is None else "empty"
                raise BadSubstitution(f"{name}: {word or f'is not allowed to be {state}'}")
            return value or ""
        case _:
            greedy = word.startswith(mark)
            pattern = word[1:] if greedy else word
            return _trimmed(value or "", pattern, greedy=greedy, at_end=mark == "%")


def _trimmed(value: str, pattern: str, *, greedy: bool, at_end: bool) -> str:
    """Return `value` without its shortest (or longest) beginning or end that matches."""
    pieces = _parse_pattern(pattern)
    if at_end:
        found = _regex([piece[::-1] for piece in reversed(pieces)], greedy=greedy).match(value[::-1])
        return value if found is None else value[: len(value) - found.end()]
    found = _regex(pieces, greedy=greedy).match(value)
    return value if found is None else value[found.end() :]


def _substitute(
    value: str, pieces: Sequence[_Piece], text: str, *, everywhere: bool, room: int
) -> str | None:
    """Return `value` with the first match (or all) replaced; None when there is no `room` for its letters."""
    start, whole = _regex(pieces[:1], greedy=True), _regex(pieces, greedy=True)
    out: list[str] = []
    at, search_at = 0, 0
    while search_at <= len(value) and (first := start.search(value, search_at)) is not None:
        found = whole.match(value, first.start())
        if found is None:
            break  # what follows the first star is nowhere, so no later start can match either
        if found.end() > at or found.end() > found.start() or not out:
            out += (value[at : found.start()], text)
            at = found.end()
            room -= len(text)
        if room < 0:
            return None
        if not everywhere:
            break
        search_at = max(found.end(), search_at + 1) if found.end() == found.start() else found.end()
    return "".join([*out, value[at:]])


_Piece = tuple[str, ...]


def _parse_pattern(pattern: str) -> list[_Piece]:
    """Return what stands between the stars of a pattern, as regular expressions of one letter each."""
    if len(pattern) > _PATTERN_LIMIT:
        raise BadSubstitution(f"a pattern is longer than {_PATTERN_LIMIT:,} letters")
    pieces: list[list[str]] = [[]]
    chars = iter(pattern)
    for char in chars:
        if char == "*":
            pieces.append([])
        elif char == "?":
            pieces[-1].append(".")
        elif char == "\\":
            following = next(chars, "")
            if following not in ("*", "?", "\\", "}", "/"):
                raise BadSubstitution(f"invalid escape '\\{following}'")
            pieces[-1].append(re.escape(following))
        else:
            pieces[-1].append(re.escape(char))
    return [tuple(piece) for piece in pieces]


def _regex(pieces: Sequence[_Piece], *, greedy: bool) -> re.Pattern[str]:
    """Return an expression that never goes back over a star but the last, so that its time is bounded."""
    texts = ["".join(piece) for piece in pieces]
    if len(texts) == 1:
        return re.compile(texts[0], re.DOTALL)
    middle = "".join(f"(?>.*?{text})" for text in texts[1:-1])
    return re.compile(f"{texts[0]}{middle}{'.*' if greedy else '.*?'}{texts[-1]}", re.DOTALL)
