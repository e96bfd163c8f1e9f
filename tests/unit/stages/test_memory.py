"""A run that remembers says what one that looks at everything says: real tools, random edits."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline.scan.finding import InFile
from pipeline.scan.lint.shape import Shape
from pipeline.scan.lint.vulture import Vulture
from pipeline.scan.sast.bandit import Bandit
from pipeline.scan.sast.ruff import Ruff
from pipeline.scan.scanner import Coverage, Missed, Scan, Settling, Target, unchecked
from pipeline.stages.looking import look_again
from pipeline.stages.memory import (
    Memory,
    Said,
    dump_memory,
    learned,
    load_memory,
    memory_key,
    recalled,
    unchanged,
)
from pipeline.stages.tools import tool_lock
from tests.unit.scan.making import finding
from tests.unit.scan.sast.real import install, scan_here

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.scan.scanner import CommandScanner

LINES = (
    "import os",
    "import pickle",
    "eval(input())",
    "assert os",
    "def f(password='s3cret-of-mine'):\n    return f\n    print(f)",
    "def g(unused):\n    return used",
    "unused = used = 1",
    "eval(input())  # noqa: S307",
    "# ruff: noqa\nexec(input())",
    "x = 1",
)
SETTINGS = (
    "",
    '[tool.bandit]\nexclude_dirs = ["lib"]\n',
    '[tool.bandit]\nskips = ["B307"]\n[tool.vulture]\nignore_names = ["unused"]\n',
)
STEPS = 8


def edit(files: dict[str, str], chance: random.Random) -> None:
    """Change, add, break, rename or delete a file, or change the settings."""
    code = [path for path in files if path.endswith(".py")]
    match chance.choice(["change", "change", "add", "break", "rename", "delete", "settings"]):
        case "change":
            files[chance.choice(code)] = "\n".join(chance.choices(LINES, k=5)) + "\n"
        case "add":
            name = f"{chance.choice(['', 'lib/', 'tests/'])}m{chance.randrange(99)}.py"
            files[name] = "\n".join(chance.choices(LINES, k=5)) + "\n"
        case "break":
            files[chance.choice(code)] = "def (:\n"
        case "rename":
            files[f"lib/renamed{chance.randrange(99)}.py"] = files.pop(chance.choice(code))
        case "delete" if len(code) > 1:
            del files[chance.choice(code)]
        case _:
            files["pyproject.toml"] = chance.choice(SETTINGS)


def cold(scanner: CommandScanner, files: dict[str, str], work: Path, programs: Path) -> Scan:
    """The answer of the real tool to these files."""
    shutil.rmtree(work / "src", ignore_errors=True)
    for name, text in files.items():
        path = work / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return scan_here(scanner, work, programs)


def told(scanner: CommandScanner, scan: Scan) -> tuple[object, ...]:
    """What people are told: in order of place."""
    whole = scanner.settle(scan) if isinstance(scanner, Settling) else scan
    found = sorted(repr(one) for one in whole.findings)
    return (whole.scanner, whole.state, whole.reason, whole.hint, whole.version, whole.coverage, found)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scanner", "seed"),
    [(Ruff(), 1), (Shape(), 3), (Vulture(), 4), (Bandit(), 6)],
    ids=lambda value: value.name if not isinstance(value, int) else str(value),
)
async def test_what_is_remembered_is_what_would_be_said(
    scanner: CommandScanner, seed: int, tmp_path: Path, programs: dict[str, Path]
) -> None:
    """After each random edit; some runs look at the changed files alone."""
    chance = random.Random(seed)  # noqa: S311 - the same edits each time
    files = {f"m{number}.py": "\n".join(chance.choices(LINES, k=5)) + "\n" for number in range(6)}
    files["pyproject.toml"] = ""
    asked: list[int] = []
    note = b""

    for _ in range(STEPS):
        edit(files, chance)
        data = {name: text.encode() for name, text in files.items()}
        key = memory_key(scanner, data, root=tmp_path, image="python", lock="1", options={})
        wanted = {name: data[name] for name in scanner.wants(sorted(data))}
        expected = scanner.expects(Target(root="/src", files=wanted))

        async def run(paths: Sequence[str]) -> Scan:
            asked.append(len(paths))
            some = [*paths, *scanner.settings(sorted(files))]
            return cold(scanner, {name: files[name] for name in some}, tmp_path, programs[scanner.name])

        remembered, memory = await look_again(load_memory(note, key), data, expected, run)
        note = dump_memory(memory)

        everything = cold(scanner, files, tmp_path, programs[scanner.name])
        assert told(scanner, remembered) == told(scanner, everything)

    assert min(asked) < 6


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of the tools' programs."""
    folder = tmp_path_factory.mktemp("tools")
    return {tool: install(tool, folder) for tool in ("bandit", "ruff", "vulture")}


