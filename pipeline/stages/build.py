"""`build`: the project's wheel and source distribution."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from pipeline.detect.python import PythonProject
from pipeline.graph.context import Context  # noqa: TC001 - read when the graph is checked
from pipeline.graph.stage import stage
from pipeline.stages.containers import (
    SOURCE,
    StageBroken,
    parse_facts,
    source,
    stage_env,
    take,
    with_env,
    with_system_packages,
    with_version,
)
from pipeline.stages.files import keep_files
from pipeline.stages.results import Deps, Source, Wheel

BUILDER: Final = "/opt/build"
EPOCH_S: Final = 315532800  # 1980-01-01, the earliest time a zip file can hold


@stage(timeout_s=1200)
async def build(ctx: Context, checkout: Source, deps: Deps) -> Wheel:
    """Build a wheel and a source distribution, or run the project's own command."""
    project = parse_facts(PythonProject, ctx)
    container = await with_system_packages(ctx, await take(ctx, deps.container))
    command = tuple(ctx.options.get("command", ()))
    if not command:
        container = container.with_exec(["python3", "-m", "venv", BUILDER])
        container = container.with_exec([f"{BUILDER}/bin/pip", "install", "build"])
    container = container.with_directory(SOURCE, await source(ctx)).with_workdir(SOURCE)
    container = with_env(container, {"SOURCE_DATE_EPOCH": str(EPOCH_S), **stage_env(ctx)})
    container = with_version(ctx, container)
    args = [str(one) for one in ctx.options.get("args", ())]
    argv = list(command) or [f"{BUILDER}/bin/python", "-m", "build", "--outdir", "dist"]
    container = container.with_exec([*argv, *args])
    with tempfile.TemporaryDirectory() as folder:
        await container.directory(f"{SOURCE}/dist").export(folder)
        return keep_distributions(ctx, Path(folder), project.name)


def keep_distributions(ctx: Context, folder: Path, name: str) -> Wheel:
    """Keep what was built.

    Raises:
        StageBroken: The command ended well but left no distribution.
    """
    kept = keep_files(ctx, folder)
    wheels = [file for file in kept if file.endswith(".whl")]
    sdists = [file for file in kept if file.endswith((".tar.gz", ".zip"))]
    if not wheels and not sdists:
        raise StageBroken("cannot find what was built: `dist` has no wheel and no source distribution")
    version = wheels[0].split("-")[1] if wheels else sdists[0].rpartition("-")[2].removesuffix(".tar.gz")
    ctx.log(f"built {', '.join(kept)}\n")
    return Wheel(
        name=name or (wheels or sdists)[0].split("-")[0],
        version=version,
        wheel=kept[wheels[0]] if wheels else None,
        sdist=kept[sdists[0]] if sdists else None,
    )
