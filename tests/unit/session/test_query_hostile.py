"""Queries as no client writes them: too deep, too large, of wrong shapes. Each is answered in time."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.unit.session.test_query import CHAIN, Client, id_of

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio
DEPTH: Final = 10_000
LIMIT_S: Final = 20.0
"""What no answer here takes, even on a busy machine; most take a hundredth of it."""


def nested(before: str, inside: str, after: str, times: int = DEPTH) -> str:
    """Put a text into `times` pairs."""
    return before * times + inside + after * times


def fan(levels: int) -> str:
    """Fragments that double what is selected on each level."""
    rows = [
        f"fragment F{n} on Container {{ a: withoutUser {{ ...F{n + 1} }} b: withoutUser {{ ...F{n + 1} }} }}"
        for n in range(levels)
    ]
    return "\n".join(["{ container { ...F0 } }", *rows, f"fragment F{levels} on Container {{ user }}"])


TOO_MUCH: Final = {
    "lists": (
        "{ container { withExec(args: " + nested("[", "", "]") + ") { id } } }",
        "More than 100 levels",
    ),
    "objects": ("{ container(x: " + nested("{x: ", "1", "}") + ") { id } }", "More than 100 levels"),
    "open lists": ("{ container(x: " + "[" * 1_000_000, "More than 100 levels"),
    "list types": ("query A($a: " + nested("[", "Int", "]") + ") { version }", "More than 100 levels"),
    "parting": (
        "{ container { " + nested("user withoutUser { ", "user", " } ") + "} }",
        "parts more than 100",
    ),
    "digits": ("{ container(x: " + "9" * 5000 + ") { id } }", "A number of 5000 digits"),
    "large number": (
        "{ container { withExposedPort(port: " + "9" * 400 + ") { id } } }",
        "Int cannot represent non 64-bit signed integer value",
    ),
    "escape": ('{ container { withUser(name: "\\u{110000}") { id } } }', "Invalid character escape"),
    "open string": ('{ container { withUser(name: "' + "x" * 1_000_000, "Unexpected character"),
    "open block": ('{ container { withUser(name: """' + "\\" * 1_000_000, "Unexpected character"),
    "surrogate": ("\ud800{ version }", "Unexpected character"),
    "surrogate in a value": (
        '{ container { withUser(name: "\\ud800") { id } } }',
        "String cannot represent a lone surrogate",
    ),
    "NUL in a path": (
        '{ container { withNewFile(path: "/a\\u0000", contents: "") { id } } }',
        'Argument "Container.withNewFile(path:)" holds a zero byte.',
    ),
    "NUL": ("{ version \0 }", "Unexpected character"),
    "fragment in itself": (
        "{ ...F } fragment F on Query { ...F }",
        'Cannot spread fragment "F" within itself',
    ),
    "fragment in itself, by a field": (
        "{ container { ...F } } fragment F on Container { withoutUser { ...G } } "
        "fragment G on Container { withoutUser { ...F } }",
        "within itself",
    ),
    "fragments that double": (fan(60), "more than 1000000 selections"),
    "chain of fragments": (
        "{ ...F0 } " + " ".join(f"fragment F{n} on Query {{ ...F{n + 1} }}" for n in range(DEPTH)),
        f'Unknown fragment "F{DEPTH}"',
    ),
    "fields": ("{ " + nested("nothing { ", "nothing", " }", 100_000) + " }", 'Cannot query field "nothing"'),
}


@pytest.mark.parametrize(("query", "message"), TOO_MUCH.values(), ids=list(TOO_MUCH))
async def test_what_is_too_much_is_refused_with_its_reason(query: str, message: str) -> None:
    client = Client()
    began = time.monotonic()

    error = await client.error(query)

    assert message in error["message"]
    assert "internal error" not in error["message"]
    assert time.monotonic() - began < LIMIT_S


