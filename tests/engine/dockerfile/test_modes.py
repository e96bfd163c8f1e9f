"""Modes as `chmod` takes them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.modes import apply_symbolic, is_mode, parse_octal

if TYPE_CHECKING:
    from pathlib import Path

CASES = [
    (0o644, "u=rwX,go=rX", False, 0o644),
    (0o744, "u=rwX,go=rX", False, 0o755),
    (0o700, "u=rwX,go=rX", True, 0o755),
    (0o644, "+x", False, 0o755),
    (0o777, "go-w", False, 0o755),
    (0o640, "o=g", False, 0o644),
    (0o755, "u+s", False, 0o4755),
    (0o755, "a=", True, 0o000),
    (0o1777, "u=rwx-w", True, 0o1577),
]


@pytest.mark.parametrize(("mode", "text", "is_directory", "expected"), CASES, ids=[str(c[1]) for c in CASES])
def test_a_symbolic_mode_changes_bits(mode: int, text: str, is_directory: bool, expected: int) -> None:
    """`X` is execute for directories and for what somebody may execute."""
    assert oct(apply_symbolic(mode, text, is_directory=is_directory)) == oct(expected)


@pytest.mark.parametrize(
    ("text", "good", "octal"),
    [
        ("755", True, 0o755),
        ("0644", True, 0o644),
        ("u+x", True, None),
        ("89", False, None),
        ("x", False, None),
    ],
)
def test_a_text_is_octal_symbolic_or_no_mode(text: str, good: bool, octal: int | None) -> None:
    """One to four octal digits, or clauses."""
    assert (is_mode(text), parse_octal(text)) == (good, octal)


def test_a_text_that_is_not_symbolic_is_refused() -> None:
    """With how to write it."""
    with pytest.raises(ValueError, match="`rwx` is no mode"):
        apply_symbolic(0, "rwx", is_directory=False)


_CLAUSES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["u", "g", "o", "a", "ug", "go"]),
    st.sampled_from("+-="),
    st.sampled_from(["", "r", "w", "x", "X", "rw", "rwX", "u", "g"]),
)


@settings(max_examples=25, deadline=None)
@given(
    mode=st.integers(0, 0o777), clauses=st.lists(_CLAUSES, min_size=1, max_size=3), is_directory=st.booleans()
)
def test_the_result_is_that_of_chmod(
    tmp_path_factory: pytest.TempPathFactory, mode: int, clauses: list[str], is_directory: bool
) -> None:
    """On a real file or directory, whatever the clauses."""
    target: Path = tmp_path_factory.mktemp("mode") / "x"
    target.mkdir() if is_directory else target.touch()
    target.chmod(mode)
    text = ",".join(clauses)

    subprocess.run(["chmod", text, str(target)], check=True)

    assert oct(apply_symbolic(mode, text, is_directory=is_directory)) == oct(target.stat().st_mode & 0o7777)
