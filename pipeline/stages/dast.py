"""`dast`: what can be seen to be unsafe in the application while it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.graph.context import Context, SecretUnknown
from pipeline.graph.stage import stage
from pipeline.stages.results import (  # noqa: TC001 - read when the graph is checked
    Deps,
    Findings,
    Images,
    Source,
)

if TYPE_CHECKING:
    from pipeline.config import DastSettings
    from pipeline.scan.dast.passive import Passive
    from pipeline.scan.dast.schemathesis import Schemathesis
    from pipeline.scan.dast.wapiti import Wapiti
    from pipeline.scan.scanner import Scan
    from pipeline.stages.dast_target import Aimed

ZAP_KEY: Final = "ZAP_API_KEY"
LOCKS: Final = {"schemathesis": "schemathesis", "wapiti": "wapiti3"}  # scanner to lock file


@stage(timeout_s=3600, secrets=[ZAP_KEY])
async def dast(
    ctx: Context, checkout: Source, container_build: Images | None = None, deps: Deps | None = None
) -> Findings:
    """Start the application, look at it from outside, and judge what was found as one."""
    from pipeline.config import DastSettings
    from pipeline.stages.dast_target import aimed
    from pipeline.stages.scanning import conclude

    given: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in ctx.config["dast"].items()
    }
    settings = DastSettings(**given)
    wanted = wanted_scanners(settings)
    tools = [LOCKS[name] for name in wanted if name in LOCKS]
    async with aimed(ctx, settings, container_build, deps, tools) as target:
        scans = [scan for name in wanted if (scan := await look(ctx, target, settings, name)) is not None]
        await target.keep_log()
    return conclude(ctx, scans, kinds=frozenset({"dast"}))


def wanted_scanners(settings: DastSettings) -> list[str]:
    """Which scanners look, always in the same order: the first names what several saw."""
    if settings.scanners:
        return [name for name in ("passive", "schemathesis", "wapiti", "zap") if name in settings.scanners]
    wanted = ["passive", "schemathesis"]
    if settings.active:
        wanted.append("wapiti")
    if settings.zap:
        wanted.append("zap")
    return wanted


async def look(ctx: Context, target: Aimed, settings: DastSettings, name: str) -> Scan | None:
    """One scanner's answer, the service's health asked for afterwards; None where it does not apply."""
    if (refused := cannot_look(ctx, target, settings, name)) is not None:
        return refused
    if name == "schemathesis" and target.aim.description is None:
        return None
    if name == "zap":
        from pipeline.scan.dast.zap import Zap

        scan = await Zap(str(settings.zap), _zap_key(ctx)).scan(target.aim)
    else:
        scan = await target.run(scanner_of(name), LOCKS.get(name))
    if problem := await target.problem():
        return replace(scan, state="error", reason=f"{problem} while {name} looked at it")
    return scan


def cannot_look(ctx: Context, target: Aimed, settings: DastSettings, name: str) -> Scan | None:
    """Why a scanner that was asked for cannot look; None when it can."""
    from pipeline.scan.scanner import Coverage, broken

    nothing = Coverage(unit="operations" if name == "schemathesis" else "pages", expected=1, seen=0)
    if name == "schemathesis" and target.aim.description is None:
        said = "the service has no OpenAPI description"
        if settings.openapi is not None:
            return broken(name, nothing, f"`{settings.openapi}` is no OpenAPI description")
        if "schemathesis" in settings.scanners:
            hint = "name it by `openapi` in [tool.pipeline.dast]"
            return broken(name, nothing, said, state="unavailable", hint=hint)
        ctx.warn(f"only what pages link to was looked at: {said}")
    if name == "wapiti" and not settings.active:
        reason = "wapiti only attacks, and `active` is not set"
        return broken(name, nothing, reason, state="unavailable", hint="set `active = true`")
    if name == "zap" and (settings.zap is None or settings.address is None):
        reason = "ZAP needs `zap`, its own address, and `address`, a service that it can reach"
        return broken(name, nothing, reason, state="unavailable")
    return None


def scanner_of(name: str) -> Passive | Schemathesis | Wapiti:
    """The scanner of a name."""
    from pipeline.scan.dast.passive import Passive
    from pipeline.scan.dast.schemathesis import Schemathesis
    from pipeline.scan.dast.wapiti import Wapiti

    known = (Passive(), Schemathesis(), Wapiti())
    return next(one for one in known if one.name == name)


def _zap_key(ctx: Context) -> str:
    try:
        return ctx.secret(ZAP_KEY)
    except SecretUnknown:
        return ""  # ZAP may be started without one