def test_the_key_holds_all_that_answers_depend_on(tmp_path: Path) -> None:
    """Settings, options, the tool's lock, its image and what pins it; not the files that are judged."""
    files = {"a.py": b"x = 1\n", "pyproject.toml": b""}

    def key(scanner: CommandScanner, **more: object) -> str:
        given = {"files": files, "root": tmp_path, "image": "python:3", "lock": tool_lock("bandit"), **more}
        return memory_key(scanner, options=given.pop("options", {}), **given)  # type: ignore[arg-type]

    before = key(Bandit())
    others = [
        key(Bandit(), files={**files, "pyproject.toml": b"[tool.bandit]\nskips = ['B307']\n"}),
        key(Bandit(), files={**files, ".bandit": b"[bandit]\n"}),
        key(Bandit(), lock="bandit==1.9.5"),
        key(Bandit(), image="python:3.14"),
        key(Bandit(), options={"a": 1}),
        key(Ruff()),
    ]
    (tmp_path / "pipeline.lock").write_text(f'version = 1\n[images]\n"python:3" = "sha256:{"0" * 64}"\n')
    others.append(key(Bandit()))

    assert len({before, *others}) == len(others) + 1
    (tmp_path / "pipeline.lock").unlink()
    assert key(Bandit(), files={**files, "a.py": b"y = 2\n", "b.py": b""}) == before


def scan(state: str, reason: str = "", missed: tuple[str, ...] = ()) -> Scan:
    """An answer about a.py and b.py."""
    gone = tuple(Missed(what=one, why="it does not parse") for one in missed)
    return Scan(
        scanner="bandit",
        state=state,  # type: ignore[arg-type]
        reason=reason,
        coverage=Coverage(unit="files", expected=2, seen=2 - len(gone), missed=gone),
        findings=(finding(place=InFile(path="a.py", line=1)),),
        version="1",
    )


DIGESTS = {"a.py": "1", "b.py": "2"}


def test_only_sound_answers_are_remembered() -> None:
    """Not those of a tool that broke or had broken rules, nor a file it missed."""
    empty = Memory(key="k")

    assert learned(empty, scan("error", "boom"), DIGESTS) == empty
    assert learned(empty, scan("incomplete", "a rule is broken"), DIGESTS) == empty
    gone = (Missed(what="b.py", why="it does not parse"),)
    part = learned(empty, scan("incomplete", unchecked(gone), ("b.py",)), DIGESTS)
    assert (list(part.files), part.scanner, part.version) == (["a.py"], "bandit", "1")
    whole = learned(empty, scan("complete"), DIGESTS)
    assert [len(whole.files[path].findings) for path in DIGESTS] == [1, 0]


def test_a_note_comes_back_only_under_its_key() -> None:
    """Another key, garbage and damage are no memory."""
    memory = learned(Memory(key="k"), scan("complete"), DIGESTS)
    memory = replace(memory, files={**memory.files, "c.py": Said(digest="3", names=("used",))})
    note = dump_memory(memory)

    assert load_memory(note, "k") == memory
    assert recalled(memory, ["a.py", "c.py"]).names == {"c.py": ("used",)}
    assert unchanged(memory, {"a.py": "1", "b.py": "changed", "new.py": "2"}) == ["a.py"]
    for bad in (None, b"", b"[]", b"\xff", note[:-20], note.replace(b'"severity"', b'"x"')):
        assert load_memory(bad, "k") == Memory(key="k")
    assert load_memory(note, "other") == Memory(key="other")


@pytest.mark.anyio
async def test_a_scanner_of_the_whole_looks_at_all_or_nothing() -> None:
    """And where there is nothing to look at, it is asked all the same: it proves that it can look."""
    asked: list[list[str]] = []

    async def run(paths: Sequence[str]) -> Scan:
        asked.append(list(paths))
        return scan("complete")

    files = {"a.py": b"1", "b.py": b"2"}
    _, memory = await look_again(Memory(key="k"), files, sorted(files), run, is_whole=True)
    await look_again(memory, files, sorted(files), run, is_whole=True)
    await look_again(memory, {**files, "b.py": b"3"}, sorted(files), run, is_whole=True)
    await look_again(memory, {**files, "b.py": b"3"}, sorted(files), run)
    await look_again(memory, {}, [], run)

    assert asked == [["a.py", "b.py"], ["a.py", "b.py"], ["b.py"], []]
