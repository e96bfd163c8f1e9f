"""Fingerprints: the same problem keeps its name when lines move, code is reformatted or a file is renamed.

Version 1: 128 bits of SHA-256 over length-prefixed parts. For code: kind, rule, path, the function or class
around it, the statement (Python) or line without its layout, and which of the equal ones in that symbol it
is. The occurrence matters: without it a second, new problem with the same text would hide behind the first.
"""

from __future__ import annotations

import ast
import hashlib
import hmac
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pipeline.scan.finding import Finding, InFile, InPackage, InRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

VERSION: Final = "pipeline/v1"
HARD_CODED: Final = frozenset({259, 321, 798})  # CWEs whose code holds a secret: its literals are left out
_SPACE: Final = re.compile(r"\s+")


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


@dataclass(frozen=True, slots=True)
class Span:
    """The lines of one symbol or statement."""

    first: int
    last: int
    name: str = ""  # of a symbol
    node: ast.stmt | None = None  # of a statement


@dataclass(frozen=True, slots=True)
class SourceText:
    """One file, ready to say what is at a line."""

    lines: tuple[str, ...]
    symbols: tuple[Span, ...] = ()
    statements: tuple[Span, ...] = ()
    by_line: dict[int, tuple[str, ast.stmt | None]] = field(default_factory=dict, compare=False)

    def at(self, line: int) -> tuple[str, ast.stmt | None]:
        """The innermost symbol and statement around a line; "" at the top of the module."""
        if line not in self.by_line:
            around = [one for one in self.symbols if one.first <= line <= one.last]
            inside = [one for one in self.statements if one.first <= line <= one.last]
            name = min(around, key=lambda one: one.last - one.first).name if around else ""
            node = min(inside, key=lambda one: one.last - one.first).node if inside else None
            self.by_line[line] = (name, node)
        return self.by_line[line]


def read_source(path: str, text: str) -> SourceText:
    """A file's lines and, of Python that parses, its symbols and statements."""
    lines = tuple(text.splitlines())
    if not path.endswith((".py", ".pyi")):
        return SourceText(lines)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return SourceText(lines)
    symbols: list[Span] = []
    statements: list[Span] = []
    stack: list[tuple[ast.AST, str]] = [(tree, "")]
    while stack:
        node, around = stack.pop()
        for child in ast.iter_child_nodes(node):
            name = around
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{around}.{child.name}" if around else child.name
                first = min([child.lineno, *(one.lineno for one in child.decorator_list)])
                symbols.append(Span(first, child.end_lineno or child.lineno, name))
            if isinstance(child, ast.stmt):
                statements.append(Span(child.lineno, child.end_lineno or child.lineno, node=child))
            if not isinstance(child, ast.expr):
                stack.append((child, name))
    return SourceText(lines, tuple(symbols), tuple(statements))


def snippet(source: SourceText, line: int, *, mask: bool = False) -> str:
    """Name what stands at a line by its content: 16 hex digits; "" where there is no such line.

    Args:
        mask: Leave literals out, which are the secret itself.
    """
    _, node = source.at(line)
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


def identify(findings: Iterable[Finding], texts: Mapping[str, str]) -> list[Finding]:
    """Give each finding its `id` and `moved_id`, and places in files their symbol and snippet.

    Args:
        findings: Findings of secrets that have an `id` keep it.
        texts: The files of the project by path; a finding in another file is named by its line number.
    """
    return identify_each([list(findings)], texts)[0]


def identify_each(groups: Sequence[Sequence[Finding]], texts: Mapping[str, str]) -> list[list[Finding]]:
    """Name the findings of several scanners, each as if it were alone; a file is read once for all of them.

    One file's code is held at a time: that of a large project would take hundreds of megabytes.
    """
    named = [list(group) for group in groups]
    seen: list[Counter[tuple[str, ...]]] = [Counter() for _ in groups]
    order = [(number, index) for number, group in enumerate(groups) for index in range(len(group))]
    path, source = "", SourceText(())
    for number, index in sorted(order, key=lambda where: _position(groups[where[0]][where[1]])):
        one = named[number][index]
        place = one.place
        if isinstance(place, InFile) and place.path in texts and one.kind != "secret":
            if place.path != path:
                path, source = place.path, read_source(place.path, texts[place.path])
            mask = not HARD_CODED.isdisjoint(one.cwe)
            symbol = place.symbol or source.at(place.line)[0]
            placed = replace(place, symbol=symbol, snippet=snippet(source, place.line, mask=mask))
            one = replace(one, place=placed)
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
