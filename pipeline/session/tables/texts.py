"""`EnvFile` and `JSONValue`: values that are texts with a meaning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine import read
from pipeline.engine.files import Directory, File
from pipeline.errors import EngineError
from pipeline.session.envfile import EnvFile, parse_env_file
from pipeline.session.fields import Field, pure
from pipeline.session.tables import data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.session.fields import Table
    from pipeline.session.scope import Scope


class BadJson(EngineError):
    """A JSON text is not what was asked of it."""


# ---- EnvFile ---------------------------------------------------------------------------------


def variables(_: Scope, file: EnvFile, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the variables."""
    return [data.pair(item) for item in (file.raw() if arguments["raw"] else file.expanded())]


def get(_: Scope, file: EnvFile, arguments: Mapping[str, Any]) -> str:
    """Return one variable."""
    return file.value_of(arguments["name"], raw=bool(arguments["raw"]))


def has(_: Scope, file: EnvFile, arguments: Mapping[str, Any]) -> bool:
    """Say whether a variable is set."""
    return arguments["name"] in dict(file.variables)


def as_file(_: Scope, file: EnvFile, __: Mapping[str, Any]) -> File:
    """Return the text as a file named `.env`."""
    return Directory().with_new_file(".env", file.text()).file(".env")


ENV_FILE: Final[Table] = {
    "asFile": Field(resolve=as_file),
    "exists": Field(resolve=has),
    "get": Field(resolve=get),
    "namespace": pure(EnvFile.namespace),
    "variables": Field(resolve=variables),
    "withVariable": pure(EnvFile.with_variable),
    "withoutVariable": pure(EnvFile.without_variable),
}


# ---- JSONValue -------------------------------------------------------------------------------
# Its value is a mapping with the JSON text, so that elements of lists stand for themselves.


def json_value(value: object) -> dict[str, str]:
    """Return the value of a `JSONValue`."""
    return {"json": json.dumps(value, ensure_ascii=False)}


def parse_json(text: str) -> dict[str, str]:
    """Return the value of a `JSONValue` with a JSON text.

    Raises:
        BadJson: It is none.
    """
    try:
        return json_value(json.loads(text))
    except ValueError as problem:
        raise BadJson(f"cannot read JSON: {problem}") from problem


def _loaded(value: Mapping[str, str]) -> Any:
    return json.loads(value["json"])


def _as(kind: type, word: str) -> Field:
    def resolve(_: Scope, value: Mapping[str, str], __: Mapping[str, Any]) -> Any:
        found = _loaded(value)
        if kind is list and isinstance(found, list):
            return [json_value(item) for item in found]
        if type(found) is not kind:  # a boolean is no integer
            raise BadJson(f"cannot read JSON as {word}: it is `{value['json'][:100]}`")
        return found

    return Field(resolve=resolve)


def contents(_: Scope, value: Mapping[str, str], arguments: Mapping[str, Any]) -> str:
    """Return the JSON text."""
    if not arguments["pretty"]:
        return json.dumps(_loaded(value), ensure_ascii=False, separators=(",", ":"))
    return json.dumps(_loaded(value), ensure_ascii=False, indent=arguments["indent"])


def field(_: Scope, value: Mapping[str, str], arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return what is at a path of names."""
    here = _loaded(value)
    for name in arguments["path"]:
        if not isinstance(here, dict) or name not in here:
            raise BadJson(f"cannot find `{'.'.join(arguments['path'])}` in the JSON")
        here = here[name]
    return json_value(here)


def with_field(_: Scope, value: Mapping[str, str], arguments: Mapping[str, Any]) -> dict[str, str]:
    """Set what is at a path of names; objects on the way are made."""
    *parents, last = arguments["path"] or [None]
    if last is None:
        raise BadJson("cannot set a field of the JSON: the path is empty")
    top = _loaded(value)
    here = top = top if isinstance(top, dict) else {}
    for name in parents:
        below = here.get(name)
        here[name] = here = below if isinstance(below, dict) else {}
    here[last] = _loaded(arguments["value"])
    return json_value(top)


def fields(_: Scope, value: Mapping[str, str], __: Mapping[str, Any]) -> list[str]:
    """List the names of an object."""
    found = _loaded(value)
    if not isinstance(found, dict):
        raise BadJson("cannot list the fields of the JSON: it is no object")
    return list(found)


def new(_: Scope, __: object, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return a plain value as JSON."""
    return json_value(arguments["value"])


JSON_VALUE: Final[Table] = {
    "asArray": _as(list, "an array"),
    "asBoolean": _as(bool, "a boolean"),
    "asInteger": _as(int, "an integer"),
    "asString": _as(str, "a string"),
    "contents": Field(resolve=contents),
    "field": Field(resolve=field),
    "fields": Field(resolve=fields),
    "newBoolean": Field(resolve=new),
    "newInteger": Field(resolve=new),
    "newString": Field(resolve=new),
    "withContents": Field(resolve=lambda _, __, arguments: parse_json(arguments["contents"])),
    "withField": Field(resolve=with_field, objects={"value": "JSONValue"}),
}


# ---- from files ------------------------------------------------------------------------------


async def _text(scope: Scope, file: File) -> str:
    return await scope.engine.look(file.tree, lambda root: read.contents(root, file.path))


async def file_as_env_file(scope: Scope, file: File, _: Mapping[str, Any]) -> EnvFile:
    """Read a file of variables."""
    return parse_env_file(await _text(scope, file))


async def file_as_json(scope: Scope, file: File, _: Mapping[str, Any]) -> dict[str, str]:
    """Read a JSON file."""
    return parse_json(await _text(scope, file))


FILE_TEXTS: Final[Table] = {
    "asEnvFile": Field(resolve=file_as_env_file),
    "asJSON": Field(resolve=file_as_json),
}

QUERY_TEXTS: Final[Table] = {
    "envFile": Field(resolve=lambda _, __, ___: EnvFile()),
    "json": Field(resolve=lambda _, __, ___: json_value(None)),
}
