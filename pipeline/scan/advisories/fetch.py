"""Advisories brought to this machine: read from where they are, indexed, kept with their date and digest."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pipeline.errors import PipelineError
from pipeline.scan.advisories.answer import SourceInfo
from pipeline.scan.advisories.bulk import digest_of, read_records
from pipeline.scan.advisories.index import Index, IndexBroken, build_index
from pipeline.scan.advisories.sources.http import download, without_user
from pipeline.scan.advisories.times import age_s, write_time
from pipeline.scan.data import Item, data_folder, digest_and_size, load_items

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from pipeline.scan.probe import Network

SECTION: Final = "advisories"
SUFFIX: Final = ".idx"
BULK: Final = "https://osv-vulnerabilities.storage.googleapis.com"
BULK_LICENCE: Final = "by source: CC-BY-4.0 and others"
FRESH_S: Final = 12 * 3600.0  # a file from the network is asked for again after this time


class NothingFetched(PipelineError):
    """Advisories were read and none was there."""

    def __init__(self, address: str) -> None:
        super().__init__(f"cannot use `{without_user(address)}`: it holds no advisories")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One database of advisories, and where it is."""

    name: str
    address: str  # URL, or path of a file or folder
    licence: str = ""


def public_database(ecosystem: str) -> Wanted:
    """The public export of an ecosystem in the OSV schema."""
    return Wanted(
        name=f"osv-{re.sub(r'[^A-Za-z0-9.]+', '-', ecosystem)}",
        address=f"{BULK}/{quote(ecosystem, safe='')}/all.zip",
        licence=BULK_LICENCE,
    )


def is_url(address: str) -> bool:
    """Whether an address is asked over the network."""
    return address.startswith(("http://", "https://"))


def cached_index(wanted: Wanted, path: Path, cache: Path, now: datetime) -> Path:
    """The index of a file or folder; made only where its content changed since it was made last.

    Raises:
        PipelineError: It cannot be read.
    """
    digest = digest_of(path)
    target = cache / f"{wanted.name}-{digest[7:23]}{SUFFIX}"
    if target.is_file():
        try:
            with Index(target):
                return target
        except IndexBroken:
            target.unlink()  # of another version of the program: made anew
    source = SourceInfo(
        name=wanted.name,
        fetched_at=write_time(now),
        digest=digest,
        licence=wanted.licence,
        address=without_user(wanted.address),
    )
    contents = build_index(target, read_records(path), source, now=now)
    if not contents.counts and not contents.bad:
        target.unlink()
        raise NothingFetched(wanted.address)
    for old in cache.glob(f"{wanted.name}-????????????????{SUFFIX}"):
        if old != target:
            old.unlink(missing_ok=True)
    return target


async def fetched_file(wanted: Wanted, cache: Path, network: Network, now: datetime) -> Path:
    """The file behind an address, fetched if what is here is half a day old.

    Raises:
        ServiceFailed: It cannot be had.
    """
    target, note = _places(wanted, cache)
    if not _is_fresh(wanted, target, note, now):
        await download(network, wanted.address, target)
        _note(wanted, note, now)
    return target


def _places(wanted: Wanted, cache: Path) -> tuple[Path, Path]:
    """Where the file of an address is kept, and the note when it was fetched."""
    cache.mkdir(parents=True, exist_ok=True)
    suffix = Path(wanted.address.partition("?")[0]).suffix or ".zip"
    return cache / f"{wanted.name}{suffix}", cache / f"{wanted.name}.fetched.json"


def _is_fresh(wanted: Wanted, target: Path, note: Path, now: datetime) -> bool:
    if not target.is_file() or not note.is_file():
        return False
    told = json.loads(note.read_text(encoding="utf-8"))
    age = age_s(str(told.get("at")), now)
    return told.get("address") == without_user(wanted.address) and age is not None and 0 <= age < FRESH_S


def _note(wanted: Wanted, note: Path, now: datetime) -> None:
    text = json.dumps({"address": without_user(wanted.address), "at": write_time(now)})
    note.write_text(text, encoding="utf-8")


def cache_folder() -> Path:
    """Where indexes of the user's files are kept between runs."""
    return data_folder() / "cache"


def imported_indexes(data: Path | None = None) -> list[Path]:
    """The databases that were imported.

    Raises:
        DataBroken: The manifest of the section is damaged.
    """
    folder = (data or data_folder()) / SECTION
    return [folder / one.name for one in load_items(folder)]


async def gather(wanted: Iterable[Wanted], cache: Path, network: Network, now: datetime) -> dict[Path, Item]:
    """The indexes of databases, fetched and made, each with what a bundle says of it.

    Raises:
        PipelineError: One of them cannot be had; nothing is left out.
    """
    items: dict[Path, Item] = {}
    for one in wanted:
        path = await fetched_file(one, cache, network, now) if is_url(one.address) else Path(one.address)
        index = cached_index(one, path, cache, now)
        items[index] = item_of(index, f"{one.name}{SUFFIX}")
    return items


def item_of(index: Path, name: str) -> Item:
    """What a bundle says of an index."""
    with Index(index) as opened:
        source = opened.contents.source
    digest, size = digest_and_size(index)
    return Item(
        name=name,
        digest=digest,
        size_bytes=size,
        as_of=source.as_of,
        fetched_at=source.fetched_at,
        licence=source.licence,
        address=source.address,
    )


def check_index(path: Path) -> None:
    """See that a file is an index that can be read.

    Raises:
        IndexBroken: It is none.
    """
    with Index(path) as index:
        asdict(index.contents)
