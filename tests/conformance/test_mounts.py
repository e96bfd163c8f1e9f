"""Containers: files and mounts."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import dagger
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.conftest import Engines

pytestmark = [pytest.mark.anyio, pytest.mark.root]


def tree(dag: dagger.Client, *paths: str) -> dagger.Directory:
    directory = dag.directory()
    for path in paths:
        directory = directory.with_new_file(path, path)
    return directory


async def test_a_copied_directory_keeps_everything(base: dagger.Container) -> None:
    """74. A copy keeps modes, owners, times and links."""
    source = base.with_exec(
        [
            "sh",
            "-c",
            "mkdir -p /s/d && echo a > /s/a && chown 5:6 /s/a && chmod 4751 /s/a && ln /s/a /s/hard"
            " && ln -s nowhere /s/link && touch -d '2001-02-03 04:05:06' /s/a /s/d",
        ]
    ).directory("/s")
    done = base.with_directory("/t", source).with_exec(
        ["sh", "-c", "cd /t; stat -c '%n %a %u:%g %Y' a d; readlink link; [ a -ef hard ] && echo linked"]
    )

    assert await done.stdout() == "a 4751 5:6 981173106\nd 755 0:0 981173106\nnowhere\nlinked\n"


async def test_a_copied_directory_merges(dag: dagger.Client) -> None:
    """74. A copy adds to what is there."""
    container = (
        dag.container().with_directory("/x", tree(dag, "a", "s/b")).with_directory("/x", tree(dag, "s/c"))
    )

    assert await container.directory("/x").glob("**") == ["a", "s/", "s/b", "s/c"]


async def test_a_file_replaces_a_directory_and_the_reverse(dag: dagger.Client) -> None:
    """75. What takes a place takes all of it."""
    over = dag.container().with_directory("/", tree(dag, "x/a", "x/b")).with_directory("/", tree(dag, "x"))
    back = over.with_directory("/", tree(dag, "x/c"))

    assert await over.file("/x").contents() == "x"
    assert await back.directory("/x").entries() == ["c"]


NONE: list[str] = []
FILTERS = {
    "include": (["a.txt"], NONE, ["a.txt"]),
    "exclude": (NONE, ["a.txt", "sub"], ["b.rar"]),
    "exclude-wins": (["*.txt", "*.rar"], ["*.rar"], ["a.txt"]),
    "directory": (["sub"], NONE, ["sub/", "sub/c.txt", "sub/d.rar"]),
    "re-include": (NONE, ["**", "!sub/c.txt"], ["sub/", "sub/c.txt"]),
    "top-level": (["*.rar"], NONE, ["b.rar"]),
    "any-level": (["**/*.rar"], NONE, ["b.rar", "sub/", "sub/d.rar"]),
}


@pytest.mark.parametrize(("include", "exclude", "expected"), FILTERS.values(), ids=FILTERS.keys())
async def test_filters_are_the_same_everywhere(
    dag: dagger.Client, tmp_path: Path, include: list[str], exclude: list[str], expected: list[str]
) -> None:
    """76, 77. Patterns choose the same files wherever they are given."""
    names = ("a.txt", "b.rar", "sub/c.txt", "sub/d.rar")
    source = tree(dag, *names)
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)

    container = dag.container().with_directory("/x", source, include=include, exclude=exclude)
    directory = dag.directory().with_directory("x", source, include=include, exclude=exclude)
    found = [
        await container.directory("/x").glob("**"),
        await directory.directory("x").glob("**"),
        await source.filter(include=include, exclude=exclude).glob("**"),
        await dag.host().directory(str(tmp_path), include=include, exclude=exclude).glob("**"),
    ]

    assert found == [expected] * 4


async def test_gitignore_files_are_honoured(dag: dagger.Client) -> None:
    """78. Rules of nested files count below their directories."""
    source = (
        tree(dag, "a.log", "keep.log", "sub/b.log", "sub/x", "other/x")
        .with_new_file(".gitignore", "*.log\n!keep.log\n")
        .with_new_file("sub/.gitignore", "/x\n")
    )

    found = await source.filter(gitignore=True).glob("**")

    assert found == [".gitignore", "keep.log", "other/", "other/x", "sub/", "sub/.gitignore"]


async def test_owners(dag: dagger.Client, base: dagger.Container) -> None:
    """79. An owner is a number or a name of the container; a name alone is the group too."""
    look = ["sh", "-c", "stat -c '%u:%g' /x/f"]
    source = tree(dag, "f")
    owners = {"1000": "1000:1000", "7:8": "7:8", "auser": "1234:1234", "auser:agroup": "1234:4321", "": "0:0"}

    for owner, expected in owners.items():
        assert (
            await base.with_directory("/x", source, owner=owner).with_exec(look).stdout() == f"{expected}\n"
        )
    assert await base.with_new_file("/x/f", "", owner="auser").with_exec(look).stdout() == "1234:1234\n"
    mounted = base.with_mounted_directory("/x", source, owner="auser:agroup")
    assert await mounted.with_exec(look).stdout() == "1234:4321\n"
    with pytest.raises(dagger.QueryError, match="nobody-here"):
        await base.with_directory("/x", source, owner="nobody-here").sync()


async def test_permissions_of_copies(dag: dagger.Client) -> None:
    """80. A mode given for a copy is that of all in it."""
    source = tree(dag, "d/f")

    copied = dag.directory().with_directory("x", source, permissions=0o700)

    assert await copied.stat("x/d").permissions() == 0o700
    assert await copied.stat("x/d/f").permissions() == 0o700


async def test_a_file_goes_into_a_directory_or_gets_a_name(dag: dagger.Client) -> None:
    """81. A directory or a slash takes a file under its own name."""
    file = dag.file("f", "text")
    container = dag.container().with_directory("/there", tree(dag, "old"))

    assert await container.with_file("/new/", file).directory("/new").entries() == ["f"]
    assert await container.with_file("/new/name", file).directory("/new").entries() == ["name"]
    assert await container.with_file("/there", file).directory("/there").entries() == ["f", "old"]
    several = container.with_files("/there", [file, dag.file("g", "")])
    assert await several.directory("/there").entries() == ["f", "g", "old"]


async def test_new_files(dag: dagger.Client, base: dagger.Container) -> None:
    """82. A new file has the mode given, exactly, and its parents are made."""
    container = (
        base.with_new_file("/p/q/default", "a")
        .with_new_file("/p/q/exact", "b", permissions=0o600)
        .with_new_file("/p/q/zero", "c", permissions=0)
        .with_new_file("/p/q/exact2", "d", permissions=0o666)
        .with_new_file("/p/q/default", "again")
    )

    done = container.with_exec(
        ["sh", "-c", "cd /p/q; stat -c '%n %a' . default exact exact2 zero; cat default"]
    )

    assert await done.stdout() == ". 755\ndefault 644\nexact 600\nexact2 666\nzero 644\nagain"


async def test_removing(dag: dagger.Client, base: dagger.Container) -> None:
    """83. Missing paths are no error, patterns remove all they match, links go and not what they lead to."""
    container = base.with_directory("/x", tree(dag, "a.txt", "b.txt", "c", "d/e")).with_symlink(
        "c", "/x/link"
    )

    removed = container.without_file("/x/*.txt").without_directory("/x/none").without_file("/x/link")

    assert await removed.directory("/x").glob("**") == ["c", "d/", "d/e"]
    assert await removed.without_files(["/x/c", "/x/d"]).directory("/x").entries() == []


async def test_changes_stay_in_a_mounted_directory(dag: dagger.Client, base: dagger.Container) -> None:
    """84. What a command writes to a mount stays in it and out of the root."""
    done = base.with_mounted_directory("/m", tree(dag, "a")).with_exec(
        ["sh", "-c", "echo new > /m/b; rm /m/a"]
    )

    assert await done.with_exec(["ls", "/m"]).stdout() == "b\n"
    assert await done.directory("/m").entries() == ["b"]
    assert await done.file("/m/b").contents() == "new\n"
    assert await done.rootfs().exists("m") is False
    assert await done.mounts() == ["/m"]


async def test_a_read_only_mount_refuses_writers(dag: dagger.Client, base: dagger.Container) -> None:
    """85. A read-only mount cannot be written."""
    container = base.with_mounted_directory("/m", tree(dag, "a"), read_only=True)

    with pytest.raises(dagger.ExecError) as caught:
        await container.with_exec(["touch", "/m/b"]).sync()

    assert "Read-only file system" in caught.value.stderr


async def test_mounts_hide_and_replace(dag: dagger.Client, base: dagger.Container) -> None:
    """86, 87. A mount hides what is below it; one mounted over it removes it for good."""
    container = base.with_directory("/m", tree(dag, "image")).with_mounted_directory("/m", tree(dag, "one"))
    stacked = container.with_mounted_directory("/m/sub", tree(dag, "child"))
    replaced = stacked.with_mounted_directory("/m", tree(dag, "two"))

    assert await container.with_exec(["ls", "/m"]).stdout() == "one\n"
    assert await container.without_mount("/m").with_exec(["ls", "/m"]).stdout() == "image\n"
    assert await stacked.with_exec(["ls", "/m/sub"]).stdout() == "child\n"
    assert await replaced.mounts() == ["/m"]
    assert await replaced.without_mount("/m").with_exec(["ls", "/m"]).stdout() == "image\n"


async def test_caches_and_temporary_mounts_cannot_be_read(dag: dagger.Client) -> None:
    """88. What is not part of a container cannot be asked of it."""
    container = (
        dag.container().with_mounted_cache("/c", dag.cache_volume("conformance-88")).with_mounted_temp("/t")
    )

    with pytest.raises(dagger.QueryError, match="cannot retrieve path from cache"):
        await container.directory("/c/x").entries()
    with pytest.raises(dagger.QueryError, match="cannot retrieve path from tmpfs"):
        await container.file("/t/x").contents()


async def test_files_written_into_a_mount_change_the_mount(dag: dagger.Client) -> None:
    """89. A file goes to where its path leads; exactly at a mount it takes the mount's place."""
    container = dag.container().with_mounted_directory("/m", tree(dag, "a")).with_new_file("/m/b", "b")

    assert await container.directory("/m").entries() == ["a", "b"]
    assert await container.rootfs().entries() == []
    exactly = container.with_mounted_file("/f", dag.file("f", "mounted")).with_new_file("/f", "root")
    assert await exactly.file("/f").contents() == "root"
    assert await exactly.mounts() == ["/m"]


