"""Builds of Dockerfiles: what ADD and COPY bring."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

import dagger
import pytest

from tests.conformance.test_build import with_file
from tests.conformance.test_mounts import tree
from tests.engine.oci.servers import Answer, serve
from tests.gitservers import daemon, new_repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.conftest import EngineProcess

pytestmark = [pytest.mark.anyio, pytest.mark.root]


# ---- ADD and COPY ----------------------------------------------------------------------------


def archive() -> bytes:
    """Return a compressed archive with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as files:
        member = tarfile.TarInfo("inner")
        member.size = 5
        files.addfile(member, io.BytesIO(b"inner"))
    return out.getvalue()


async def test_adding_archives(dag: dagger.Client, image: str, tmp_path: Path) -> None:
    """172. An archive of the context is unpacked, unless that is not wanted."""
    (tmp_path / "a.tar.gz").write_bytes(archive())
    text = f"FROM {image}\nADD a.tar.gz /x/\nADD --unpack=false a.tar.gz /y/\n"

    built = with_file(dag.host().directory(str(tmp_path)), text).docker_build()

    assert await built.directory("/x").entries() == ["inner"]
    assert await built.directory("/y").entries() == ["a.tar.gz"]


async def test_adding_downloads(dag: dagger.Client, embedded: EngineProcess, image: str) -> None:
    """172. A download is a file with mode 0600, never unpacked."""
    with serve(lambda _: Answer(body=archive())) as site:
        text = f"FROM {image}\nADD http://{site.address}/b.tar.gz /x/\nADD http://{site.address}/b /x/named\n"
        built = with_file(dag.directory(), text).docker_build()

        assert await built.directory("/x").entries() == ["b.tar.gz", "named"]
        assert await built.stat("/x/named").permissions() == 0o600


@pytest.mark.differs("there a checksum is refused")
async def test_checksums_of_downloads(dag: dagger.Client, embedded: EngineProcess, image: str) -> None:
    """172. A download that is not what its checksum says fails the build."""
    right = "sha256:" + hashlib.sha256(b"text").hexdigest()

    with serve(lambda _: Answer(body=b"text")) as site:
        text = f"FROM {image}\nADD --checksum={{}} http://{site.address}/f /f\n"
        good = with_file(dag.directory(), text.format(right)).docker_build()
        bad = with_file(dag.directory(), text.format("sha256:" + "0" * 64)).docker_build()

        assert await good.file("/f").contents() == "text"
        with pytest.raises(dagger.QueryError, match="checksum"):
            await bad.sync()


async def test_adding_repositories(
    dag: dagger.Client, embedded: EngineProcess, image: str, tmp_path: Path
) -> None:
    """172. A repository is checked out at its ref; `.git` comes along only when it is asked for."""
    git = new_repository(tmp_path / "repo.git")
    (git.path / "sub").mkdir()
    git.commit(**{"sub/f": "1"})
    git("tag", "v1")
    git.commit(**{"sub/f": "2"})

    with daemon(tmp_path) as address:
        text = f"""
FROM {image}
ADD {address}/repo.git#v1:sub /at-ref/
ADD --keep-git-dir=true {address}/repo.git /whole/
"""
        built = with_file(dag.directory(), text).docker_build()
        assert await built.file("/at-ref/f").contents() == "1"
        assert await built.directory("/at-ref").entries() == ["f"]
        assert await built.directory("/whole").entries() == [".git/", "sub/"]


COPIES = """
FROM {image}
RUN mkdir -p /real && ln -s /real /link
WORKDIR /w
COPY *.txt wild/
COPY a.txt name
COPY a.txt into/
COPY a.txt b.txt several/
COPY d /contents
COPY d .
COPY a.txt /link/through
COPY --chown=auser:agroup --chmod=0640 a.txt /owned
COPY --exclude=*.md d /excluded
COPY --parents d/deep/e.md /parents/
"""


async def test_copies(dag: dagger.Client, base: dagger.Container, image: str) -> None:
    """173. Files and directories' contents go where destination, slashes and links say, owned as said."""
    context = with_file(tree(dag, "a.txt", "b.txt", "d/c.txt", "d/deep/e.md"), COPIES.format(image=image))

    built = context.docker_build()

    assert await built.directory("/w").glob("**") == [
        "c.txt", "deep/", "deep/e.md", "into/", "into/a.txt", "name", "several/", "several/a.txt",
        "several/b.txt", "wild/", "wild/a.txt", "wild/b.txt",
    ]  # fmt: skip
    assert await built.directory("/contents").glob("**") == ["c.txt", "deep/", "deep/e.md"]
    assert await built.file("/real/through").contents() == "a.txt"
    assert await built.directory("/excluded").glob("**") == ["c.txt", "deep/", "deep/e.md"]
    assert await built.directory("/parents").glob("**") == ["d/", "d/deep/", "d/deep/e.md"]
    look = built.with_exec(["stat", "-c", "%u:%g %a", "/owned"])
    assert await look.stdout() == "1234:4321 640\n"


@pytest.mark.differs("there modes are octal numbers")
async def test_modes_in_letters(dag: dagger.Client, image: str) -> None:
    """173. A mode can be written in letters, as for `chmod`."""
    text = f"FROM {image}\nCOPY --chmod=u=rwx,go=rx a.txt /a\n"

    built = with_file(tree(dag, "a.txt"), text).docker_build()

    assert await built.stat("/a").permissions() == 0o755


@pytest.mark.parametrize(
    "line",
    [
        "COPY none /x",
        pytest.param("COPY *.none /x/", marks=pytest.mark.differs("there nothing is copied")),
        pytest.param("COPY a.txt b.txt /x", marks=pytest.mark.differs("there /x becomes a directory")),
        "COPY --chown=nobody-knows a.txt /x",
    ],
)
async def test_copies_that_fail(dag: dagger.Client, image: str, line: str) -> None:
    """173. A missing source, several into no directory, and an unknown owner are errors."""
    with pytest.raises(dagger.QueryError):
        await with_file(tree(dag, "a.txt", "b.txt"), f"FROM {image}\n{line}\n").docker_build().sync()


async def test_copies_stay_in_the_context(dag: dagger.Client, image: str) -> None:
    """173. A path that climbs stops at the context's root."""
    context = with_file(tree(dag, "f"), f"FROM {image}\nCOPY ../f /x\n")

    assert await context.docker_build().file("/x").contents() == "f"
