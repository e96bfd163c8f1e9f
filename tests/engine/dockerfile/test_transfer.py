"""COPY and ADD: which files arrive where, with which owners and modes."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from pipeline.engine import actions, ops
from pipeline.engine.dockerfile.instructions import DockerfileError
from pipeline.engine.dockerfile.remote import GitSource, HttpSource, parse_remote
from pipeline.engine.files import Directory

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.dockerfile.helpers import CopyingSession, Files

pytestmark = pytest.mark.anyio
CONTEXT: Files = {
    "a.txt": "a",
    "b.txt": "b",
    "c.md": "c",
    "src/main.py": "main",
    "src/lib/util.py": "util",
    "src/lib/util.md": "doc",
    "src2/other.py": "other",
    "arr[0].txt": "odd",
    "with space.txt": "space",
}

COPIES: dict[str, tuple[str, dict[str, str]]] = {
    "file to a name": ("COPY a.txt /x/y", {"/x/y": "a"}),
    "file into a directory": ("COPY a.txt /x/", {"/x/a.txt": "a"}),
    "file into an existing directory": ("WORKDIR /x\nCOPY a.txt /x", {"/x/a.txt": "a"}),
    "file to the work directory": ("WORKDIR /w\nCOPY a.txt .", {"/w/a.txt": "a"}),
    "file below the work directory": ("WORKDIR /w\nCOPY a.txt d/", {"/w/d/a.txt": "a"}),
    "file by another name there": ("WORKDIR /w\nCOPY a.txt d", {"/w/d": "a"}),
    "several files": ("COPY a.txt b.txt /x/", {"/x/a.txt": "a", "/x/b.txt": "b"}),
    "several files to a dot": ("WORKDIR /w\nCOPY a.txt b.txt .", {"/w/a.txt": "a", "/w/b.txt": "b"}),
    "wildcard": ("COPY ?.txt /x/", {"/x/a.txt": "a", "/x/b.txt": "b"}),
    "wildcard for one file to a name": ("COPY a.t* /x", {"/x": "a"}),
    "wildcard with a class": ("COPY [b-c].* /x/", {"/x/b.txt": "b", "/x/c.md": "c"}),
    "escaped bracket": ("COPY arr[[]0].txt /x/", {"/x/arr[0].txt": "odd"}),
    "wildcard for directories": (
        "COPY src* /x",
        {
            "/x/lib/util.md": "doc",
            "/x/lib/util.py": "util",
            "/x/main.py": "main",
            "/x/other.py": "other",
        },
    ),
    "wildcard in the middle": ("COPY src*/main.py /x/", {"/x/main.py": "main"}),
    "contents of a directory": (
        "COPY src /x",
        {"/x/lib/util.md": "doc", "/x/lib/util.py": "util", "/x/main.py": "main"},
    ),
    "contents of a directory by slash": ("COPY src/lib/ /x/", {"/x/util.md": "doc", "/x/util.py": "util"}),
    "above the context": ("COPY ../../a.txt /x/", {"/x/a.txt": "a"}),
    "from the root of the context": ("COPY /a.txt /x/", {"/x/a.txt": "a"}),
    "json form": ('COPY ["with space.txt", "/x y/"]', {"/x y/with space.txt": "space"}),
    "variables": ("ARG N=a\nENV D=/x\nCOPY ${N}.txt $D/", {"/x/a.txt": "a"}),
    "exclude": ("COPY --exclude=**/*.md --exclude=main.py src /x", {"/x/lib/util.py": "util"}),
    "exclude of a file by wildcard": (
        "COPY --exclude=b* --exclude=arr* --exclude=with* *.txt /x/",
        {"/x/a.txt": "a"},
    ),
    "parents": (
        "COPY --parents a.txt src/lib/*.py /x/",
        {"/x/a.txt": "a", "/x/src/lib/util.py": "util"},
    ),
    "parents by stars": (
        "COPY --parents src/**/*.py /x/",
        {"/x/src/lib/util.py": "util", "/x/src/main.py": "main"},
    ),
    "parents with a pivot": ("COPY --parents src/./lib/util.py /x/", {"/x/lib/util.py": "util"}),
    "parents of a directory": (
        "COPY --parents src/lib /x/",
        {"/x/src/lib/util.md": "doc", "/x/src/lib/util.py": "util"},
    ),
    "add is copy": ("ADD --exclude=*.md src/lib a.txt /x/", {"/x/a.txt": "a", "/x/util.py": "util"}),
    "link": ("COPY --link a.txt /x/", {"/x/a.txt": "a"}),
    "overwrite": ("COPY a.txt /x\nCOPY b.txt /x", {"/x": "b"}),
}


@pytest.mark.parametrize(("lines", "expected"), COPIES.values(), ids=COPIES.keys())
async def test_files_arrive_where_the_rules_say(
    session: CopyingSession, lines: str, expected: dict[str, str]
) -> None:
    """Every file of the result, and its content."""
    container = await session.build(f"FROM scratch\n{lines}", CONTEXT)

    assert session.files(container) == expected


REFUSED = {
    "missing": ("COPY nope /x", 'line 2: "/nope": not found in the build context'),
    "missing below a file": ("COPY a.txt/b /x", 'line 2: "/a.txt/b": not found in the build context'),
    "empty wildcard": ("COPY *.nope /x/", 'line 2: "/*.nope": not found in the build context'),
    "missing parents": ("COPY --parents x/*.py /y/", 'line 2: "/x/*.py": not found in the build context'),
    "missing in a stage": (
        "FROM scratch\nCOPY --from=0 /bin/app /app",
        'line 3: "/bin/app": not found in stage `0`',
    ),
    "two to a name": (
        "COPY a.txt b.txt /x",
        "line 2: when using COPY with more than one source file,"
        " the destination must be a directory and end with a /",
    ),
    "wildcard to a name": (
        "ADD ?.txt /x",
        "line 2: when using ADD with more than one source file,"
        " the destination must be a directory and end with a /",
    ),
    "bad wildcard": ("COPY [a /x/", "line 2: cannot use pattern `x/[a`: `[a` is not closed"),
    "bad mode": ("COPY --chmod=rwx a.txt /x", "line 2: `rwx` is no mode: write it as 0755 or as u=rwx,go=rx"),
    "checksum of a file": (
        "ADD --checksum=sha256:0 a.txt /x",
        "line 2: --checksum needs exactly one source, a download or a repository",
    ),
    "bad checksum": (
        "ADD --checksum=md5:0 https://example.com/a /x",
        "line 2: `md5:0` is no checksum: write it as sha256:…",
    ),
    "git query": (
        "ADD https://example.com/a.git?x=y /x",
        'line 2: unexpected query "x" in git URL `https://example.com/a.git`',
    ),
}


@pytest.mark.parametrize(("lines", "message"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_copy_that_cannot_be_is_refused_with_its_line(
    session: CopyingSession, lines: str, message: str
) -> None:
    """A missing source is named, and where it was looked for."""
    with pytest.raises(DockerfileError) as caught:
        await session.build(f"FROM scratch\n{lines}", CONTEXT)

    assert str(caught.value) == f"cannot build `Dockerfile` {message}"


async def test_ignored_files_are_invisible(session: CopyingSession) -> None:
    """The file's own ignore file comes before the directory's, unless it is empty."""
    files: Files = {
        ".dockerignore": "# all notes\n**/*.md\n!src/lib/util.md\nDockerfile\n*.dockerignore\n",
        "other.Dockerfile.dockerignore": "*\n!a.txt\n",
        "empty.Dockerfile.dockerignore": "",
        "a.txt": "a",
        "c.md": "c",
        "src/lib/util.md": "doc",
    }
    text = "FROM scratch\nCOPY . /"

    default = await session.build(text, files)
    other = await session.build(text, files, dockerfile="other.Dockerfile")
    empty = await session.build(text, files, dockerfile="empty.Dockerfile")

    assert session.files(default) == {"/a.txt": "a", "/src/lib/util.md": "doc"}
    assert session.files(other) == {"/a.txt": "a"}
    assert "/c.md" not in session.files(empty)


async def test_an_ignored_source_is_missing(session: CopyingSession) -> None:
    """As if it were not there; the hint says why that may be."""
    with pytest.raises(DockerfileError, match=r'"/a\.txt": not found in the build context') as caught:
        await session.build("FROM scratch\nCOPY a.txt /", {"a.txt": "a", ".dockerignore": "*.txt"})

    assert caught.value.hint == "the ignore file may leave it out"


async def test_links_among_sources_are_followed_and_inside_directories_kept(
    session: CopyingSession, tmp_path: Path
) -> None:
    """A link that is named is its target under the link's name; it never leads out of the context."""
    root = tmp_path / "context"
    (root / "dir").mkdir(parents=True)
    (root / "Dockerfile").write_text(
        "FROM scratch\nCOPY link.txt /one/\nCOPY dirlink /two\nCOPY out /three/\nCOPY abs /four/\n"
    )
    (root / "dir" / "real.txt").write_text("real")
    (root / "dir" / "inner").symlink_to("real.txt")
    (root / "link.txt").symlink_to("dir/real.txt")
    (root / "dirlink").symlink_to("dir")
    (root / "abs").symlink_to("/dir/real.txt")
    (root / "out").symlink_to("../../../dir/real.txt")
    from pipeline.engine.dockerfile.build import build

    container = await build(session, Directory(tree=session.keep(root)))

    assert session.files(container) == {
        "/four/abs": "real",
        "/one/link.txt": "real",
        "/three/out": "real",
        "/two/inner": "-> real.txt",
        "/two/real.txt": "real",
    }


