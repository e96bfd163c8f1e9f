"""Queries over the real tables, as far as no engine is needed to answer them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from pipeline.engine.runtime.errors import ExecFailed
from pipeline.session.fields import Field
from pipeline.session.objects import Objects
from pipeline.session.query import Queries
from pipeline.session.tables import TABLES, pinned_value

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio


class MemoryRecipes:
    """Keeps recipes as the store's index does."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def find_recipe(self, number: str) -> str | None:
        return self.texts.get(number)

    def save_recipe(self, number: str, text: str) -> None:
        self.texts[number] = text


class Client:
    """Asks a session, in the shapes the SDK uses."""

    def __init__(self, recipes: MemoryRecipes | None = None, **container_fields: Field) -> None:
        self.recipes = recipes or MemoryRecipes()
        tables = {**TABLES, "Container": {**TABLES["Container"], **container_fields}}
        objects = Objects(
            tables, recipes=self.recipes, pinned_value=pinned_value, engine=cast("Any", "no engine")
        )
        self._queries = Queries(objects)

    async def ask(self, query: str, **more: Any) -> Any:
        return json.loads(await self._queries.answer(json.dumps({"query": query, **more}).encode()))

    async def data(self, query: str, **more: Any) -> Any:
        answer = await self.ask(query, **more)
        assert "errors" not in answer, answer
        return answer["data"]

    async def error(self, query: str) -> Any:
        answer = await self.ask(query)
        assert answer["data"] is None
        (error,) = answer["errors"]
        return error


CHAIN = '{ container { withEnvVariable(name: "A", value: "1") { id } } }'


async def id_of(client: Client, chain: str) -> str:
    """Return what the innermost `id` of a chain answers."""
    answer = await client.data(chain)
    while isinstance(answer, dict):
        (answer,) = answer.values()
    assert isinstance(answer, str)
    return answer


# ---- shapes ----------------------------------------------------------------------------------


async def test_fields_are_answered_under_their_aliases() -> None:
    answer = await Client().data('{ c: container { x: withUser(name: "me") { who: user __typename } } }')

    assert answer == {"c": {"x": {"who": "me", "__typename": "Container"}}}


async def test_several_fields_and_fragments_of_all_kinds_are_answered() -> None:
    query = """
      query Two($name: String = "b") {
        a: container { ...C ... on Directory { entries } ... on Syncer { entrypoint } }
        b: container { withUser(name: $name) { user } }
      }
      fragment C on Container { user workdir }
    """

    answer = await Client().data(query, variables={})

    assert answer == {
        "a": {"user": "", "workdir": "", "entrypoint": []},
        "b": {"withUser": {"user": "b"}},
    }


async def test_lists_of_objects_are_answered_and_each_is_found_by_its_id() -> None:
    client = Client()
    chain = (
        '{ container { withLabel(name: "a", value: "1") { withLabel(name: "b", value: "2") '
        "{ labels { id } } } } }"
    )

    answer = await client.data(chain)

    ids = [item["id"] for item in answer["container"]["withLabel"]["withLabel"]["labels"]]
    found = [await client.data(f'{{ node(id: "{i}") {{ ... on Label {{ name value }} }} }}') for i in ids]
    assert found == [{"node": {"name": "a", "value": "1"}}, {"node": {"name": "b", "value": "2"}}]


async def test_what_is_not_there_is_null() -> None:
    answer = await Client().data('{ container { envVariable(name: "X") dockerHealthcheck { args } } }')

    assert answer == {"container": {"envVariable": None, "dockerHealthcheck": None}}


async def test_a_chain_of_five_hundred_calls_is_answered() -> None:
    calls = [f'withEnvVariable(name: "N{n}", value: "")' for n in range(500)]
    query = "{ container { " + " { ".join(calls) + ' { envVariable(name: "N499") ' + "}" * 502

    answer = await Client().data(query)

    depth = 0
    while isinstance(answer, dict):
        answer, depth = next(iter(answer.values())), depth + 1
    assert (answer, depth) == ("", 502)


async def test_introspection_is_answered_by_hand_as_well() -> None:
    client = Client()

    answer = await client.data('{ __schema { queryType { name } } __type(name: "Label") { kind name } }')

    assert answer == {
        "__schema": {"queryType": {"name": "Query"}},
        "__type": {"kind": "OBJECT", "name": "Label"},
    }


