"""A service that speaks OSV's query API: packages in one request, then each advisory by its id."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import anyio

from pipeline.scan.advisories.answer import Match, SourceAnswer, SourceInfo
from pipeline.scan.advisories.canary import canaries_of
from pipeline.scan.advisories.match import Installed, about, judge
from pipeline.scan.advisories.names import normal_name
from pipeline.scan.advisories.orders import BadVersion, order_of
from pipeline.scan.advisories.osv import BadAdvisory, parse_advisory
from pipeline.scan.advisories.sources.http import ALL_S, AT_ONCE, ServiceFailed, ask_json, without_user
from pipeline.scan.advisories.sources.local import unavailable
from pipeline.scan.advisories.times import write_time
from pipeline.scan.probe import client_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import httpx

    from pipeline.scan.advisories.answer import Key
    from pipeline.scan.advisories.osv import Advisory
    from pipeline.scan.packages.package import Package
    from pipeline.scan.probe import Probe

ADDRESS: Final = "https://api.osv.dev"
PER_REQUEST: Final = 500
MOST_PAGES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OsvApi:
    """Judges packages by asking; needs no key."""

    address: str = ADDRESS
    name: str = "osv"
    canaries: Mapping[str, str] = field(default_factory=dict)

    async def ask(self, packages: Sequence[Package], probe: Probe, now: datetime) -> SourceAnswer:
        """Say what the service knows of packages; never raises for what it answers."""
        asked = write_time(now)
        address = without_user(self.address)
        source = SourceInfo(name=self.name, address=address, fetched_at=asked, is_live=True)
        known = [one for one in packages if order_of(one.ecosystem) is not None and one.judged_version]
        other = {one.key: _why_not(one) for one in packages if one not in set(known)}
        if not known:
            return SourceAnswer(source=source, unknown=other)
        reach = (await probe.reach([self.address]))[self.address]
        if not reach.is_reached:
            return unavailable(source, packages, reach.why)
        try:
            with anyio.fail_after(ALL_S):
                async with client_of(probe.network, timeout_s=ALL_S) as client:
                    answer = await self._ask(client, source, known)
        except ServiceFailed as error:
            return unavailable(source, packages, str(error))
        except TimeoutError:
            return unavailable(source, packages, f"{source.address} gave no answer within {ALL_S:g} s")
        return replace(answer, unknown={**answer.unknown, **other})

    async def _ask(
        self, client: httpx.AsyncClient, source: SourceInfo, packages: Sequence[Package]
    ) -> SourceAnswer:
        keys = list(dict.fromkeys(one.key for one in packages))
        controls = {
            (ecosystem, normal_name(ecosystem, name), version): ecosystem
            for ecosystem in {key[0] for key in keys}
            for name, version in canaries_of(ecosystem, self.canaries)
        }
        ids = await self._query(client, list(dict.fromkeys([*keys, *controls])))
        heard = {ecosystem for key, ecosystem in controls.items() if ids[key]}
        silent = {key: _silent(source.name, key[0]) for key in keys if key[0] not in heard}
        wanted = sorted({one for key in keys for one in ids[key]})
        records = await self._records(client, wanted)
        matches = {
            key: tuple(_match(records[one], key, source) for one in ids[key]) for key in keys if ids[key]
        }
        judged = frozenset(key for key in keys if key not in silent)
        return SourceAnswer(
            source=replace(source, ecosystems=tuple(sorted(heard))),
            state="complete" if judged else "unavailable",
            reason="" if judged else next(iter(silent.values()), ""),
            matches=matches,
            unknown=silent,
            judged=judged,
        )

    async def _query(self, client: httpx.AsyncClient, keys: Sequence[Key]) -> dict[Key, list[str]]:
        """The ids of the advisories about each package; goes on where the service gives pages."""
        found: dict[Key, list[str]] = {key: [] for key in keys}
        waiting: list[tuple[Key, str]] = [(key, "") for key in keys]
        for _ in range(MOST_PAGES):
            if not waiting:
                return found
            now, waiting = waiting[:PER_REQUEST], waiting[PER_REQUEST:]
            queries = [_query_of(key, page) for key, page in now]
            url = f"{self.address.rstrip('/')}/v1/querybatch"
            table = await ask_json(client, "POST", url, {"queries": queries})
            results = table.get("results") if isinstance(table, dict) else None
            if not isinstance(results, list) or len(results) != len(now):
                raise ServiceFailed(url, "it did not answer each query", status=200)
            for (key, _), result in zip(now, results, strict=True):
                found[key] += _ids(url, result)
                page = result.get("next_page_token") if isinstance(result, dict) else None
                if page:
                    waiting.append((key, str(page)))
        raise ServiceFailed(self.address, "it gives pages without end", status=200)

    async def _records(self, client: httpx.AsyncClient, ids: Sequence[str]) -> dict[str, Advisory]:
        records: dict[str, Advisory] = {}
        limiter = anyio.CapacityLimiter(AT_ONCE)
        failed: list[ServiceFailed] = []

        async def fetch(name: str) -> None:
            url = f"{self.address.rstrip('/')}/v1/vulns/{quote(name, safe='')}"
            async with limiter:
                if failed:
                    return
                try:
                    records[name] = parse_advisory(await ask_json(client, "GET", url))
                except BadAdvisory as error:
                    failed.append(ServiceFailed(url, str(error), status=200))
                except ServiceFailed as error:
                    failed.append(error)

        async with anyio.create_task_group() as group:
            for one in ids:
                group.start_soon(fetch, one)
        if failed:
            raise failed[0]
        return records


def _query_of(key: Key, page: str) -> dict[str, Any]:
    ecosystem, name, version = key
    query: dict[str, Any] = {"package": {"name": name, "ecosystem": ecosystem}, "version": version}
    return {**query, "page_token": page} if page else query


def _ids(url: str, result: object) -> list[str]:
    if result is None:
        return []
    if not isinstance(result, dict) or not isinstance(result.get("vulns", []), list):
        raise ServiceFailed(url, "it answered something else than a list of advisories", status=200)
    return [str(one["id"]) for one in result.get("vulns", []) if isinstance(one, dict) and "id" in one]


def _match(advisory: Advisory, key: Key, source: SourceInfo) -> Match:
    """An advisory the service named: that it means this version is the service's word, the fix is ours."""
    ours = about(advisory, key[0], key[1])
    try:
        fixed = judge(ours, Installed(key[0], key[2])).fixed
    except BadVersion:
        fixed = ""
    return Match(advisory=ours, source=source, is_affected=True, fixed=(fixed,) if fixed else ())


def _why_not(package: Package) -> str:
    if not package.judged_version:
        return "no version is fixed"
    return f"the order of versions of {package.ecosystem} is not known"


def _silent(name: str, ecosystem: str) -> str:
    return f"{name} knows of no vulnerability in {ecosystem}, not even of one that is there"