async def test_a_destination_that_is_a_link_leads_where_it_points(session: CopyingSession) -> None:
    """Both as a parent and as the directory itself."""
    root = session.evaluate(session.tree({"usr/bin/": ""}))
    (root / "bin").symlink_to("usr/bin")
    session.images["merged"] = (session.images["base"][0], session.keep(root))

    container = await session.build("FROM merged\nCOPY a.txt /bin/\nCOPY src/lib /bin", CONTEXT)

    assert session.files(container) == {
        "/bin": "-> usr/bin",
        "/usr/bin/a.txt": "a",
        "/usr/bin/util.md": "doc",
        "/usr/bin/util.py": "util",
    }


@pytest.mark.root
async def test_owners_are_looked_up_in_the_stage_and_modes_apply_to_all(session: CopyingSession) -> None:
    """A name alone gives its number to the group as well; octal and symbolic modes go all the way down."""
    container = await session.build(
        """
FROM base
COPY --chown=app:web --chmod=0640 a.txt /one/
COPY --chown=app src/lib /two
COPY --chown=7:8 --chmod=u=rwX,go=rX src /three
COPY --chown=app --chmod=755 <<E /five
x
E
""",
        CONTEXT,
    )

    root = session.evaluate(container.rootfs)
    found = {
        name: (oct(status.st_mode & 0o7777), status.st_uid, status.st_gid)
        for name in ("one/a.txt", "two/util.py", "three/lib", "three/lib/util.py", "five")
        for status in [os.lstat(root / name)]
    }
    assert found == {
        "one/a.txt": ("0o640", 1000, 33),
        "two/util.py": ("0o644", 1000, 1000),
        "three/lib": ("0o755", 7, 8),
        "three/lib/util.py": ("0o644", 7, 8),
        "five": ("0o755", 1000, 1000),
    }


