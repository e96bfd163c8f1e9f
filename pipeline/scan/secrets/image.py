"""An image's archive: every file of every layer, also those that a later layer deletes, and its settings."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from pipeline.errors import PipelineError
from pipeline.scan.image.archive import is_image
from pipeline.scan.scanner import Missed
from pipeline.scan.secrets.files import kind_of
from pipeline.scan.secrets.reading import MOST_BYTES, find_in
from pipeline.scan.secrets.report import IMAGE, Located

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from pipeline.scan.secrets.rule import Hit

# Software of others: names promise nothing there, and keys in its tests and binaries are nobody's.
_OF_OTHERS: Final = re.compile(
    r"^(?:usr/(?:s?bin|lib\w*|share|include|src|libexec)|s?bin|lib\w*|var/lib|proc|sys|"
    r"usr/local/(?:lib|share|include)|etc/(?:ssl/certs|ca-certificates|pam\.d|init\.d|default|security))/|"
    r"/(?:site-packages|dist-packages|node_modules|vendor/bundle|gems)/"
)
GZIP: Final = b"\x1f\x8b"


class ArchiveUnreadable(PipelineError):
    """An image's archive is broken, or of no kind that is known."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"cannot read the image `{name}`: {why}")


@dataclass(kw_only=True)
class ImageScan:
    """What was found in one archive."""

    found: list[Located] = field(default_factory=list)
    layers: int = 0
    files: int = 0
    missed: list[Missed] = field(default_factory=list)
    clean: set[str] = field(default_factory=set)  # digests of layers without a secret


def scan_archive(path: Path, name: str, known_clean: Collection[str] = ()) -> ImageScan:
    """Look through an OCI archive.

    Args:
        name: The image's, for places that are no file of it.
        known_clean: Digests of layers that these rules found nothing in before; they are not read again.

    Raises:
        ArchiveUnreadable: It is broken, or a layer is of an unknown kind.
    """
    scan = ImageScan()
    try:
        with tarfile.open(path) as archive:
            for manifest in _manifests(archive):
                scan.found += scan_settings(_json(archive, manifest["config"]["digest"]), name)
                layers = manifest["layers"]
                for number, layer in enumerate(layers, 1):
                    where = f"image `{name}`, layer {number} of {len(layers)}"
                    _scan_layer(archive, layer, where, scan, known_clean)
    except (tarfile.TarError, KeyError, ValueError, OSError, EOFError) as error:
        raise ArchiveUnreadable(name, str(error) or type(error).__name__) from error
    return scan


def _manifests(archive: tarfile.TarFile) -> Iterator[dict[str, Any]]:
    waiting = list(_load(archive, "index.json")["manifests"])
    while waiting:
        one = _json(archive, waiting.pop()["digest"])
        if "manifests" in one:
            waiting += [each for each in one["manifests"] if is_image(each)]
        elif "layers" in one:
            yield one


def _json(archive: tarfile.TarFile, digest: str) -> Any:
    return _load(archive, "blobs/" + digest.replace(":", "/"))


def _load(archive: tarfile.TarFile, name: str) -> Any:
    return json.load(_open(archive, name))


def _open(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream


def _scan_layer(
    archive: tarfile.TarFile, layer: dict[str, Any], where: str, scan: ImageScan, known_clean: Collection[str]
) -> None:
    digest = str(layer["digest"])
    scan.layers += 1
    if digest in known_clean:
        scan.clean.add(digest)
        return
    found: list[Located] = []
    missed: list[Missed] = []
    sources: set[str] = set()
    blob = _open(archive, "blobs/" + digest.replace(":", "/"))
    with (
        _unpacked(blob, str(layer.get("mediaType", ""))) as plain,
        tarfile.open(fileobj=plain, mode="r|") as files,
    ):
        for member in files:
            if not member.isfile():
                continue
            scan.files += 1
            if member.name.endswith(".py"):
                sources.add(member.name.removeprefix("./").lstrip("/"))
            stream = files.extractfile(member)
            if stream is not None:
                path = member.name.removeprefix("./").lstrip("/")
                found += [
                    Located(hit=hit, path=path, layer=digest, image=where, scanner=IMAGE)
                    for hit in _scan_member(stream, path)
                ]
            if member.size > MOST_BYTES:
                why = f"only its first {MOST_BYTES // 1024**2} MB were read"
                missed.append(Missed(what=f"{where}: {member.name}", why=why))
    # Bytecode repeats its source, with what follows a text in memory run together with it.
    found = [one for one in found if source_of(one.path) not in sources]
    scan.found += found
    scan.missed += missed
    if not found and not missed:
        scan.clean.add(digest)


def source_of(path: str) -> str:
    """The source of bytecode that Python keeps beside it; "" for any other file."""
    folder, _, name = path.rpartition("/__pycache__/")
    return f"{folder}/{name.partition('.')[0]}.py" if folder and name.endswith(".pyc") else ""


def _scan_member(stream: IO[bytes], path: str) -> list[Hit]:
    is_theirs = _OF_OTHERS.search(path) is not None
    hits = find_in(stream, path, only_forms=is_theirs)
    if is_theirs:
        is_test = kind_of(path).is_trying
        hits = [hit for hit in hits if hit.strength == "live" or (hit.line and not is_test)]
    return hits


def _unpacked(blob: IO[bytes], media_type: str) -> IO[bytes]:
    if media_type.endswith("zstd"):
        import zstandard

        reader: IO[bytes] = zstandard.ZstdDecompressor().stream_reader(blob)
        return reader
    head = blob.read(2)
    blob.seek(0)
    if head == GZIP:
        unpacked: IO[bytes] = gzip.GzipFile(fileobj=blob)  # type: ignore[assignment] # a GzipFile is no IO there
        return unpacked
    return blob


def scan_settings(config: dict[str, Any], name: str) -> list[Located]:
    """Look through an image's environment, commands, labels and the steps it was built by."""
    settings = config.get("config") or {}
    labels = settings.get("Labels") or {}
    commands = [*(settings.get("Entrypoint") or []), *(settings.get("Cmd") or [])]
    parts = (
        ("environment", ".env", [str(one) for one in settings.get("Env") or []]),
        ("labels", ".env", [f"{key}={value}" for key, value in labels.items()]),
        ("command", ".sh", [" ".join(str(one) for one in commands)]),
        (
            "build steps",
            ".dockerfile",
            [str(one.get("created_by", "")) for one in config.get("history") or []],
        ),
    )
    found = []
    for what, suffix, lines in parts:
        for hit in find_in(io.BytesIO("\n".join(lines).encode()), f"{what}{suffix}"):
            path, image = f"{name} ({what})", f"image `{name}`"
            found.append(Located(hit=hit, path=path, layer="settings", image=image, scanner=IMAGE))
    return found
