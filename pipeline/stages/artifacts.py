"""`artifacts`: checksums, bill of materials, licences of what is delivered, and whether it builds twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pipeline
from pipeline.graph.context import Context, Skip
from pipeline.graph.stage import stage
from pipeline.stages.containers import StageBroken
from pipeline.stages.results import Delivered, Deps, Image, Images, Source, Wheel
from pipeline.text import some

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.graph.context import Artifact
    from pipeline.scan.sbom import Part
    from pipeline.scan.scanner import Scan


@stage(inputs=["pyproject.toml"], timeout_s=1800, despite=["deps", "build", "container_build"])
async def artifacts(
    ctx: Context,
    checkout: Source,
    deps: Deps | None = None,
    build: Wheel | None = None,
    container_build: Images | None = None,
) -> Delivered:
    """Write checksums and a bill of materials of what was built, and judge licences and the second build."""
    from pipeline.scan.sbom import bill_of_materials
    from pipeline.stages.scanning import absent_scans, conclude

    files = delivered(build, container_build)
    if not files and deps is None:
        bad = [f"`{need}` {how}" for need, how in ctx.absent.items()]
        raise Skip("; ".join(["nothing was built, and no package is installed", *bad]))
    lines = [f"{one.digest.removeprefix('sha256:')}  {one.name}\n" for one in files]
    sums = ctx.keep("SHA256SUMS", "".join(lines))
    parts = await parts_of(ctx, deps, build, container_build)
    name = build.name if build is not None else ctx.root.name
    version = build.version if build is not None else checkout.version
    bill = ctx.keep("sbom.cdx.json", bill_of_materials(name, version, parts))
    scans = [licence_scan(parts, dict(ctx.config.get("artifacts", {})))]
    if build is not None and build.differences is not None:
        scans.append(rebuild_scan(build, build.differences))
    scans += absent_scans(ctx, "bill of materials", "parts")
    findings = conclude(ctx, scans, kinds=frozenset({"licence", "quality"}))
    count = len({one.purl for part in parts for one in part.packages})
    ctx.log(f"{some(len(files), 'file')}, {some(count, 'package')} in the bill of materials\n")
    return Delivered(checksums=sums, sbom=bill, components=count, findings=findings)


def delivered(build: Wheel | None, images: Images | None) -> list[Artifact]:
    """Return the files that are delivered, by name."""
    found = [one for one in (build.wheel, build.sdist) if one is not None] if build is not None else []
    found += [one.archive for one in images.images] if images is not None else []
    return sorted(found, key=lambda one: one.name)


async def parts_of(ctx: Context, deps: Deps | None, build: Wheel | None, images: Images | None) -> list[Part]:
    """Return the application and its images, each with the packages in it.

    Raises:
        StageBroken: An image cannot be read: a bill without it would not be whole.
    """
    import anyio

    from pipeline.scan.sbom import Part
    from pipeline.stages.dependency_scan import read_environment

    parts = []
    if deps is not None:
        installed = await read_environment(ctx, deps)
        parts.append(
            Part(
                name=build.name if build is not None else ctx.root.name,
                version=build.version if build is not None else "",
                kind="application",
                packages=installed.packages,
                requires=installed.requires,
            )
        )
    for image in images.images if images is not None else ():
        parts.append(await anyio.to_thread.run_sync(image_part, image, ctx.path(image.archive)))
    return parts


def image_part(image: Image, archive: Path) -> Part:
    """Return an image with the packages in its layers."""
    from pipeline.scan.sbom import Part
    from pipeline.stages.image_scan import Broken, look_into

    look = look_into(image, archive)
    if isinstance(look, Broken):
        raise StageBroken(f"cannot list what is in the image `{image.name}`: {look.why}")
    packages = look.inventory.packages
    return Part(name=image.name, version="", kind="container", packages=packages, digest=image.digest)


def licence_scan(parts: list[Part], settings: Mapping[str, Any]) -> Scan:
    """Return what the licence policy says of the application's packages and, where asked, of the system's."""
    from pipeline.scan.advisories.names import base_of
    from pipeline.scan.licence_policy import OF_SYSTEMS, judge_licences
    from pipeline.scan.packages.package import TYPES
    from pipeline.scan.scanner import Scan, counted

    everything = [one for part in parts for one in part.packages]
    packages = [one for one in everything if one.ecosystem == "PyPI"]
    judged = [("", packages)]
    keys = ("licences_allowed", "licences_denied")
    if any(settings.get(f"system_{key}") for key in keys):
        system = [one for one in everything if TYPES.get(base_of(one.ecosystem)) in OF_SYSTEMS]
        judged.append(("system_", system))
        packages = [*packages, *system]
    found = []
    for prefix, those in judged:
        allowed, denied = (tuple(settings.get(f"{prefix}{key}", ())) for key in keys)
        found += judge_licences(those, allowed=allowed, denied=denied, version=pipeline.__version__)
    names = sorted({f"{one.name} {one.version}" for one in packages})
    coverage = counted("packages", names)
    return Scan(scanner="licences", state="complete", coverage=coverage, findings=tuple(found))


def rebuild_scan(build: Wheel, differences: tuple[str, ...]) -> Scan:
    """Return what the second build says: each file that came out different is a finding."""
    from pipeline.scan.finding import Finding, InFile, Rule, Severity, Witness
    from pipeline.scan.scanner import Scan, counted

    files = [one.name for one in (build.wheel, build.sdist) if one is not None]
    witness = Witness(tool="rebuild", version=pipeline.__version__, rule="not-reproducible")
    found = [
        Finding(
            id="",
            kind="quality",
            rule=Rule(id="not-reproducible"),
            title=f"a second build differs: {one}",
            message=f"a second build, with another hash seed, time zone and user, differs: {one}",
            severity=Severity(level="medium" if ".whl" in one else "low", basis="two builds that differ"),
            place=InFile(path=one.partition(":")[0]),
            confidence="high",
            fix="sort what is listed, and take times from SOURCE_DATE_EPOCH",
            witnesses=(witness,),
        )
        for one in differences
    ]
    return Scan(scanner="rebuild", state="complete", coverage=counted("files", files), findings=tuple(found))