async def test_files_come_from_stages_and_images(session: CopyingSession) -> None:
    """By name in any case, by number, and else as the address of an image; a stage hides an image."""
    session.image("tools:1", files={"bin/tool": "tool"})
    session.image("build", files={"wrong": "wrong"})

    container = await session.build(
        """
FROM scratch AS Build
COPY a.txt /out/
FROM scratch
COPY --from=build /out/ /one/
COPY --from=0 /out/a.txt /two
COPY --from=tools:1 /bin/tool /three
""",
        CONTEXT,
    )

    assert session.files(container) == {"/one/a.txt": "a", "/three": "tool", "/two": "a"}


async def test_inline_files_are_written_with_their_variables_replaced(session: CopyingSession) -> None:
    """Unless the mark is quoted; `<<-` drops leading tabs; several go into a directory by their names."""
    container = await session.build(
        'FROM base\nENV WHO=me\nCOPY <<one.txt <<-"two.txt" a.txt /x/\nfor $WHO, \\$5 "q"\none.txt\n'
        "\tfor $WHO\n\ttwo.txt\nADD <<E /x/three\n${WHO}\nE\n",
        CONTEXT,
    )

    found = {name: text for name, text in session.files(container).items() if name.startswith("/x/")}
    assert found == {
        "/x/a.txt": "a",
        "/x/one.txt": 'for me, $5 "q"\n',
        "/x/three": "me\n",
        "/x/two.txt": "for $WHO\n",
    }


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("inside/file.txt")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"text"))
    return buffer.getvalue()


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["tar", "gzip"])
async def test_archives_of_the_context_are_unpacked_by_add(
    session: CopyingSession, compress: type[bytes]
) -> None:
    """By what they are, not by their names; COPY and `--unpack=false` leave them alone."""
    files: Files = {"x.bin": compress(_tar()), "fake.tar.gz": "no archive", "empty.tar": ""}

    added = await session.build("FROM scratch\nADD x.bin fake.tar.gz empty.tar /d/", files)
    kept = await session.build("FROM scratch\nADD --unpack=false x.bin /d/\nCOPY x.bin /e/", files)

    assert session.files(added) == {
        "/d/empty.tar": "",
        "/d/fake.tar.gz": "no archive",
        "/d/inside/file.txt": "text",
    }
    root = session.evaluate(kept.rootfs)
    assert (root / "d/x.bin").read_bytes() == (root / "e/x.bin").read_bytes() == files["x.bin"]