@pytest.mark.parametrize(
    ("query", "depth"),
    [
        pytest.param("{ " + nested("... { __typename ", "", "}") + " }", 0, id="fragments without a name"),
        pytest.param("{ " + "__typename " * 100_000 + "}", 0, id="fields"),
        pytest.param(
            "{ container { " + nested("withoutUser { ", "user", " }", 3000) + " } }", 3001, id="chain"
        ),
        pytest.param(
            "{ ...F ...F } fragment F on Query { ...G ...G } fragment G on Query { a: version }", 0, id="t"
        ),
    ],
)
async def test_what_is_long_but_plain_is_answered(query: str, depth: int) -> None:
    """Chains of single fields, and fragments in their places, may be as long as they like."""
    body = json.dumps({"query": query}).encode()

    text = await Client()._queries.answer(body)

    assert text.startswith(b'{"data":{')
    assert text.count(b":{") == depth + 1


def deep(times: int) -> bytes:
    return b'{"query": "{ version }", "variables": {"a": ' + b"[" * times + b"]" * times + b"}}"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"7", b'"text"', b"\xff\xfe\x00", b"\xed\xa0\x80", b"[" * 100_000,
        b'{"query": 1}',
        b'{"query": null}', b'{"query": ["{ version }"]}', b'{"query": "{ version }", "variables": [1]}',
        b'{"query": "{ version }", "variables": "x"}', b'{"query": "{ version }", "operationName": {"a": 1}}',
        b'{"query": "{ version }", "operationName": 7}',
        b'{"query": "{ version }", "variables": {"a": ' + b"9" * 5000,
        deep(200), deep(100_000),
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
async def test_a_body_of_another_shape_is_refused(body: bytes) -> None:
    answer = json.loads(await Client()._queries.answer(body))

    (error,) = answer["errors"]
    assert answer["data"] is None
    assert error["message"].startswith("cannot read the query: ")


def cut(chance: random.Random, identifier: str) -> str:
    return identifier[: chance.randrange(len(identifier))]


def turned(chance: random.Random, identifier: str) -> str:
    place = chance.randrange(1, len(identifier))
    other = chance.choice("0123456789abcdef".replace(identifier[place], ""))
    return identifier[:place] + other + identifier[place + 1 :]


def noise(chance: random.Random, _identifier: str) -> str:
    return "".join(
        chr(chance.choice((0, 34, 39, 92, 0xD800, 0x1F600, chance.randrange(128)))) for _ in range(65)
    )


def path(chance: random.Random, _identifier: str) -> str:
    return "../" * chance.randrange(1, 40) + "etc/passwd"


@pytest.mark.parametrize("damage", [cut, turned, noise, path])
async def test_a_damaged_id_is_an_unknown_one(damage: Callable[[random.Random, str], str]) -> None:
    """100 of each kind (seeded), to be loaded by type and as a node."""
    chance = random.Random(7)  # noqa: S311 - damage, not secrets
    client = Client()
    identifier = await id_of(client, CHAIN)
    damaged = [json.dumps(damage(chance, identifier)) for _ in range(100)]

    errors: list[Any] = []
    for each in damaged:
        errors.append(await client.error(f"{{ loadContainerFromID(id: {each}) {{ user }} }}"))
        errors.append(await client.error(f"{{ node(id: {each}) {{ id }} }}"))

    assert {error["message"].endswith("no object of this engine has that id") for error in errors} == {True}


async def test_no_damage_to_a_query_breaks_the_session() -> None:
    """1,000 queries damaged at random places (seeded): each has an answer, and none an internal error."""
    chance = random.Random(11)  # noqa: S311 - damage, not secrets
    client = Client()
    whole = (
        'query Q($a: String = "b") { c: container { ...F withUser(name: $a) { user } } } '
        "fragment F on Container { id }"
    )
    pieces = [*'{}()[]"#:\\\0\ud800é', '"""', "...", "$a", "@skip", "1e9"]

    for _ in range(1000):
        text = whole
        for _ in range(chance.randrange(1, 5)):
            place = chance.randrange(len(text))
            text = text[:place] + chance.choice(pieces) + text[place + chance.randrange(4) :]
        answer = await client.ask(text)
        assert set(answer) <= {"data", "errors"}
        assert "internal error" not in json.dumps(answer), text
    after = await client.data("{ container { user } }")

    assert after == {"container": {"user": ""}}
