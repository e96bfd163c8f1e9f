"""Reading trees: listings, contents and searches, never through a link out of the root."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.engine import read
from pipeline.engine.read import BadPattern, FileStat, PathProblem, SearchHit, SearchOptions

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = SearchOptions()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "dir/sub").mkdir(parents=True)
    (root / "dir/file").write_text("one\ntwo\nthree\n")
    (root / "dir/sub/deep").write_text("deep")
    (root / "abs").symlink_to("/dir/file")
    (root / "up").symlink_to("../../../dir")
    (root / "loop").symlink_to("loop")
    (root / "gone").symlink_to("nothing")
    (tmp_path / "outside").write_text("outside")
    (root / "escape").symlink_to(tmp_path / "outside")
    return root


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/dir/file", "dir/file"),
        ("dir/../dir/./file", "dir/file"),
        ("abs", "dir/file"),
        ("up/file", "dir/file"),
        ("../../dir", "dir"),
        ("gone", "nothing"),
        ("", ""),
    ],
)
def test_paths_are_resolved_as_if_the_root_were_the_whole(root: Path, path: str, found: str) -> None:
    assert read.resolve(root, path) == root / found


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("none/below", "none/below: no such file or directory"),
        ("dir/file/below", "dir/file/below: not a directory"),
        ("loop", "loop: too many levels of symbolic links"),
    ],
)
def test_paths_that_lead_nowhere_are_told(root: Path, path: str, problem: str) -> None:
    with pytest.raises(PathProblem) as caught:
        read.resolve(root, path)

    assert str(caught.value) == problem


def test_a_link_out_of_the_root_leads_nowhere(root: Path, tmp_path: Path) -> None:
    """Its target is looked for inside, where it is not."""
    with pytest.raises(PathProblem, match="no such file or directory"):
        read.contents(root, "escape")

    assert not read.exists(root, "escape")
    assert read.exists(root, "escape", follow=False)


def test_files_and_directories_are_told_apart(root: Path) -> None:
    with pytest.raises(PathProblem, match="dir: not a file"):
        read.require_file(root, "dir")
    with pytest.raises(PathProblem, match="dir/file: not a directory"):
        read.require_directory(root, "dir/file")
    with pytest.raises(PathProblem, match="no such file or directory"):
        read.require_file(root, "none")


def test_one_level_is_listed_in_order(root: Path) -> None:
    """Directories have a slash, links to them have none."""
    assert read.entries(root, "/") == ["abs", "dir/", "escape", "gone", "loop", "up"]
    assert read.entries(root, "up") == ["file", "sub/"]


@pytest.mark.parametrize(
    ("offset", "limit", "text"),
    [
        (0, None, "a\x0cb\r\nc\u2028d\n\ne"),
        (1, None, "c\u2028d\n\ne"),
        (0, 1, "a\x0cb\r\n"),
        (1, 2, "c\u2028d\n\n"),
        (0, 0, ""),
        (3, 5, "e"),
        (9, None, ""),
    ],
)
def test_lines_end_at_newlines_alone(tmp_path: Path, offset: int, limit: int | None, text: str) -> None:
    """Form feeds and the separators of Unicode are text."""
    (tmp_path / "file").write_bytes("a\x0cb\r\nc\u2028d\n\ne".encode())

    assert read.contents(tmp_path, "file", offset_lines=offset, limit_lines=limit) == text


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a\xffb")

    assert read.contents(tmp_path, "file") == "a\ufffdb"


def test_what_a_path_is(root: Path) -> None:
    (root / "dir/file").chmod(0o4751)

    assert read.stat_of(root, "abs") == FileStat(name="abs", size=14, kind="REGULAR", permissions=0o751)
    assert read.stat_of(root, "abs", follow=False).kind == "SYMLINK"
    with pytest.raises(PathProblem, match="stat none: no such file or directory"):
        read.stat_of(root, "none")


@pytest.mark.parametrize(
    ("path", "kind", "there"),
    [
        ("dir", None, True),
        ("dir", "REGULAR_TYPE", False),
        ("abs", "REGULAR_TYPE", True),
        ("abs", "SYMLINK_TYPE", True),
        ("gone", None, False),
        ("none/below", None, False),
    ],
)
def test_what_exists(root: Path, path: str, kind: str | None, there: bool) -> None:
    assert read.exists(root, path, kind=kind) is there


def test_a_path_through_a_file_is_an_error_even_when_asked_whether_it_exists(root: Path) -> None:
    with pytest.raises(PathProblem, match="not a directory"):
        read.exists(root, "dir/file/x")


def test_a_name_is_looked_for_upwards(root: Path) -> None:
    """The answer is absolute if the start is."""
    assert read.find_up(root, "file", "dir/sub") == "dir/file"
    assert read.find_up(root, "abs", "/dir/sub") == "/abs"
    assert read.find_up(root, "none", "dir/sub") is None


def test_a_search_tells_lines_offsets_and_parts(root: Path) -> None:
    """Offsets and parts count bytes; files come in order of their paths."""
    (root / "dir/é").write_text("été: tt\n")

    hits = read.search(root, "dir", "t+", options=PLAIN)

    assert hits == [
        SearchHit(path="file", line=2, offset=4, text="two\n", parts=(("t", 0, 1),)),
        SearchHit(path="file", line=3, offset=8, text="three\n", parts=(("t", 0, 1),)),
        SearchHit(path="é", line=1, offset=0, text="été: tt\n", parts=(("t", 2, 3), ("tt", 7, 9))),
    ]


@pytest.mark.parametrize(
    ("pattern", "options", "lines"),
    [
        ("two.three", SearchOptions(), []),
        ("two\nthree", SearchOptions(multiline=True), [2]),
        ("one.*three", SearchOptions(multiline=True, dotall=True), [1]),
        ("TWO", SearchOptions(insensitive=True), [2]),
        ("t.o", SearchOptions(literal=True), []),
        ("o", SearchOptions(limit=1), [1]),
        ("o", SearchOptions(files_only=True), [1]),
        ("^t", SearchOptions(), [2, 3]),
        ("e$", SearchOptions(), [1, 3]),
    ],
)
def test_how_a_search_can_be_asked_for(
    root: Path, pattern: str, options: SearchOptions, lines: list[int]
) -> None:
    hits = read.search(root, "dir", pattern, options=options, paths=["file"])

    assert [hit.line for hit in hits] == lines


def test_binary_hidden_and_filtered_files_are_left_out(root: Path) -> None:
    (root / "bin").write_bytes(b"\0 two")
    (root / ".hidden").write_text("two")
    (root / "note.txt").write_text("two")

    hidden = read.search(root, "/", "two", options=SearchOptions(skip_hidden=True))
    named = read.search(root, "/", "two", options=PLAIN, globs=["*.txt"])

    assert [hit.path for hit in hidden] == ["dir/file", "note.txt"]
    assert [hit.path for hit in named] == ["note.txt"]


@pytest.mark.parametrize("pattern", ["two\nthree", "("], ids=["a newline", "no expression"])
def test_patterns_that_cannot_be_searched_for(root: Path, pattern: str) -> None:
    with pytest.raises(BadPattern):
        read.search(root, "/", pattern, options=PLAIN)


def test_a_search_stays_in_its_directory(root: Path) -> None:
    with pytest.raises(PathProblem, match="escapes"):
        read.search(root, "dir", "x", options=PLAIN, paths=["../abs"])
    with pytest.raises(PathProblem, match="no such file"):
        read.search(root, "dir", "x", options=PLAIN, paths=["none"])
