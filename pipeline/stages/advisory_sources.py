"""The sources of advisories that a project's settings name, asked side by side."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import PipelineError
from pipeline.scan.advisories.answer import SourceAnswer, SourceInfo
from pipeline.scan.advisories.sources.local import ONLINE_AGE_S, LocalSource, unavailable
from pipeline.stages.containers import SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pipeline.graph.context import Context
    from pipeline.scan.packages.package import Package
    from pipeline.scan.probe import Network, Probe
    from pipeline.scan.scanner import Command, Ran

OSV: Final = "osv"


async def ask_sources(
    ctx: Context,
    settings: Mapping[str, Any],
    packages: Sequence[Package],
    public: Sequence[Package],
    now: datetime,
    *,
    files: Mapping[str, bytes],
) -> list[SourceAnswer]:
    """Return the answers of all sources, in the order of the settings, imported data first.

    Args:
        packages: All packages; data on this machine is asked about them.
        public: Those whose names may be told to others.
        files: The lock files by path.
    """
    import anyio

    from pipeline.scan.probe import probe_of

    network = network_of(ctx)
    probe = probe_of(ctx.run_id, network)
    sources: dict[str, Mapping[str, Any]] = dict(settings.get("sources", {}))
    answers: dict[str, SourceAnswer] = {}

    async def work(name: str, source: Mapping[str, Any]) -> None:
        asker = Asker(ctx=ctx, name=name, source=source, probe=probe, now=now, files=files)
        answers[name] = await asker.ask(packages, public)

    async with anyio.create_task_group() as group:
        for name, source in sources.items():
            group.start_soon(work, name, source)
        if not sources and not network.offline:
            group.start_soon(work, OSV, {"kind": "osv-api"})
    imported = ask_imported(ctx, settings, packages, now)
    return [*imported, *(answers[name] for name in sources or (OSV,) if name in answers)]


def network_of(ctx: Context) -> Network:
    """Return how the project's settings reach the outside."""
    from pipeline.scan.probe import Network

    table = dict(ctx.config.get("network", {}))
    return Network(
        offline=bool(table.get("offline")),
        http_proxy=str(table.get("http_proxy") or ""),
        https_proxy=str(table.get("https_proxy") or ""),
        no_proxy=str(table.get("no_proxy") or ""),
        ca_bundle=str(table.get("ca_bundle") or ""),
    )


async def with_times(ctx: Context, packages: Sequence[Package]) -> list[Package]:
    """Return the packages with the time of their release, where the package index tells it."""
    from pipeline.scan.advisories.released import with_release_times
    from pipeline.scan.probe import probe_of

    index = str(dict(ctx.config.get("network", {})).get("index_url") or "")
    return await with_release_times(packages, index, probe_of(ctx.run_id, network_of(ctx)))


def ask_imported(
    ctx: Context, settings: Mapping[str, Any], packages: Sequence[Package], now: datetime
) -> list[SourceAnswer]:
    """Return what imported databases say; their manifest becomes part of the stage's key."""
    from pipeline.scan.advisories.fetch import SECTION, imported_indexes
    from pipeline.scan.data import MANIFEST, data_folder
    from pipeline.stages.standing import value_now

    if not settings.get("imported", True):
        return []
    name = f"file {data_folder() / SECTION / MANIFEST}"
    ctx.depend_on(name, value_now(ctx.root, name) or "")
    try:
        paths = imported_indexes()
    except PipelineError as error:
        return [unavailable(SourceInfo(name="imported"), packages, str(error))]
    age_s = float(settings.get("imported_max_age_s", 30 * 86400))
    return [LocalSource(path=path, max_age_s=age_s).ask(packages, now) for path in paths]


