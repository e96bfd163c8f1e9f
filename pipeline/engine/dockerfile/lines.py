"""A Dockerfile's directives and logical lines: continuations joined, comments dropped, heredocs collected."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pipeline.engine.dockerfile.expand import BadSubstitution, Quoting, expand_words
from pipeline.engine.dockerfile.instructions import DockerfileError, Heredoc
from pipeline.engine.dockerfile.words import NotTexts, parse_json_form, split_flags, split_instruction

_DIRECTIVE: Final = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*\Z")
_HEREDOC: Final = re.compile(r"(\d*)<<(-?)([^<]*)\Z", re.DOTALL)
_WITH_HEREDOCS: Final = frozenset({"run", "copy", "add"})
_DIRECTIVES: Final = ("syntax", "escape", "check")
_LINE_LIMIT: Final = 65_535  # bytes before the end of the line, as BuildKit has it
FILE_LIMIT: Final = 4 * 1024 * 1024  # bytes
INSTRUCTION_LIMIT: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalLine:
    """One instruction's text, where it starts (1-based), and the inline documents after it."""

    number: int
    text: str
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file as logical lines; directives that are absent are ""."""

    lines: tuple[LogicalLine, ...]
    escape: str
    syntax: str
    check: str
    syntax_line: int = 0  # where `syntax` stands, 0 when it is absent


def split_lines(text: str, *, file: str, escape: str = "\\") -> Source:
    """Split a Dockerfile into logical lines; `escape` counts where no directive gives another.

    Raises:
        DockerfileError: A bad or repeated directive, a heredoc without its end, something that is no
            text, or more than a Dockerfile may hold.
    """
    if len(text) > FILE_LIMIT:
        raise DockerfileError("parse", file, 0, f"it is larger than {FILE_LIMIT >> 20} MiB")
    physical = _by_newline(text)
    _check_text(physical, file)
    directives, at = _read_directives(physical, file)
    escape = directives.get("escape", escape)
    reader = _Reader(physical, escape, file)
    return Source(
        lines=tuple(reader.read()),
        escape=escape,
        syntax=directives.get("syntax", ""),
        check=directives.get("check", ""),
        syntax_line=at.get("syntax", 0),
    )


def parse_heredoc(word: str) -> Heredoc | None:
    """Read a `<<NAME` word; None when it is none. The content is not known here."""
    match = _HEREDOC.match(word)
    if match is None or not match[3]:
        return None
    try:
        plain = expand_words(match[3], {}, Quoting(keep_unset=True))
        raw = expand_words(match[3], {}, Quoting(keep_unset=True, keep_quotes=True, keep_escapes=True))
    except BadSubstitution:
        return None
    if len(plain) != 1:
        return None
    return Heredoc(name=plain[0], content="", expand=plain == raw, chomp=match[2] == "-")


def _by_newline(text: str) -> list[str]:
    """Split at newlines only; a carriage return before one is the line's own until it is trimmed."""
    parts = text.removeprefix("\ufeff").split("\n")
    lines = [part + "\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines


def _check_text(lines: list[str], file: str) -> None:
    """Refuse what is no text, and lines that are too long."""
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            error = DockerfileError("parse", file, number, "it holds a NUL byte")
            error.hint = "save the file as UTF-8"
            raise error
        if len(line) * 4 > _LINE_LIMIT and len(line.encode("utf-8", "surrogateescape")) > _LINE_LIMIT:
            raise DockerfileError("parse", file, number, f"it is longer than {_LINE_LIMIT:,} bytes")
    if len(lines) == 1 and "\r" in lines[0].strip():
        error = DockerfileError("parse", file, 1, "its lines end in a carriage return alone")
        error.hint = "end them in a newline"
        raise error


def _read_directives(lines: list[str], file: str) -> tuple[dict[str, str], dict[str, int]]:
    """Return the values of the directives, and their lines."""
    found: dict[str, str] = {}
    at: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        match = _DIRECTIVE.match(line.strip())
        if match is None:
            break
        name, value = match[1].lower(), match[2]
        if name not in _DIRECTIVES:
            continue
        if name in found:
            raise DockerfileError("parse", file, number, f"only one {name} parser directive can be used")
        if name == "escape" and value not in ("\\", "`"):
            raise DockerfileError("parse", file, number, f"invalid ESCAPE '{value}': it must be ` or \\")
        found[name], at[name] = value, number
    return found, at


class _Reader:
    """Walks the physical lines once."""

    def __init__(self, lines: list[str], escape: str, file: str) -> None:
        self._lines = lines
        self._file = file
        self._at = 0
        mark = re.escape(escape)
        self._continued = re.compile(rf"(?:(?<!{mark})|\A){mark}[ \t]*\Z")

    def read(self) -> list[LogicalLine]:
        found: list[LogicalLine] = []
        while self._at < len(self._lines):
            number = self._at + 1
            text = self._read_text()
            if text.strip():
                heredocs = self._read_heredocs(text, number)
                found.append(LogicalLine(number=number, text=text, heredocs=heredocs))
            if len(found) > INSTRUCTION_LIMIT:
                reason = f"more than {INSTRUCTION_LIMIT:,} instructions"
                raise DockerfileError("parse", self._file, number, reason)
        return found

    def _read_text(self) -> str:
        line = self._take().rstrip("\r\n").lstrip()
        if line.startswith("#"):
            return ""
        text, ends = self._cut(line)
        parts = [text]
        while not ends and self._at < len(self._lines):
            line = self._take().rstrip("\r\n")
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            text, ends = self._cut(line)
            parts.append(text)
        return "".join(parts)

    def _take(self) -> str:
        self._at += 1
        return self._lines[self._at - 1]

    def _cut(self, line: str) -> tuple[str, bool]:
        """Return the line without its continuation mark, and whether the instruction ends here."""
        self._check_encoding(line)
        match = self._continued.search(line)
        return (line, True) if match is None else (line[: match.start()], False)

    def _read_heredocs(self, text: str, number: int) -> tuple[Heredoc, ...]:
        if "<<" not in text or not _may_have_heredocs(text):
            return ()
        try:
            quoting = Quoting(keep_quotes=True, keep_escapes=True, keep_unset=True)
            words = expand_words(text, {}, quoting)
        except BadSubstitution:
            return ()  # a shell's own syntax, `<<` in it being no more than that
        marks = [mark for mark in map(parse_heredoc, words) if mark is not None]
        return tuple(self._read_body(mark, number) for mark in marks)

    def _read_body(self, mark: Heredoc, number: int) -> Heredoc:
        raw: list[str] = []
        while self._at < len(self._lines):
            line = self._take()
            end = line.rstrip("\r\n")
            if (end.lstrip("\t") if mark.chomp else end) == mark.name:
                body = [one.lstrip("\t") for one in raw] if mark.chomp else raw
                return Heredoc(
                    name=mark.name,
                    content="".join(body),
                    expand=mark.expand,
                    chomp=mark.chomp,
                    raw="".join(raw),
                )
            self._check_encoding(line)
            raw.append(line)
        raise DockerfileError("parse", self._file, number, f"unterminated heredoc `{mark.name}`")

    def _check_encoding(self, line: str) -> None:
        """Refuse a line that is not UTF-8; in comments anything may stand."""
        try:
            line.encode()
        except UnicodeEncodeError as error:
            reason = DockerfileError("parse", self._file, self._at, "it is not UTF-8")
            reason.hint = "save the file as UTF-8"
            raise reason from error


def _may_have_heredocs(text: str) -> bool:
    words = text.split(maxsplit=2)
    if words[0].lower() == "onbuild" and len(words) > 1:
        words = words[1:]
    return words[0].lower() in _WITH_HEREDOCS and not (len(words) > 1 and _is_json(text))


def _is_json(text: str) -> bool:
    """Is the instruction's argument in JSON form? Then `<<` in it is plain text."""
    keyword, rest = split_instruction(text)
    if keyword == "ONBUILD":
        _, rest = split_instruction(rest)
    try:
        return parse_json_form(split_flags(rest)[1]) is not None
    except NotTexts:
        return True