async def test_temporary_mounts(base: dagger.Container) -> None:
    """90. A temporary mount is empty for each command, and no larger than it may be."""
    done = base.with_mounted_temp("/t", size=1 << 20).with_exec(["sh", "-c", "touch /t/x; ls /t"])

    assert await done.stdout() == "x\n"
    assert await done.with_exec(["ls", "/t"]).stdout() == ""
    with pytest.raises(dagger.ExecError):
        await done.with_exec(["sh", "-c", "head -c 2000000 /dev/zero > /t/big"]).sync()


async def test_a_cache_volume_is_seen_by_the_next_exec_and_the_next_session(
    engines: Engines, rootfs: Path
) -> None:
    """91. A cache volume keeps what is written to it."""
    from tests.conformance.conftest import busybox

    async with engines.session() as dag:
        base = busybox(dag, rootfs).with_mounted_cache("/c", dag.cache_volume("k"))
        await base.with_exec(["sh", "-c", "echo kept > /c/f"]).sync()
        assert await base.with_exec(["cat", "/c/f"]).stdout() == "kept\n"
    async with engines.session() as dag:
        base = busybox(dag, rootfs).with_mounted_cache("/c", dag.cache_volume("k"))
        assert await base.with_exec(["cat", "/c/f", "/dev/null"]).stdout() == "kept\n"


