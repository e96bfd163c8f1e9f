"""The schema is the generated client's, both ways; values are fitted to it."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import graphql
import pytest

from pipeline.session import schema as schema_module
from pipeline.session.document import parse_value
from pipeline.session.schema import InvalidQuery, introspection_bytes, load_schema, snake

SESSION = Path(schema_module.__file__).parent
SCRIPT = SESSION.parent.parent / "scripts" / "make-schema"


def client_calls() -> dict[str, dict[str, set[str]]]:
    """Return the arguments of every field of every class of the generated client, read by its text alone."""
    spec = importlib.util.find_spec("dagger")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "client" / "gen.py").read_text())
    found: dict[str, dict[str, set[str]]] = {}
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        name = cls.name.strip("_").removesuffix("Client") if cls.name.startswith("_") else cls.name
        for method in (m for m in cls.body if isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef)):
            calls = [n for n in ast.walk(method) if isinstance(n, ast.Call)]
            arguments = {c.args[0].value for c in calls if ast.unparse(c.func) == "Arg"}  # type: ignore[attr-defined]
            for call in calls:
                called = ast.unparse(call.func)
                if called == "self._select":
                    found.setdefault(name, {})[call.args[0].value] = arguments  # type: ignore[attr-defined]
                elif called == "self._ctx.execute_sync":
                    found.setdefault(name, {})[call.args[1].value] = arguments  # type: ignore[attr-defined]
    return found


def test_every_class_field_and_argument_of_the_client_is_in_the_schema_and_no_other() -> None:
    schema = graphql.build_schema((SESSION / "schema.graphql").read_text())

    ours = {
        name: {field: set(f.args) for field, f in kind.fields.items()}
        for name, kind in schema.type_map.items()
        if isinstance(kind, graphql.GraphQLObjectType | graphql.GraphQLInterfaceType) and name[:2] != "__"
    }

    assert ours == client_calls()


def test_every_enum_has_both_spellings() -> None:
    import dagger  # noqa: F401 - its import defines the enums
    from dagger.client.base import Enum

    schema = graphql.build_schema((SESSION / "schema.graphql").read_text())

    for cls in Enum.__subclasses__():
        if not cls.__module__.startswith("dagger."):
            continue
        kind = schema.get_type(cls.__name__)
        assert isinstance(kind, graphql.GraphQLEnumType)
        assert set(kind.values) == set(cls.__members__)


def test_the_committed_schema_is_what_the_script_makes(tmp_path: Path) -> None:
    """The script was run after the last upgrade of the client."""
    before = {name: (SESSION / name).read_bytes() for name in ("schema.graphql", "introspection.json")}
    copy = tmp_path / "scripts" / "make-schema"
    copy.parent.mkdir()
    copy.write_text(SCRIPT.read_text())
    (tmp_path / "pipeline" / "session").mkdir(parents=True)

    subprocess.run([sys.executable, copy], check=True)

    after = {name: (tmp_path / "pipeline" / "session" / name).read_bytes() for name in before}
    assert after == before


def test_a_client_builds_its_schema_from_the_introspection_answer() -> None:
    import json

    answer = json.loads(introspection_bytes())["data"]

    built = graphql.build_client_schema(answer)

    container = built.get_type("Container")
    assert isinstance(container, graphql.GraphQLObjectType)
    assert [i.name for i in container.interfaces] == ["Node", "Exportable", "Syncer"]
    assert str(container.fields["withExec"].args["args"].type) == "[String!]!"


def fit(owner: str, field: str, text: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    given = parse_value("{" + text + "}")
    assert isinstance(given, dict)
    schema = load_schema()
    kind = schema.object_type(owner).fields[field]
    return schema.fit_arguments(owner, kind, given, variables or {})


def test_arguments_left_out_and_null_ones_have_their_defaults() -> None:
    left_out = fit("Container", "withExposedPort", "port: 80")
    null = fit("Container", "withExposedPort", "port: 80, protocol: null, description: null")

    assert left_out == null
    assert left_out == {
        "port": 80,
        "protocol": "TCP",
        "description": None,
        "experimentalSkipHealthcheck": False,
    }


def test_enums_have_one_counting_name_and_inputs_their_defaults() -> None:
    published = fit("Container", "publish", 'address: "x", forcedCompression: ZSTD, mediaTypes: DOCKER')
    forwarded = fit("Host", "service", "ports: [{backend: 80}, {backend: 1, frontend: 2, protocol: UDP}]")

    assert published["forcedCompression"] == "Zstd"
    assert published["mediaTypes"] == "DockerMediaTypes"
    assert forwarded["ports"] == [
        {"backend": 80, "frontend": None, "protocol": "TCP"},
        {"backend": 1, "frontend": 2, "protocol": "UDP"},
    ]


def test_ids_may_be_written_as_numbers_and_lists_as_one_item() -> None:
    loaded = fit("Query", "node", "id: 12")
    executed = fit("Container", "withExec", 'args: "ls"')

    assert loaded == {"id": "12"}
    assert executed["args"] == ["ls"]


def test_variables_are_fitted_as_json() -> None:
    fitted = fit("Container", "withExec", "args: $a, expect: $e", {"a": ["x"], "e": "ANY"})

    assert fitted["args"] == ["x"]
    assert fitted["expect"] == "ANY"


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("withExec", 'arg: "x"', 'Unknown argument "arg" on field "Container.withExec".'),
        (
            "withExec",
            "",
            'Argument "Container.withExec(args:)" of type "[String!]!" is required, but it was not provided.',
        ),
        ("withExec", "args: [], expect: NEVER", 'Value "NEVER" does not exist in "ReturnType" enum.'),
        ("withExec", 'args: [], expect: "ANY"', 'Enum "ReturnType" cannot represent non-enum value: "ANY".'),
        ("withExec", "args: [null]", 'Expected value of non-null type "String!" not to be null.'),
        ("withExec", "args: [1]", "String cannot represent a non string value: 1"),
        ("withExec", "args: [], expand: 1", "Boolean cannot represent a non boolean value: 1"),
        ("withExposedPort", 'port: "80"', 'Int cannot represent non-integer value: "80"'),
        ("up", "ports: [{front: 1}]", 'Field "front" is not defined by type "PortForward".'),
        (
            "up",
            "ports: [{frontend: 1}]",
            'Field "PortForward.backend" of required type "Int!" was not provided.',
        ),
        ("up", "ports: [1]", 'Expected value of type "PortForward" to be an object, found: 1.'),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_the_words_of_graphql(
    field: str, text: str, message: str
) -> None:
    with pytest.raises(InvalidQuery) as caught:
        fit("Container", field, text)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("camel", "expected"), [("withExec", "with_exec"), ("imageRef", "image_ref"), ("id", "id")]
)
def test_snake_case_of_a_field(camel: str, expected: str) -> None:
    assert snake(camel) == expected
