"""Who is asked about packages of images: advisories, a Trivy server, trivy itself, Debian's mirror."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pipeline.errors import PipelineError
from pipeline.graph.context import SecretUnknown
from pipeline.scan.advisories.names import normal_name
from pipeline.stages.image_scan import TRIVY_TOKEN, Look, placed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pipeline.graph.context import Context
    from pipeline.scan.advisories.answer import SourceAnswer
    from pipeline.scan.finding import Finding
    from pipeline.scan.packages.package import Package
    from pipeline.scan.probe import Network
    from pipeline.scan.scanner import Command, Ran
    from pipeline.stages.results import Image

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class MirrorNotAsked(PipelineError):
    """The mirror of an image's distribution could not be asked."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot ask the mirror of the image: {why}")
        self.why = why


@dataclass(kw_only=True)
class Asked:
    """What all of them said."""

    packages: list[Package]  # of all images
    answers: list[SourceAnswer] = field(default_factory=list)
    named: list[str] = field(default_factory=list)  # sources the settings name
    end_of_life: dict[str, str] = field(default_factory=dict)  # images to the version of Trivy that says so
    ended: list[Finding] = field(default_factory=list)  # packages without support


async def ask_about_images(
    ctx: Context, looks: Sequence[Look], settings: Mapping[str, Any], now: datetime
) -> Asked:
    """Ask everybody the settings allow; advisories first, for they name what several know."""
    from pipeline.stages.advisory_sources import ask_sources, network_of

    advisories = dict(ctx.config.get("dependency_scan", {}))
    private = [str(one) for one in advisories.get("private", ())]
    own = str(ctx.options.get("own", ""))
    asked = Asked(packages=[one for look in looks for one in placed(look) if is_judged(one, private, own)])
    network = network_of(ctx)
    trivy: list[SourceAnswer] = []
    for look in looks:
        if settings.get("server"):
            trivy.append(await _ask_server(ctx, look, settings, network, now, asked))
        if settings.get("program", True):
            trivy += await _ask_program(ctx, look, settings, now, asked)
    public = [one for one in asked.packages if not one.private]
    asked.answers += await ask_sources(ctx, advisories, asked.packages, public, now, files={})
    asked.answers += trivy
    if settings.get("mirror", True):
        for look in looks:
            await _ask_mirror(ctx, look, network, asked)
    return asked


def is_judged(package: Package, private: Sequence[str], own: str) -> bool:
    """Whether a package counts: the project's own, and those it vouches for, are known to no public data."""
    if package.ecosystem == "PyPI" and own == normal_name("PyPI", package.name):
        return False
    return not any(fnmatchcase(package.name, pattern) for pattern in private)


async def _ask_server(
    ctx: Context, look: Look, settings: Mapping[str, Any], network: Network, now: datetime, asked: Asked
) -> SourceAnswer:
    """Ask the Trivy server of the settings; a run that is offline only asks one on this machine."""
    from pipeline.scan.advisories.answer import SourceInfo
    from pipeline.scan.advisories.sources.local import unavailable
    from pipeline.scan.probe import probe_of
    from pipeline.scan.trivy.client import TrivyAddress
    from pipeline.scan.trivy.from_image import asked_of
    from pipeline.scan.trivy.source import NAME, TrivySource

    asked.named.append(NAME)
    url = str(settings["server"])
    if urlsplit(url).hostname not in LOOPBACK:
        reach = (await probe_of(ctx.run_id, network).reach([url]))[url]
        if not reach.is_reached:
            return unavailable(SourceInfo(name=NAME), look.inventory.packages, reach.why)
    address = TrivyAddress(
        url=url,
        token=_token(ctx),
        prefix=str(settings.get("path_prefix") or "/twirp"),
        header=str(settings.get("token_header") or "Trivy-Token"),
    )
    source = TrivySource(
        address=address,
        network=network,
        canaries=dict(settings.get("canaries") or {}),
        max_age_s=float(settings["max_age_s"]),
    )
    told = await source.ask(asked_of(look.image.name, look.read, look.inventory), now)
    if told.is_end_of_life:
        asked.end_of_life[look.image.name] = told.version
    return told.answer


def _token(ctx: Context) -> str:
    """The server's token; a server may want none."""
    try:
        return ctx.secret(TRIVY_TOKEN)
    except SecretUnknown:
        return ""


async def _ask_program(
    ctx: Context, look: Look, settings: Mapping[str, Any], now: datetime, asked: Asked
) -> list[SourceAnswer]:
    """Run trivy where it is installed; what only it found in the image are packages like the others."""
    import anyio

    from pipeline.scan.trivy.from_image import asked_of
    from pipeline.scan.trivy.program import ask_program, find_trivy

    program = find_trivy()
    if program is None:
        return []

    def ask() -> Any:
        return ask_program(
            program,
            ctx.path(look.image.archive),
            asked_of(look.image.name, look.read, look.inventory),
            look.inventory.system,
            now,
            max_age_s=float(settings["max_age_s"]),
            canaries=dict(settings.get("canaries") or {}),
        )

    told, extra = await anyio.to_thread.run_sync(ask)
    asked.packages += [replace(one, path=f"{look.image.name}!/{one.path}") for one in extra]
    if told.is_end_of_life:
        asked.end_of_life.setdefault(look.image.name, told.version)
    return [told.answer]


async def _ask_mirror(ctx: Context, look: Look, network: Network, asked: Asked) -> None:
    """Run apt in the image itself: which fixes it lacks, and which of its packages nobody mends."""
    from pipeline.scan.advisories.answer import SourceInfo
    from pipeline.scan.advisories.sources.debian import DebianEvidence
    from pipeline.scan.advisories.sources.debian_support import command, findings_of, parse_ended
    from pipeline.scan.advisories.sources.local import unavailable
    from pipeline.scan.image.endings import can_ask_mirror
    from pipeline.stages.standing import today

    system = look.inventory.system
    ours = [one for one in placed(look) if one.ecosystem == look.inventory.ecosystem]
    if not can_ask_mirror(system, frozenset(one.name for one in ours)):
        return
    evidence = DebianEvidence()
    commands = [*evidence.commands(), *([command()] if system.id == "debian" else [])]
    try:
        if network.offline:
            raise MirrorNotAsked("the run is offline")
        ran = await _run_inside(ctx, look.image, commands, day=today().isoformat())
    except MirrorNotAsked as error:
        source = SourceInfo(name=evidence.name)
        asked.answers.append(unavailable(source, ours, error.why, is_partial=True))
        return
    asked.answers.append(evidence.read(ours, ran[:1]))
    ended = parse_ended(ran[1].stdout.decode("utf-8", "replace")) if len(ran) > 1 else None
    asked.ended += findings_of(ours, ended or (), today())


async def _run_inside(ctx: Context, image: Image, commands: Sequence[Command], *, day: str) -> list[Ran]:
    """Run commands in an image as root.

    Args:
        day: Without it the engine would give the answers of the first time for ever.

    Raises:
        MirrorNotAsked: The image lacks what runs them.
    """
    import dagger

    from pipeline.stages.tools import run_command

    client = await ctx.dagger()
    container = client.container().import_(client.host().file(str(ctx.path(image.archive))))
    container = container.with_user("root").with_workdir("/").with_env_variable("PIPELINE_DAY", day)
    try:
        return [await run_command(container, one) for one in commands]
    except dagger.QueryError as error:
        why = f"its own tools could not be run: {str(error).splitlines()[0][:200]}"
        raise MirrorNotAsked(why) from error
