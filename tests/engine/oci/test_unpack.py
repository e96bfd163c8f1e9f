"""Layers become overlay directories; what is hostile or damaged is refused."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from pipeline.digest import digest_bytes
from pipeline.engine.oci.errors import LayerRejected
from pipeline.engine.oci.image import add_layer
from pipeline.engine.oci.layer import apply_layer
from tests.engine.oci.samples import (
    directory,
    entry,
    hardlink,
    listing,
    put_layer,
    put_snapshot,
    symlink,
    tar,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.engine.store import Store

pytestmark = pytest.mark.root


def unpack(tmp_path: Path, data: bytes) -> Path:
    """Apply one layer to an empty directory and return it."""
    blob, upper = tmp_path / "blob", tmp_path / "upper"
    blob.write_bytes(data)
    upper.mkdir()
    apply_layer(blob, upper, ())
    return upper


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(lambda data: data, id="plain"),
        pytest.param(gzip.compress, id="gzip"),
        pytest.param(lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]), id="gzip-members"),
        pytest.param(zstandard.ZstdCompressor().compress, id="zstd"),
    ],
)
def test_every_compression_gives_the_same_tree_and_diff_id(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    """The digest returned is the one of the uncompressed stream."""
    plain = tar(directory("bin"), entry("bin/tool", b"run", mode=0o755))
    blob, upper = tmp_path / "blob", tmp_path / "upper"
    blob.write_bytes(pack(plain))
    upper.mkdir()

    diff_id = apply_layer(blob, upper, ())

    assert diff_id == digest_bytes(plain)
    assert listing(upper) == {"bin": "drwxr-xr-x 0:0", "bin/tool": "-rwxr-xr-x 0:0 run"}


def test_all_kinds_of_entries_are_kept(tmp_path: Path) -> None:
    """Set-id bits, owners, fifos, devices, links, long names and names that are no UTF-8 survive."""
    long_name = "d" * 150 + "/" + "f" * 149
    data = tar(
        entry("su", b"x", mode=0o4755, uid=7, gid=8),
        directory("shared", mode=0o3777),
        entry("pipe", type=tarfile.FIFOTYPE),
        entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=1),
        symlink("link", "/etc/passwd"),
        hardlink("also-su", "su"),
        entry(long_name, b"deep"),
        entry("caf\udce9", b"latin"),
        entry("big-owner", b"", uid=3_000_000_000, gid=3_000_000_001),
    )

    upper = unpack(tmp_path, data)

    assert listing(upper) == {
        "also-su": "-rwsr-xr-x 7:8 x",
        "big-owner": "-rw-r--r-- 3000000000:3000000001 ",
        "caf\udce9": "-rw-r--r-- 0:0 latin",
        "d" * 150: "drwxr-xr-x 0:0",
        long_name: "-rw-r--r-- 0:0 deep",
        "disk": "brw-r--r-- 0:0 8,1",
        "link": "lrwxrwxrwx 0:0 /etc/passwd",
        "null": "crw-rw-rw- 0:0 1,3",
        "pipe": "prw-r--r-- 0:0",
        "shared": "drwxrwsrwt 0:0",
        "su": "-rwsr-xr-x 7:8 x",
    }
    assert os.stat(upper / "su").st_nlink == 2


_IN_A_USER_NAMESPACE = """
import sys
from pathlib import Path
from pipeline.engine.oci.layer import apply_layer
from tests.engine.oci.samples import listing
lower, upper = Path(sys.argv[2]), Path(sys.argv[3])
apply_layer(Path(sys.argv[1]), upper, (lower,))
print(listing(upper))
"""


def test_devices_are_left_out_in_a_user_namespace(tmp_path: Path) -> None:
    """Links to them too; what they replace is hidden, and removals work as ever."""
    blob, lower, upper = (tmp_path / name for name in ("blob", "lower", "upper"))
    lower.mkdir()
    upper.mkdir()
    (lower / "disk").write_text("replaced")
    (lower / "old").write_text("removed")
    blob.write_bytes(
        tar(
            entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            hardlink("also-null", "null"),
            entry("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=1),
            entry(".wh.old"),
            entry("pipe", type=tarfile.FIFOTYPE),
            entry("kept", b"x"),
        )
    )
    argv = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", _IN_A_USER_NAMESPACE]

    done = subprocess.run([*argv, blob, lower, upper], capture_output=True, text=True, check=False)

    expected = {
        "disk": "crw------- 0:0 0,0",
        "kept": "-rw-r--r-- 0:0 x",
        "old": "crw------- 0:0 0,0",
        "pipe": "prw-r--r-- 0:0",
    }
    assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr


def test_times_and_attributes_are_kept_also_of_directories(tmp_path: Path) -> None:
    """Directories' times are set after their entries; capabilities survive, overlay's marks do not."""
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    headers = {
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.trusted.overlay.opaque": "y",
    }
    data = tar(directory("d", mtime=1000), entry("d/f", b"x", mtime=2000, pax_headers=headers))

    upper = unpack(tmp_path, data)

    assert os.stat(upper / "d").st_mtime == 1000
    assert os.stat(upper / "d/f").st_mtime == 2000
    assert os.getxattr(upper / "d/f", "security.capability") == capability
    assert os.listxattr(upper / "d/f") == ["security.capability"]


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_layers_by_gnu_tar_are_read_sparse_files_too(tmp_path: Path, form: str) -> None:
    """Holes come back as zeros; extended attributes and long names as they were."""
    source, blob = tmp_path / "source", tmp_path / "layer.tar"
    long_name = "n" * 120 + "/" + "m" * 200
    (source / long_name).parent.mkdir(parents=True)
    (source / long_name).write_text("deep")
    with open(source / "sparse", "wb") as out:
        out.write(b"begin")
        out.seek(5_000_000)
        out.write(b"end")
    os.setxattr(source / "sparse", "user.note", b"x")
    xattrs = ["--xattrs", "--xattrs-include=*"] if form == "posix" else []
    command = ["tar", "-c", "-S", f"--format={form}", *xattrs, "-f", str(blob), "-C", str(source), "."]
    subprocess.run(command, check=True)

    upper = unpack(tmp_path, blob.read_bytes())

    assert listing(upper) == listing(source)
    assert os.listxattr(upper / "sparse") == (["user.note"] if form == "posix" else [])


def test_removals_hide_what_is_below_and_only_that(store: Store) -> None:
    """A whiteout and an opaque mark leave alone what their own layer brings."""
    base = put_snapshot(
        store,
        directory("etc"),
        entry("etc/old", b"1"),
        entry("etc/kept", b"1"),
        directory("opt"),
        entry("opt/old", b"1"),
        directory("srv"),
        entry("srv/old", b"1"),
    )
    top = put_snapshot(
        store,
        entry("etc/.wh.old"),
        entry("opt/new", b"2"),
        entry("opt/.wh..wh..opq"),
        entry("srv/new", b"2"),
        entry(".wh.srv"),
        entry(".wh.never-there"),
        parent=base,
    )

    with store.snapshots.view(top) as root:
        found = listing(root)

    assert found == {
        "etc": "drwxr-xr-x 0:0",
        "etc/kept": "-rw-r--r-- 0:0 1",
        "opt": "drwxr-xr-x 0:0",
        "opt/new": "-rw-r--r-- 0:0 2",
        "srv": "drwxr-xr-x 0:0",
        "srv/new": "-rw-r--r-- 0:0 2",
    }


def test_an_opaque_root_hides_everything_below(store: Store) -> None:
    """Overlayfs does not honour the mark on its root, so each name is removed."""
    base = put_snapshot(store, directory("a"), entry("a/old", b"1"), entry("b", b"1"))
    top = put_snapshot(store, entry(".wh..wh..opq"), entry("a/new", b"2"), parent=base)

    with store.snapshots.view(top) as root:
        found = listing(root)

    assert found == {"a": "drwxr-xr-x 0:0", "a/new": "-rw-r--r-- 0:0 2"}


def test_files_and_directories_replace_each_other(store: Store) -> None:
    """What a file hid stays hidden when a directory takes its place, in one layer or over several."""
    base = put_snapshot(store, directory("a"), entry("a/old", b"1"), entry("b", b"1"), symlink("c", "a"))
    middle = put_snapshot(store, entry("a", b"file"), directory("b"), entry("b/x", b"2"), parent=base)
    top = put_snapshot(
        store, directory("a"), entry("a/new", b"3"), directory("c"), entry("c/y", b"3"), parent=middle
    )
    at_once = put_snapshot(store, entry("a", b"file"), directory("a"), entry("a/z", b"4"), parent=base)

    with store.snapshots.view(top) as root:
        over_several = listing(root)
    with store.snapshots.view(at_once) as root:
        in_one = listing(root)

    assert over_several == {
        "a": "drwxr-xr-x 0:0",
        "a/new": "-rw-r--r-- 0:0 3",
        "b": "drwxr-xr-x 0:0",
        "b/x": "-rw-r--r-- 0:0 2",
        "c": "drwxr-xr-x 0:0",
        "c/y": "-rw-r--r-- 0:0 3",
    }
    assert {name: text for name, text in in_one.items() if name.startswith("a")} == {
        "a": "drwxr-xr-x 0:0",
        "a/z": "-rw-r--r-- 0:0 4",
    }


def test_a_hard_link_to_a_file_below_copies_it_up(store: Store) -> None:
    """Both names are one file afterwards, with the attributes it had."""
    base = put_snapshot(
        store, directory("bin", mode=0o750, uid=5), entry("bin/a", b"tool", mode=0o4711, uid=3)
    )
    top = put_snapshot(store, hardlink("bin/b", "bin/a"), parent=base)

    with store.snapshots.view(top) as root:
        found = listing(root)
        is_one = os.stat(root / "bin/a").st_ino == os.stat(root / "bin/b").st_ino

    assert is_one
    assert found == {
        "bin": "drwxr-x--- 5:0",
        "bin/a": "-rws--x--x 3:0 tool",
        "bin/b": "-rws--x--x 3:0 tool",
    }


def test_parents_that_are_links_of_the_image_are_followed_inside_it(store: Store) -> None:
    """`bin/tool` lands in `usr/bin` where `bin` is a link, as it would in a container."""
    base = put_snapshot(
        store,
        directory("usr"),
        directory("usr/bin", mode=0o700),
        symlink("bin", "usr/bin"),
        symlink("up", "/.."),
    )
    top = put_snapshot(store, entry("bin/tool", b"x"), entry("up/up/usr/file", b"y"), parent=base)

    with store.snapshots.view(top) as root:
        found = listing(root)

    assert found == {
        "bin": "lrwxrwxrwx 0:0 usr/bin",
        "up": "lrwxrwxrwx 0:0 /..",
        "usr": "drwxr-xr-x 0:0",
        "usr/bin": "drwx------ 0:0",
        "usr/bin/tool": "-rw-r--r-- 0:0 x",
        "usr/file": "-rw-r--r-- 0:0 y",
    }


def test_links_that_lead_out_stay_inside(tmp_path: Path) -> None:
    """A link to a directory of the host is taken relative to the image's root, and so are absolute names."""
    outside = tmp_path / "outside"
    outside.mkdir()
    data = tar(
        symlink("escape", str(outside)),
        entry("escape/planted", b"evil"),
        symlink("climb", "../" * 20 + str(outside)),
        entry("climb/planted-too", b"evil"),
        entry(f"{outside}/absolute", b"evil"),
    )

    upper = unpack(tmp_path, data)

    inside = upper / str(outside).lstrip("/")
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in inside.iterdir()) == ["absolute", "planted", "planted-too"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param(
            [entry("../evil")],
            "cannot unpack entry `../evil` of a layer: its name climbs out of the image",
            id="climbs",
        ),
        pytest.param(
            [entry("a/../../evil")],
            "cannot unpack entry `a/../../evil` of a layer: its name climbs out of the image",
            id="climbs-later",
        ),
        pytest.param(
            [hardlink("x", "../../etc/passwd")],
            "cannot unpack entry `../../etc/passwd` of a layer: its name climbs out of the image",
            id="link-climbs",
        ),
        pytest.param(
            [hardlink("x", "etc/passwd")],
            "cannot unpack entry `x` of a layer: it links to `etc/passwd`, which does not exist",
            id="link-to-nothing",
        ),
        pytest.param(
            [symlink("a", "b"), symlink("b", "a"), entry("a/x")],
            "cannot unpack entry `a/x` of a layer: its parents are symbolic links that lead in a circle",
            id="circle",
        ),
        pytest.param(
            [entry("a"), entry("a/b")],
            "cannot unpack entry `a/b` of a layer: its parent `a` is no directory",
            id="file-as-parent",
        ),
        pytest.param(
            [entry("n", type=tarfile.CHRTYPE, devmajor=1 << 20, devminor=0)],
            "cannot unpack entry `n` of a layer: its device number is out of range",
            id="device-out-of-range",
        ),
        pytest.param(
            [entry("a/.wh...")],
            "cannot unpack entry `a/.wh...` of a layer: it removes no name",
            id="removes-parent",
        ),
        pytest.param(
            [entry("n" * 300)],
            f"cannot unpack entry `{'n' * 300}` of a layer: file name too long",
            id="name-too-long",
        ),
    ],
)
def test_hostile_entries_are_refused(
    tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], message: str
) -> None:
    """The error names the entry and says what is wrong with it."""
    with pytest.raises(LayerRejected) as caught:
        unpack(tmp_path, tar(*entries))

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda d: gzip.compress(d)[:-700], "its compressed stream is damaged", id="cut-gzip"),
        pytest.param(
            lambda d: gzip.compress(d)[:2000] + b"\0" * 50 + gzip.compress(d)[2050:],
            "its compressed stream is damaged",
            id="broken-gzip",
        ),
        pytest.param(
            lambda d: b"\x28\xb5\x2f\xfd" + b"\xff" * 100,
            "its compressed stream is damaged",
            id="broken-zstd",
        ),
        pytest.param(lambda d: d[: 512 + 100], "its tar stream is cut off", id="cut-in-data"),
        pytest.param(lambda d: d[:200], "it is no tar stream", id="cut-in-header"),
        pytest.param(lambda d: b"no layer at all" * 100, "it is no tar stream", id="no-tar"),
        pytest.param(
            lambda d: d[:51712] + b"garbage " * 64 + d[52224:], "its tar stream is damaged", id="bad-header"
        ),
        pytest.param(lambda d: b"BZh9" + d, "its compression, bzip2, is not one for layers", id="bzip2"),
    ],
)
def test_damaged_layers_are_refused(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    """Damage is never taken for an end."""
    data = tar(entry("random", os.urandom(51200)), entry("after", b"x"))

    with pytest.raises(LayerRejected, match=message):
        unpack(tmp_path, damage(data))


def test_headers_that_claim_memory_are_refused(tmp_path: Path) -> None:
    """An extended header of gigabytes is refused before it is read; so is an endless chain of them."""
    bomb = tarfile.TarInfo("x")
    bomb.type = tarfile.XHDTYPE
    bomb.size = 1 << 32
    chain = tarfile.TarInfo("x")
    chain.type = tarfile.XHDTYPE

    with pytest.raises(LayerRejected, match="a header says that it is 4294967296 bytes long"):
        unpack(tmp_path, bomb.tobuf())
    (tmp_path / "upper").rmdir()
    with pytest.raises(LayerRejected, match="it is no tar stream"):
        unpack(tmp_path, chain.tobuf() * 5000)


def test_a_layer_with_other_content_than_its_name_is_not_kept(store: Store) -> None:
    """Nothing is committed, and the draft is gone."""
    layer = put_layer(store, entry("a", b"1"))
    wrong = digest_bytes(b"something else")

    with pytest.raises(LayerRejected, match="its content is sha256:"):
        add_layer(store, store.snapshots.empty, store.blobs.path(layer.digest), wrong, wrong)

    assert [usage.count for usage in store.usage() if usage.kind == "images"] == [1]  # the blob


def test_an_empty_layer_changes_nothing(store: Store) -> None:
    """Docker's empty layers give the parent itself."""
    base = put_snapshot(store, entry("a", b"1"))

    same = put_snapshot(store, parent=base)

    assert same == base
