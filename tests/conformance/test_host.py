"""What the host has."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import dagger
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.conftest import Engines

pytestmark = [pytest.mark.anyio, pytest.mark.root]


async def test_host_paths(dag: dagger.Client, workdir: Path, unique: str) -> None:
    """123. A path is relative to the session's directory, absolute, or below the home directory."""
    (workdir / unique / "in").mkdir(parents=True)
    (workdir / unique / "in" / "f").write_text("1")

    assert await dag.host().directory(f"./{unique}/in").entries() == ["f"]
    assert await dag.host().directory(f"{unique}/in/../in").entries() == ["f"]
    assert await dag.host().directory(f"../{workdir.name}/{unique}").entries() == ["in/"]
    assert await dag.host().directory(str(workdir / unique)).entries() == ["in/"]
    assert unique + "/" in await dag.host().directory(".").entries()
    with pytest.raises(dagger.QueryError, match="none"):
        await dag.host().directory("./none").id()
    with pytest.raises(dagger.QueryError):
        await dag.host().directory(f"{unique}/in/f").id()


async def test_the_home_directory(engines: Engines, tmp_path: Path) -> None:
    """123. `~` is the caller's home directory, for reading and for writing."""
    (tmp_path / "home" / "x").mkdir(parents=True)
    (tmp_path / "home" / "x" / "f").write_text("at home")

    async with engines.session(HOME=str(tmp_path / "home")) as dag:
        assert await dag.host().directory("~/x").entries() == ["f"]
        assert await dag.host().file("~/x/f").contents() == "at home"
        assert await dag.file("g", "").export("~/g") == str(tmp_path / "home" / "g")


async def test_a_directory_is_read_once_a_session(dag: dagger.Client, workdir: Path, unique: str) -> None:
    """124. The same call gives the first content, whatever happened on the disk; `no_cache` looks again."""
    (workdir / unique).mkdir()
    (workdir / unique / "f").write_text("1")

    assert await dag.host().directory(unique).entries() == ["f"]
    (workdir / unique / "g").write_text("2")
    assert await dag.host().directory(unique).entries() == ["f"]
    assert await dag.host().directory(unique, no_cache=True).entries() == ["f", "g"]


@pytest.mark.differs("there each spelling of a path is read once")
async def test_a_directory_is_known_by_where_it_is(dag: dagger.Client, workdir: Path, unique: str) -> None:
    """124. Two spellings of one path are one directory, read once."""
    (workdir / unique).mkdir()
    assert await dag.host().directory(unique).entries() == []

    (workdir / unique / "g").write_text("2")

    assert await dag.host().directory(f"./{unique}/").entries() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners on the host")
async def test_what_comes_from_the_host(dag: dagger.Client, base: dagger.Container, tmp_path: Path) -> None:
    """125. Owners become 0:0, modes and times stay, links stay links, fifos are left out."""
    (tmp_path / "f").write_text("")
    os.chown(tmp_path / "f", 5, 6)
    (tmp_path / "f").chmod(0o4711)
    os.utime(tmp_path / "f", (9, 9))
    (tmp_path / "link").symlink_to("f")
    os.mkfifo(tmp_path / "fifo")

    directory = dag.host().directory(str(tmp_path))
    look = base.with_mounted_directory("/m", directory).with_exec(
        ["sh", "-c", "cd /m; stat -c '%n %a %u:%g %F' *; stat -c %Y f"]
    )

    expected = "f 4711 0:0 regular empty file\nlink 777 0:0 symbolic link\n9\n"
    assert await look.stdout() == expected


