"""Documents are read as graphql-core reads them."""

from __future__ import annotations

import re
from typing import Any

import graphql
import pytest
from graphql.language import ast
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.session.document import (
    EnumName,
    FieldNode,
    InlineFragment,
    QuerySyntaxError,
    Selection,
    Spread,
    Value,
    Variable,
    parse_document,
    parse_value,
)


def plain_value(value: Value) -> Any:
    if isinstance(value, EnumName):
        return ("enum", value.name)
    if isinstance(value, Variable):
        return ("variable", value.name)
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {key: plain_value(item) for key, item in value.items()}
    return value


def plain_selections(selections: list[Selection] | None) -> Any:
    if selections is None:
        return None
    found: list[Any] = []
    for each in selections:
        match each:
            case FieldNode():
                arguments = {name: plain_value(value) for name, value in each.arguments.items()}
                found.append((each.key, each.name, arguments, plain_selections(each.selections)))
            case InlineFragment():
                found.append(("on", each.type, plain_selections(each.selections)))
            case Spread():
                found.append(("spread", each.name))
    return found


def core_value(node: ast.ValueNode) -> Any:
    match node:
        case ast.EnumValueNode():
            return ("enum", node.value)
        case ast.VariableNode():
            return ("variable", node.name.value)
        case ast.ListValueNode():
            return [core_value(item) for item in node.values]
        case ast.ObjectValueNode():
            return {field.name.value: core_value(field.value) for field in node.fields}
        case ast.IntValueNode():
            return int(node.value)
        case ast.FloatValueNode():
            return float(node.value)
        case ast.NullValueNode():
            return None
        case ast.BooleanValueNode() | ast.StringValueNode():
            return node.value
    raise AssertionError(node)


def core_selections(node: ast.SelectionSetNode | None) -> Any:
    if node is None:
        return None
    found: list[Any] = []
    for each in node.selections:
        match each:
            case ast.FieldNode():
                key = each.alias.value if each.alias else each.name.value
                arguments = {a.name.value: core_value(a.value) for a in each.arguments or ()}
                found.append((key, each.name.value, arguments, core_selections(each.selection_set)))
            case ast.InlineFragmentNode():
                kind = each.type_condition.name.value if each.type_condition else ""
                found.append(("on", kind, core_selections(each.selection_set)))
            case ast.FragmentSpreadNode():
                found.append(("spread", each.name.value))
    return found


def both(text: str) -> tuple[Any, Any]:
    """Return the first operation's selections as we and as graphql-core read them."""
    ours = plain_selections(parse_document(text).operations[0].selections)
    core = graphql.parse(text).definitions[0]
    assert isinstance(core, ast.OperationDefinitionNode)
    return ours, core_selections(core.selection_set)


QUERIES = [
    '{ container { from: from(address: "alpine") { withExec: withExec(args: ["a","b"], expect: ANY) '
    "{ sync: sync } } } }",
    '{ node(id: "C1") { ... on Container { stdout: stdout } ... { b } ... on X { a } } }',
    'query Named($a: [String!]! = ["x"], $b: Int) { a(x: $a, y: {k: [1, -2, 3.5e2], n: null}) '
    "b: c(t: true, f: false) }",
    '# comment\n{ a(s: "tab\\t\\u00e9\\uD83D\\uDE00\\\\ \\"q\\" \\/ é"), b } # end',
    '{ a(s: """\n    block\n      indented \\""" quotes\n    """) }',
    '{ a(s: "") b(s: "\\u{1F600}") c(s: """""") }',
    "{ a { ...F } } fragment F on A { b }",
    "\ufeff{a}",
]


@pytest.mark.parametrize("text", QUERIES)
def test_a_document_is_read_as_graphql_core_reads_it(text: str) -> None:
    ours, core = both(text)

    assert ours == core


@settings(max_examples=200)
@given(st.text(max_size=40))
def test_any_string_printed_by_graphql_core_is_read_back(text: str) -> None:
    """The SDK writes every argument through graphql-core's printer."""
    usable = text.encode("utf-8", "ignore").decode()
    literal = graphql.print_ast(ast.StringValueNode(value=usable))

    assert parse_value(literal) == usable


@settings(max_examples=300)
@given(st.text(alphabet='{}()[]:$!."\\ab1,-# \n|@e', max_size=20))
def test_what_graphql_core_refuses_is_refused(text: str) -> None:
    """A text is a syntax error for both or for none; directives and empty selections are refused here."""
    try:
        core: Any = graphql.parse(text)
    except graphql.GraphQLSyntaxError:
        core = None
    if core is not None and ("@" in text or re.search(r"\{[ \n,]*(#.*\n[ \n,]*)*}", text)):
        return
    if core is None:
        with pytest.raises(QuerySyntaxError):
            parse_document(text)
    else:
        parse_document(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Syntax Error: Unexpected <EOF>. (line 1, column 1)"),
        ("{ a { } }", "Syntax Error: Expected Name, found '}'. (line 1, column 7)"),
        ("{\n a(x: ) }", "Syntax Error: Unexpected ')'. (line 2, column 7)"),
        ("{ a ", "Syntax Error: Expected Name, found <EOF>. (line 1, column 5)"),
        ('{ a(x: "b) }', "Syntax Error: Unexpected character: '\"'. (line 1, column 8)"),
        ("{ a @skip(if: true) }", 'Syntax Error: Unknown directive "@skip". (line 1, column 6)'),
    ],
    ids=["empty", "no-fields", "no-value", "cut", "open-string", "directive"],
)
def test_a_syntax_error_says_what_was_found_and_where(text: str, message: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_document(text)

    assert str(caught.value) == message


def test_a_chain_of_ten_thousand_calls_is_not_too_deep() -> None:
    text = "{ a" * 10_000 + "}" * 10_000

    (operation,) = parse_document(text).operations

    depth = 0
    selections: list[Selection] | None = operation.selections
    while selections:
        field = selections[0]
        assert isinstance(field, FieldNode)
        selections, depth = field.selections, depth + 1
    assert depth == 10_000
