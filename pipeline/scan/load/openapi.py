"""Requests from a service's OpenAPI description: what only reads is tried with parameters made up to fit."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from pipeline.scan.load.plan import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SAFE: Final = ("get", "head")
VARIANTS: Final = 8  # of a request with parameters
DEPTH: Final = 6  # of a body that is made up
GOOD: Final = tuple(range(200, 400))
METHODS: Final = ("get", "head", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An operation that is not tried, and why."""

    operation: str  # "GET /notes"
    why: str


def requests_of(
    description: Mapping[str, Any], operations: Sequence[str] = ()
) -> tuple[list[Request], list[LeftOut]]:
    """The requests a description allows, and the operations that are left out.

    Args:
        operations: Those that may change something and are tried all the same, such as "POST /notes".
    """
    found: list[Request] = []
    left_out: list[LeftOut] = []
    wanted = {" ".join(one.split()).upper().partition(" ")[0] + " " + one.split()[-1] for one in operations}
    base = _base_path(description)
    for path, item in dict(description.get("paths", {})).items():
        item = _resolved(description, item)
        for method in METHODS:
            if method not in item:
                continue
            name = f"{method.upper()} {path}"
            operation = _resolved(description, item[method])
            why = _why_not(description, method, name, operation, wanted)
            if why:
                left_out.append(LeftOut(operation=name, why=why))
                continue
            parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
            resolved = [_resolved(description, one) for one in parameters]
            found.append(_request(description, name, base + path, operation, resolved))
    return found, left_out


def _why_not(
    description: Mapping[str, Any], method: str, name: str, operation: Mapping[str, Any], wanted: set[str]
) -> str:
    if method not in SAFE and name not in wanted:
        return "it may change something; `operations` would name it"
    if operation.get("security", description.get("security")):
        return "it needs credentials; describe it under `requests`"
    content = _resolved(description, operation.get("requestBody", {})).get("content", {})
    if content and not any("json" in kind for kind in content):
        return "its body is not JSON; describe it under `requests`"
    return ""


def _request(
    description: Mapping[str, Any],
    name: str,
    path: str,
    operation: Mapping[str, Any],
    parameters: Sequence[Mapping[str, Any]],
) -> Request:
    draw = random.Random(name)  # noqa: S311 - values that fit, the same each time
    by_place = {(str(one.get("in")), str(one.get("name"))): one for one in parameters}
    needed = {key: one for key, one in by_place.items() if one.get("required") or key[0] == "path"}
    in_path = [key for key in needed if key[0] == "path"]
    values = [
        {key: _value(description, one, draw) for key, one in needed.items()}
        for _ in range(VARIANTS if needed else 1)
    ]
    paths = tuple(dict.fromkeys(_filled(path, one) for one in values))
    headers = {key[1]: value for key, value in values[0].items() if key[0] == "header"}
    body = ""
    content = _resolved(description, operation.get("requestBody", {})).get("content", {})
    for kind, media in content.items():
        if "json" in kind:
            headers["content-type"] = str(kind)
            made_up = media.get("example", sample(description, media.get("schema", {}), draw))
            body = json.dumps(made_up)
            break
    # What is made up need not exist: that it is not found is an answer as good as any.
    expect = (*GOOD, 404) if in_path else ()
    method = name.partition(" ")[0]
    return Request(name=name, method=method, paths=paths, headers=headers, body=body, expect=expect)


def _filled(path: str, values: Mapping[tuple[str, str], str]) -> str:
    query = [(name, value) for (place, name), value in values.items() if place == "query"]
    for (place, name), value in values.items():
        if place == "path":
            path = path.replace("{" + name + "}", quote(value, safe=""))
    return f"{path}?{urlencode(query)}" if query else path


def _value(description: Mapping[str, Any], parameter: Mapping[str, Any], draw: random.Random) -> str:
    if "example" in parameter:
        value = parameter["example"]
    elif parameter.get("examples"):
        value = next(iter(parameter["examples"].values())).get("value", "")
    else:
        value = sample(description, parameter.get("schema", {"type": "string"}), draw)
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value)


def sample(description: Mapping[str, Any], schema: Any, draw: random.Random, depth: int = 0) -> Any:
    """A value that fits a schema, by its examples first."""
    schema = _resolved(description, schema)
    for key in ("example", "default", "const"):
        if schema.get(key) is not None:
            return schema[key]
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("enum"):
        return draw.choice(schema["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _sample_of_several(description, key, schema[key], draw, depth)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = next((one for one in kind if one != "null"), "null") if isinstance(kind, list) else kind
    if depth > DEPTH:
        return None
    if kind == "object":
        wanted = schema.get("required", ())
        properties = schema.get("properties", {})
        return {name: sample(description, properties.get(name, {}), draw, depth + 1) for name in wanted}
    if kind == "array":
        count = max(1, int(schema.get("minItems", 1)))
        return [sample(description, schema.get("items", {}), draw, depth + 1) for _ in range(count)]
    return _sample_of_one(kind, schema, draw)


def _sample_of_several(
    description: Mapping[str, Any], key: str, schemas: Sequence[Any], draw: random.Random, depth: int
) -> Any:
    values = [sample(description, one, draw, depth + 1) for one in schemas if _resolved(description, one)]
    if key == "allOf" and all(isinstance(value, dict) for value in values):
        return {name: each for value in values for name, each in value.items()}
    return next((value for value in values if value is not None), None)


def _sample_of_one(kind: str, schema: Mapping[str, Any], draw: random.Random) -> Any:
    if kind in ("integer", "number"):
        low = int(schema.get("minimum", int(schema.get("exclusiveMinimum", 0)) + 1))
        high = int(schema.get("maximum", int(schema.get("exclusiveMaximum", low + 100)) - 1))
        step = int(schema.get("multipleOf", 1)) or 1
        return draw.randint(-(-low // step), max(high // step, -(-low // step))) * step
    if kind == "boolean":
        return draw.random() < 0.5
    if kind == "null":
        return None
    formats = {
        "date": f"20{draw.randint(10, 29)}-0{draw.randint(1, 9)}-{draw.randint(10, 28)}",
        "date-time": f"20{draw.randint(10, 29)}-01-02T03:04:05Z",
        "uuid": f"{draw.getrandbits(32):08x}-{draw.getrandbits(16):04x}-4{draw.getrandbits(12):03x}"
        f"-a{draw.getrandbits(12):03x}-{draw.getrandbits(48):012x}",
        "email": f"user{draw.randint(1, 999)}@example.com",
        "uri": f"https://example.com/{draw.randint(1, 999)}",
        "ipv4": "192.0.2.1",
    }
    text = formats.get(str(schema.get("format", "")), f"a{draw.randint(100, 999)}")
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    return text.ljust(least, "x")[: int(most) if most is not None else None]


def _base_path(description: Mapping[str, Any]) -> str:
    servers = description.get("servers") or [{}]
    return urlsplit(str(servers[0].get("url", ""))).path.rstrip("/")


def _resolved(description: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """A part of the description with its reference followed; {} for what is no table."""
    for _ in range(DEPTH):
        if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
            break
        found: Any = description
        for part in value["$ref"].removeprefix("#/").split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            found = found.get(part, {}) if isinstance(found, dict) else {}
        value = found
    return value if isinstance(value, dict) else {}
