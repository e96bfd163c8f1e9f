"""`pipeline prefetch --bundle` and `--import`: data of scanners in one file."""

from __future__ import annotations

import asyncio
import datetime
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.cli.output import say, write, write_json
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pipeline.cli.project import Project
    from pipeline.config import Config
    from pipeline.scan.advisories.fetch import Wanted
    from pipeline.scan.data import Item


ADVISORIES: Final = "advisories"
MOST_LINES: Final = 20  # of one section that are told; --json tells all
SECTIONS: Final = (ADVISORIES, "tools", "rules", "images")


class NothingToBundle(UsageError):
    """The project names no package, and its settings name no database of advisories."""

    def __init__(self) -> None:
        super().__init__("cannot write a bundle: no file names a package, and no source of advisories is set")
        self.hint = "name one in [tool.pipeline.dependency_scan.sources.NAME] with `kind` and `address`"


def write_out(
    file: str,
    project: Project,
    sections: Sequence[str] = (),
    tools: Sequence[str] = (),
    *,
    key: str | None = None,
    as_json: bool,
) -> int:
    """Gather what a project's scans need into a bundle; says what is in it.

    Args:
        sections: Which of `SECTIONS`; () is all of them.
        tools: Names of the tools to carry; () is all of them.
        key: File of the key that signs it.

    Raises:
        CannotSign: The key cannot be used; no bundle is written.
        NoSuchTool: There is no tool of that name.
        NothingToBundle: Advisories alone are wanted, and there is nothing to gather.
        PipelineError: Something cannot be fetched or read; no bundle is written.
    """
    from pipeline.scan.advisories.times import write_time
    from pipeline.scan.bundle import write_bundle
    from pipeline.scan.bundle_signature import sign

    signed = partial(sign, key=Path(key)) if key is not None else None
    chosen = frozenset(sections or SECTIONS)
    now = datetime.datetime.now(datetime.UTC)
    target = Path(file).absolute()
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
        found = {
            **gather_advisories(project, chosen, now),
            **gather_tools(project, chosen, tools, Path(name), write_time(now)),
        }
        write_bundle(target, found, made_at=write_time(now), sign=signed)
    tell({section: list(items.values()) for section, items in found.items()}, as_json=as_json)
    return 0


def gather_advisories(
    project: Project, chosen: Collection[str], now: datetime.datetime
) -> dict[str, dict[Path, Item]]:
    """The section of advisories; none where the project has no use for it and other sections are wanted."""
    from pipeline.scan.advisories.fetch import cache_folder, gather
    from pipeline.scan.probe import Network

    if ADVISORIES not in chosen:
        return {}
    wanted = wanted_databases(project)
    if not wanted and len(chosen) == 1:
        raise NothingToBundle
    if not wanted:
        say("no advisories: no file names a package, and no source is set")
        return {}
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
    return {ADVISORIES: dict(asyncio.run(gather(wanted, cache_folder(), network, now)))}


def gather_tools(
    project: Project, chosen: Collection[str], tools: Sequence[str], folder: Path, made_at: str
) -> dict[str, dict[Path, Item]]:
    """The sections of tools, rules and images, made in `folder`."""
    from pipeline.cli.bundle_images import IMAGES, TOOL_IMAGE, fetch, pack_images
    from pipeline.cli.prefetch_command import known_images
    from pipeline.config.lock import load_lock
    from pipeline.connect import engine_settings
    from pipeline.engine.oci.reference import canonical_reference
    from pipeline.scan.bundle_tools import RULES, RULES_FILE, TOOLS, packaged_locks, rules_text, wheel_items
    from pipeline.scan.data import Item, digest_and_size
    from pipeline.stages.tools import tool_lock

    found: dict[str, dict[Path, Item]] = {}
    if RULES in chosen:
        path = folder / RULES_FILE
        path.write_text(rules_text(), encoding="utf-8")
        digest, size_bytes = digest_and_size(path)
        item = Item(name=path.name, digest=digest, size_bytes=size_bytes, as_of=made_at, licence="MIT")
        found[RULES] = {path: item}
    known = packaged_locks() if TOOLS in chosen else {}
    locks = {tool: tool_lock(tool) for tool in tools or known} if known else {}
    named = [canonical_reference(TOOL_IMAGE), *known_images(project)]
    images = list(dict.fromkeys(named)) if IMAGES in chosen else []
    if not locks and not images:
        return found
    wheels, carried = folder / TOOLS, folder / IMAGES
    carried.mkdir()
    references = asyncio.run(fetch(project, images, locks, wheels))
    if locks:
        found[TOOLS] = wheel_items(wheels, made_at)
    if images:
        settings = engine_settings(project.config, load_lock(project.root))
        found[IMAGES] = pack_images(settings, list(dict.fromkeys(references)), carried, made_at)
    return found


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


def take_in(file: str, root: Path, config: Config, *, allow_older: bool, as_json: bool) -> int:
    """Verify a bundle and put what it holds in place; says what is there now.

    Raises:
        BundleBroken: It is damaged; nothing was changed.
        RefusedByPolicy: It is not signed as the settings ask; nothing was changed.
        BundleOlder: It holds older data than what is here; nothing was changed.
    """
    from pipeline.cli.bundle_images import IMAGES, check_image, take_images
    from pipeline.connect import engine_settings
    from pipeline.scan.advisories.fetch import check_index
    from pipeline.scan.bundle import import_bundle
    from pipeline.scan.bundle_tools import RULES, RULES_FILE, other_rules
    from pipeline.scan.data import data_folder

    data = data_folder()
    checks = {ADVISORIES: check_index, IMAGES: check_image, RULES: other_rules}
    signers = root / config.bundles.signers if config.bundles.signers else None
    held = import_bundle(Path(file), data, allow_older=allow_older, signers=signers, check=checks)
    if RULES in held and (others := other_rules(data / RULES / RULES_FILE)):
        say(f"{len(others)} rules and locks differ from those of this version, such as {others[0]}")
    if IMAGES in held:
        paths = [data / IMAGES / one.name for one in held[IMAGES]]
        take_images(engine_settings(config), paths)
        for path in paths:  # what the store has now need not be kept twice; the manifest says what came
            path.unlink()
    tell(held, as_json=as_json)
    return 0


def tell(sections: Mapping[str, Sequence[Item]], *, as_json: bool) -> None:
    """Say what is in a bundle: for each file its date, size and licence."""
    if as_json:
        from dataclasses import asdict

        write_json({name: [asdict(one) for one in items] for name, items in sections.items()})
        return
    for name, items in sections.items():
        if len(items) > MOST_LINES:
            size = f"{sum(one.size_bytes for one in items) / 1e6:.1f} MB"
            dates = [one.as_of for one in items]
            write(f"{name}  {len(items)} files  as of {min(dates) or 'unknown'}  {size}  (--json lists them)")
            continue
        for one in items:
            size = f"{one.size_bytes / 1e6:.1f} MB"
            write(f"{name}  {one.name}  as of {one.as_of or 'unknown'}  {size}  {one.licence}".rstrip())
