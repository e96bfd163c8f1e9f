"""Makes, keeps and finds objects: one call of a chain, and ids back to what they stand for."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from pipeline.session.calls import ID, PINNED, Call, Object, UnknownId, WrongType
from pipeline.session.fields import Field, Table, Unsupported, UnsupportedValue
from pipeline.session.schema import FieldType, InvalidQuery, Schema, TypeRef, load_schema
from pipeline.session.scope import Scope

if TYPE_CHECKING:
    from pipeline.engine.engine import Engine
    from pipeline.session.document import Value

_MADE_MAX: Final = 64
"""How many answers an object remembers."""
_KEY_MAX: Final = 4096


class Recipes(Protocol):
    """Where the calls behind ids are kept across sessions."""

    def find_recipe(self, number: str) -> str | None:
        """Return the text saved under an id."""

    def save_recipe(self, number: str, text: str) -> None:
        """Keep a text under an id."""


class PinnedValues(Protocol):
    """Makes a value from the arguments of a pinned call of a type."""

    def __call__(self, kind: str, arguments: Mapping[str, Any]) -> Any:
        """Return the value."""


class Objects:
    """The objects of one session."""

    def __init__(
        self,
        tables: Mapping[str, Table],
        *,
        recipes: Recipes,
        pinned_value: PinnedValues,
        engine: Engine,
    ) -> None:
        self.root = Object(type="Query", value=engine, call=None)
        self._tables = tables
        self._recipes = recipes
        self._pinned_value = pinned_value
        self._known: dict[str, Object] = {}
        self._saved: set[str] = set()
        self._scope = Scope(engine=engine, load=self.load)

    @property
    def schema(self) -> Schema:
        """The schema, read when the first query needs it."""
        return load_schema()

    # ---- ids -------------------------------------------------------------------------------

    def save(self, target: Object) -> str:
        """Return the object's id, which finds it from now on, in later sessions of the store too."""
        if target.call is None:
            raise InvalidQuery('Cannot query field "id" on type "Query".')
        self._known[target.call.id] = target
        calls: list[Mapping[str, Any]] = []
        call: Call | None = target.call
        while call is not None and call.id not in self._saved:
            calls.append(call.recipe())
            call = call.receiver
        if calls:
            recipe = {"receiver": call.id if call is not None else None, "calls": calls[::-1]}
            self._recipes.save_recipe(target.call.id, json.dumps(recipe, separators=(",", ":")))
            self._saved.add(target.call.id)
        return target.call.id

    async def load(self, identifier: str) -> Object:
        """Return the object with an id, made again if need be; that runs no exec.

        Raises:
            UnknownId: The store knows no such id.
        """
        if not ID.fullmatch(identifier):
            raise UnknownId(identifier)
        calls: list[Mapping[str, Any]] = []
        name: str | None = identifier
        while name is not None and name not in self._known:
            text = self._recipes.find_recipe(name)
            if text is None:
                raise UnknownId(identifier)
            recipe = json.loads(text)
            calls = [*recipe["calls"], *calls]
            name = recipe["receiver"]
        here = self.root if name is None else self._known[name]
        for call in calls:
            here = await self._replay(here, call)
        self._known[identifier] = here
        return here

    async def load_as(self, expected: str, identifier: str) -> Object:
        """Return the object with an id if it is of a type.

        Raises:
            UnknownId: The store knows no such id.
            WrongType: It is of another type.
        """
        found = await self.load(identifier)
        if found.type != expected and expected not in self.schema.object_type(found.type).interfaces:
            raise WrongType(expected, found.type)
        return found

    async def _replay(self, receiver: Object, recipe: Mapping[str, Any]) -> Object:
        kind, name, arguments = recipe["type"], recipe["field"], recipe["arguments"]
        if name == PINNED:
            return Object(
                type=kind,
                value=self._pinned_value(kind, arguments),
                call=Call(type=kind, arguments=arguments),
            )
        field = self.field_type(receiver, name)
        made = await self._made(receiver, field, arguments, replay=True)
        assert isinstance(made, Object)  # noqa: S101 - only calls that answer objects are saved
        return made

    # ---- calls -----------------------------------------------------------------------------

    def field_type(self, target: Object, name: str) -> FieldType:
        """Return what the schema says of a field.

        Raises:
            InvalidQuery: The type has no such field.
        """
        found = self.schema.object_type(target.type).fields.get(name)
        if found is None:
            raise InvalidQuery(f'Cannot query field "{name}" on type "{target.type}".')
        return found

    async def call(
        self, target: Object, name: str, given: Mapping[str, Value], variables: Mapping[str, Any]
    ) -> Any:
        """Return the result of one field: a plain value, None, an Object or a list of Objects.

        Raises:
            InvalidQuery: Field or arguments do not fit the schema.
            Unsupported: Something is asked of what this engine does not have.
            EngineError: The engine could not do it.
        """
        # Clients send a chain from its beginning with each request, so most of it was asked for before.
        key = "" if variables else f"{name} {given!r}"
        if (known := target.made.get(key)) is not None:
            return known
        field = self.field_type(target, name)
        arguments = self.schema.fit_arguments(target.type, field, given, variables)
        made = await self._made(target, field, arguments, replay=False)
        if isinstance(made, Object) and self._is_repeatable(target, name) and 0 < len(key) <= _KEY_MAX:
            if len(target.made) == _MADE_MAX:
                target.made.clear()
            target.made[key] = made
        return made

    def _is_repeatable(self, target: Object, name: str) -> bool:
        """Is the same call answered alike? With ids it may not be: a secret is set again under its name."""
        row = self._tables.get(target.type, {}).get(name)
        return row is not None and row.is_pure and not row.objects

    async def _made(
        self, target: Object, field: FieldType, arguments: Mapping[str, Any], *, replay: bool
    ) -> Any:
        if isinstance(target.value, UnsupportedValue):
            return self._beyond(target, field, target.value.field)
        if field.name == "id":
            return self.save(target)
        if target.type == "Query" and (found := await self._find_node(field, arguments)) is not None:
            return found
        row = self._tables.get(target.type, {}).get(field.name)
        if row is None:
            return self._beyond(target, field, f"{target.type}.{field.name}")
        full = self._with_defaults(field, arguments) if replay else arguments
        resolve = row.replay if replay and row.replay is not None else row.resolve
        result = resolve(self._scope, target.value, await self._loaded(row, full))
        if inspect.isawaitable(result):
            result = await result
        if field.type.base == "ID":  # sync, start, stop: they answer who they are once they are done
            return self.save(target)
        return self._wrapped(field.type, result, self._call_of(target, field, arguments, row), row)

    async def _find_node(self, field: FieldType, arguments: Mapping[str, Any]) -> Object | None:
        if field.name == "node":
            return await self.load(arguments["id"])
        if field.name.startswith("load") and field.name.endswith("FromID"):
            return await self.load_as(field.type.base, arguments["id"])
        return None

    def _beyond(self, target: Object, field: FieldType, missing: str) -> Object:
        """Answer a field this engine lacks: an object that can be chained on, but not asked anything."""
        is_list = field.type.item is not None
        if is_list or not self.schema.is_object(field.type.base):
            raise Unsupported(missing)
        call = Call(type=field.type.base, receiver=target.call, name=field.name)
        return Object(type=field.type.base, value=UnsupportedValue(missing), call=call)

    def _with_defaults(self, field: FieldType, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {name: arguments.get(name, a.default) for name, a in field.arguments.items()}

    async def _loaded(self, row: Field, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with the engine's values in place of ids."""
        loaded = dict(arguments)
        for name, kind in row.objects.items():
            given = loaded[name]
            if isinstance(given, list):
                loaded[name] = [await self._value(kind, each) for each in given]
            elif given is not None:
                loaded[name] = await self._value(kind, given)
        return loaded

    async def _value(self, kind: str, identifier: str) -> Any:
        value = (await self.load_as(kind, identifier)).value
        if isinstance(value, UnsupportedValue):
            raise Unsupported(value.field)
        return value

    def _call_of(self, target: Object, field: FieldType, arguments: Mapping[str, Any], row: Field) -> Call:
        told = {
            name: value
            for name, value in arguments.items()
            if name not in row.hidden and value != field.arguments[name].default
        }
        return Call(type=field.type.base, receiver=target.call, name=field.name, arguments=told)

    def _wrapped(self, kind: TypeRef, result: Any, call: Call, row: Field) -> Any:
        if result is None or not self.schema.is_object(kind.base):
            return result
        if kind.item is not None:
            return [self._data(kind.base, item) for item in result]
        if isinstance(result, Mapping):
            return self._data(kind.base, result)
        pinned = row.pinned(call, result) if row.pinned is not None else call
        return Object(type=kind.base, value=result, call=pinned)

    def _data(self, kind: str, value: Mapping[str, Any]) -> Object:
        return Object(type=kind, value=value, call=Call(type=kind, arguments=value))