async def test_the_standard_introspection_query_has_the_whole_schema() -> None:
    answer = await Client().data("query IntrospectionQuery { __schema { types { name } } }")

    assert len(answer["__schema"]["types"]) > 150


# ---- ids -------------------------------------------------------------------------------------


async def test_the_same_chain_has_the_same_id_and_another_has_another() -> None:
    client = Client()

    first = await id_of(client, CHAIN)
    again = await id_of(
        client, '{ container { withEnvVariable(value: "1", name: "A", expand: false) { id } } }'
    )
    other = await id_of(client, '{ container { withEnvVariable(name: "A", value: "2") { id } } }')

    assert first == again
    assert first != other
    assert first[0] == "C"


@pytest.mark.parametrize(
    ("is_pure", "carried_out"),
    [pytest.param(True, ["a", "b"], id="pure"), pytest.param(False, ["a", "a", "b"], id="not pure")],
)
async def test_a_pure_call_of_one_object_is_carried_out_once(is_pure: bool, carried_out: list[str]) -> None:
    """Clients send a chain from its beginning with each request."""
    asked: list[str] = []

    def resolve(_scope: object, value: object, arguments: Mapping[str, Any]) -> object:
        asked.append(arguments["name"])
        return value

    client = Client(withUser=Field(resolve=resolve, is_pure=is_pure))
    start = await id_of(client, "{ container { id } }")

    ids = [
        (
            await client.data(
                f'{{ node(id: "{start}") {{ ... on Container {{ withUser(name: "{name}") {{ id }} }} }} }}'
            )
        )["node"]["withUser"]["id"]
        for name in ("a", "a", "b")
    ]

    assert asked == carried_out
    assert ids[0] == ids[1] != ids[2]


async def test_an_id_is_found_by_node_by_load_and_by_interface() -> None:
    client = Client()
    identifier = await id_of(client, CHAIN)

    by_node = await client.data(
        f'{{ node(id: "{identifier}") {{ ... on Container {{ envVariable(name: "A") }} }} }}'
    )
    by_load = await client.data(f'{{ loadContainerFromID(id: "{identifier}") {{ envVariable(name: "A") }} }}')
    by_interface = await client.data(f'{{ node(id: "{identifier}") {{ ... on Syncer {{ id }} }} }}')
    by_other = await client.data(f'{{ node(id: "{identifier}") {{ ... on Directory {{ entries }} }} }}')

    assert by_node == {"node": {"envVariable": "1"}}
    assert by_load == {"loadContainerFromID": {"envVariable": "1"}}
    assert by_interface == {"node": {"id": identifier}}
    assert by_other == {"node": {}}


async def test_ids_are_found_in_a_later_session_of_the_store() -> None:
    before = Client()
    inner = await id_of(before, CHAIN)
    outer = await id_of(
        before,
        f'{{ node(id: "{inner}") {{ ... on Container {{ withUser(name: "me") {{ id }} }} }} }}',
    )

    later = Client(before.recipes)
    answer = await later.data(
        f'{{ node(id: "{outer}") {{ ... on Container {{ user envVariable(name: "A") id }} }} }}'
    )

    assert answer == {"node": {"user": "me", "envVariable": "1", "id": outer}}


async def test_an_id_of_another_type_is_refused_with_both_types() -> None:
    client = Client()
    directory = await id_of(client, "{ directory { id } }")

    loaded = await client.error(f'{{ loadContainerFromID(id: "{directory}") {{ user }} }}')
    given = await client.error(
        f'{{ container {{ withMountedFile(path: "/x", source: "{directory}") {{ id }} }} }}'
    )

    assert loaded["message"] == "load Container: expected Container, got Directory"
    assert given["message"] == "load File: expected File, got Directory"
    assert given["path"] == ["container", "withMountedFile"]


async def test_an_unknown_id_is_an_error() -> None:
    error = await Client().error('{ node(id: "nonsense") { id } }')

    assert error == {
        "message": "cannot load `nonsense`: no object of this engine has that id",
        "path": ["node"],
    }


