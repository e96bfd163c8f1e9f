"""Reads GraphQL documents: the executable part of the language, as fast as a chain of calls needs it.

graphql-core's parser stays the measure (a test compares the two), but it cannot be had without importing the
whole package: 0.25 s, more than the engine's start-up budget, and it takes five times as long per query.
Selection sets are read without recursion, so that no chain of calls is too deep; values may nest
`VALUE_DEPTH` deep. What fragments make of a document is looked at by `fragments`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final, NoReturn

from pipeline.errors import EngineError

VALUE_DEPTH: Final = 100
"""How deep lists and objects of a value, and lists of a type, may nest."""


class QuerySyntaxError(EngineError):
    """A document is not GraphQL; the message names what was found and where."""

    def __init__(self, what: str, text: str, position: int) -> None:
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        super().__init__(f"Syntax Error: {what} (line {line}, column {column})")


@dataclass(frozen=True, slots=True)
class EnumName:
    """A bare name where a value stands."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """`$name`."""

    name: str


Value = None | bool | int | float | str | EnumName | Variable | list["Value"] | dict[str, "Value"]


@dataclass(slots=True, kw_only=True)
class FieldNode:
    """`key: name(arguments) { selections }`; `key` is the name where there is no alias."""

    name: str
    key: str
    arguments: dict[str, Value] = field(default_factory=dict)
    selections: list[Selection] | None = None


@dataclass(slots=True, kw_only=True)
class InlineFragment:
    """`... on type { selections }`; `type` is "" when left out."""

    type: str
    selections: list[Selection]


@dataclass(slots=True, kw_only=True)
class Spread:
    """`...name`."""

    name: str


Selection = FieldNode | InlineFragment | Spread


@dataclass(slots=True, kw_only=True)
class Operation:
    """One operation; `defaults` are those of its variables."""

    kind: str
    name: str
    defaults: dict[str, Value]
    selections: list[Selection]


@dataclass(slots=True, kw_only=True)
class Document:
    """The operations in order, the fragments by name."""

    operations: list[Operation]
    fragments: dict[str, InlineFragment]


def parse_document(text: str) -> Document:
    """Read a document.

    Raises:
        QuerySyntaxError: It is none.
    """
    return _Parser(text).document()


def parse_value(text: str) -> Value:
    """Read one value, such as a default of the schema.

    Raises:
        QuerySyntaxError: It is none.
    """
    return _Parser(text).value()


_TOKEN: Final = re.compile(
    r"""(?:[\s,\ufeff]+|\#[^\n\r]*)*+
    (?:(?P<name>[_A-Za-z][_0-9A-Za-z]*+)
    |(?P<punctuation>\.\.\.|[!$&()@:=\[\]{|}])
    |(?P<block>\"{3}(?:[^"\\]++|\\\"{3}|\\|"(?!""))*+\"{3})
    |(?P<string>"(?:[^"\\\n\r]++|\\.)*+")
    |(?P<number>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?![.0-9_A-Za-z]))
    |(?P<end>\Z))""",
    re.VERBOSE,
)
_BRACED_ESCAPE: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u\{([0-9A-Fa-f]{1,8})\}")
_KEYWORDS: Final = {"true": True, "false": False, "null": None}


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.kind = ""
        self.word = ""
        self.start = 0
        self.position = 0
        self.depth = 0  # of the value that is read
        self.advance()

    # ---- tokens ----------------------------------------------------------------------------

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.position)
        if match is None or match.lastgroup is None:
            # Where white space ends is where the fault is; the pattern as a whole did not match.
            ignored = re.compile(r"(?:[\s,\ufeff]+|#[^\n\r]*)*").match(self.text, self.position)
            self.start = ignored.end() if ignored else self.position
            raise QuerySyntaxError(f"Unexpected character: {self.text[self.start]!r}.", self.text, self.start)
        self.kind = match.lastgroup
        self.start, self.position = match.span(self.kind)
        self.word = self.text[self.start : self.position]

    def fail(self, expected: str) -> NoReturn:
        found = "<EOF>" if self.kind == "end" else repr(self.word)
        what = f"Expected {expected}, found {found}." if expected else f"Unexpected {found}."
        raise QuerySyntaxError(what, self.text, self.start)

    def is_at(self, punctuation: str) -> bool:
        return self.word == punctuation and self.kind == "punctuation"

    def skip(self, punctuation: str) -> bool:
        if self.is_at(punctuation):
            self.advance()
            return True
        return False

    def expect(self, punctuation: str) -> None:
        if not self.skip(punctuation):
            self.fail(repr(punctuation))

    def name(self) -> str:
        if self.kind != "name":
            self.fail("Name")
        name = self.word
        self.advance()
        return name

    # ---- documents -------------------------------------------------------------------------

    def document(self) -> Document:
        document = Document(operations=[], fragments={})
        while True:
            if self.is_at("{"):
                operation = Operation(kind="query", name="", defaults={}, selections=self.selections())
                document.operations.append(operation)
            elif self.kind == "name" and self.word in ("query", "mutation", "subscription"):
                document.operations.append(self.operation())
            elif self.kind == "name" and self.word == "fragment":
                self.advance()
                name = self.name()
                document.fragments[name] = InlineFragment(type=self.condition(), selections=self.selections())
            else:
                self.fail("")
            if self.kind == "end":
                return document

    def operation(self) -> Operation:
        kind = self.name()
        name = self.name() if self.kind == "name" else ""
        defaults: dict[str, Value] = {}
        seen = False
        if self.skip("("):
            while not seen or not self.skip(")"):
                seen = True
                self.expect("$")
                variable = self.name()
                self.expect(":")
                self.type_reference()
                if self.skip("="):
                    defaults[variable] = self.value()
        self.no_directives()
        return Operation(kind=kind, name=name, defaults=defaults, selections=self.selections())

    def type_reference(self) -> None:
        if self.is_at("["):
            self.deeper()
            self.type_reference()
            self.depth -= 1
            self.expect("]")
        else:
            self.name()
        self.skip("!")

    def deeper(self) -> None:
        """Go into a list or an object."""
        self.depth += 1
        if self.depth > VALUE_DEPTH:
            raise QuerySyntaxError(f"More than {VALUE_DEPTH} levels in one value.", self.text, self.start)
        self.advance()

    def condition(self) -> str:
        if self.name() != "on":
            self.fail("'on'")
        return self.name()

    def no_directives(self) -> None:
        if self.is_at("@"):
            self.advance()
            raise QuerySyntaxError(f'Unknown directive "@{self.word}".', self.text, self.start)

    # ---- selections ------------------------------------------------------------------------

    def selections(self) -> list[Selection]:
        self.expect("{")
        top: list[Selection] = []
        stack = [top]
        while stack:
            here = stack[-1]
            if here and self.skip("}"):
                stack.pop()
                continue
            below = self.fragment(here) if self.skip("...") else self.field(here)
            if below is not None:
                self.expect("{")
                stack.append(below)
        return top

    def fragment(self, here: list[Selection]) -> list[Selection] | None:
        if self.kind == "name" and self.word != "on":
            here.append(Spread(name=self.name()))
            self.no_directives()
            return None
        condition = self.condition() if self.kind == "name" else ""
        self.no_directives()
        fragment = InlineFragment(type=condition, selections=[])
        here.append(fragment)
        return fragment.selections

    def field(self, here: list[Selection]) -> list[Selection] | None:
        key = name = self.name()
        if self.skip(":"):
            name = self.name()
        arguments = self.arguments() if self.is_at("(") else {}
        self.no_directives()
        node = FieldNode(name=name, key=key, arguments=arguments)
        here.append(node)
        if not self.is_at("{"):
            return None
        node.selections = []
        return node.selections

    def arguments(self) -> dict[str, Value]:
        self.expect("(")
        found: dict[str, Value] = {}
        while not found or not self.is_at(")"):
            name = self.name()
            self.expect(":")
            found[name] = self.value()
        self.advance()
        return found

    # ---- values ----------------------------------------------------------------------------

    def value(self) -> Value:
        kind, token = self.kind, self.word
        if kind == "punctuation":
            return self.compound()
        if kind == "end":
            self.fail("")
        self.advance()
        if kind == "name":
            return _KEYWORDS[token] if token in _KEYWORDS else EnumName(token)
        if kind == "number":
            return self.number(token)
        if kind == "block":
            return _block_text(token[3:-3])
        return self.string(token)

    def compound(self) -> Value:
        if self.skip("$"):
            return Variable(self.name())
        if self.is_at("["):
            self.deeper()
            items: list[Value] = []
            while not self.skip("]"):
                items.append(self.value())
            self.depth -= 1
            return items
        if not self.is_at("{"):
            self.fail("")
        self.deeper()
        members: dict[str, Value] = {}
        while not self.skip("}"):
            name = self.name()
            self.expect(":")
            members[name] = self.value()
        self.depth -= 1
        return members

    def number(self, token: str) -> int | float:
        try:
            return float(token) if any(c in ".eE" for c in token) else int(token)
        except ValueError:
            what = f"A number of {len(token)} digits."
            raise QuerySyntaxError(what, self.text, self.start) from None

    def string(self, token: str) -> str:
        if "\\" not in token:
            return token[1:-1]
        # Escapes are JSON's, but for the braced form.
        try:
            plain = _BRACED_ESCAPE.sub(lambda m: m[1] + json.dumps(chr(int(m[2], 16)))[1:-1], token)
            return str(json.loads(plain, strict=False))
        except ValueError as problem:
            raise QuerySyntaxError(
                f"Invalid character escape sequence: {problem}.", self.text, self.start
            ) from None


def _block_text(raw: str) -> str:
    """Return the value of a block string: common indent and blank ends removed."""
    lines = re.split(r"\r\n|[\n\r]", raw.replace('\\"""', '"""'))
    indents = [len(line) - len(line.lstrip(" \t")) for line in lines[1:] if line.strip(" \t")]
    cut = min(indents, default=0)
    lines = [lines[0], *(line[cut:] for line in lines[1:])]
    filled = [i for i, line in enumerate(lines) if line.strip(" \t")]
    return "\n".join(lines[filled[0] : filled[-1] + 1]) if filled else ""
