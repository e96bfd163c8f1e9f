"""Answers a query: reads the document, walks its selections from `Query` on, and writes the JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import EngineError
from pipeline.session.calls import Object
from pipeline.session.document import (
    Document,
    FieldNode,
    InlineFragment,
    Operation,
    Selection,
    Spread,
    Variable,
    parse_document,
)
from pipeline.session.flights import Flights
from pipeline.session.fragments import check_fragments
from pipeline.session.schema import InvalidQuery, introspection_bytes
from pipeline.session.wire import FieldFailed, error_document, json_bytes

if TYPE_CHECKING:
    from pipeline.session.objects import Objects

BRANCHES: Final = 100
"""How often a selection may part into several below one another; a chain of single fields has no limit."""
VARIABLE_DEPTH: Final = 100
_INTROSPECTION: Final = re.compile(r"\s*query\s+IntrospectionQuery\b")


class Queries:
    """Answers the queries of one session; equal ones under way at once are carried out once."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._flights: Flights[bytes, bytes] = Flights()

    async def answer(self, body: bytes) -> bytes:
        """Return the JSON answer to the JSON body of a query; every failure is in its `errors`."""
        try:
            query, variables, operation = _read(body)
        except EngineError as problem:
            return json_bytes({"data": None, "errors": [error_document(problem)]})
        if _INTROSPECTION.match(query):
            return introspection_bytes()
        return await self._flights.join(body, lambda: self._carry_out(query, variables, operation))

    async def _carry_out(self, query: str, variables: Mapping[str, Any], operation: str) -> bytes:
        try:
            document = parse_document(query)
            check_fragments(document)
            chosen = _choose(document, operation)
            walk = _Walk(self._objects, document, {**chosen.defaults, **variables})
            data = await walk.select(self._objects.root, chosen.selections, [])
        except Exception as problem:  # noqa: BLE001 - nothing but an answer may leave here
            return json_bytes({"data": None, "errors": [error_document(problem)]})
        return json_bytes({"data": data})


def _read(body: bytes) -> tuple[str, Mapping[str, Any], str]:
    try:
        request = json.loads(body)
    except ValueError as problem:
        raise InvalidQuery(f"cannot read the query: it is not JSON ({problem})") from problem
    except RecursionError as problem:
        raise InvalidQuery("cannot read the query: its JSON nests too deep") from problem
    if not isinstance(request, dict) or not isinstance(request.get("query"), str):
        raise InvalidQuery("cannot read the query: expected a JSON object with a text named `query`")
    variables, operation = request.get("variables"), request.get("operationName")
    if not isinstance(variables, dict | None):
        raise InvalidQuery("cannot read the query: expected a JSON object as `variables`")
    if not isinstance(operation, str | None):
        raise InvalidQuery("cannot read the query: expected a text as `operationName`")
    if _is_deeper(variables or {}, VARIABLE_DEPTH):
        raise InvalidQuery(f"cannot read the query: `variables` nest more than {VARIABLE_DEPTH} levels deep")
    return request["query"], variables or {}, operation or ""


def _is_deeper(value: Any, levels: int) -> bool:
    """Do lists and objects nest more than `levels` deep?"""
    here = [value]
    for _ in range(levels):
        inner = [each.values() if isinstance(each, dict) else each for each in here]
        here = [item for each in inner for item in each if isinstance(item, (dict, list))]
        if not here:
            return False
    return True


def _choose(document: Document, name: str) -> Operation:
    chosen = [o for o in document.operations if not name or o.name == name]
    if not chosen:
        raise InvalidQuery(f'Unknown operation named "{name}".' if name else "Must provide an operation.")
    if len(chosen) > 1:
        raise InvalidQuery("Must provide operation name if query contains multiple operations.")
    if chosen[0].kind != "query":
        raise InvalidQuery(f"Schema is not configured to execute {chosen[0].kind} operation.")
    return chosen[0]


