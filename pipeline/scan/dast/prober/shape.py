"""Whether a value has the shape that a JSON schema declares: what of schemas descriptions mostly use."""

from __future__ import annotations

import re
from typing import Any, Final

DEPTH: Final = 12
TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "number": (int, float),
    "integer": (int, float),
}


def misfit(value: Any, schema: Any, whole: dict[str, Any], where: str = "$", depth: int = 0) -> str:
    """What does not fit, as a sentence; "" when all does or nothing can be said.

    Args:
        whole: The description that references lead into.
    """
    schema = resolved(schema, whole)
    if not schema or depth > DEPTH:
        return ""
    for check in (_alternatives, _type, _values, _object, _array):
        if said := check(value, schema, whole, where, depth):
            return said
    return ""


def resolved(schema: Any, whole: dict[str, Any]) -> dict[str, Any]:
    """A part of the description with its reference followed; {} for what is no table."""
    for _ in range(DEPTH):
        if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str):
            break
        found: Any = whole
        for part in schema["$ref"].removeprefix("#/").split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            found = found.get(part) if isinstance(found, dict) else None
        schema = found
    return schema if isinstance(schema, dict) else {}


def _alternatives(value: Any, schema: dict[str, Any], whole: dict[str, Any], where: str, depth: int) -> str:
    for part in schema.get("allOf", ()):
        if said := misfit(value, part, whole, where, depth + 1):
            return said
    for key in ("anyOf", "oneOf"):
        parts = schema.get(key, ())
        if parts and all(misfit(value, part, whole, where, depth + 1) for part in parts):
            return f"{where} fits none of its alternatives"
    return ""


def _type(value: Any, schema: dict[str, Any], whole: dict[str, Any], where: str, depth: int) -> str:
    kinds = schema.get("type")
    if kinds is None or (value is None and schema.get("nullable") is True):
        return ""
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if any(_is(value, str(kind)) for kind in kinds):
        return ""
    return f"{where} is {_name(value)}, declared is {' or '.join(map(str, kinds))}"


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return kind not in TYPES or isinstance(value, TYPES[kind])


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return next((name for name, types in TYPES.items() if isinstance(value, types)), "something else")


def _values(value: Any, schema: dict[str, Any], whole: dict[str, Any], where: str, depth: int) -> str:
    if "enum" in schema and value not in schema["enum"] and value is not None:
        return f"{where} is none of the declared values"
    if "const" in schema and value != schema["const"]:
        return f"{where} is not the declared value"
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if isinstance(low, int | float) and value < low:
            return f"{where} is below its minimum"
        if isinstance(high, int | float) and value > high:
            return f"{where} is above its maximum"
    if isinstance(value, str):
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if len(value) < least or (most is not None and len(value) > most):
            return f"{where} is shorter or longer than declared"
        if isinstance(schema.get("pattern"), str) and not _matches(schema["pattern"], value):
            return f"{where} does not match its pattern"
    return ""


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value[:1000]) is not None
    except re.error:
        return True  # another dialect: nothing can be said


def _object(value: Any, schema: dict[str, Any], whole: dict[str, Any], where: str, depth: int) -> str:
    if not isinstance(value, dict):
        return ""
    if lacks := [name for name in schema.get("required", ()) if name not in value]:
        return f"{where} lacks `{lacks[0]}`"
    properties = schema.get("properties", {})
    for name, part in properties.items():
        if name in value and (said := misfit(value[name], part, whole, f"{where}.{name}", depth + 1)):
            return said
    if schema.get("additionalProperties") is False and (more := sorted(value.keys() - properties.keys())):
        return f"{where} has `{more[0]}`, which is not declared"
    return ""


def _array(value: Any, schema: dict[str, Any], whole: dict[str, Any], where: str, depth: int) -> str:
    if not isinstance(value, list):
        return ""
    for index, one in enumerate(value[:20]):
        if said := misfit(one, schema.get("items", {}), whole, f"{where}[{index}]", depth + 1):
            return said
    return ""
