"""The Python index's own page of each release, which names its advisories.

Many mirrors have no such page, or one without advisories: then nothing was looked at, and it says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import anyio

from pipeline.scan.advisories.answer import Match, SourceAnswer, SourceInfo
from pipeline.scan.advisories.canary import canaries_of
from pipeline.scan.advisories.match import Installed
from pipeline.scan.advisories.orders import BadVersion
from pipeline.scan.advisories.osv import Advisory
from pipeline.scan.advisories.sources.http import ALL_S, AT_ONCE, ServiceFailed, ask_json, without_user
from pipeline.scan.advisories.sources.local import unavailable
from pipeline.scan.advisories.times import write_time
from pipeline.scan.probe import client_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import httpx

    from pipeline.scan.advisories.answer import Key
    from pipeline.scan.packages.package import Package
    from pipeline.scan.probe import Probe

ADDRESS: Final = "https://pypi.org"
SUMMARY: Final = 300


def address_of_index(index_url: str) -> str:
    """Where the pages of an index are that is given by the address of its simple pages."""
    parts = urlsplit(index_url)
    path = parts.path.rstrip("/").removesuffix("/simple").removesuffix("/+simple")
    return f"{parts.scheme}://{parts.netloc}{path}" if parts.scheme in ("http", "https") else ADDRESS


@dataclass(frozen=True, slots=True, kw_only=True)
class PypiJson:
    """Judges Python packages by the pages of their releases."""

    address: str = ADDRESS
    name: str = "pypi"
    canaries: Mapping[str, str] = field(default_factory=dict)

    async def ask(self, packages: Sequence[Package], probe: Probe, now: datetime) -> SourceAnswer:
        """Say what the index knows of packages; never raises for what it answers."""
        source = SourceInfo(
            name=self.name,
            ecosystems=("PyPI",),
            fetched_at=write_time(now),
            address=without_user(self.address),
            is_live=True,
        )
        ours = [one for one in packages if one.ecosystem == "PyPI"]
        other = {one.key: f"{self.name} has Python packages only" for one in packages if one not in set(ours)}
        if not ours:
            return SourceAnswer(source=source, unknown=other)
        reach = (await probe.reach([self.address]))[self.address]
        if not reach.is_reached:
            return unavailable(source, packages, reach.why)
        try:
            with anyio.fail_after(ALL_S):
                async with client_of(probe.network, timeout_s=ALL_S) as client:
                    await self._check_canaries(client)
                    answer = await self._ask_all(client, source, ours)
        except ServiceFailed as error:
            return unavailable(source, packages, str(error), hint=HINT)
        except TimeoutError:
            return unavailable(source, packages, f"{source.address} gave no answer within {ALL_S:g} s")
        return replace(answer, unknown={**answer.unknown, **other})

    async def _check_canaries(self, client: httpx.AsyncClient) -> None:
        """See that the index has pages of releases, and that they name advisories.

        Raises:
            ServiceFailed: It has not, or they do not.
        """
        why = ServiceFailed(self.address, "there is no package to try it with")
        for name, version in canaries_of("PyPI", self.canaries):
            try:
                if await self._release(client, name, version):
                    return
                why = ServiceFailed(self.address, f"it knows no advisory about {name} {version}", status=200)
            except ServiceFailed as error:
                if error.status != 404:
                    raise
                why = ServiceFailed(self.address, "it has no page for each release", status=404)
        raise why

    async def _ask_all(
        self, client: httpx.AsyncClient, source: SourceInfo, packages: Sequence[Package]
    ) -> SourceAnswer:
        matches: dict[Key, tuple[Match, ...]] = {}
        unknown: dict[Key, str] = {}
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def work(key: Key) -> None:
            async with limiter:
                try:
                    told = await self._release(client, key[1], key[2])
                except ServiceFailed as error:
                    unknown[key] = (
                        "the index does not know this release" if error.status == 404 else str(error)
                    )
                    return
            matches[key] = tuple(_match(one, key, source) for one in told)

        keys = {one.key for one in packages if one.version}
        unknown |= {one.key: "no version is fixed" for one in packages if not one.version}
        async with anyio.create_task_group() as group:
            for key in sorted(keys):
                group.start_soon(work, key)
        judged = frozenset(matches)
        return SourceAnswer(
            source=source,
            state="complete" if judged or not unknown else "unavailable",
            reason="" if judged else next(iter(unknown.values()), ""),
            matches={key: told for key, told in matches.items() if told},
            unknown=unknown,
            judged=judged,
        )

    async def _release(self, client: httpx.AsyncClient, name: str, version: str) -> list[dict[str, Any]]:
        """The advisories on the page of a release.

        Raises:
            ServiceFailed: There is no such page (404), or it is none.
        """
        url = f"{self.address.rstrip('/')}/pypi/{quote(name, safe='')}/{quote(version, safe='')}/json"
        table = await ask_json(client, "GET", url)
        told = table.get("vulnerabilities") if isinstance(table, dict) else None
        if not isinstance(told, list) or not all(isinstance(one, dict) and one.get("id") for one in told):
            raise ServiceFailed(url, "its page names no list of advisories", status=200)
        return told


HINT: Final = (
    "name an index with pages of releases as `address` of the source, or import a bundle of advisories"
)


def _match(told: Mapping[str, Any], key: Key, source: SourceInfo) -> Match:
    summary = str(told.get("summary") or told.get("details") or "")
    advisory = Advisory(
        id=str(told["id"]),
        aliases=tuple(str(one) for one in told.get("aliases") or ()),
        is_withdrawn=bool(told.get("withdrawn")),
        summary=" ".join(summary.split())[:SUMMARY],
        url=str(told.get("link") or ""),
    )
    fixed = least_above(key[0], key[2], [str(one) for one in told.get("fixed_in") or ()])
    return Match(advisory=advisory, source=source, is_affected=True, fixed=fixed)


def least_above(ecosystem: str, version: str, fixes: Sequence[str]) -> tuple[str, ...]:
    """The least of `fixes` that is above a version; none where none is."""
    try:
        installed = Installed(ecosystem, version)
    except BadVersion:
        return tuple(fixes[:1])
    above = []
    for one in fixes:
        try:
            if installed.compare(one) < 0:
                above.append(one)
        except BadVersion:  # a fix that is no version mends nothing
            continue
    return tuple(sorted(above, key=installed.key_of)[:1])