class _Walk:
    def __init__(self, objects: Objects, document: Document, variables: Mapping[str, Any]) -> None:
        self._objects = objects
        self._document = document
        self._variables = variables

    async def select(
        self, target: Object, selections: Sequence[Selection], path: Sequence[str | int], branches: int = 0
    ) -> dict[str, Any]:
        """Return the answer to a selection set; a chain of single fields is followed without recursion.

        Raises:
            FieldFailed: A field has no answer, or there are more than `BRANCHES` above one another.
        """
        path = list(path)
        top: dict[str, Any] = {}
        here = top
        while True:
            wanted = list(self._flat(target.type, selections))
            if len(wanted) != 1:
                for field in wanted:
                    result = await self._field(target, field, path)
                    here[field.key] = await self._finish(field, result, path, branches)
                return top
            field = wanted[0]
            result = await self._field(target, field, path)
            if not isinstance(result, Object) or field.selections is None:
                here[field.key] = await self._finish(field, result, path, branches)
                return top
            path.append(field.key)
            here[field.key] = here = {}
            target, selections = result, field.selections

    async def _finish(self, field: FieldNode, result: Any, path: Sequence[str | int], branches: int) -> Any:
        """Return the JSON of a field's result, its sub-selections answered."""
        below = [*path, field.key]
        if isinstance(result, Object):
            if field.selections is None:
                raise FieldFailed(
                    below,
                    InvalidQuery(
                        f'Field "{field.name}" of type "{result.type}" must have a selection of subfields.'
                    ),
                )
            if branches == BRANCHES:
                raise FieldFailed(
                    below, InvalidQuery(f"The query parts more than {BRANCHES} times on the way.")
                )
            return await self.select(result, field.selections, below, branches + 1)
        if isinstance(result, list) and result and isinstance(result[0], Object):
            return [
                await self._finish(field, item, [*below, index], branches)
                for index, item in enumerate(result)
            ]
        return result

    async def _field(self, target: Object, field: FieldNode, path: Sequence[str | int]) -> Any:
        try:
            if field.name == "__typename":
                return target.type
            if field.name in ("__schema", "__type") and target.type == "Query":
                return self._introspect(field)
            return await self._objects.call(target, field.name, field.arguments, self._variables)
        except Exception as problem:
            raise FieldFailed([*path, field.key], problem) from problem

    def _flat(self, kind: str, selections: Sequence[Selection]) -> Iterator[FieldNode]:
        """Yield the fields that hold for an object of type `kind`, fragments resolved; "" takes any type."""
        names = {"", kind, *self._objects.schema.object_type(kind).interfaces} if kind else None
        seen: set[str] = set()  # a fragment counts once in a selection set
        todo = [iter(selections)]
        while todo:
            selection = next(todo[-1], None)
            if selection is None:
                todo.pop()
            elif isinstance(selection, FieldNode):
                yield selection
            elif not isinstance(selection, Spread) or selection.name not in seen:
                if isinstance(selection, Spread):
                    seen.add(selection.name)
                fragment = self._fragment(selection)
                if names is None or fragment.type in names:
                    todo.append(iter(fragment.selections))

    def _fragment(self, selection: InlineFragment | Spread) -> InlineFragment:
        if isinstance(selection, InlineFragment):
            return selection
        found = self._document.fragments.get(selection.name)
        if found is None:
            raise InvalidQuery(f'Unknown fragment "{selection.name}".')
        return found

    # ---- introspection by hand -------------------------------------------------------------

    def _introspect(self, field: FieldNode) -> Any:
        schema = self._objects.schema
        if field.name == "__schema":
            return self._project(schema.introspection, field.selections or [])
        name = field.arguments.get("name")
        if isinstance(name, Variable):
            name = self._variables.get(name.name)
        return self._project(schema.entry(str(name)), field.selections or [])

    def _project(self, value: Any, selections: Sequence[Selection]) -> Any:
        """Return of an introspection value what the selections name."""
        if isinstance(value, list):
            return [self._project(item, selections) for item in value]
        if not isinstance(value, Mapping):
            return value
        return {
            field.key: self._project(value.get(field.name), field.selections or [])
            for field in self._flat("", selections)
        }
