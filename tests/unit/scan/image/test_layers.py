"""What the layers of an image show together, and what is said of images that cannot be read whole."""

from __future__ import annotations

import io
import itertools
import tarfile
import zlib
from dataclasses import replace

import pytest

from pipeline.scan.image.archive import ImageBroken, open_image
from pipeline.scan.image.layers import ImageRead, Limits, read_image
from pipeline.scan.scanner import Missed
from tests.unit.scan.image.making import (
    DEBIAN,
    STATUS,
    Layer,
    Node,
    archive,
    folder,
    layer_tar,
    link,
    metadata,
    read,
    status,
    symlink,
)

BASH = status(bash="5.2")
META = "usr/lib/python3/site-packages/shop-1.dist-info/METADATA"
SHOP = metadata("shop", "1")


def shown(image: ImageRead) -> dict[str, bytes]:
    """The contents that the layers show together."""
    return {path: held.data for path, held in image.files.items() if held.interest}


@pytest.mark.parametrize("how", ["gzip", "zstd", "plain"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_layer_is_read_however_it_is_packed(how: str, form: int) -> None:
    """By its first bytes, not by what the manifest says; long names in the ways of all formats."""
    long = "opt/" + "a-long-name/" * 15 + "shop-1.dist-info/METADATA"
    entries: Layer = {"./" + STATUS: BASH, long: SHOP, "bin/other": b"x" * 700_000}

    image = read_image(io.BytesIO(archive([layer_tar(entries, form)], how=how)))

    assert (shown(image), image.missed) == ({STATUS: BASH.encode(), long: SHOP.encode()}, ())


LAYERINGS: dict[str, tuple[list[Layer], set[str]]] = {
    "nothing hides it": ([{META: SHOP}, {"a": ""}], {META}),
    "a whiteout of the file": ([{META: SHOP}, {META.replace("METADATA", ".wh.METADATA"): ""}], set()),
    "a whiteout of a folder above": ([{META: SHOP}, {"usr/lib/.wh.python3": ""}], set()),
    "a whiteout of another folder": ([{META: SHOP}, {"usr/lib/.wh.python": ""}], {META}),
    "an opaque folder above": ([{META: SHOP}, {"usr/lib/.wh..wh..opq": ""}], set()),
    "an opaque root": ([{META: SHOP}, {".wh..wh..opq": ""}], set()),
    "an opaque folder beside": ([{META: SHOP}, {"usr/share/.wh..wh..opq": ""}], {META}),
    "an opaque folder and the file again": (
        [{META: SHOP}, {META: SHOP, "usr/lib/.wh..wh..opq": ""}],
        {META},
    ),
    "a whiteout and the file again, in this order": (
        [{META: SHOP}, {"usr/lib/.wh.python3": "", META: SHOP}],
        {META},
    ),
    "a file in the place of a folder": ([{META: SHOP}, {"usr/lib/python3": "x"}], set()),
    "a link in the place of a folder": ([{META: SHOP}, {"usr/lib/python3": symlink("/opt")}], set()),
    "a folder that is told again": ([{META: SHOP}, {"usr/lib/python3": folder()}], {META}),
    "a folder in the place of the file": ([{META: SHOP}, {META: folder()}], set()),
    "a whiteout in the lower layer": ([{"usr/lib/.wh.python3": ""}, {META: SHOP}], {META}),
    "what a whiteout of two layers up hides": (
        [{META: SHOP}, {"b": ""}, {"usr/.wh.lib": ""}, {"c": ""}],
        set(),
    ),
    "other marks of union file systems": ([{META: SHOP}, {".wh..wh.plnk": "", "usr/lib/.wh.": ""}], {META}),
}


@pytest.mark.parametrize("name", LAYERINGS)
def test_upper_layers_hide_what_is_below(name: str) -> None:
    layers, expected = LAYERINGS[name]

    image = read(*layers)

    assert (set(shown(image)), image.missed) == (expected, ())


def test_the_upper_file_is_the_one_that_is_seen() -> None:
    newer = status(bash="5.3")

    image = read({STATUS: BASH}, {STATUS: newer}, {"a": ""})

    assert (shown(image), image.files[STATUS].layer) == ({STATUS: newer.encode()}, 1)


def test_a_path_that_is_told_twice_in_a_layer_counts_as_it_is_told_last() -> None:
    two = layer_tar({STATUS: BASH})[:-10240] + layer_tar({STATUS: status(bash="5.3")})

    image = read_image(io.BytesIO(archive([two])))

    assert b"5.3" in image.files[STATUS].data


@pytest.mark.parametrize("name", ["store/METADATA", "root/.cache/shop-1.dist-info/METADATA"])
def test_a_hard_link_is_the_file_it_names(name: str) -> None:
    """Also where that is no file anybody would look at: the layer is read once more."""
    other = META.replace("shop", "again")

    image = read({name: SHOP, META: link(name), other: link("./" + name)})

    assert {shown(image)[META], shown(image)[other]} == {SHOP.encode()}


def test_a_hard_link_to_what_is_not_there_is_told() -> None:
    image = read({META: link("nowhere")})

    assert image.missed == (
        Missed(what=META, why="it is a link to `nowhere`, which the layer does not have"),
    )


def test_a_database_behind_a_symbolic_link_is_told() -> None:
    """It is not followed: it may lead anywhere."""
    image = read({STATUS: symlink("/opt/status")})

    assert image.missed == (Missed(what=STATUS, why="it is a symbolic link to `/opt/status`"),)


@pytest.mark.parametrize("path", ["../etc/os-release", "a/../../x", "usr/../../../x/METADATA"])
def test_paths_that_lead_out_are_told_and_not_taken(path: str) -> None:
    image = read({path: "x", "b": link("../../etc/shadow")})

    assert (shown(image), {one.why for one in image.missed}) == ({}, {"its path leads out of the image"})


def test_modes_are_seen_and_caches() -> None:
    image = read(
        {
            "opt/helper": Node(mode=0o4755),
            "opt/data": Node(mode=0o4644),
            "srv/open": Node(mode=0o666),
            "tmp": folder(0o1777),
            "var/all": folder(0o777),
            "var/cache/apk/APKINDEX.tar.gz": "x",
        }
    )

    marks = {path: (held.is_setuid, held.is_world_writable, held.cache) for path, held in image.files.items()}
    assert marks == {
        "opt/helper": (True, False, ""),
        "srv/open": (False, True, ""),
        "var/all": (False, True, ""),
        "var/cache/apk/APKINDEX.tar.gz": (False, False, "apk"),
    }


def test_a_mode_that_an_upper_layer_mends_is_not_seen() -> None:
    image = read(
        {"opt/helper": Node(mode=0o4755), "var/all": folder(0o777)},
        {"opt/helper": Node(mode=0o755), "var/all": folder(0o755)},
    )

    assert image.files == {}


BOMB = Limits(entries=100, bytes=10_000_000, kept_bytes=1_000_000, kept_files=50, file_bytes=100_000)
HOSTILE: dict[str, tuple[Layer, str]] = {
    "many entries": ({f"f{number}": "" for number in range(200)}, "its layers have more than 100 entries"),
    "much content": ({"zeros": b"\0" * 20_000_000}, "its layers hold more than 9 MiB"),
    "a large database": ({STATUS: b"\0" * 200_000}, "it is larger than 0 MiB"),
    "many packages": (
        {META.replace("shop", f"p{number}"): SHOP for number in range(60)},
        "it has more package data than is kept in memory",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_larger_than_is_read_is_told(name: str) -> None:
    """The rest is there as far as it was read."""
    layer, why = HOSTILE[name]

    image = read({"etc/os-release": "ID=debian\n"}, layer, limits=BOMB)

    assert [one.why for one in image.missed] == [why]
    assert "etc/os-release" in image.files


def test_an_image_that_takes_too_long_is_told() -> None:
    """The clock is asked while unpacking, not only between layers."""
    ticks = itertools.count(step=100)
    data = archive([layer_tar({"a": b"x" * 9_000_000})])

    image = read_image(io.BytesIO(data), replace(BOMB, seconds=300), clock=lambda: next(ticks))

    assert image.missed[0].why == "reading it takes longer than 300 s"


def test_a_bomb_is_unpacked_bit_by_bit() -> None:
    """64 MiB of zeros of 4 GiB that are promised: it is given up where the limit is."""
    info = tarfile.TarInfo("zeros")
    info.size = 2**32
    squeeze = zlib.compressobj(1, wbits=31)
    block = b"\0" * 2**20
    blob = (
        squeeze.compress(info.tobuf())
        + b"".join(squeeze.compress(block) for _ in range(64))
        + squeeze.flush()
    )

    image = read_image(io.BytesIO(archive([blob], how="plain")), BOMB)

    assert len(blob) < 400_000
    assert image.missed == (
        Missed(what="layer 1 of 1 and those above", why="its layers hold more than 9 MiB"),
    )


def header(name: str = "a", **fields: bytes) -> bytes:
    """A tar header with some fields written over, and its checksum right."""
    raw = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)[:512])
    places = {"size": (124, 12), "type": (156, 1), "mode": (100, 8)}
    for field, value in fields.items():
        start, length = places[field]
        raw[start : start + length] = value.ljust(length, b"\0")
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


DAMAGED = {
    "cut in an entry": layer_tar({STATUS: BASH})[:600],
    "cut in a header": layer_tar({STATUS: BASH})[:300],
    "a wrong checksum": b"x" + layer_tar({STATUS: BASH})[1:],
    "a negative size": header(size=b"\xff" * 12),
    "a size that is none": header(size=b"hello"),
    "a header without end": header(type=b"x", size=b"77777777777"),
    "a name without end": header(type=b"L", size=b"77777777777"),
    "a pax header of nonsense": header(type=b"x", size=b"00000001000") + b"x" * 512,
    "a pax record that does not move on": header(type=b"x", size=b"00000001000") + b"0 a=b\n" * 86,
    "an entry of many bytes": header(size=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7),
    "a cut blob": b"\x1f\x8b\x08\x00",
    "no blob": b"\x28\xb5\x2f\xfd----",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_layer_is_told_and_the_others_are_read(name: str) -> None:
    data = archive(
        [layer_tar({"etc/os-release": "ID=debian\n"}), DAMAGED[name], layer_tar({STATUS: BASH})], how=""
    )

    image = read_image(io.BytesIO(data))

    assert [one.what for one in image.missed] == ["layer 2 of 3"]
    assert set(shown(image)) == {"etc/os-release", STATUS}


NO_IMAGES = {
    "nothing": b"",
    "no tar file": b"hello" * 1000,
    "no image": layer_tar({"a": "b"}),
    "two images": layer_tar({"index.json": '{"manifests": [{"digest": "a"}, {"digest": "b"}]}'}),
    "no digest": layer_tar({"index.json": '{"manifests": [{"digest": "../../etc/passwd"}]}'}),
    "a missing blob": layer_tar({"index.json": f'{{"manifests": [{{"digest": "sha256:{1:064}"}}]}}'}),
    "deep JSON": layer_tar({"index.json": "[" * 100_000}),
    "a list": layer_tar({"index.json": "[]"}),
    "no JSON": layer_tar({"index.json": b"\xff\xfe"}),
    "a large description": layer_tar({"index.json": b" " * 9_000_000}),
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_image_is_refused(name: str) -> None:
    with pytest.raises(ImageBroken, match="cannot read the image: "):
        open_image(io.BytesIO(NO_IMAGES[name]))


def test_an_index_of_platforms_is_read_by_its_first_image_and_the_others_are_told() -> None:
    """What a builder attests has no platform: it is neither read nor missed."""
    data = archive(
        [layer_tar({"etc/os-release": DEBIAN})], platforms=["unknown/unknown", "linux/amd64", "linux/arm64"]
    )

    image = read_image(io.BytesIO(data))

    assert sorted(image.files) == ["etc/os-release"]
    assert [(one.what, one.why) for one in image.missed] == [
        ("linux/arm64", "only the first platform of an index is read")
    ]


def test_an_index_without_an_image_is_refused() -> None:
    with pytest.raises(ImageBroken, match="it is an index without an image"):
        open_image(io.BytesIO(archive([], platforms=["unknown/unknown"])))


def test_names_can_be_told_whatever_bytes_they_are() -> None:
    """What is no UTF-8, or would steer a terminal, is a mark in the name."""
    layer = layer_tar({"srv/a": Node(mode=0o666)}, tarfile.USTAR_FORMAT)
    raw = header("srv/\x1b[2J", mode=b"0000666")
    broken = header("srv/xx", mode=b"0000666").replace(b"srv/xx", b"srv/\xff\xfe")
    checked = bytearray(broken)
    checked[148:156] = b" " * 8
    checked[148:156] = b"%06o\0 " % sum(checked)

    image = read_image(io.BytesIO(archive([raw + bytes(checked) + layer])))

    assert sorted(image.files) == ["srv/a", "srv/\ufffd[2J", "srv/\ufffd\ufffd"]