async def test_what_a_cache_volume_is_known_by(
    dag: dagger.Client, base: dagger.Container, unique: str
) -> None:
    """92, 93. Source, sharing and owner are part of what a volume is; a source fills it once."""

    async def listed(container: dagger.Container) -> str:
        return await container.with_env_variable("U", unique).with_exec(["ls", "/c"]).stdout()

    seed = tree(dag, "seed")
    plain = base.with_mounted_cache("/c", dag.cache_volume(unique))
    await plain.with_exec(["touch", "/c/mine"]).sync()

    assert await listed(plain) == "mine\n"
    seeded = base.with_mounted_cache("/c", dag.cache_volume(unique), source=seed)
    assert await listed(seeded) == "seed\n"
    await seeded.with_exec(["sh", "-c", "rm /c/seed; touch /c/more"]).sync()
    assert await listed(seeded.with_env_variable("AGAIN", "1")) == "more\n"
    locked = dagger.CacheSharingMode.LOCKED
    assert await listed(base.with_mounted_cache("/c", dag.cache_volume(unique), sharing=locked)) == ""
    owned = base.with_mounted_cache("/c", dag.cache_volume(unique), owner="auser")
    assert await owned.with_exec(["stat", "-c", "%u", "/c"]).stdout() == "1234\n"
    assert await listed(owned) == ""


