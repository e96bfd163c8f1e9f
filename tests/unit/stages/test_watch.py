"""The plugin in the tests' container: how tests are split, and what it notes of a real pytest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages import notes, watch
from pipeline.stages.notes import Notes, parse_notes
from pipeline.stages.watch import share_out, wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

TEST_NAMES = st.builds("{}::{}".format, st.sampled_from(["a.py", "b.py", "c/d.py"]), st.text(max_size=3))


@given(
    tests=st.lists(TEST_NAMES, max_size=40),
    known_s=st.dictionaries(TEST_NAMES, st.floats(0, 100)),
    count=st.integers(1, 6),
    shuffle=st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_shares_are_a_partition_whatever_the_order(
    tests: list[str], known_s: dict[str, float], count: int, shuffle: object
) -> None:
    """Each test is in exactly one share, and every container comes to the same shares."""
    other = list(tests)
    shuffle.shuffle(other)  # type: ignore[attr-defined]

    shares = share_out(tests, known_s, count)

    assert sorted(test for share in shares for test in share) == sorted(set(tests))
    assert len(shares) == count
    assert share_out(other, known_s, count) == shares


def test_the_longest_file_goes_first_and_a_file_stays_together() -> None:
    """Greedy, by the time each file took; a test that is new counts as the median."""
    known_s = {"a.py::1": 3.0, "a.py::2": 3.0, "b.py::1": 5.0, "c.py::1": 2.0, "d.py::1": 1.0}

    shares = share_out([*known_s, "e.py::new"], known_s, 2)

    assert shares == [["a.py::1", "a.py::2", "c.py::1", "d.py::1"], ["b.py::1", "e.py::new"]]


def test_a_file_longer_than_a_fair_share_is_split_into_its_tests() -> None:
    known_s = {f"big.py::{n}": 10.0 for n in range(4)} | {"small.py::1": 1.0}

    shares = share_out(list(known_s), known_s, 2)

    assert [sum(known_s[test] for test in share) for share in shares] == [21.0, 20.0]


def test_only_the_named_tests_are_wanted_when_some_are_named() -> None:
    """Whatever they hold: brackets and colons are no patterns."""
    tests = ["a.py::t[x::y]", "a.py::t[z]", "b.py::u"]

    assert wanted(tests, {"only": ["a.py::t[x::y]", "gone.py::v"]}) == ["a.py::t[x::y]"]
    assert wanted(tests, {}) == tests


def test_both_ends_call_the_properties_alike() -> None:
    """The plugin cannot import what reads its notes."""
    assert (watch.NODE, watch.PLACE) == (notes.NODE, notes.PLACE)


def run_pytest(folder: Path, files: Mapping[str, str], *argv: str, **select: object) -> tuple[int, Notes]:
    """Run the real pytest with the plugin on these files; give its exit code and what was noted."""
    for name, text in files.items():
        (folder / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "project" / name).write_text(text)
    shutil.copy(Path(watch.__file__), folder / "pipeline_watch.py")
    (folder / "select.json").write_text(json.dumps({**select, "notes": str(folder / "notes")}))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "pipeline_watch", f"--junitxml={folder}/junit.xml", *argv],
        cwd=folder / "project",
        env={**os.environ, "PYTHONPATH": str(folder), "PIPELINE_SELECT": str(folder / "select.json")},
        capture_output=True,
        timeout=100,
        check=False,
    )
    noted = [path.read_text() for path in (folder / "notes").glob("*.jsonl")]
    return done.returncode, parse_notes(noted)


SUITE = {
    "test_a.py": """
import pytest

@pytest.fixture
def broken():
    yield
    raise RuntimeError("cannot close")

def test_good(): pass
def test_bad(): assert 0
def test_late(broken): pass
@pytest.mark.skip
def test_skipped(): pass
@pytest.mark.xfail
def test_known(): assert 0
@pytest.mark.xfail(strict=True)
def test_mended(): pass
""",
    "test_b.py": "def test_b(): pass\n",
}


def test_every_kind_of_outcome_is_noted(tmp_path: Path) -> None:
    """A test that fails while it is torn down is bad; an expected failure is not."""
    code, noted = run_pytest(tmp_path, SUITE)

    assert (code, noted.is_whole, noted.running) == (1, True, ())
    assert noted.outcomes == {
        "test_a.py::test_good": "passed",
        "test_a.py::test_bad": "failed",
        "test_a.py::test_late": "failed",
        "test_a.py::test_skipped": "skipped",
        "test_a.py::test_known": "passed",
        "test_a.py::test_mended": "failed",
        "test_b.py::test_b": "passed",
    }
    assert noted.found == noted.chosen == frozenset(noted.outcomes)
    assert f'name="{notes.PLACE}" value="test_a.py:10"' in (tmp_path / "junit.xml").read_text()


def test_workers_of_xdist_note_too(tmp_path: Path) -> None:
    """The tests run in other processes; what became of them is told by the one that started those."""
    code, noted = run_pytest(tmp_path, SUITE, "-n1", share=0, of=2)
    names = sorted(noted.chosen)

    assert (code, noted.is_whole, len(noted.found)) == (1, True, 7)
    assert noted.outcomes.keys() == set(names) < noted.found


def test_what_other_plugins_deselect_is_not_collected(tmp_path: Path) -> None:
    code, noted = run_pytest(tmp_path, SUITE, "-k", "good or b.py")

    assert (code, sorted(noted.found)) == (0, ["test_a.py::test_good", "test_b.py::test_b"])


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param("os._exit(0)", 0, id="leaves"),
        pytest.param("os.kill(os.getpid(), 9)", -9, id="is killed"),
        pytest.param("os.killpg(0, 9)", -9, id="kills its group"),
        pytest.param("os.abort()", -6, id="aborts"),
    ],
)
def test_what_is_known_survives_an_interpreter_that_does_not(tmp_path: Path, end: str, code: int) -> None:
    """The tests that ended, and the one that was running; whoever waits for pytest is not killed with it."""
    suite = {"test_a.py": f"import os\ndef test_a(): pass\ndef test_b(): {end}\n"}

    ended, noted = run_pytest(tmp_path, suite)

    assert (ended, noted.is_whole, noted.running) == (code, False, ("test_a.py::test_b",))
    assert noted.outcomes == {"test_a.py::test_a": "passed"}


def test_ids_of_any_characters_are_noted_as_they_are(tmp_path: Path) -> None:
    suite = {
        "test_a.py": """
import pytest
@pytest.mark.parametrize("x", ["<é&>", "\\x00\\x1b", "a::b[c]", "\\ud800"])
def test_a(x): pass
"""
    }

    code, noted = run_pytest(tmp_path, suite)

    assert (code, len(noted.found)) == (0, 4)
    assert noted.found == noted.outcomes.keys()
