"""What the schema has and this engine has not: each such field answers with the one clear error."""

from __future__ import annotations

from typing import Final

import pytest

from pipeline.session.schema import load_schema
from pipeline.session.tables import TABLES
from tests.unit.session.test_query import Client

pytestmark = pytest.mark.anyio

SERVICE: Final = 'container { withDefaultArgs(args: ["x"]) { asService { %s } } }'
KEY: Final = '"sha256:0"'

FIELDS: Final = {
    "Address.volume": 'address(value: "ssh://host/path") { volume { id } }',
    "Container.experimentalWithAllGPUs": "container { experimentalWithAllGPUs { id } }",
    "Container.experimentalWithGPU": 'container { experimentalWithGPU(devices: ["0"]) { id } }',
    "Container.terminal": "container { terminal { id } }",
    "Container.withMountedVolume": f'container {{ withMountedVolume(path: "/m", volume: {KEY}) {{ id }} }}',
    "Directory.asModule": "directory { asModule { id } }",
    "Directory.asModuleSource": "directory { asModuleSource { id } }",
    "Directory.terminal": "directory { terminal { id } }",
    "Query.cloud": "cloud { id }",
    "Query.currentEnv": "currentEnv { id }",
    "Query.currentFunctionCall": "currentFunctionCall { id }",
    "Query.currentTypeDefs": "currentTypeDefs { id }",
    "Query.currentWorkspace": "currentWorkspace { id }",
    "Query.env": "env { id }",
    "Query.function": f'function(name: "f", returnType: {KEY}) {{ id }}',
    "Query.generatedCode": f"generatedCode(code: {KEY}) {{ id }}",
    "Query.llm": "llm { id }",
    "Query.module": "module { id }",
    "Query.moduleSource": 'moduleSource(refString: ".") { id }',
    "Query.sourceMap": 'sourceMap(filename: "f", line: 1, column: 1) { id }',
    "Query.sshfsVolume": f'sshfsVolume(endpoint: "host", privateKey: {KEY}) {{ id }}',
    "Query.typeDef": "typeDef { id }",
    "Service.terminal": SERVICE % "terminal { id }",
}
ARGUMENTS: Final = {
    "Container.asService(experimentalPrivilegedNesting:)": (
        'container { asService(args: ["x"], experimentalPrivilegedNesting: true) { id } }'
    ),
    "Container.up(experimentalPrivilegedNesting:)": (
        'container { up(args: ["x"], experimentalPrivilegedNesting: true) }'
    ),
    "Container.withExec(experimentalPrivilegedNesting:)": (
        'container { withExec(args: ["x"], experimentalPrivilegedNesting: true) { id } }'
    ),
}


@pytest.mark.parametrize(("name", "query"), [*FIELDS.items(), *ARGUMENTS.items()], ids=[*FIELDS, *ARGUMENTS])
async def test_what_is_not_supported_says_so_by_name(name: str, query: str) -> None:
    """In the same words and the same extension, whatever was to be done."""
    error = await Client().error(f"{{ {query} }}")

    assert error["message"] == f"{name} is not supported by the embedded engine (use the dagger engine)"
    assert error["extensions"] == {"_type": "UNSUPPORTED", "field": name}


def test_every_field_without_an_answer_is_listed_here() -> None:
    """All fields of the schema, of the types that can be reached, are answered or tested above."""
    answered_by_rule = ("id", "node")
    missing = {
        f"{kind}.{name}"
        for kind, table in TABLES.items()
        for name in load_schema().object_type(kind).fields
        if name not in table and name not in answered_by_rule and not name.startswith("load")
    }

    assert missing == set(FIELDS)