async def test_locked_volumes_are_used_by_one_at_a_time(
    dag: dagger.Client, base: dagger.Container, unique: str
) -> None:
    """94. A locked volume has one user at a time, a shared one several."""

    async def both(sharing: dagger.CacheSharingMode) -> float:
        cache = dag.cache_volume(f"{unique}-{sharing}")
        mounted = base.with_mounted_cache("/c", cache, sharing=sharing).with_env_variable("U", unique)
        began = time.monotonic()
        await asyncio.gather(*(mounted.with_exec(["sh", "-c", f"sleep 1; echo {n}"]).sync() for n in (1, 2)))
        return time.monotonic() - began

    assert await both(dagger.CacheSharingMode.LOCKED) >= 2
    assert await both(dagger.CacheSharingMode.SHARED) < 1.9


async def test_secret_files(dag: dagger.Client, base: dagger.Container) -> None:
    """95. A secret is a file for the command alone, with the owner and mode given."""
    secret = dag.set_secret("conformance-95", " exact\n")
    container = (
        base.with_mounted_secret("/run/s", secret)
        .with_mounted_secret("/run/t", secret, owner="auser:agroup", mode=0o440)
        .with_mounted_file("/run/s", dag.file("s", "a file"))
    )

    done = container.with_exec(["sh", "-c", "stat -c '%a %u:%g' /run/s /run/t; wc -c < /run/s"])

    assert await done.stdout() == "400 0:0\n440 1234:4321\n7\n"
    assert await done.rootfs().exists("run") is False
    bare = base.with_mounted_secret("/run/s", secret)
    with pytest.raises(dagger.QueryError, match="no such file"):
        await bare.file("/run/s").contents()


async def test_secret_variables(dag: dagger.Client, base: dagger.Container) -> None:
    """96. A secret hides a variable of its name; the later of two counts."""
    one, two = dag.set_secret("conformance-96-1", "first"), dag.set_secret("conformance-96-2", "second-")
    container = base.with_env_variable("S", "plain").with_secret_variable("S", one)
    length = ["sh", "-c", "echo ${#S}"]

    assert await container.with_exec(length).stdout() == "5\n"
    assert await container.with_secret_variable("S", two).with_exec(length).stdout() == "7\n"
    removed = container.without_secret_variable("S")
    assert await removed.with_exec(["sh", "-c", "echo $S"]).stdout() == "plain\n"
    assert await container.env_variable("S") == "plain"


