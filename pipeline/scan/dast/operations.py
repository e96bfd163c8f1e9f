"""The requests that an OpenAPI description allows, filled with values that fit."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pipeline.scan.dast.prober.request import FORM, Input, Request
from pipeline.scan.dast.prober.shape import resolved
from pipeline.scan.load.openapi import sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

METHODS: Final = ("get", "post", "put", "patch", "delete")  # what reads goes first
SPOTS: Final = ("path", "query", "header", "cookie")


def requests_of(description: dict[str, Any], *, writes: bool) -> list[Request]:
    """One request for each operation; those that may change something only with `writes`.

    Deletions are left out: nothing is seen in them that is worth what they may destroy.
    """
    base = base_path(description)
    methods = [one for one in METHODS if (one == "get" or writes) and one != "delete"]
    found = []
    for method in methods:
        for path, item in description["paths"].items():
            item = resolved(item, description)
            operation = resolved(item.get(method), description)
            if not operation:
                continue
            parameters = [*_listed(item, "parameters"), *_listed(operation, "parameters")]
            inputs = [*_inputs(description, parameters, path), *_body(description, operation)]
            found.append(
                Request(
                    method=method.upper(),
                    route=base + path,
                    path=base + path,
                    inputs=tuple(inputs),
                    answers=_answers(description, operation),
                )
            )
    return found


def base_path(description: Mapping[str, Any]) -> str:
    """The path of the first server."""
    servers = _listed(description, "servers") or [{}]
    first = servers[0] if isinstance(servers[0], dict) else {}
    try:
        return urlsplit(str(first.get("url", description.get("basePath", "")))).path.rstrip("/")
    except ValueError:
        return ""


def _listed(part: Mapping[str, Any], name: str) -> list[Any]:
    found = part.get(name)
    return found if isinstance(found, list) else []


def _sampled(description: dict[str, Any], schema: Any, seed: str) -> Any:
    """A value that fits a schema, the same each time; "1" for a schema that is none."""
    try:
        return sample(description, schema, random.Random(seed))  # noqa: S311
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError):
        return "1"


def _inputs(description: dict[str, Any], parameters: Sequence[Any], path: str) -> list[Input]:
    found: dict[tuple[str, str], Input] = {}
    for each in parameters:
        one = resolved(each, description)
        name, spot = str(one.get("name", "")), one.get("in")
        if spot not in SPOTS or (spot == "path" and "{" + name + "}" not in path):
            continue
        schema = one.get("schema", {"type": one.get("type", "string")})
        value = one.get("example")
        kind = kind_of(description, schema)
        value = value if value is not None else _sampled(description, schema, name)
        found[spot, name] = Input(spot=spot, name=name, value="1" if value is None else value, kind=kind)
    return list(found.values())


def _body(description: dict[str, Any], operation: Mapping[str, Any]) -> list[Input]:
    body = resolved(operation.get("requestBody"), description)
    for kind, each in resolved(body.get("content"), description).items():
        media = resolved(each, description)
        schema = resolved(media.get("schema"), description)
        is_form = kind.startswith((FORM, "multipart/form-data"))
        if not (is_form or "json" in kind):
            continue
        value = media.get("example") or _sampled(description, schema, kind)
        if not isinstance(value, dict):
            continue
        properties = resolved(schema.get("properties"), description)
        value = {**{name: _sampled(description, part, name) for name, part in properties.items()}, **value}
        return [
            Input(
                spot="form" if is_form else "json",
                name=name,
                value=each,
                kind=kind_of(description, properties.get(name, {})),
            )
            for name, each in value.items()
        ]
    return []


def kind_of(description: dict[str, Any], schema: Any, depth: int = 6) -> str:
    """The type of a schema; of several the first that is not null."""
    schema = resolved(schema, description)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    for key in ("anyOf", "oneOf", "allOf") if depth and kind is None else ():
        for part in _listed(schema, key):
            found = kind_of(description, part, depth - 1)
            if found not in ("", "null"):
                return found
    return str(kind or "string")


def _answers(description: dict[str, Any], operation: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for status, each in resolved(operation.get("responses"), description).items():
        content = resolved(resolved(each, description).get("content"), description)
        for kind, media in content.items():
            if "json" in kind and isinstance(media, dict) and media.get("schema"):
                found[str(status)] = media["schema"]
    return found
