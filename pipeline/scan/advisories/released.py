"""When releases came out, as the Python index tells: advisories cannot judge what is newer than they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import anyio

from pipeline.scan.advisories.names import normal_name, release_of
from pipeline.scan.advisories.sources.http import AT_ONCE, ServiceFailed, ask_json
from pipeline.scan.probe import client_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.packages.package import Package
    from pipeline.scan.probe import Probe

INDEX: Final = "https://pypi.org/simple"
ALL_S: Final = 30.0
KIND: Final = "application/vnd.pypi.simple.v1+json"


async def with_release_times(packages: Sequence[Package], index: str, probe: Probe) -> list[Package]:
    """Packages with the time of their release, where the index tells it; the others stay as they are.

    Only Python packages that are not private and whose time is not known are asked for, within 30 seconds.
    """
    address = index or INDEX
    wanted = sorted({one.key[1] for one in packages if _is_wanted(one)})
    if not wanted or not (await probe.reach([address]))[address].is_reached:
        return list(packages)
    times: dict[tuple[str, str], str] = {}
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def ask(name: str) -> None:
        url = f"{address.rstrip('/')}/{quote(name, safe='')}/"
        async with limiter:
            try:
                table = await ask_json(client, "GET", url, accept=KIND)
            except ServiceFailed:  # an index in HTML only, or without this package: its time is not known
                return
        times.update(_times(name, table))

    with anyio.move_on_after(ALL_S):
        async with client_of(probe.network, timeout_s=ALL_S) as client, anyio.create_task_group() as group:
            for name in wanted:
                group.start_soon(ask, name)
    return [
        replace(one, released=times.get((one.key[1], release_of(one.version)), ""))
        if _is_wanted(one)
        else one
        for one in packages
    ]


def _is_wanted(package: Package) -> bool:
    is_known = bool(package.released) or not package.version
    return package.ecosystem == "PyPI" and not package.private and not is_known


def _times(name: str, table: Any) -> dict[tuple[str, str], str]:
    """The time of the first file of each release."""
    found: dict[tuple[str, str], str] = {}
    files = table.get("files") if isinstance(table, dict) else None
    for one in files if isinstance(files, list) else ():
        time = str(one.get("upload-time") or "") if isinstance(one, dict) else ""
        version = version_of(name, str(one.get("filename", ""))) if time else ""
        if version:
            key = (name, release_of(version))
            found[key] = min(found.get(key, time), time)
    return found


def version_of(name: str, filename: str) -> str:
    """The version in the name of a wheel or source archive; "" where it is none of this package."""
    for suffix in (".whl", ".tar.gz", ".zip", ".tar.bz2"):
        if filename.endswith(suffix):
            bare = filename.removesuffix(suffix)
            parts = bare.split("-")
            if suffix == ".whl":
                return parts[1] if len(parts) >= 5 and normal_name("PyPI", parts[0]) == name else ""
            start, _, version = bare.rpartition("-")
            return version if normal_name("PyPI", start) == name else ""
    return ""
