"""What stands at a line of a file, whatever its layout: the symbol around it, and the statement's content.

To read that out of Python takes its whole syntax tree, so what was asked is kept by what the file holds.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Told: TypeAlias = dict[str, tuple[str, str]]  # symbol and snippet by place, such as "12:1" or "12:1 masked"

VERSION: Final = f"2 python{sys.version_info[0]}.{sys.version_info[1]}"  # how Python writes code out differs
_SPACE: Final = re.compile(r"\s+")


class Spots:
    """What stands at lines of files: what an earlier run asked, and what this one asks."""

    def __init__(self, note: bytes | None = None) -> None:
        """Read what `dump` wrote; anything else is as good as nothing."""
        self._before: dict[str, tuple[str, Told]] = {}
        self._now: dict[str, tuple[str, Told]] = {}
        try:
            told = json.loads(note or b"{}")
            files = told["files"] if told["version"] == VERSION else {}
            self._before = {
                str(path): (str(digest), {str(key): (str(symbol), str(spot)) for key, symbol, spot in rows})
                for path, (digest, rows) in files.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            self._before = {}

    def of(self, path: str, text: str) -> FileSpots:
        """The lines of a file with this text."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        before, told = self._before.get(path, ("", {}))
        self._now[path] = (digest, told if before == digest else {})
        return FileSpots(path, text, self._now[path][1])

    def dump(self) -> bytes:
        """What this run asked, for the next one."""
        files = {
            path: [digest, [[key, *spot] for key, spot in sorted(told.items())]]
            for path, (digest, told) in sorted(self._now.items())
        }
        return json.dumps({"version": VERSION, "files": files}).encode()


class FileSpots:
    """What stands at the lines of one file; it is parsed when a line is asked for that is not told yet."""

    def __init__(self, path: str, text: str, told: Told) -> None:
        self._path = path
        self._text = text
        self._told = told
        self._source: SourceText | None = None

    def at(self, line: int, column: int, *, mask: bool) -> tuple[str, str]:
        """The symbol around a place, and what names the statement there (see `snippet`)."""
        key = f"{line}:{column}" + (" masked" if mask else "")
        if key not in self._told:
            if self._source is None:
                self._source = read_source(self._path, self._text)
            symbol = self._source.at(line, column)[0]
            self._told[key] = (symbol, snippet(self._source, line, column, mask=mask))
        return self._told[key]


@dataclass(frozen=True, slots=True)
class SourceText:
    """One file, ready to say what is at a line."""

    lines: tuple[str, ...]
    tree: ast.Module | None = None  # of Python that parses

    def at(self, line: int, column: int = 0) -> tuple[str, ast.stmt | None]:
        """The innermost symbol and statement around a place; "" at the top of the module.

        Several statements may share a line, which a formatter puts on lines of their own: the column tells
        which is meant, from 1; of an unknown column, 0, it is the innermost.
        """
        symbols: list[tuple[int, str]] = []  # with how many lines they have
        statements: list[tuple[int, ast.stmt]] = []
        around: list[tuple[ast.AST, str]] = [] if self.tree is None else [(self.tree, "")]
        while around:
            node, name = around.pop()
            for child in _inside(node):
                first, last = child.lineno, child.end_lineno or child.lineno
                inner, top = name, first
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    inner = f"{name}.{child.name}" if name else child.name
                    top = min([first, *(one.lineno for one in child.decorator_list)])
                    if top <= line <= last:
                        symbols.append((last - top, inner))
                if first <= line <= last and self._begins_by(child, line, column):
                    statements.insert(0, (last - first, child))
                if top <= line <= last:
                    around.append((child, inner))
        symbol = min(symbols, key=lambda one: one[0])[1] if symbols else ""
        return symbol, min(statements, key=lambda one: one[0])[1] if statements else None

    def _begins_by(self, node: ast.stmt, line: int, column: int) -> bool:
        """Whether a statement on a line begins at a column of it or before; the last that does is meant.

        What stands after it, such as a comment or a `;`, is its own.
        """
        if not column or node.lineno != line or line > len(self.lines):
            return True
        return node.col_offset <= len(self.lines[line - 1][: column - 1].encode("utf-8", "surrogatepass"))


def _inside(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements right inside a statement, those of its handlers and cases too."""
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for child in getattr(node, name, ()):
            if isinstance(child, ast.stmt):
                yield child
            else:
                yield from _inside(child)


def read_source(path: str, text: str) -> SourceText:
    """A file's lines and, of Python that parses, its syntax tree."""
    lines = tuple(text.splitlines())
    if not path.endswith((".py", ".pyi")):
        return SourceText(lines)
    try:
        return SourceText(lines, ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return SourceText(lines)


def snippet(source: SourceText, line: int, column: int = 0, *, mask: bool = False) -> str:
    """Name what stands at a place by its content: 16 hex digits; "" where there is no such line.

    Args:
        mask: Leave literals out, which are the secret itself.
    """
    _, node = source.at(line, column)
    if node is not None and (text := _unparsed(_head(node, mask=mask))):
        return _hash(text)
    if not 0 < line <= len(source.lines):
        return ""
    bare = _SPACE.sub("", source.lines[line - 1]).rstrip(",")
    return _hash(re.sub(r"(['\"]).*\1|[:=].*", "", bare) if mask else bare)


def _unparsed(node: ast.stmt) -> str:
    """A statement on one line; "" for one that cannot be written, as when it is nested too deeply."""
    try:
        return ast.unparse(node)
    except (ValueError, RecursionError):
        return ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _head(node: ast.stmt, *, mask: bool) -> ast.stmt:
    """A statement without the statements inside it, on one line."""
    parts = {
        name: value
        for name, value in ast.iter_fields(node)
        if name not in {"body", "orelse", "finalbody", "handlers", "cases"}
    }
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        if hasattr(node, name):
            parts[name] = [ast.Pass()] if name == "body" else []
    head = type(node)(**parts)
    if isinstance(node, ast.Try):
        head = ast.If(test=ast.Name("try"), body=[ast.Pass()], orelse=[])
    elif isinstance(node, ast.Match):
        head = ast.If(test=node.subject, body=[ast.Pass()], orelse=[])
    head = ast.fix_missing_locations(head)
    return _Masked().visit(head) if mask else head


class _Masked(ast.NodeTransformer):
    """Leaves literals out."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.copy_location(ast.Constant(value=...), node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
        return ast.copy_location(ast.Constant(value=...), node)
