"""Archives and image documents as an attacker or a broken disk would make them, from a seed.

Names, links and extended headers are drawn from what has broken other tools: climbing and absolute names,
links above later entries, removals, devices, sparse maps, numbers that no system has. Then bytes are changed.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from typing import Any

import zstandard

BLOCK = tarfile.BLOCKSIZE
_KINDS = [
    *(tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE) * 4,
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE),
    *(tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE, b"Z"),
]
_NAMES = [
    *("a", "a/b", "a/b/c", "b", "b/a", "./a", "a/", "a//b", ".", "", "/", "a/./b", "c/.wh.a", "é\udcff"),
    *("../x", "a/../../x", "a/../b", "a/b/../../../x", "/a", ".wh.a", "a/.wh..wh..opq", ".wh..wh..opq"),
    *(".wh.", ".wh..", "a/.wh...", "a/.wh.b", "n" * 300, "d/" * 2000 + "x", "l/x", "l/l/x", "l"),
]
_PAX = [
    *(("mtime", value) for value in ("nan", "inf", "-1", "1e300", "x", "9" * 400)),
    *(("size", value) for value in ("-1", "-512", "1e9", "9" * 30, "x", "1024")),
    *(("uid", value) for value in ("-1", "-2", "9" * 30, "x")),
    *(("path", value) for value in ("a\0b", "../y", "/etc/x", "a/b", "")),
    *(("linkpath", value) for value in ("a\0b", "../../../../etc/passwd", "a")),
    *(("SCHILY.xattr." + name, "y") for name in ("trusted.overlay.opaque", "user.overlay.opaque", "user.x")),
    *(
        ("SCHILY.xattr." + name, "y")
        for name in ("security.capability", "user." + "x" * 300, "user.a\0b", "")
    ),
    *(("GNU.sparse.map", value) for value in ("0,9999999999", "5,1,0,1", "-1,2", "x", "0,1,2")),
    *(("GNU.sparse." + name, "1") for name in ("major", "minor", "numblocks", "offset", "numbytes")),
    *(("GNU.sparse." + name, "99999999999999") for name in ("size", "realsize", "numblocks")),
    *(("hdrcharset", "BINARY"), ("charset", "x"), ("GNU.sparse.name", "../z")),
]


def hostile_tar(seed: int, outside: str) -> bytes:
    """Return an archive that tries to reach the directory `outside`, compressed or not."""
    chance = random.Random(seed)  # noqa: S311
    data = bytearray()
    for _ in range(chance.choice([1, 1, 2, 3, 30])):
        data += _entry(chance, [*_NAMES, outside + "/x", "../" * 30 + outside + "/x"], outside)
    if chance.random() < 0.8:
        data += bytes(2 * BLOCK)
    for _ in range(chance.choice([0, 0, 1, 3])):
        _damage(chance, data)
    packed = _packed(chance, bytes(data))
    if chance.random() < 0.2:
        return packed[: chance.randrange(len(packed) + 1)]
    return packed


def _packed(chance: random.Random, data: bytes) -> bytes:
    how = chance.choice(["plain", "gzip", "zstd"])
    if how == "plain":
        return data
    return gzip.compress(data) if how == "gzip" else zstandard.ZstdCompressor().compress(data)


def _entry(chance: random.Random, names: list[str], outside: str) -> bytes:
    info = tarfile.TarInfo(chance.choice(names))
    info.type = chance.choice(_KINDS)
    info.linkname = chance.choice([*names, outside, outside + "/kept", "/etc", "a", "l"])
    info.mode = chance.choice([0o644, 0o6777, 0, 0o40755])
    info.uid = chance.choice([0, 0, 1000, 2**31, 2**40])
    info.mtime = chance.choice([0, 1000, -1, 2**40])
    info.devmajor, info.devminor = chance.choice([(0, 0), (1, 3), (8, 0), (2**20, 1)])
    content = chance.randbytes(chance.choice([0, 1, 511, 512, 513, 3000]))
    info.size = chance.choice([len(content)] * 6 + [2**33, 10**6])
    if chance.random() < 0.4:
        info.pax_headers = dict(chance.sample(_PAX, chance.randint(1, 4)))
    try:
        if chance.random() < 0.5:
            head = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        else:
            head = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    except ValueError:  # this format cannot hold it
        head = tarfile.TarInfo("plain").tobuf()
    return head + content + bytes(-len(content) % BLOCK)


def _damage(chance: random.Random, data: bytearray) -> None:
    """Change some bytes; mostly in headers, whose sums are then put right."""
    at = chance.randrange(len(data) // BLOCK) * BLOCK
    block = data[at : at + BLOCK]
    for _ in range(chance.randint(1, 4)):
        field = chance.choice([0, 100, 108, 124, 125, 136, 156, 157, 329, 337, 386, 482, 483])
        block[field] = chance.choice([0, 0x20, 0x2D, 0x37, 0x80, 0xFF, chance.randrange(256)])
    if chance.random() < 0.8:
        unsigned = 256 + sum(block[:148]) + sum(block[156:])
        block[148:156] = b"%06o\0 " % unsigned
    data[at : at + BLOCK] = block


_JUNK: list[Any] = [
    *(None, True, -1, 0, 2**63, 10**30, 1.5, float("nan"), "", "x", "sha256:", "sha256:" + "g" * 64, [], {}),
    *([[]], {"": None}, ["a"] * 1000, "sha512:" + "0" * 128, "../../etc/passwd", "\ud800", "a\0b"),
    *("sha256:" + "0" * 64, "application/vnd.oci.image.index.v1+json", {"size": -1}, [None]),
]


def hostile_document(seed: int, document: dict[str, Any]) -> bytes:
    """Return the JSON of `document` with values replaced, names gone, or bytes changed."""
    chance = random.Random(seed)  # noqa: S311
    changed = json.loads(json.dumps(document))
    for _ in range(chance.randint(1, 4)):
        _replace(chance, changed)
    data = bytearray(json.dumps(changed).encode())
    if chance.random() < 0.15:
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.05:
        data = bytearray(b'{"manifests":' + b"[" * 200_000)
    return bytes(data)


def _replace(chance: random.Random, value: Any) -> None:
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = chance.choice(keys)
        inner = value[key]
        if isinstance(inner, (dict, list)) and inner and chance.random() < 0.7:
            value = inner
            continue
        if chance.random() < 0.2:
            del value[key]
        else:
            value[key] = chance.choice(_JUNK)
        return


def packed_zeros(size_bytes: int) -> bytes:
    """Return the gzip of an archive of one file of zeros, made without the memory that it claims."""
    info = tarfile.TarInfo("zeros")
    info.size = size_bytes
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as out:
        out.write(info.tobuf())
        block = bytes(1 << 20)
        for _ in range(size_bytes >> 20):
            out.write(block)
        out.write(bytes(2 * BLOCK))
    return buffer.getvalue()
