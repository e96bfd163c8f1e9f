"""What scanners are given, and how the answers for parts of a project become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.scan.finding import InFile
from pipeline.scan.scanner import Command, Coverage, Missed, Ran, Scan, unchecked
from pipeline.stages.contents import MOST_FILE_BYTES, Contents, Part, Texts, too_large
from pipeline.stages.looking import PARTS, joined, parts_of, why_useless, with_large
from tests.unit.scan.making import finding

if TYPE_CHECKING:
    from pathlib import Path


def test_contents_are_the_files_alone(tmp_path: Path) -> None:
    """No link, no folder, nothing that is gone, and what is too large only by its name."""
    (tmp_path / "a.py").write_bytes(b"\xffa")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.py").symlink_to("a.py")
    with (tmp_path / "huge.py").open("wb") as file:
        file.truncate(MOST_FILE_BYTES + 1)

    files = Contents(tmp_path, ["a.py", "folder", "gone.py", "huge.py", "link.py"])

    assert dict(files) == {"a.py": b"\xffa"}
    assert too_large(files) == ("huge.py",)
    assert dict(Texts(files)) == {"a.py": "\ufffda"}
    assert (dict(Part(files, [])), "a.py" in Part(files, []), "huge.py" in files) == ({}, False, False)
    with pytest.raises(KeyError):
        files["huge.py"]


def test_parts_hold_every_file_once() -> None:
    """A file is in the same part whatever other files there are."""
    names = [f"m{number}.py" for number in range(100)]

    parts = parts_of(names)
    fewer = parts_of(names[:-1])

    assert len(parts) == PARTS
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert sum(one != other for one, other in zip(parts, fewer, strict=True)) == 1
    assert parts_of(names[:20]) == [names[:20]]


GONE = (Missed(what="b.py", why="it does not parse"),)


def scan(state: str, seen: int, missed: tuple[str, ...] = (), reason: str = "", line: int = 1) -> Scan:
    """The answer for a part."""
    coverage = Coverage(
        unit="files",
        expected=seen + len(missed),
        seen=seen,
        missed=tuple(Missed(what=one, why="it does not parse") for one in missed),
    )
    found = finding(place=InFile(path="a.py", line=line))
    return Scan(scanner="bandit", state=state, coverage=coverage, findings=(found,), reason=reason)  # type: ignore[arg-type]


def test_answers_for_parts_are_one_answer() -> None:
    """The worst state, all findings in order, all that was missed."""
    whole = joined(
        [
            scan("complete", 3, line=7),
            scan("incomplete", 2, ("b.py",), unchecked(GONE)),
            scan("complete", 1),
        ]
    )
    broken = joined([scan("complete", 3), scan("error", 0, reason="`bandit` was ended by SIGSEGV")])

    assert (whole.state, whole.reason) == ("incomplete", unchecked(GONE))
    assert (whole.coverage.seen, whole.coverage.expected) == (6, 7)
    assert [one.where for one in whole.findings] == ["a.py:1", "a.py:1", "a.py:7"]
    assert (broken.state, broken.reason) == ("error", "`bandit` was ended by SIGSEGV")


def test_files_too_large_are_told_as_missed() -> None:
    """A complete scan is none with them; a worse state stays."""
    told = with_large(scan("complete", 3), ["huge.py"])
    worse = with_large(scan("error", 0, reason="bad"), ["huge.py"])

    assert (told.state, told.coverage.expected, told.coverage.seen) == ("incomplete", 4, 3)
    assert told.coverage.missed == (Missed(what="huge.py", why="it has more than 16 MiB"),)
    assert (worse.state, worse.reason) == ("error", "bad; 1 files have more than 16 MiB, such as huge.py")
    assert with_large(scan("complete", 3), []).state == "complete"


@pytest.mark.parametrize(
    ("ran", "why"),
    [
        (Ran(exit_code=1, stdout=b""), ""),
        (Ran(exit_code=None, stdout=b""), "was stopped after 600 s"),
        (Ran(exit_code=139, stdout=b""), "was ended by SIGSEGV"),
        (Ran(exit_code=190, stdout=b""), "was ended by signal 62"),
        (Ran(exit_code=-1, stdout=b""), "left nothing: there is no room on the disk"),
        (Ran(exit_code=0, stdout=b"", is_cut=True), "said more than 64 MiB"),
    ],
)
def test_why_an_answer_is_not_read(ran: Ran, why: str) -> None:
    """One sentence for each way a tool ends badly; an exit code alone is none."""
    told = why_useless(ran, Command(argv=("tool",)))

    assert told == why
