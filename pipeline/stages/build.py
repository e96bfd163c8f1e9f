"""`build`: the project's wheel and source distribution."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.detect.python import PythonProject
from pipeline.graph.context import CheckFailed, Context
from pipeline.graph.stage import stage
from pipeline.stages.containers import (
    SOURCE,
    parse_facts,
    source,
    stage_env,
    take,
    with_env,
    with_system_packages,
    with_version,
)
from pipeline.stages.failures import build_failure
from pipeline.stages.files import keep_files
from pipeline.stages.results import Deps, Source, Wheel
from pipeline.stages.sdist import differing_members, normalise_sdists

if TYPE_CHECKING:
    import dagger

BUILDER: Final = "/opt/build"
NOTHING_BUILT: Final = "cannot find what was built: `dist` has no wheel and no source distribution"
EPOCH_S: Final = 315532800  # 1980-01-01, the earliest time a zip file can hold


@stage(timeout_s=1200)
async def build(ctx: Context, checkout: Source, deps: Deps) -> Wheel:
    """Build a wheel and a source distribution, or run the project's own command; twice, to compare."""
    project = parse_facts(PythonProject, ctx)
    container = await prepare(ctx, deps)
    command = tuple(str(one) for one in ctx.options.get("command", ()))
    args = [str(one) for one in ctx.options.get("args", ())]
    argv = [*(command or (f"{BUILDER}/bin/python", "-m", "build", "--outdir", "dist")), *args]
    with tempfile.TemporaryDirectory() as place:
        first, second = Path(place) / "first", Path(place) / "second"
        await built(container, argv, first, is_ours=not command)
        differences = None
        if dict(ctx.config.get("artifacts", {})).get("build_twice", True):
            # Another seed for sets and dictionaries, another zone, another name: what must not be in there.
            other = with_env(container, {"PYTHONHASHSEED": "1", "TZ": "Pacific/Auckland", "LOGNAME": "other"})
            await built(other, argv, second, is_ours=not command)
            differences = compare(first, second)
        return replace(keep_distributions(ctx, first, project.name), differences=differences)


async def prepare(ctx: Context, deps: Deps) -> dagger.Container:
    """Return the container that the build runs in, with the builder and the project's files."""
    container = await with_system_packages(ctx, await take(ctx, deps.container))
    if not ctx.options.get("command"):
        container = container.with_exec(["python3", "-m", "venv", BUILDER])
        container = container.with_exec([f"{BUILDER}/bin/pip", "install", "build"])
    container = container.with_directory(SOURCE, await source(ctx)).with_workdir(SOURCE)
    container = with_env(container, {"SOURCE_DATE_EPOCH": str(EPOCH_S), **stage_env(ctx)})
    return with_version(ctx, container)


async def built(container: dagger.Container, argv: list[str], folder: Path, *, is_ours: bool) -> None:
    """Build, and put what is in `dist` into a folder; our own build's source distributions are normalised.

    Raises:
        CheckFailed: The command failed, or left no folder `dist`.
    """
    import anyio
    import dagger

    try:
        left = await container.with_exec(argv).sync()
    except dagger.ExecError as error:
        if list(error.command) != argv:
            raise  # what prepares the container is not the project's
        raise CheckFailed(build_failure(error)) from error
    if "dist/" not in await left.directory(SOURCE).entries():
        raise CheckFailed(NOTHING_BUILT)
    await left.directory(f"{SOURCE}/dist").export(str(folder))
    if is_ours:
        await anyio.to_thread.run_sync(normalise_sdists, folder, EPOCH_S)


def compare(first: Path, second: Path) -> tuple[str, ...]:
    """Return what differs between two builds: files, and members of those that both have."""
    names = sorted({path.name for folder in (first, second) for path in folder.iterdir() if path.is_file()})
    found: list[str] = []
    for name in names:
        if not (first / name).exists() or not (second / name).exists():
            found.append(f"{name}: only one build made it")
        elif (first / name).read_bytes() != (second / name).read_bytes():
            members = differing_members(first / name, second / name)
            found.append(f"{name}: {', '.join(members[:5]) or 'order or times of its members'}")
    return tuple(found)


def keep_distributions(ctx: Context, folder: Path, name: str) -> Wheel:
    """Keep what was built.

    Raises:
        CheckFailed: The command ended well but left no distribution.
    """
    kept = keep_files(ctx, folder)
    wheels = [file for file in kept if file.endswith(".whl")]
    sdists = [file for file in kept if file.endswith((".tar.gz", ".zip"))]
    if not wheels and not sdists:
        raise CheckFailed(NOTHING_BUILT)
    version = wheels[0].split("-")[1] if wheels else sdists[0].rpartition("-")[2].removesuffix(".tar.gz")
    ctx.log(f"built {', '.join(kept)}\n")
    return Wheel(
        name=name or (wheels or sdists)[0].split("-")[0],
        version=version,
        wheel=kept[wheels[0]] if wheels else None,
        sdist=kept[sdists[0]] if sdists else None,
    )
