"""Data of scanners in one file, for machines without a network: written here, verified there.

A zip archive that begins with a manifest: for each section the files with digest, date and licence. Nothing
on the machine is replaced before every byte of the bundle was verified; sections are replaced one by one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import PipelineError, RefusedByPolicy
from pipeline.scan.bundle_signature import LARGEST as LARGEST_SIGNATURE
from pipeline.scan.bundle_signature import verify
from pipeline.scan.data import BLOCK, Item, load_items, parse_items, replace_section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

FORMAT: Final = 1
HEAD: Final = "bundle.json"
SIGNATURE: Final = "bundle.json.sig"  # beside it, of its bytes; there need be none
LARGEST_HEAD: Final = 4 * 1024**2
LARGEST_SUM: Final = 64 * 1024**3
PACKED: Final = (".whl", ".tar")  # suffixes of files that are compressed inside
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class BundleBroken(PipelineError):
    """A bundle is damaged, or is not one; nothing was replaced."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"cannot import `{path}`: {why}")


class BundleOlder(RefusedByPolicy):
    """A bundle holds older data than the machine has; nothing was replaced."""

    def __init__(self, path: Path, name: str, *, ours: str, theirs: str) -> None:
        super().__init__(
            f"cannot import `{path}`: its {name} is as of {theirs}, older than what is here ({ours})"
        )
        self.hint = "give `--allow-older` if that is meant"


def write_bundle(
    path: Path,
    sections: Mapping[str, Mapping[Path, Item]],
    *,
    made_at: str,
    sign: Callable[[bytes], bytes] | None = None,
) -> None:
    """Write a bundle of files, by section; an existing one is only replaced by a whole one.

    Args:
        sign: Gives the signature of the manifest, which names every file by its digest.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    head = {
        "format": FORMAT,
        "made_at": made_at,
        "sections": {
            name: {"items": [asdict(one) for one in files.values()]} for name, files in sections.items()
        },
    }
    manifest = json.dumps(head, indent=1, sort_keys=True).encode()
    signature = sign(manifest) if sign is not None else None
    try:
        with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(HEAD, manifest)
            if signature is not None:
                archive.writestr(SIGNATURE, signature)
            for section, files in sections.items():
                for place, item in files.items():
                    how = zipfile.ZIP_STORED if place.suffix in PACKED else zipfile.ZIP_DEFLATED
                    archive.write(place, f"{section}/{item.name}", compress_type=how)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def import_bundle(
    path: Path,
    data: Path,
    *,
    allow_older: bool = False,
    signers: Path | None = None,
    check: Mapping[str, Callable[[Path], object]] | None = None,
) -> dict[str, list[Item]]:
    """Verify a bundle and put its sections in place; returns what is there now, by section.

    Args:
        signers: File of the public keys whose bundles are taken; None takes unsigned ones too.
        check: For each section, what looks at a file once its digest is right; it raises `PipelineError`.

    Raises:
        BundleBroken: It is no bundle, is damaged, or holds what its manifest does not name.
        BundleOlder: Something in it is older than what is here.
        RefusedByPolicy: It is signed by no key of `signers`, or was altered after it was signed.
        PipelineError: `check` refuses a file.
    """
    with _opened(path) as archive:
        manifest = _member(path, archive, HEAD, LARGEST_HEAD)
        if manifest is None:
            raise BundleBroken(path, f"it has no `{HEAD}`")
        verify(path, manifest, _member(path, archive, SIGNATURE, LARGEST_SIGNATURE), signers)
        sections = _sections(path, manifest)
        _compare_members(path, archive, sections)
        _verify(path, archive, sections)
        if not allow_older:
            _refuse_older(path, data, sections)
        return {
            section: replace_section(
                data, section, _filler(path, archive, section, items, (check or {}).get(section))
            )
            for section, items in sections.items()
        }


def _filler(
    path: Path,
    archive: zipfile.ZipFile,
    section: str,
    items: Sequence[Item],
    check: Callable[[Path], object] | None,
) -> Callable[[Path], Sequence[Item]]:
    def fill(folder: Path) -> Sequence[Item]:
        for one in items:
            target = folder / one.name
            with target.open("wb") as file:
                for part in _content(path, archive, section, one):
                    file.write(part)
                os.fsync(file.fileno())
            if check is not None:
                check(target)
        return items

    return fill


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as error:
        raise BundleBroken(path, "there is no such file") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BundleBroken(path, f"it is no whole bundle ({error})") from error


def _member(path: Path, archive: zipfile.ZipFile, name: str, most: int) -> bytes | None:
    """The bytes of one member; None where there is none.

    Raises:
        BundleBroken: It is larger than is read.
    """
    try:
        info = archive.getinfo(name)
    except KeyError:
        return None
    with archive.open(info) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise BundleBroken(path, f"`{name}` is larger than is read")
    return data


def _sections(path: Path, manifest: bytes) -> dict[str, list[Item]]:
    try:
        table: Any = json.loads(manifest)
        if table["format"] != FORMAT:
            raise BundleBroken(path, f"its format is {table['format']}, and {FORMAT} is known")
        sections = {str(name): parse_items(one, path) for name, one in table["sections"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleBroken(path, f"its manifest is damaged: {error}") from error
    for name in [*sections, *(one.name for items in sections.values() for one in items)]:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BundleBroken(path, f"`{name}` is no name of a section or file")
    return sections


def _compare_members(path: Path, archive: zipfile.ZipFile, sections: Mapping[str, Sequence[Item]]) -> None:
    """Refuse what the manifest does not name, and what is larger than it says."""
    told = {f"{section}/{one.name}": one.size_bytes for section, items in sections.items() for one in items}
    held = [one.filename for one in archive.infolist() if one.filename not in (HEAD, SIGNATURE)]
    if sorted(held) != sorted(told):
        odd = sorted(set(held) ^ set(told)) or [name for name in held if held.count(name) > 1]
        raise BundleBroken(path, f"its manifest and its files differ: {odd[0][:100]}")
    if (
        any(not isinstance(size, int) or size < 0 for size in told.values())
        or sum(told.values()) > LARGEST_SUM
    ):
        raise BundleBroken(path, "it is larger than a bundle may be")
    for name, size in told.items():
        if archive.getinfo(name).file_size != size:
            raise BundleBroken(path, f"`{name}` is not as large as its manifest says")


def _verify(path: Path, archive: zipfile.ZipFile, sections: Mapping[str, Sequence[Item]]) -> None:
    for section, items in sections.items():
        for one in items:
            for _ in _content(path, archive, section, one):
                pass


def _content(path: Path, archive: zipfile.ZipFile, section: str, item: Item) -> Iterator[bytes]:
    """The bytes of a file; not one more than the manifest names, and in the end the right ones."""
    digest = hashlib.sha256()
    size = 0
    with archive.open(f"{section}/{item.name}") as file:
        while part := file.read(BLOCK):
            size += len(part)
            if size > item.size_bytes:
                break
            digest.update(part)
            yield part
    if size != item.size_bytes or f"sha256:{digest.hexdigest()}" != item.digest:
        raise BundleBroken(path, f"`{section}/{item.name}` is not what its manifest says")


def _refuse_older(path: Path, data: Path, sections: Mapping[str, Sequence[Item]]) -> None:
    for section, items in sections.items():
        here = {one.name: one for one in load_items(data / section)}
        for one in items:
            ours = here.get(one.name, replace(one, as_of="")).as_of
            if ours and one.as_of < ours:
                raise BundleOlder(path, one.name, ours=ours, theirs=one.as_of or "no date")
