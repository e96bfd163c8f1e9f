"""The schema as the session reads it: fields, arguments, defaults; and values fitted to their types."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import EngineError
from pipeline.session.document import EnumName, Value, Variable, parse_value

if TYPE_CHECKING:
    from collections.abc import Mapping

ENUM_ALIASES: Final = {
    "ESTARGZ": "EStarGZ",
    "GZIP": "Gzip",
    "UNCOMPRESSED": "Uncompressed",
    "ZSTD": "Zstd",
    "DOCKER": "DockerMediaTypes",
    "OCI": "OCIMediaTypes",
}
"""Second names of enum values that arguments take, and the name that counts."""

_SCALARS: Final[dict[str, tuple[type, ...]]] = {"String": (str,), "Boolean": (bool,), "Float": (int, float)}


_NO_TEXT: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Halves of letters. Those between are bytes of file names that are no UTF-8."""
_PATHS: Final = re.compile("path|uri|[a-z]+Path")
"""The names of arguments that no zero byte may be in."""


class InvalidQuery(EngineError):
    """A query does not fit the schema; worded as graphql-core words it."""


@dataclass(frozen=True, slots=True)
class TypeRef:
    """A type where it is used; `item` is set for a list of it."""

    name: str
    required: bool = False
    item: TypeRef | None = None

    def __str__(self) -> str:
        return (f"[{self.item}]" if self.item else self.name) + ("!" if self.required else "")

    @property
    def base(self) -> str:
        """The name inside all lists."""
        return self.item.base if self.item else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """An argument or a field of an input; `default` is a value already fitted to `type`."""

    name: str
    type: TypeRef
    default: Any
    has_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldType:
    """A field of a type."""

    name: str
    type: TypeRef
    arguments: Mapping[str, Argument]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectType:
    """An object or interface type."""

    name: str
    fields: Mapping[str, FieldType]
    interfaces: frozenset[str]


def introspection_bytes() -> bytes:
    """Return the JSON answer to the standard introspection query."""
    # Not by importlib.resources, whose import costs several milliseconds of the engine's start.
    with open(os.path.join(os.path.dirname(__file__), "introspection.json"), "rb") as stream:
        return stream.read()


