"""Errors and digests: what every part of the project builds on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.digest import digest_bytes, digest_file, digest_json, digest_of, digest_text
from pipeline.errors import EngineError, PipelineError, RefusedByPolicy, UsageError

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True, kw_only=True)
class Leaf:
    text: str
    note: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class Other:
    text: str


@dataclass(frozen=True, kw_only=True)
class Branch:
    parts: Any


def test_bytes_text_and_files_of_equal_content_have_one_digest(tmp_path: Path) -> None:
    """However the bytes come; the empty content has the digest everybody knows."""
    path = tmp_path / "file"
    path.write_bytes(b"content")

    assert digest_bytes(b"") == EMPTY
    assert digest_text("content") == digest_bytes(b"content") == digest_file(path)


def test_a_file_that_is_not_there_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest_file(tmp_path / "none")


def test_names_that_are_no_text_are_told_apart() -> None:
    """Undecodable bytes of file names are lone surrogates."""
    assert digest_text("a\udc80") != digest_text("a\udc81")


def test_the_order_of_keys_does_not_count_in_json() -> None:
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})


def test_what_json_cannot_say_has_no_digest() -> None:
    with pytest.raises(TypeError):
        digest_json(object())


def test_fields_that_do_not_compare_are_not_in_the_digest() -> None:
    assert digest_of(Leaf(text="a", note="x")) == digest_of(Leaf(text="a", note="y"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(Leaf(text="a"), Leaf(text="b"), id="a value"),
        pytest.param(Leaf(text="a"), Other(text="a"), id="the kind"),
        pytest.param(Branch(parts=(Leaf(text="a"),)), Branch(parts=(Other(text="a"),)), id="a kind below"),
        pytest.param(Branch(parts=("ab", "c")), Branch(parts=("a", "bc")), id="where items part"),
        pytest.param(Branch(parts=None), Branch(parts="None"), id="nothing and its name"),
        pytest.param(Branch(parts=1), Branch(parts="1"), id="a number and its text"),
        pytest.param(Branch(parts=b"a"), Branch(parts=b"b"), id="bytes"),
        pytest.param(Branch(parts=("a", "b")), Branch(parts=("b", "a")), id="order"),
    ],
)
def test_different_nodes_have_different_digests(one: Any, other: Any) -> None:
    assert digest_of(one) != digest_of(other)


def test_sets_are_hashed_whatever_their_order() -> None:
    assert digest_of(Branch(parts={"x", "y", "z"})) == digest_of(Branch(parts=frozenset({"z", "y", "x"})))


@pytest.mark.parametrize(
    ("kind", "code"),
    [(PipelineError, 1), (EngineError, 1), (UsageError, 2), (RefusedByPolicy, 3)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_each_kind_of_error_has_its_exit_code(kind: type[PipelineError], code: int) -> None:
    """The text is the whole sentence; there is no hint unless a class gives one."""
    error = kind("cannot do it: no")

    assert (str(error), error.exit_code, error.hint) == ("cannot do it: no", code, None)
