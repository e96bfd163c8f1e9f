"""Overlay directories become layers: only what changed, and equal bytes for equal trees."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from pipeline.digest import Digest, digest_bytes
from pipeline.engine.oci.compress import LayerSink, open_layer
from pipeline.engine.oci.errors import FormatRefused, LayerRejected
from pipeline.engine.oci.layer import REPRODUCIBLE_EPOCH_S, apply_layer, write_layer
from pipeline.engine.oci.merged import make_opaque
from pipeline.engine.oci.model import LayerBlob
from tests.engine.oci.samples import listing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.engine.oci.model import Compression

pytestmark = pytest.mark.root


def make(root: Path, *names: str) -> Path:
    """Make a directory with files (content = name) and, by a trailing slash, directories."""
    root.mkdir(exist_ok=True)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_text(name)
    return root


def members(upper: Path, lowers: Sequence[Path] = (), **options: int) -> list[tarfile.TarInfo]:
    """Return the entries of the layer that is written."""
    out = io.BytesIO()
    write_layer(upper, lowers, out, "Uncompressed", **options)  # type: ignore[arg-type]
    out.seek(0)
    with tarfile.open(fileobj=out, mode="r:") as archive:
        return archive.getmembers()


def names(upper: Path, lowers: Sequence[Path] = ()) -> list[str]:
    """Return the names in the layer that is written, in order."""
    return [info.name + ("/" if info.isdir() else "") for info in members(upper, lowers)]


@pytest.mark.parametrize("compression", ["Gzip", "Zstd", "Uncompressed"])
def test_a_layer_can_be_unpacked_to_the_same_tree(tmp_path: Path, compression: Compression) -> None:
    """Everything that a file system can hold comes back, and both digests are true."""
    source, target, blob = make(tmp_path / "source", "d/f"), tmp_path / "target", tmp_path / "blob"
    target.mkdir()
    os.chown(source / "d/f", 4_000_000_000, 70_000)
    os.chmod(source / "d/f", 0o4750)  # noqa: S103
    os.link(source / "d/f", source / "a-link")
    os.symlink("x" * 300, source / "long-target")
    os.mkfifo(source / "pipe")
    os.mknod(source / "null", 0o20666, os.makedev(1, 3))
    make(source, "p" * 200 + "/" + "q" * 200, "é", "big")
    with open(os.fsencode(source) + b"/\xff\xfe", "wb") as stream:
        stream.write(b"no UTF-8")
    os.truncate(source / "big", 5_000_000)
    os.setxattr(source / "big", "security.capability", bytes.fromhex("0100000200200000" + "00" * 12))
    os.setxattr(source / "big", "user.note", b"a=b\nc\0\xff")

    with open(blob, "wb") as out:
        layer = write_layer(source, (), out, compression)
    diff_id = apply_layer(blob, target, ())

    assert diff_id == layer.diff_id
    assert digest_bytes(blob.read_bytes()) == layer.digest
    assert layer.size_bytes == blob.stat().st_size
    assert listing(target) == listing(source)
    assert os.getxattr(target / "big", "user.note") == b"a=b\nc\0\xff"
    assert os.getxattr(target / "big", "security.capability") == os.getxattr(
        source / "big", "security.capability"
    )
    assert os.stat(target / "a-link").st_ino == os.stat(target / "d/f").st_ino


def test_equal_trees_give_equal_bytes_whenever_and_wherever_they_were_made(tmp_path: Path) -> None:
    """The order of creation, the time and the directory do not show; the bytes are pinned."""
    first = make(tmp_path / "first", "b/y", "b/x", "a", "a.b")
    second = make(tmp_path / "elsewhere", "a.b", "a", "b/x", "b/y")
    os.utime(second / "a", (2_000_000_000, 2_000_000_000))
    one, two = io.BytesIO(), io.BytesIO()

    left = write_layer(first, (), one, "Gzip")
    right = write_layer(second, (), two, "Gzip")

    assert (left, one.getvalue()) == (right, two.getvalue())
    assert names(first) == ["a", "a.b", "b/", "b/x", "b/y"]
    assert left == LayerBlob(
        diff_id=Digest("sha256:c0051bf2dff9ab8e49e4a60fce29ad344527dccfec7a62c99633349d6a6eb6c7"),
        digest=Digest("sha256:1fd0b36c07051876736094ef40c5f9624162e8d193aae3656acc28d91e0c3bdf"),
        size_bytes=207,
        media_type="application/vnd.oci.image.layer.v1.tar+gzip",
    )


def test_the_pieces_in_which_data_arrives_do_not_show_in_the_digest(tmp_path: Path) -> None:
    """A file that was read in other pieces gives the same compressed blob."""
    source = make(tmp_path / "source")
    data = os.urandom(1 << 20) + b"text " * 1_000_000
    (source / "f").write_bytes(data)
    one, two = io.BytesIO(), io.BytesIO()

    layer = write_layer(source, (), one, "Gzip")
    blob = tmp_path / "blob"
    blob.write_bytes(one.getvalue())
    sink = LayerSink(two, "Gzip")
    with open_layer(blob) as stream:
        while piece := stream.read(70_001):
            sink.write(piece)

    assert sink.finish() == layer


def test_times_are_clamped_unless_they_are_to_be_kept(tmp_path: Path) -> None:
    """What is older than the epoch stays; nothing has a fraction of a second."""
    source = make(tmp_path / "source", "new", "old")
    os.utime(source / "new", (1_700_000_000.5, 1_700_000_000.5))
    os.utime(source / "old", (1000, 1000))

    clamped = {info.name: info.mtime for info in members(source)}
    given = {info.name: info.mtime for info in members(source, epoch_s=1_600_000_000)}
    kept = {info.name: info.mtime for info in members(source, keep_mtimes=True)}

    assert clamped == {"new": REPRODUCIBLE_EPOCH_S, "old": 1000}
    assert given == {"new": 1_600_000_000, "old": 1000}
    assert kept == {"new": 1_700_000_000, "old": 1000}


def test_removals_become_whiteouts_and_only_where_there_is_something_to_hide(tmp_path: Path) -> None:
    """Overlayfs marks new directories as opaque just in case; such marks mean nothing in a layer."""
    lower = make(tmp_path / "lower", "gone", "d/old", "kept")
    upper = make(tmp_path / "upper", "d/new", "fresh/x")
    os.mknod(upper / "gone", 0o20000, os.makedev(0, 0))
    os.mknod(upper / "never-there", 0o20000, os.makedev(0, 0))
    make_opaque(os.fsencode(upper / "d"))
    make_opaque(os.fsencode(upper / "fresh"))

    found = names(upper, [lower])

    assert found == [".wh.gone", "d/", "d/.wh..wh..opq", "d/new", "fresh/", "fresh/x"]


def test_what_did_not_change_is_left_out(tmp_path: Path) -> None:
    """A file copied up and left alone, and the directories that only hold such files, are no changes."""
    lower = make(tmp_path / "lower", "same/f", "mode/f", "text/f", "touched/f")
    shutil.copytree(lower, tmp_path / "upper")
    upper = tmp_path / "upper"
    os.chmod(upper / "mode/f", 0o600)
    (upper / "text/f").write_text("other!")
    shutil.copystat(lower / "text/f", upper / "text/f")
    os.utime(upper / "touched/f", (1000, 1000))

    found = names(upper, [lower])

    assert found == ["mode/", "mode/f", "text/", "text/f", "touched/", "touched/f"]


def test_changed_attributes_of_directories_and_of_the_root_are_changes(tmp_path: Path) -> None:
    """A `chmod` alone makes an entry."""
    lower = make(tmp_path / "lower", "d/f")
    upper = make(tmp_path / "upper", "d/")
    os.chmod(upper / "d", 0o700)
    os.chmod(upper, 0o1777)  # noqa: S103

    found = [(info.name, oct(info.mode)) for info in members(upper, [lower])]

    assert found == [(".", "0o1777"), ("d", "0o700")]


def test_a_name_that_means_a_removal_cannot_be_in_a_layer(tmp_path: Path) -> None:
    """Other tools would delete a file for it."""
    source = make(tmp_path / "source", "d/.wh.x")

    with pytest.raises(LayerRejected, match=r"`d/\.wh\.x` of a layer: its name means a removal"):
        names(source)


def test_estargz_is_refused_clearly(tmp_path: Path) -> None:
    """Nothing is written instead of it."""
    out = io.BytesIO()

    with pytest.raises(FormatRefused) as caught:
        write_layer(make(tmp_path / "source", "a"), (), out, "EStarGZ")

    assert str(caught.value) == "cannot write the image: eStargz layers are not supported"
    assert caught.value.hint == "use Gzip or Zstd compression"
    assert out.getvalue() == b""


def test_gnu_tar_reads_the_layers(tmp_path: Path) -> None:
    """Another implementation agrees about names, also those that are no UTF-8 and long ones."""
    source = make(tmp_path / "source", "p" * 200 + "/" + "q" * 200, "é", "x")
    with open(os.fsencode(source) + b"/\xff\xfe", "wb") as stream:
        stream.write(b"no UTF-8")
    blob, target = tmp_path / "blob", tmp_path / "target"
    target.mkdir()

    with open(blob, "wb") as out:
        write_layer(source, (), out, "Gzip")
    subprocess.run(["tar", "xpzf", blob, "-C", target], check=True, capture_output=True)

    assert listing(target) == listing(source)
