"""Whether what a stage returned is what its annotation promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        ([1], Sequence[str]),
        ({}, Mapping[str, int]),
        ("a", Literal["a"]),
        ("a", Annotated[str, "why"]),
        (5, Any),
        (5, Unresolved("Elsewhere")),
    ],
    ids=str,
)
def test_a_value_that_fits_keeps_the_promise(value: object, promised: object) -> None:
    """Only the class is looked at; what cannot be decided at run time is not held against a stage."""
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
