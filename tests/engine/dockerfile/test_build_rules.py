"""Rules of single instructions that only a build that is carried out can show."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.engine.oci.servers import Answer, serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.dockerfile.helpers import Files
    from tests.engine.dockerfile.workshop import Workshop

pytestmark = [pytest.mark.anyio, pytest.mark.root]


async def test_a_command_has_an_init_unless_told_otherwise(workshop: Workshop) -> None:
    """The shell is the second process, or with `no_init` the first."""
    text = "FROM base\nRUN echo $$ > /shell"

    plain = await workshop.build(text)
    bare = await workshop.build(text, no_init=True)

    assert [await workshop.text(each, "/shell") for each in (plain, bare)] == ["2\n", "1\n"]


async def test_directories_on_the_way_are_roots(workshop: Workshop) -> None:
    """Mode 0755, whoever USER is and whomever the files are for."""
    container = await workshop.build(
        "FROM base\nUSER bob\nCOPY --chmod=0600 f /a/b/\nCOPY --chown=bob d /c/d/e\n"
        "ADD --chown=bob f /g/h/f\n",
        {"f": "f", "d/f": "f"},
    )

    names = "/a /a/b /a/b/f /c /c/d /c/d/e /c/d/e/f /g/h /g/h/f"
    listing = await workshop.sh(container.with_user("root"), f"stat -c '%a %U %n' {names}")
    assert listing.splitlines() == [
        "755 root /a", "755 root /a/b", "600 root /a/b/f", "755 root /c", "755 root /c/d", "755 bob /c/d/e",
        "644 bob /c/d/e/f", "755 root /g/h", "644 bob /g/h/f",
    ]  # fmt: skip


async def test_a_cache_is_roots_and_can_begin_with_files(workshop: Workshop) -> None:
    """Mode 0755 unless told otherwise; of another stage's files it has a copy of its own."""
    mount = "--mount=type=cache,target=/c,from=seed,source=/seed"
    container = await workshop.build(
        f"""FROM base AS seed
RUN mkdir /seed && echo seed > /seed/f
FROM base
RUN --mount=type=cache,target=/plain stat -c '%a %u:%g' /plain > /one
RUN {mount} cat /c/f > /two; echo more > /c/g
RUN {mount},id=/c ls /c > /three
"""
    )

    found = await workshop.texts(container, "/one", "/two", "/three")
    assert found == ["755 0:0\n", "seed\n", "f\ng\n"]


async def test_a_command_can_share_the_hosts_network_and_have_every_right(workshop: Workshop) -> None:
    """Only for itself: the next one is apart again."""
    container = await workshop.build(
        """FROM base
RUN --network=host readlink /proc/self/ns/net > /host
RUN readlink /proc/self/ns/net > /own
RUN --security=insecure grep CapEff /proc/self/status > /all
RUN grep CapEff /proc/self/status > /few
"""
    )

    host, own, everything, few = await workshop.texts(container, "/host", "/own", "/all", "/few")
    assert host.strip() == os.readlink("/proc/self/ns/net") != own.strip()
    assert int(few.split()[1], 16) < int(everything.split()[1], 16)


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress],
    ids=["tar", "gzip", "bzip2", "xz", "zstd"],
)
async def test_archives_of_every_usual_compression_are_unpacked(
    workshop: Workshop, compress: Callable[[bytes], bytes]
) -> None:
    """Into the destination below the work directory, which need not be there."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("inside/file")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"text"))

    container = await workshop.build("FROM base\nWORKDIR /w\nADD x d", {"x": compress(buffer.getvalue())})

    assert await workshop.text(container, "/w/d/inside/file") == "text"


async def test_a_download_is_as_old_as_the_server_says(workshop: Workshop) -> None:
    """It can be at the end of a directory's path, or get a name."""
    headers = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}

    with serve(lambda _: Answer(body=b"text", headers=headers)) as site:
        container = await workshop.build(f"FROM base\nADD http://{site.address}/f /d/\n")

    assert await workshop.sh(container, "stat -c '%Y %a' /d/f") == "1445412480 600\n"


LINKS = "FROM base AS linked\nRUN mkdir -p /usr/lib /real && ln -s usr/lib /lib && ln -s /real/f /f\n"


async def test_a_linked_copy_replaces_links_and_another_follows_them(workshop: Workshop) -> None:
    """What COPY and ADD bring with `--link` is the same on every base, and so looks at none."""
    files: Files = {"f": "new", "d/g": "g"}
    lines = "{} {}f /lib/\n{} {}d /lib/sub\n{} {}f /f"
    follow = await workshop.build(LINKS + "FROM linked\n" + lines.format(*("COPY", "") * 3), files)
    replace = await workshop.build(LINKS + "FROM linked\n" + lines.format(*("ADD", "--link ") * 3), files)

    script = "find /lib /usr/lib /real /f -type f | sort; stat -c %F /lib /f"
    followed = (await workshop.sh(follow, script)).splitlines()
    replaced = (await workshop.sh(replace, script)).splitlines()

    assert followed == ["/f", "/usr/lib/f", "/usr/lib/sub/g", "symbolic link", "regular file"]
    assert replaced == ["/f", "/lib/f", "/lib/sub/g", "directory", "regular file"]


async def test_ignored_files_are_in_no_mount_either(workshop: Workshop) -> None:
    """The context is one thing for COPY, ADD and RUN."""
    container = await workshop.build(
        "FROM base\nRUN --mount=target=/ctx ls -A /ctx > /seen",
        {
            ".dockerignore": "**/secret*\nDockerfile*\n.dockerignore\nbase.tar\n!base.tar\n",
            "secret.txt": "x",
            "a": "",
        },
    )

    assert await workshop.text(container, "/seen") == "a\nbase.tar\n"


@pytest.mark.parametrize("sharing", ["locked", "private"])
async def test_a_cache_that_is_not_shared_is_had_by_one_command_at_a_time(
    workshop: Workshop, sharing: str
) -> None:
    """Of two that could run side by side, one waits for the other, and finds what it left."""
    mount = f"--mount=type=cache,target=/c,id=own,sharing={sharing}"
    work = "test ! -e /c/busy; touch /c/busy; sleep 0.3; rm /c/busy; echo x >> /c/log; cp /c/log /out"
    container = await workshop.build(
        f"""FROM base AS a
RUN {mount} set -e; {work} # a
FROM base AS b
RUN {mount} set -e; {work} # b
FROM base
COPY --from=a /out /a
COPY --from=b /out /b
"""
    )

    assert sorted(await workshop.texts(container, "/a", "/b")) == ["x\n", "x\nx\n"]
