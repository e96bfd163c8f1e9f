"""`pipeline prefetch --bundle` and `--import`: data of scanners in one file."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.output import say, write, write_json
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.cli.project import Project
    from pipeline.scan.advisories.fetch import Wanted
    from pipeline.scan.data import Item


class NothingToBundle(UsageError):
    """The project names no package, and its settings name no database of advisories."""

    def __init__(self) -> None:
        super().__init__("cannot write a bundle: no file names a package, and no source of advisories is set")
        self.hint = "name one in [tool.pipeline.dependency_scan.sources.NAME] with `kind` and `address`"


def write_out(file: str, project: Project, *, as_json: bool) -> int:
    """Gather the advisories for a project into a bundle; says what is in it.

    Raises:
        NothingToBundle: There is nothing to gather.
        PipelineError: Something cannot be fetched or read; no bundle is written.
    """
    from pipeline.scan.advisories.fetch import SECTION, cache_folder, gather
    from pipeline.scan.advisories.times import write_time
    from pipeline.scan.bundle import write_bundle
    from pipeline.scan.probe import Network

    wanted = wanted_databases(project)
    if not wanted:
        raise NothingToBundle
    for one in wanted:
        say(f"gathering {one.name}")
    settings = project.config.network
    network = Network(
        offline=settings.offline,
        http_proxy=settings.http_proxy or "",
        https_proxy=settings.https_proxy or "",
        no_proxy=settings.no_proxy or "",
        ca_bundle=settings.ca_bundle or "",
    )
    now = datetime.datetime.now(datetime.UTC)
    items = asyncio.run(gather(wanted, cache_folder(), network, now))
    write_bundle(Path(file), {SECTION: items}, made_at=write_time(now))
    tell({SECTION: list(items.values())}, as_json=as_json)
    return 0


def wanted_databases(project: Project) -> list[Wanted]:
    """The files of the settings; without any, the public exports for the project's packages."""
    from pipeline.graph.inputs import project_files
    from pipeline.scan.advisories.fetch import Wanted, is_url, public_database
    from pipeline.scan.advisories.names import base_of
    from pipeline.scan.packages.found import find_locks
    from pipeline.scan.packages.locks import read_locks

    sources = project.config.dependency_scan.sources
    files = [(name, one) for name, one in sources.items() if one.kind == "osv-file" and one.address]
    if files:
        return [
            Wanted(
                name=name,
                address=one.address if is_url(one.address) else str(project.root / one.address),
                licence=one.licence,
            )
            for name, one in files
            if one.address
        ]
    paths = find_locks(list(project_files(project.root).digests))
    locks = read_locks({path: (project.root / path).read_bytes() for path in paths})
    ecosystems: Iterable[str] = {base_of(one.ecosystem) for one in locks.packages}
    return [public_database(one) for one in sorted(ecosystems)]


def take_in(file: str, *, allow_older: bool, as_json: bool) -> int:
    """Verify a bundle and put what it holds in place; says what is there now.

    Raises:
        BundleBroken: It is damaged; nothing was changed.
        BundleOlder: It holds older data than what is here; nothing was changed.
    """
    from pipeline.scan.advisories.fetch import SECTION, check_index
    from pipeline.scan.bundle import import_bundle
    from pipeline.scan.data import data_folder

    checks = {SECTION: check_index}
    held = import_bundle(Path(file), data_folder(), allow_older=allow_older, check=checks)
    tell(held, as_json=as_json)
    return 0


def tell(sections: Mapping[str, Sequence[Item]], *, as_json: bool) -> None:
    """Say what is in a bundle: for each file its date, size and licence."""
    if as_json:
        from dataclasses import asdict

        write_json({name: [asdict(one) for one in items] for name, items in sections.items()})
        return
    for name, items in sections.items():
        for one in items:
            size = f"{one.size_bytes / 1e6:.1f} MB"
            write(f"{name}  {one.name}  as of {one.as_of or 'unknown'}  {size}  {one.licence}".rstrip())