class Asker:
    """One source of the settings."""

    def __init__(
        self,
        *,
        ctx: Context,
        name: str,
        source: Mapping[str, Any],
        probe: Probe,
        now: datetime,
        files: Mapping[str, bytes],
    ) -> None:
        self.ctx = ctx
        self.name = name
        self.source = source
        self.probe = probe
        self.now = now
        self.files = files
        self.canaries: Mapping[str, str] = dict(source.get("canaries") or {})

    async def ask(self, packages: Sequence[Package], public: Sequence[Package]) -> SourceAnswer:
        """Return what the source says, under its name in the settings; what goes wrong is an answer too."""
        from dataclasses import replace

        try:
            answer = await self._ask(packages, public)
        except PipelineError as error:
            answer = unavailable(SourceInfo(name=self.name), packages, str(error), hint=error.hint or "")
        if answer.source.name != self.name:
            told = replace(answer.source, name=self.name)
            matches = {
                key: tuple(replace(one, source=told) for one in several)
                for key, several in answer.matches.items()
            }
            answer = replace(answer, source=told, matches=matches)
        return answer

    async def _ask(self, packages: Sequence[Package], public: Sequence[Package]) -> SourceAnswer:
        match self.source["kind"]:
            case "osv-file":
                return await self._ask_file(packages)
            case "osv-api":
                from pipeline.scan.advisories.sources.osv_api import ADDRESS, OsvApi

                api = OsvApi(address=self.source.get("address") or ADDRESS, canaries=self.canaries)
                return await api.ask(public, self.probe, self.now)
            case "pypi":
                return await self._ask_pypi(public)
            case "pip-audit":
                return await self._ask_pip_audit(public)
            case "npm-audit":
                return await self._ask_npm(public)
            case _:
                return await self._ask_safety(public)

    async def _ask_file(self, packages: Sequence[Package]) -> SourceAnswer:
        import anyio

        from pipeline.scan.advisories.fetch import Wanted, cache_folder, cached_index, fetched_file, is_url
        from pipeline.stages.standing import value_now

        address = str(self.source.get("address") or "")
        wanted = Wanted(name=self.name, address=address, licence=str(self.source.get("licence") or ""))
        path = self.ctx.root / address
        if not is_url(address):
            self.ctx.depend_on(f"file {address}", value_now(self.ctx.root, f"file {address}") or "")
        else:
            reach = (await self.probe.reach([address]))[address]
            if not reach.is_reached:
                return unavailable(SourceInfo(name=self.name), packages, reach.why)
            path = await fetched_file(wanted, cache_folder(), self.probe.network, self.now)
        index = await anyio.to_thread.run_sync(cached_index, wanted, path, cache_folder(), self.now)
        local = LocalSource(
            path=index,
            max_age_s=float(self.source.get("max_age_s") or ONLINE_AGE_S),
            is_partial=bool(self.source.get("partial")),
            canaries=self.canaries,
        )
        return local.ask(packages, self.now)

    async def _ask_pypi(self, packages: Sequence[Package]) -> SourceAnswer:
        from pipeline.scan.advisories.sources.pypi_json import ADDRESS, PypiJson, address_of_index

        index = str(dict(self.ctx.config.get("network", {})).get("index_url") or "")
        address = self.source.get("address") or (address_of_index(index) if index else ADDRESS)
        return await PypiJson(address=address, canaries=self.canaries).ask(packages, self.probe, self.now)

    async def _ask_pip_audit(self, packages: Sequence[Package]) -> SourceAnswer:
        from pipeline.scan.advisories.sources.pip_audit import PipAudit
        from pipeline.stages.tools import locked_version

        tool = PipAudit(service=self.source.get("address") or "pypi", canaries=self.canaries)
        ran = await self._run("pip-audit", tool.commands(packages))
        return tool.read(packages, ran, version=locked_version("pip-audit"))

    async def _ask_safety(self, packages: Sequence[Package]) -> SourceAnswer:
        from pipeline.scan.advisories.sources.safety import KEY, Safety
        from pipeline.stages.tools import locked_version

        tool = Safety()
        ran = await self._run("safety", tool.commands(packages), secret=KEY)
        return tool.read(packages, ran, version=locked_version("safety"))

    async def _run(self, tool: str, commands: Sequence[Command], *, secret: str = "") -> list[Ran]:
        from pipeline.stages.tools import run_command, tool_container

        container = await tool_container(self.ctx, tool)
        if secret:
            client = await self.ctx.dagger()
            value = client.set_secret(f"{tool} key", self.ctx.secret(secret))
            container = container.with_secret_variable(secret, value)
        return [await run_command(container, one) for one in commands]

    async def _ask_npm(self, packages: Sequence[Package]) -> SourceAnswer:
        from pipeline.scan.advisories.sources.npm_audit import NpmAudit, joined
        from pipeline.stages.tools import run_command, with_project

        locks = [path for path in self.files if PurePosixPath(path).name == "package-lock.json"]
        client = await self.ctx.dagger()
        image = str(self.source.get("address") or "node:22-slim")
        container = await with_project(self.ctx, client.container().from_(image))
        answers = []
        for lock in locks:
            tool = NpmAudit(folder=str(Path(SOURCE) / PurePosixPath(lock).parent))
            ran = [await run_command(container, one) for one in tool.commands()]
            answers.append(tool.read([one for one in packages if one.path == lock], ran))
        return joined(answers) if answers else SourceAnswer(source=SourceInfo(name=self.name))
