"""`release`: what was built goes out as a version: tagged, attested, shown."""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pipeline.graph.context import Context, SecretUnknown, Skip
from pipeline.graph.stage import stage
from pipeline.stages.results import Delivered, Images, Released, Source, Wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.config.release import ReleaseSettings
    from pipeline.graph.context import Artifact
    from pipeline.release.plan import ReleasePlan

# Those of the forges and of the index; what is not set is not needed, or is missed where it is.
SECRETS: Final = (
    *("GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN"),
    *("UV_PUBLISH_TOKEN", "UV_PUBLISH_PASSWORD", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
)


@stage(effect=True, secrets=SECRETS, timeout_s=3600)
async def release(
    ctx: Context,
    checkout: Source,
    build: Wheel | None = None,
    container_build: Images | None = None,
    artifacts: Delivered | None = None,
) -> Released:
    """Release the commit: notes, files, attestation and tag; or complete a release that ended half done."""
    import anyio.to_thread

    images = {one.name: one.digest for one in container_build.images} if container_build is not None else {}
    files = [one for one in (build.wheel, build.sdist) if one is not None] if build is not None else []
    bill = artifacts.sbom if artifacts is not None else None
    if not checkout.commit:
        raise Skip("a version is that of a commit, and this is no git repository")
    return await anyio.to_thread.run_sync(partial(carry_out, ctx, files, images, bill))


def carry_out(
    ctx: Context, files: list[Artifact], images: Mapping[str, str], bill: Artifact | None
) -> Released:
    """Plan and publish; what is done already stays as it is.

    Raises:
        Skip: No version comes next.
        PipelineError: As `make_plan` and `publish` tell it.
    """
    from dataclasses import replace

    from pipeline.release.places import find_places, folder_of, last_bill, project_name
    from pipeline.release.plan import ATTESTATION_FILE, NothingToRelease, Request, make_plan
    from pipeline.release.publish import publish
    from pipeline.release.repository import Repository

    settings = settings_of(ctx.config.get("release", {}))
    repository = Repository(root=ctx.root)
    state = ctx.root / ".pipeline"
    trust = str(dict(ctx.config.get("network", {})).get("ca_bundle") or "")
    places = find_places(repository, settings, state, environment_of(ctx), trust)
    request = Request(
        name=project_name(ctx.root),
        files=named(ctx, files, state / "releases" / "files"),
        images=images,
        sbom=ctx.path(bill) if bill is not None else None,
        previous_sbom=last_bill(places.forge),
    )
    made = make_plan(repository, settings, request)
    if isinstance(made, NothingToRelease):
        raise Skip(f"nothing to release: {made.why}")
    ctx.log(f"{made.name} {made.version} as {made.tag}: {made.why}\nplan {made.digest}\n")
    folder = folder_of(state, made.tag)
    told = publish(made, replace(places, folder=folder), lambda step, moment: tell(ctx, step, moment))
    return kept(ctx, made, told, folder / ATTESTATION_FILE)


def tell(ctx: Context, step: str, moment: str) -> None:
    """Log what became of a step."""
    if moment != "begins":
        ctx.log(f"{step}: {'done already' if moment == 'found' else moment}\n")


def kept(ctx: Context, made: ReleasePlan, told: Mapping[str, str], attestation: Path) -> Released:
    """Keep the evidence in the run folder and return what was released."""
    return Released(
        tag=made.tag,
        version=str(made.version),
        commit=made.commit,
        plan=made.digest,
        steps=dict(told),
        notes=ctx.keep("notes.md", made.notes),
        attestation=ctx.keep(attestation.name, attestation),
    )


def named(ctx: Context, files: list[Artifact], folder: Path) -> list[Path]:
    """Lay files under the names they are released by; artifacts lie under their digests."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for one in files:
        path = folder / one.name.rpartition("/")[2]
        shutil.copyfile(ctx.path(one), path)
        found.append(path)
    return found


def environment_of(ctx: Context) -> dict[str, str]:
    """Return the process's variables, and the secrets that have values here."""
    found = dict(os.environ)
    for name in ctx.secrets:
        try:
            found[name] = ctx.secret(name)
        except SecretUnknown:
            continue  # most releases need one of them, or none
    return found


def settings_of(table: Mapping[str, Any]) -> ReleaseSettings:
    """Make settings again of what `dataclasses.asdict` made of them; arrays may be lists."""
    from pipeline.config.release import ReleaseSettings

    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in table.items()
    }
    return ReleaseSettings(**values)
