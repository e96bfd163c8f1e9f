"""`image_scan`: known vulnerabilities, ended support and unsafe settings of the built images."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.graph.context import Context  # noqa: TC001 - read when the graph is checked
from pipeline.graph.stage import stage
from pipeline.stages.results import Findings, Image, Images  # noqa: TC001 - read when the graph is checked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipeline.scan.advisories.answer import SourceAnswer
    from pipeline.scan.finding import Finding
    from pipeline.scan.image.inventory import Inventory
    from pipeline.scan.image.layers import ImageRead
    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import Missed, Scan

KINDS: Final = frozenset({"vulnerability", "misconfiguration", "end-of-life"})
ONLY_LANGUAGES: Final = "what is in it besides packages of languages is not known"
TRIVY_TOKEN: Final = "TRIVY_TOKEN"  # noqa: S105 - the name of a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One image that was read."""

    image: Image
    read: ImageRead
    inventory: Inventory  # its packages lie at `NAME!/PATH`


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """One image that could not be read."""

    image: Image
    why: str


@stage(timeout_s=1800, secrets=[TRIVY_TOKEN])
async def image_scan(ctx: Context, container_build: Images) -> Findings:
    """Read the images layer by layer; judge their packages, their release and how they are set up."""
    import anyio

    from pipeline.stages.dependency_scan import packages_json
    from pipeline.stages.image_sources import ask_about_images
    from pipeline.stages.scanning import conclude
    from pipeline.stages.standing import today

    settings = dict(ctx.config.get("image_scan", {}))
    ctx.depend_on("day", today().isoformat())  # advisories come, and releases end, without a change
    now = datetime.datetime.now(datetime.UTC)
    looks: list[Look] = []
    broken: list[Broken] = []
    for image in container_build.images:
        one = await anyio.to_thread.run_sync(look_into, image, ctx.path(image.archive))
        (looks if isinstance(one, Look) else broken).append(one)  # type: ignore[arg-type]
    asked = await ask_about_images(ctx, looks, settings, now)
    settled, packages = judge_packages(asked.packages, asked.answers, looks, broken)
    ctx.keep("packages.json", packages_json(settled))
    named = frozenset([*asked.named, *dict(ctx.config.get("dependency_scan", {})).get("sources", ())])
    scans = [
        packages,
        *failed_scans(asked.answers, named, packages.reason),
        setup_scan(looks, broken, settings, now),
        ending_scan(looks, broken, asked.ended, asked.end_of_life, today()),
    ]
    return conclude(ctx, scans, kinds=KINDS)


def look_into(image: Image, archive: Path) -> Look | Broken:
    """Read an image and name its packages."""
    from pipeline.scan.image.archive import ImageBroken
    from pipeline.scan.image.inventory import take_inventory
    from pipeline.scan.image.layers import read_image

    try:
        with archive.open("rb") as file:
            read = read_image(file)
    except (ImageBroken, OSError) as error:
        return Broken(image=image, why=str(error))
    return Look(image=image, read=read, inventory=take_inventory(read))


def placed(look: Look) -> list[Package]:
    """The packages of an image, at paths that say which image they are in."""
    return [replace(one, path=f"{look.image.name}!/{one.path}") for one in look.inventory.packages]


def judge_packages(
    packages: Sequence[Package],
    answers: Sequence[SourceAnswer],
    looks: Sequence[Look],
    broken: Sequence[Broken],
) -> tuple[list[Any], Scan]:
    """How each package ends, and the scan that says so."""
    from pipeline.scan.advisories.settle import scan_of, settle
    from pipeline.stages.dependency_scan import with_broken

    settled = settle(packages, answers)
    unread = {one.image.name: one.why for one in broken}
    for look in looks:
        unread |= {f"{look.image.name}!/{one.what}": one.why for one in look.inventory.missed}
        if not look.inventory.packages:
            unread[look.image.name] = "no database of packages and no package of a language was found in it"
        elif not look.inventory.has_database:
            unread[look.image.name] = f"it has no database of packages: {ONLY_LANGUAGES}"
    return settled, with_broken(scan_of(settled, answers), unread)


def failed_scans(answers: Sequence[SourceAnswer], named: frozenset[str], told: str) -> list[Scan]:
    """A scan for each source the project wants that could not do its part; what was told is not repeated."""
    from pipeline.scan.advisories.settle import scans_of_failed

    return [one for one in scans_of_failed(answers, named) if one.reason not in told]


def setup_scan(
    looks: Sequence[Look], broken: Sequence[Broken], settings: Mapping[str, Any], now: datetime.datetime
) -> Scan:
    """How the images are set up."""
    from pipeline.scan.image.setup import DEFAULT_AGE_S, SCANNER, judge_setup

    age_s = float(settings.get("max_base_age_s", DEFAULT_AGE_S))
    found = [
        finding
        for look in looks
        for finding in judge_setup(
            look.read,
            look.inventory,
            name=look.image.name,
            dockerfile=look.image.dockerfile,
            now=now,
            max_age_s=age_s,
        )
    ]
    missed = {f"{look.image.name}: {one.what}": one.why for look in looks for one in look.read.missed}
    return scan_of_images(SCANNER, looks, broken, found, missed)


def ending_scan(
    looks: Sequence[Look],
    broken: Sequence[Broken],
    ended: Sequence[Finding],
    end_of_life: Mapping[str, str],
    today: datetime.date,
) -> Scan:
    """Whether the images' releases, and packages of these, still get fixes.

    Args:
        ended: Findings about packages.
        end_of_life: Images whose release has ended as Trivy says, and its version.
    """
    from pipeline.scan.image.endings import SCANNER, judge_release, why_no_date

    found = list(ended)
    missed: dict[str, str] = {}
    for look in looks:
        name, system = look.image.name, look.inventory.system
        trivy = end_of_life.get(name, "")
        found += judge_release(system, name, look.inventory.ecosystem, today, trivy=trivy)
        why = "" if trivy else why_no_date(system)
        missed |= {name: why} if why else {}
    return scan_of_images(SCANNER, looks, broken, found, missed)


def scan_of_images(
    scanner: str,
    looks: Sequence[Look],
    broken: Sequence[Broken],
    found: Sequence[Finding],
    unread: Mapping[str, str],
) -> Scan:
    """A scan that counts images; one of which a part was not read was not seen whole."""
    from pipeline.scan.scanner import Coverage, Missed, Scan

    missed: list[Missed] = [Missed(what=one.image.name, why=one.why) for one in broken]
    missed += [Missed(what=what, why=why) for what, why in unread.items()]
    partly = {what.partition(": ")[0] for what in unread}
    reason = "; ".join(f"{one.what}: {one.why}" for one in missed[:3])
    return Scan(
        scanner=scanner,
        state="error" if broken and not looks else "incomplete" if missed else "complete",
        coverage=Coverage(
            unit="images",
            expected=len(looks) + len(broken),
            seen=len(looks) - len(partly),
            missed=tuple(missed),
        ),
        findings=tuple(found),
        reason=reason,
        data=tuple(dict.fromkeys(source for one in found for source in one.data)),
    )