async def test_scrubbing(dag: dagger.Client, base: dagger.Container) -> None:
    """97. A secret is recognised however it is cut, spaced and long; an empty one is none."""
    spaced = dag.set_secret("conformance-97-1", "  spaced out \n")
    large = dag.set_secret("conformance-97-2", "0123456789abcdef" * 30_000)
    empty = dag.set_secret("conformance-97-3", "")
    container = base.with_secret_variable("S", spaced).with_mounted_secret("/large", large)
    container = container.with_secret_variable("E", empty)

    text = await container.with_exec(["sh", "-c", 'echo "[spaced out]"; cat /large; echo .']).stdout()
    slow = await container.with_exec(
        ["sh", "-c", "printf 'x spa'; sleep 0.3; printf 'ced o'; sleep 0.3; echo ut y"]
    ).stdout()

    assert text == "[***]\n***.\n"
    assert slow == "x *** y\n"


async def test_unix_sockets(
    dag: dagger.Client, base: dagger.Container, tmp_path: Path, socket_client: Path
) -> None:
    """98. A socket of the host can be spoken to from inside, until it is taken away."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    server = await asyncio.start_unix_server(shout, str(tmp_path / "s"))
    socket = dag.host().unix_socket(str(tmp_path / "s"))
    program = dag.host().file(str(socket_client))
    container = base.with_file("/bin/ask", program).with_unix_socket("/tmp/s", socket, owner="auser")
    try:
        look = container.with_exec(["sh", "-c", "ask /tmp/s hello; stat -c '%a %u %F' /tmp/s"])
        gone = container.without_unix_socket("/tmp/s").with_exec(["ls", "/tmp"])

        assert await look.stdout() == "HELLO\n600 1234 socket\n"
        assert await gone.stdout() == ""
    finally:
        server.close()
        await server.wait_closed()


async def test_symbolic_links(dag: dagger.Client) -> None:
    """99. A link's parents are made, it replaces nothing, and it stays inside."""
    container = dag.container().with_symlink("../anywhere", "/a/b/link")

    assert await container.directory("/a/b").entries() == ["link"]
    assert await container.exists("/a/b/link", expected_type=dagger.ExistsType.SYMLINK_TYPE)
    with pytest.raises(dagger.QueryError, match="exists"):
        await container.with_symlink("x", "/a/b/link").sync()
    assert await dag.container().with_symlink("x", "/../../top").rootfs().entries() == ["top"]


async def test_exists_and_stat(dag: dagger.Client) -> None:
    """100. A path can be asked whether it is there, of what kind, and what it is."""
    kinds = dagger.ExistsType
    container = (
        dag.container()
        .with_new_file("/d/f", "text", permissions=0o640)
        .with_symlink("f", "/d/link")
        .with_symlink("none", "/d/dangling")
    )

    checks = {
        ("/d/f", None, False): True,
        ("/d/none", None, False): False,
        ("/d/f", kinds.REGULAR_TYPE, False): True,
        ("/d/f", kinds.DIRECTORY_TYPE, False): False,
        ("/d", kinds.DIRECTORY_TYPE, False): True,
        ("/d/link", kinds.REGULAR_TYPE, False): True,
        ("/d/link", kinds.REGULAR_TYPE, True): False,
        ("/d/link", kinds.SYMLINK_TYPE, False): True,
        ("/d/dangling", None, False): False,
        ("/d/dangling", None, True): True,
    }
    for (path, kind, no_follow), expected in checks.items():
        found = await container.exists(path, expected_type=kind, do_not_follow_symlinks=no_follow)
        assert found is expected, (path, kind, no_follow)
    with pytest.raises(dagger.QueryError, match="not a directory"):
        await container.exists("/d/f/below")

    stat = container.stat("/d/link")
    assert (await stat.size(), await stat.permissions()) == (4, 0o640)
    assert await stat.file_type() == dagger.FileType.REGULAR
    link = container.stat("/d/link", do_not_follow_symlinks=True)
    assert await link.file_type() == dagger.FileType.SYMLINK
    with pytest.raises(dagger.QueryError, match="no such file or directory"):
        await container.stat("/none").size()
    with pytest.raises(dagger.QueryError):
        await container.directory("/d").stat("").size()