class Schema:
    """Looks types up; each is built when it is first asked for."""

    def __init__(self, introspection: Mapping[str, Any]) -> None:
        self.introspection = introspection
        self._types = {entry["name"]: entry for entry in introspection["types"]}
        self._objects: dict[str, ObjectType] = {}
        self._inputs: dict[str, Mapping[str, Argument]] = {}

    def object_type(self, name: str) -> ObjectType:
        """Return an object or interface type that exists."""
        if name not in self._objects:
            entry = self._types[name]
            self._objects[name] = ObjectType(
                name=name,
                fields={f["name"]: self._field(f) for f in entry["fields"]},
                interfaces=frozenset(i["name"] for i in entry["interfaces"] or ()),
            )
        return self._objects[name]

    def is_object(self, name: str) -> bool:
        """Is `name` an object or interface type?"""
        return self._types.get(name, {}).get("kind") in ("OBJECT", "INTERFACE")

    def entry(self, name: str) -> Mapping[str, Any] | None:
        """Return what introspection says of a type."""
        return self._types.get(name)

    def _field(self, entry: Mapping[str, Any]) -> FieldType:
        return FieldType(
            name=entry["name"],
            type=_type_ref(entry["type"]),
            arguments={a["name"]: self._argument(a) for a in entry["args"]},
        )

    def _argument(self, entry: Mapping[str, Any]) -> Argument:
        kind, literal = _type_ref(entry["type"]), entry["defaultValue"]
        default = None if literal is None else self.fit(kind, parse_value(literal), {})
        return Argument(name=entry["name"], type=kind, default=default, has_default=literal is not None)

    def _input(self, name: str) -> Mapping[str, Argument]:
        if name not in self._inputs:
            fields = self._types[name]["inputFields"]
            self._inputs[name] = {f["name"]: self._argument(f) for f in fields}
        return self._inputs[name]

    def fit_arguments(
        self, owner: str, field: FieldType, given: Mapping[str, Value], variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return every argument of `field`: what was given, fitted, or its default; null means the default.

        Raises:
            InvalidQuery: An argument is unknown, missing or of another type.
        """
        for name in given:
            if name not in field.arguments:
                raise InvalidQuery(f'Unknown argument "{name}" on field "{owner}.{field.name}".')
        found = {}
        for name, argument in field.arguments.items():
            value = self._default_null(argument, given.get(name), variables)
            if value is None and argument.type.required:
                raise InvalidQuery(
                    f'Argument "{owner}.{field.name}({name}:)" of type "{argument.type}" is required, '
                    "but it was not provided."
                )
            if isinstance(value, str) and "\0" in value and _PATHS.fullmatch(name):
                raise InvalidQuery(f'Argument "{owner}.{field.name}({name}:)" holds a zero byte.')
            found[name] = value
        return found

    def _default_null(self, argument: Argument, value: Value, variables: Mapping[str, Any]) -> Any:
        fitted = self.fit(argument.type, value, variables)
        return argument.default if fitted is None else fitted

    def fit(self, kind: TypeRef, value: Any, variables: Mapping[str, Any], *, literal: bool = True) -> Any:
        """Return `value` as `kind` takes it: enums by their counting name, ids as text, inputs with defaults.

        Raises:
            InvalidQuery: It does not fit.
        """
        if isinstance(value, Variable):
            return self.fit(kind, variables.get(value.name), {}, literal=False)
        if value is None:
            return None
        if kind.item is not None:
            items = value if isinstance(value, list) else [value]
            fitted = [self.fit(kind.item, item, variables, literal=literal) for item in items]
            if kind.item.required and None in fitted:
                raise InvalidQuery(f'Expected value of non-null type "{kind.item}" not to be null.')
            return fitted
        entry = self._types[kind.name]
        if entry["kind"] == "ENUM":
            return _fit_enum(entry, value, literal=literal)
        if entry["kind"] == "INPUT_OBJECT":
            return self._fit_input(kind.name, value, variables)
        return _fit_scalar(kind.name, value)

    def _fit_input(self, name: str, value: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InvalidQuery(f'Expected value of type "{name}" to be an object, found: {_shown(value)}.')
        fields = self._input(name)
        for key in value:
            if key not in fields:
                raise InvalidQuery(f'Field "{key}" is not defined by type "{name}".')
        found = {
            key: self._default_null(argument, value.get(key), variables) for key, argument in fields.items()
        }
        for key, argument in fields.items():
            if found[key] is None and argument.type.required:
                raise InvalidQuery(
                    f'Field "{name}.{key}" of required type "{argument.type}" was not provided.'
                )
        return found


def _fit_enum(entry: Mapping[str, Any], value: Any, *, literal: bool) -> str:
    name = value.name if isinstance(value, EnumName) else value if not literal else None
    if name is None:
        raise InvalidQuery(f'Enum "{entry["name"]}" cannot represent non-enum value: {_shown(value)}.')
    if all(known["name"] != name for known in entry["enumValues"]):
        raise InvalidQuery(f'Value "{name}" does not exist in "{entry["name"]}" enum.')
    return ENUM_ALIASES.get(name, name)


def _fit_scalar(name: str, value: Any) -> Any:
    if isinstance(value, EnumName):
        raise InvalidQuery(f"{name} cannot represent value: {value.name}")
    if name == "Int":
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidQuery(f"Int cannot represent non-integer value: {_shown(value)}")
        if not -(1 << 63) <= value < 1 << 63:
            raise InvalidQuery(f"Int cannot represent non 64-bit signed integer value: {_shown(value)}")
        return value
    if name in _SCALARS:
        if not isinstance(value, _SCALARS[name]) or (name == "Float" and isinstance(value, bool)):
            article = "a non" if name != "Float" else "non numeric"
            raise InvalidQuery(f"{name} cannot represent {article} {name.lower()} value: {_shown(value)}")
        if isinstance(value, str) and _NO_TEXT.search(value):
            raise InvalidQuery(f"{name} cannot represent a lone surrogate: {_shown(value)}")
        return value
    if isinstance(value, (str, int)) and not isinstance(value, bool):  # ids and custom scalars are texts
        return str(value)
    raise InvalidQuery(f"{name} cannot represent value: {_shown(value)}")


def _shown(value: Any) -> str:
    """Return a value as the language writes it."""
    if isinstance(value, EnumName):
        return value.name
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def _type_ref(entry: Mapping[str, Any]) -> TypeRef:
    if entry["kind"] == "NON_NULL":
        inner = _type_ref(entry["ofType"])
        return TypeRef(inner.name, True, inner.item)
    if entry["kind"] == "LIST":
        return TypeRef("", False, _type_ref(entry["ofType"]))
    return TypeRef(entry["name"])


@functools.cache
def load_schema() -> Schema:
    """Return the schema of the session, read once per process."""
    return Schema(json.loads(introspection_bytes())["data"]["__schema"])


def snake(name: str) -> str:
    """Turn `withExec` into `with_exec`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
