"""Results on disk, and the types they are read back as."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import Artifact, Context, stage
from pipeline.digest import Digest
from pipeline.graph.annotations import annotation_of, return_type
from pipeline.graph.outcome import Failure, Outcome
from pipeline.graph.results import NotStorable, ResultUnreadable, from_plain, to_plain

if TYPE_CHECKING:
    import fractions
    from decimal import Decimal as Money


@dataclass(frozen=True)
class Inner:
    outcome: Outcome
    when: datetime


@dataclass(frozen=True, kw_only=True)
class Report:
    name: str
    files: tuple[Artifact, ...] = ()
    inner: Inner | None = None
    counts: dict[str, int] = field(default_factory=dict)
    data: bytes = b""


REPORT = Report(
    name="n",
    files=(Artifact(name="a", digest=Digest("sha256:00"), size_bytes=1),),
    inner=Inner(Outcome.SKIP, datetime(2026, 1, 1, tzinfo=UTC)),
    counts={"a": 1},
    data=b"\0\xff",
)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, type(None)),
        (3, int),
        ("x", str),
        (1.5, float),
        (REPORT, Report),
        (Report(name="x"), Report | None),
        (None, Report | None),
        ((1, "a"), tuple[int, str]),
        ([REPORT], list[Report]),
        ({"a": (1, 2)}, dict[str, tuple[int, ...]]),
        (Failure(message="m", tail=("a",)), Failure),
        ([1, {"a": None}], Any),
    ],
    ids=str,
)
def test_a_result_comes_back_equal(value: object, kind: object) -> None:
    """Dataclasses, unions, containers, times and bytes."""
    assert from_plain(to_plain(value, kind), kind) == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [(object(), object), (REPORT, Any), ((1, 2), Any), ({1: 2}, Any), (lambda: 1, Any), (True, int)],
    ids=["object", "dataclass-as-any", "tuple-as-any", "key", "function", "plain"],
)
def test_what_would_come_back_different_is_not_stored(value: object, kind: object) -> None:
    """A stored result is never another one."""
    with pytest.raises(NotStorable, match="cannot store a result of type"):
        to_plain(value, kind)


@pytest.mark.parametrize(
    ("data", "kind"),
    [({"name": "x", "more": 1}, Report), ({}, Report), ("x", Report), ({"name": "x", "files": 3}, Report)],
)
def test_stored_data_of_another_shape_is_refused(data: Any, kind: object) -> None:
    """The type changed since: the stage has to run again."""
    with pytest.raises(ResultUnreadable):
        from_plain(data, kind)


@stage
async def priced(ctx: Context) -> Money | None:
    return None


@stage
async def share(ctx: Context) -> fractions.Fraction:
    raise NotImplementedError


@stage
async def lost(ctx: Context) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
    return 1


def test_types_only_checkers_import_are_imported_when_a_result_is_read() -> None:
    """With aliases and whole modules; a name nobody imports is anything."""
    from decimal import Decimal
    from fractions import Fraction

    assert annotation_of(priced.function, "return") == "Money | None"
    assert return_type(priced.function) == Decimal | None
    assert return_type(share.function) is Fraction
    assert return_type(lost.function) is Any
