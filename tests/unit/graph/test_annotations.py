"""Whether what a stage returned is what its annotation promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import pytest

from pipeline.graph.annotations import Unresolved, keeps


@dataclass(frozen=True)
class Report:
    """A result."""

    name: str


class Named(Protocol):
    """Cannot be asked for at run time."""

    name: str


@pytest.mark.parametrize(
    ("value", "promised"),
    [
        (5, int),
        (True, int),
        (5, float),
        (None, None),
        (None, Report | None),
        (Report("a"), Report | None),
        (Report("a"), Named),
        (Report("a"), object),
        ([1], Sequence[int]),
        ({}, Mapping[str, int]),
        ("a", Literal["a"]),
        ("a", Annotated[str, "why"]),
        (5, Any),
        (5, Unresolved("Elsewhere")),
    ],
    ids=str,
)
def test_a_value_that_fits_keeps_the_promise(value: object, promised: object) -> None:
    """What cannot be decided at run time is not held against a stage."""
    assert keeps(value, promised)


@pytest.mark.parametrize(
    ("value", "promised"),
    [
        (5, str),
        (5.0, int),
        (None, Report),
        (5, None),
        ("a", Report | None),
        ((1,), list[int]),
        ("a", Annotated[int, "why"]),
    ],
    ids=str,
)
def test_a_value_of_another_class_breaks_it(value: object, promised: object) -> None:
    """Also nothing at all, where something was promised."""
    assert not keeps(value, promised)


@dataclass(frozen=True)
class Sized:
    size_bytes: int
    names: tuple[str, ...] = ()
    parts: Mapping[str, Sized] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("value", "promised", "kept"),
    [
        pytest.param(["a"], list[int], False, id="list of another type"),
        pytest.param([], list[int], True, id="empty list"),
        pytest.param(("a", 1), tuple[str, int], True, id="pair"),
        pytest.param(("a",), tuple[str, int], False, id="half a pair"),
        pytest.param(("a", "b"), tuple[str, ...], True, id="tuple of any length"),
        pytest.param({"a": object()}, dict[str, int], False, id="mapping to another type"),
        pytest.param({"a": 1}, dict[str, Any], True, id="mapping to anything"),
        pytest.param(Sized(1, ("a",), {"b": Sized(2)}), Sized, True, id="dataclass"),
        pytest.param(Sized("1"), Sized, False, id="field of another type"),  # type: ignore[arg-type]
        pytest.param(Sized(1, ["a"]), Sized, False, id="list for a tuple"),  # type: ignore[arg-type]
        pytest.param(Sized(1, (), {"b": 2}), Sized, False, id="wrong deep inside"),  # type: ignore[dict-item]
        pytest.param(None, Sized | None, True, id="nothing"),
        pytest.param(Sized(1), int | str, False, id="no option of a union"),
    ],
)
def test_a_value_keeps_a_promise_with_what_is_inside_it(value: object, promised: object, kept: bool) -> None:
    """A stage that needs it was promised the inside as well."""
    assert keeps(value, promised) is kept