# ---- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{ nothing }", 'Cannot query field "nothing" on type "Query".'),
        ("{ container { withExec { id } } }", 'Argument "Container.withExec(args:)" of type'),
        ("{ container }", 'Field "container" of type "Container" must have a selection of subfields.'),
        ("{ ...X }", 'Unknown fragment "X".'),
        ("mutation { a }", "Schema is not configured to execute mutation operation."),
        ("{ a", "Syntax Error: Expected Name, found <EOF>."),
        ("query A { version } query B { version }", "Must provide operation name"),
        ('{ container { withError(err: "x") { user } } }', "x"),
        ("{ currentModule { name } }", "no current module"),
        ("{ container { withExec(args: []) { id } } }", "no command has been set"),
    ],
)
async def test_a_wrong_query_says_what_is_wrong(query: str, message: str) -> None:
    error = await Client().error(query)

    assert error["message"].startswith(message)


async def test_a_body_that_is_no_query_is_an_error() -> None:
    queries = Client()._queries

    texts = [json.loads(await queries.answer(body)) for body in (b"x", b"[]", b'{"query": 1}')]

    assert all(t["data"] is None and t["errors"][0]["message"].startswith("cannot read") for t in texts)


async def test_an_unsupported_field_fails_when_something_is_asked_of_it() -> None:
    client = Client()

    chained = await client.error('{ llm { withModel(model: "m") { model } } }')
    scalar = await client.error("{ container { experimentalWithAllGPUs { user } } }")

    assert chained == {
        "message": "Query.llm is not supported by the embedded engine (use the dagger engine)",
        "path": ["llm", "withModel", "model"],
        "extensions": {"_type": "UNSUPPORTED", "field": "Query.llm"},
    }
    assert scalar["extensions"]["field"] == "Container.experimentalWithAllGPUs"


async def test_a_failed_exec_has_all_that_the_sdk_reads() -> None:
    def fail(*_: Any) -> None:
        raise ExecFailed(["false", "x"], 3, stdout="out", stderr="err")

    error = await Client(stdout=Field(resolve=fail)).error("{ container { o: stdout } }")

    assert error == {
        "message": "exit code: 3",
        "path": ["container", "o"],
        "extensions": {
            "_type": "EXEC_ERROR",
            "cmd": ["false", "x"],
            "exitCode": 3,
            "stdout": "out",
            "stderr": "err",
        },
    }


async def test_an_unexpected_exception_is_an_error_of_the_field(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("oops")

    error = await Client(stdout=Field(resolve=fail)).error("{ container { stdout } }")

    assert error == {
        "message": "internal error: ZeroDivisionError: oops",
        "path": ["container", "stdout"],
    }
    assert "ZeroDivisionError" in caplog.text


# ---- tables ----------------------------------------------------------------------------------


def test_every_row_is_a_field_of_the_schema_with_its_objects_typed_as_the_client_types_them() -> None:
    """Each row exists, and each argument that is an id says which type it takes."""
    import ast
    import importlib.util
    from pathlib import Path

    from pipeline.session.schema import load_schema

    spec = importlib.util.find_spec("dagger")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "client" / "gen.py").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    schema = load_schema()
    for kind, table in TABLES.items():
        fields = schema.object_type(kind).fields
        assert set(table) <= set(fields), kind
        for name, row in table.items():
            ids = {a.name for a in fields[name].arguments.values() if a.type.base == "ID"}
            assert set(row.objects) == ids, f"{kind}.{name}"
            for argument, expected in row.objects.items():
                text = annotation(classes[kind], name, argument)
                assert expected in text.replace("Self", kind), f"{kind}.{name}({argument}:)"


def annotation(cls: Any, field: str, argument: str) -> str:
    """Return the Python annotation of an argument of the client."""
    import ast

    for method in cls.body:
        text = ast.unparse(method)
        if f"_select('{field}'" in text:
            variable = text.split(f"Arg('{argument}', ")[1].split(")")[0].split(",")[0].split(" else ")[-1]
            parameters = [*method.args.args, *method.args.kwonlyargs]
            return next(ast.unparse(p.annotation) for p in parameters if p.arg == variable)
    raise AssertionError((cls.name, field))