async def test_downloads_are_placed_and_not_unpacked(session: CopyingSession) -> None:
    """Under the last part of the address in a directory; `--unpack` unpacks; the checksum is handed on."""
    url = "https://example.com/files/x.tar?token=1"
    checksum = "sha256:" + "0" * 64
    session.downloads = {url: _tar(), "https://example.com/": b"index"}

    container = await session.build(
        f"""
FROM scratch
ARG SUM={checksum}
ADD --checksum=$SUM {url} /one/
ADD {url} /two
ADD --unpack {url} /three/
ADD https://example.com/ /four/
"""
    )

    root = session.evaluate(container.rootfs)
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()) == [
        "four/__unnamed__",
        "one/x.tar",
        "three/inside/file.txt",
        "two",
    ]
    assert session.fetched == [(url, checksum), (url, ""), (url, ""), ("https://example.com/", "")]


async def test_repositories_are_placed_as_directories(session: CopyingSession) -> None:
    """With the ref, the directory and the wish for `.git` handed on."""
    url = "https://example.com/r.git"
    session.repositories = {url: Directory(tree=session.tree({"README": "read me"}))}

    container = await session.build(f"FROM scratch\nADD --keep-git-dir {url}#v1:sub /src")

    assert session.files(container) == {"/src/README": "read me"}
    assert session.cloned == [GitSource(url=url, ref="v1", subdir="sub", keep_git_dir=True)]


REMOTES = {
    "path": ("a/b.git", None),
    "http": ("http://h/x/y.tgz?q#f", HttpSource(url="http://h/x/y.tgz?q#f", name="y.tgz")),
    "https git": ("https://h/r.git", GitSource(url="https://h/r.git")),
    "branch and directory": (
        "https://h/r.git#main:a/b",
        GitSource(url="https://h/r.git", ref="main", subdir="a/b"),
    ),
    "scp": ("git@h:o/r.git#v1", GitSource(url="git@h:o/r.git", ref="v1")),
    "ssh": ("ssh://git@h/o/r", GitSource(url="ssh://git@h/o/r")),
    "git": ("git://h/o/r#:d", GitSource(url="git://h/o/r", subdir="d")),
    "query branch": (
        "https://h/r.git?branch=x&subdir=d",
        GitSource(url="https://h/r.git", ref="refs/heads/x", subdir="d"),
    ),
    "query tag": (
        "https://h/r.git?tag=v1&commit=abc",
        GitSource(url="https://h/r.git", ref="refs/tags/v1", commit="abc"),
    ),
    "query commit": ("https://h/r.git?commit=abc", GitSource(url="https://h/r.git", ref="abc", commit="abc")),
    "query keep": (
        "https://h/r.git?ref=x&keep-git-dir=true",
        GitSource(url="https://h/r.git", ref="x", keep_git_dir=True),
    ),
}


@pytest.mark.parametrize(("text", "expected"), REMOTES.values(), ids=REMOTES.keys())
def test_an_address_is_a_download_a_repository_or_a_path(
    text: str, expected: HttpSource | GitSource | None
) -> None:
    """By its scheme and its ending."""
    assert parse_remote(text) == expected


async def test_a_copy_names_only_what_it_copies(session: CopyingSession) -> None:
    """So that its key is the content of that, and a change elsewhere in the context runs nothing again."""
    container = await session.build("FROM scratch\nCOPY src/lib /x\nCOPY a.txt /y", CONTEXT)

    node = container.rootfs
    assert isinstance(node, ops.Edit)
    assert isinstance(node.action, actions.Copy)
    assert (node.action.kind, node.action.source_path, node.action.path) == ("file", "/a.txt", "/y")
    assert isinstance(node.base, ops.Edit)
    assert isinstance(node.base.action, actions.Copy)
    assert (node.base.action.kind, node.base.action.source_path) == ("contents", "/src/lib")