@pytest.mark.differs("there a socket is an empty file")
async def test_sockets_are_left_out(dag: dagger.Client, tmp_path: Path) -> None:
    """125. A socket of the host is no content."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(os.fspath(tmp_path / "s"))

        assert await dag.host().directory(str(tmp_path)).entries() == []


async def test_only_what_is_included_is_read(dag: dagger.Client, tmp_path: Path) -> None:
    """126. What no pattern includes, or one excludes, is not looked at."""
    (tmp_path / "a").write_text("a")
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "x").write_text("x")

    assert await dag.host().directory(str(tmp_path), include=["a"]).entries() == ["a"]
    assert await dag.host().directory(str(tmp_path), exclude=["left"]).entries() == ["a"]
    assert await dag.host().directory(str(tmp_path), include=["/etc", "../x", "a"]).entries() == ["a"]


async def test_an_excluded_directory_that_cannot_be_read(dag: dagger.Client) -> None:
    """126. A directory that may not be read does no harm where it is excluded."""
    # The kernel lets even root read no more than the name of these.
    found = dag.host().directory(f"/proc/{os.getpid()}", include=["comm", "mem"], exclude=["mem"])

    assert await found.entries() == ["comm"]


@pytest.fixture
def ruled(tmp_path: Path) -> Path:
    """A tree with rules of its own, and one more above it."""
    (tmp_path / "top" / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "top" / ".gitignore").write_text("*.above\n")
    (tmp_path / "top" / "sub" / ".gitignore").write_text("*.log\n!keep.log\n/only\n")
    for name in ("a.log", "keep.log", "b.above", "only", "c.txt", "deep/only", "deep/d.log"):
        (tmp_path / "top" / "sub" / name).write_text("")
    return tmp_path / "top"


async def test_rules_of_a_repository_above(dag: dagger.Client, ruled: Path) -> None:
    """127. In a repository the rules of the directories above, up to its root, count too."""
    (ruled / ".git").mkdir()

    found = dag.host().directory(str(ruled / "sub"), gitignore=True)

    assert await found.glob("**") == [".gitignore", "c.txt", "deep/", "deep/only", "keep.log"]


async def test_rules_without_a_repository(dag: dagger.Client, ruled: Path) -> None:
    """127. Without a repository only the rules inside count."""
    found = dag.host().directory(str(ruled / "sub"), gitignore=True)

    assert await found.glob("**") == [".gitignore", "b.above", "c.txt", "deep/", "deep/only", "keep.log"]


async def test_one_file_is_read_without_its_directory(dag: dagger.Client, tmp_path: Path) -> None:
    """128. A file is read alone, whatever else lies beside it."""
    (tmp_path / "a").write_text("a")
    (tmp_path / "a").chmod(0o640)

    file = dag.host().file(str(tmp_path / "a"))

    assert (await file.name(), await file.contents(), await file.stat().permissions()) == ("a", "a", 0o640)
    with pytest.raises(dagger.QueryError, match="none"):
        await dag.host().file(str(tmp_path / "none")).sync()


@pytest.mark.differs("there a link is not followed, so that it leads nowhere")
async def test_a_file_behind_a_link(dag: dagger.Client, tmp_path: Path) -> None:
    """128. A link to a file is the file."""
    (tmp_path / "f").write_text("text")
    (tmp_path / "link").symlink_to("f")

    assert await dag.host().file(str(tmp_path / "link")).contents() == "text"


@pytest.mark.differs("there the name is a pattern")
async def test_a_files_name_is_no_pattern(dag: dagger.Client, tmp_path: Path) -> None:
    """128. Letters that mean something in a pattern are just letters in a name."""
    (tmp_path / "we[i]rd*").write_text("w")

    assert await dag.host().file(str(tmp_path / "we[i]rd*")).contents() == "w"


async def test_finding_upwards_on_the_host(dag: dagger.Client, workdir: Path, unique: str) -> None:
    """129. A name is looked for in the session's directory and above; null when it is nowhere."""
    (workdir.parent / unique).write_text("")
    (workdir / f"{unique}-here").write_text("")

    assert await dag.host().find_up(unique) == f"../{unique}"
    assert await dag.host().find_up(f"{unique}-here") == f"{unique}-here"
    assert await dag.host().find_up(f"none-{unique}") is None
