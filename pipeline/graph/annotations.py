"""Do the stages' annotations fit together, and which type does a stage return.

Names that exist for type checkers only (`if TYPE_CHECKING:`) are compared by their last part, and imported
only when a stored result has to be read back.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MISSING = object()


class Unresolved(str):
    """An annotation whose names do not exist at run time: its text."""

    __slots__ = ()


def annotation_of(function: Callable[..., Any], name: str) -> object:
    """The annotation of a parameter (or "return") as an object, or `Unresolved`; `Any` when there is none."""
    raw = function.__annotations__.get(name, _MISSING)
    if raw is _MISSING:
        return Any
    if not isinstance(raw, str):
        return raw
    return _evaluate(raw, function.__globals__)


def return_type(function: Callable[..., Any]) -> object:
    """The type a stage returns, importing names that the source imports for type checkers only.

    `Any` when there is no annotation or its names cannot be found.
    """
    found = annotation_of(function, "return")
    if not isinstance(found, Unresolved):
        return found
    found = _evaluate(str(found), {**function.__globals__, **_checker_imports(function)})
    return Any if isinstance(found, Unresolved) else found


def mismatch(taker: Callable[..., Any], parameter: str, giver: Callable[..., Any]) -> tuple[str, str] | None:
    """The two annotations as text when what `giver` returns cannot be what `taker` takes; else None."""
    expected, returned = annotation_of(taker, parameter), annotation_of(giver, "return")
    if _fits(returned, expected):
        return None
    return name_of(expected), name_of(returned)


def keeps(value: object, promised: object) -> bool:
    """Whether a value is of the promised type; of containers and dataclasses also what is inside.

    What nobody can tell at run time (protocols, names for type checkers only) counts as kept.
    """
    return any(_is_one(value, option) and _holds(value, option) for option in _options(promised))


def _holds(value: object, promised: object) -> bool:
    """Whether what is inside a container or dataclass is as promised."""
    inner = typing.get_args(promised)
    if isinstance(value, tuple) and inner and Ellipsis not in inner:
        return len(value) == len(inner) and all(map(keeps, value, inner))
    if isinstance(value, (list, tuple, set, frozenset)) and inner:
        return all(keeps(one, inner[0]) for one in value)
    if isinstance(value, dict) and len(inner) == 2:
        return all(keeps(key, inner[0]) and keeps(one, inner[1]) for key, one in value.items())
    if not dataclasses.is_dataclass(value) or isinstance(value, type) or inner:
        return True
    try:
        hints = typing.get_type_hints(type(value))
    except (NameError, TypeError, AttributeError, SyntaxError):
        return True
    return all(
        keeps(getattr(value, one.name, None), hints.get(one.name, Any)) for one in dataclasses.fields(value)
    )


def _is_one(value: object, promised: object) -> bool:
    kind = typing.get_origin(promised) or promised
    if kind is float and isinstance(value, int):
        return True  # as type checkers have it
    try:
        return not isinstance(kind, type) or isinstance(value, kind)
    except TypeError:  # a protocol that says nothing at run time
        return True


def name_of(annotation: object) -> str:
    """An annotation as a person would write it."""
    if annotation is None or annotation is types.NoneType:
        return "None"
    name = None if typing.get_args(annotation) else getattr(annotation, "__name__", None)
    return str(annotation if name is None else name)


def _evaluate(text: str, names: Mapping[str, Any]) -> object:
    try:
        # The text is an annotation of the user's own stage file, which is being run anyway.
        return eval(text, dict(names))  # noqa: S307
    except (NameError, AttributeError, TypeError, SyntaxError):
        return Unresolved(text)


def _fits(given: object, wanted: object) -> bool:
    if given is Any or wanted is Any or wanted is object or given == wanted:
        return True
    if isinstance(given, Unresolved) or isinstance(wanted, Unresolved):
        return bool(_last_parts(given) & (_last_parts(wanted) | {"Any", "object"})) or "Any" in _last_parts(
            given
        )
    given_options, wanted_options = _options(given), _options(wanted)
    if len(given_options) > 1 or len(wanted_options) > 1:
        return all(any(_fits(one, other) for other in wanted_options) for one in given_options)
    given_class, wanted_class = typing.get_origin(given) or given, typing.get_origin(wanted) or wanted
    if not (isinstance(given_class, type) and isinstance(wanted_class, type)):
        return given_class == wanted_class
    if not issubclass(given_class, wanted_class):
        return False
    inner, outer = typing.get_args(given), typing.get_args(wanted)
    if len(inner) != len(outer):
        return True  # `dict` for `Mapping[str, str]`: not contradicted
    return all(
        a is b or a is Ellipsis or b is Ellipsis or _fits(a, b) for a, b in zip(inner, outer, strict=True)
    )


def _options(annotation: object) -> tuple[object, ...]:
    if typing.get_origin(annotation) is typing.Annotated:
        return _options(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (types.NoneType if annotation is None else annotation,)


def _last_parts(annotation: object) -> set[str]:
    parts = [part.strip() for part in name_of(annotation).split("|")]
    return {part.rpartition(".")[2] for part in parts if part != "None"}


def _checker_imports(function: Callable[..., Any]) -> dict[str, Any]:
    """What the module's `if TYPE_CHECKING:` blocks import, by name; what cannot be imported is left out."""
    import ast
    import importlib

    try:
        with open(function.__code__.co_filename, encoding="utf-8") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, UnicodeDecodeError):
        return {}
    package = str(function.__globals__.get("__package__") or "")
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            continue
        for statement in node.body:
            if isinstance(statement, ast.ImportFrom):
                try:
                    module = importlib.import_module(
                        "." * statement.level + (statement.module or ""), package
                    )
                except ImportError:
                    continue
                found |= {
                    alias.asname or alias.name: getattr(module, alias.name)
                    for alias in statement.names
                    if hasattr(module, alias.name)
                }
            elif isinstance(statement, ast.Import):
                found |= _plain_imports(statement)
    return found


def _plain_imports(statement: Any) -> dict[str, Any]:
    import importlib

    found = {}
    for alias in statement.names:
        try:
            module = importlib.import_module(alias.name)
            top = importlib.import_module(alias.name.partition(".")[0])
        except ImportError:
            continue
        found[alias.asname or top.__name__] = module if alias.asname else top
    return found
