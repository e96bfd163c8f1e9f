"""Containers as the stages use them: the project's files, a Python, and results that hold a container."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import PipelineError
from pipeline.graph.context import NeedGone
from pipeline.graph.inputs import WALK_LEAVES_OUT, project_files
from pipeline.stages.results import Held

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import dagger

    from pipeline.graph.context import Context

SOURCE: Final = "/src"
VENV: Final = "/venv"
GIT_LIMIT_S: Final = 60.0
ENV: Final = {
    "VIRTUAL_ENV": VENV,
    "PATH": f"{VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PYTHONUNBUFFERED": "1",
}
# By these variables setuptools-scm, hatch-vcs and the dynamic versioning of uv and Poetry are told a version.
TELL_VERSION: Final = (
    "SETUPTOOLS_SCM_PRETEND_VERSION",
    "UV_DYNAMIC_VERSIONING_BYPASS",
    "POETRY_DYNAMIC_VERSIONING_BYPASS",
)
# Of the project's own installations: the tools that check it have theirs.
CACHES: Final = {"/root/.cache/pip": "deps-pip", "/root/.cache/uv": "deps-uv"}
APT_CACHES: Final = {"/var/cache/apt": "apt-archives", "/var/lib/apt/lists": "apt-lists"}
# Images for containers remove archives after each installation, which would empty the cache volume.
APT_INSTALL: Final = """set -e
export DEBIAN_FRONTEND=noninteractive
rm -f /etc/apt/apt.conf.d/docker-clean
apt-get update
apt-get install -y --no-install-recommends -o APT::Keep-Downloaded-Packages=true -- "$@"
"""


class StageBroken(PipelineError):
    """A stage cannot do its work: what it checks was not checked."""


async def source(
    ctx: Context, *, include: Sequence[str] | None = None, without: Sequence[str] = ()
) -> dagger.Directory:
    """Return the stage's declared inputs as they are in the working tree, tracked files only.

    What a stage does not declare it does not see: that keeps its key honest.

    Args:
        include: Globs in place of the stage's inputs.
        without: Paths that are left out.
    """
    client = await ctx.dagger()
    globs = list(include if include is not None else ctx.inputs or ())
    unwanted = [glob[1:] for glob in globs if glob.startswith("!")]
    return client.host().directory(
        str(ctx.root),
        include=[glob for glob in globs if not glob.startswith("!")],
        exclude=["**/.git", ".pipeline", *untracked(ctx.root), *unwanted, *map(escaped, without)],
    )


def untracked(root: Path) -> list[str]:
    """Return patterns for everything in `root` that git does not track; outside git, the usual litter.

    Submodules count as part of the project: their own tracked files stay.

    Raises:
        StageBroken: Git gives no answer in time.
    """
    if not project_files(root).from_git:
        return [f"**/{name}" for name in sorted(WALK_LEAVES_OUT)]
    names = _untracked_names(root)
    return [escaped(name) for name in names]


def escaped(path: str) -> str:
    """Return the pattern that only this path matches."""
    return re.sub(r"([\\*?\[\]!])", r"\\\1", path)


def _untracked_names(root: Path) -> list[str]:
    argv = ["git", "ls-files", "--others", "--directory", "-z"]
    try:
        done = subprocess.run(argv, cwd=root, capture_output=True, timeout=GIT_LIMIT_S, check=True)
    except subprocess.TimeoutExpired as error:
        raise StageBroken(
            f"cannot list the files of `{root}`: git took longer than {GIT_LIMIT_S} s"
        ) from error
    except subprocess.CalledProcessError as error:
        raise StageBroken(f"cannot list the files of `{root}`: git said: {error.stderr.decode()}") from error
    names = [name.rstrip("/") for name in done.stdout.decode("utf-8", "surrogateescape").split("\0") if name]
    for module in project_files(root).submodules:
        if (root / module / ".git").exists():
            names += [f"{module}/{name}" for name in _untracked_names(root / module)]
    return names


async def python_container(ctx: Context, image: str) -> dagger.Container:
    """Return a container of a Python image with a virtual environment that comes first in PATH.

    It sees the caches of pip and uv: `without_caches` before any code of the project runs.
    """
    client = await ctx.dagger()
    container = client.container().from_(image).with_exec(["python3", "-m", "venv", VENV])
    container = with_env(container, ENV)
    for path, volume in CACHES.items():
        container = container.with_mounted_cache(path, client.cache_volume(volume))
    return container.with_workdir(SOURCE)


def without_caches(container: dagger.Container) -> dagger.Container:
    """Take the caches of installers away: what a test or a build wrote there would be installed later."""
    for path in CACHES:
        container = container.without_mount(path)
    return container


async def with_system_packages(ctx: Context, container: dagger.Container) -> dagger.Container:
    """Install the Debian packages the project's configuration names for this stage."""
    names = [str(name) for name in ctx.options.get("system_packages", ())]
    return await with_debian_packages(ctx, container, names) if names else container


async def with_debian_packages(
    ctx: Context, container: dagger.Container, names: Sequence[str]
) -> dagger.Container:
    """Install Debian packages. Lists and archives of apt stay in cache volumes, never in the container."""
    import dagger

    client = await ctx.dagger()
    for path, volume in APT_CACHES.items():
        cache = client.cache_volume(volume)
        container = container.with_mounted_cache(path, cache, sharing=dagger.CacheSharingMode.LOCKED)
    container = container.with_exec(["sh", "-c", APT_INSTALL, "apt", *names])
    for path in APT_CACHES:
        container = container.without_mount(path)
    return container


def with_env(container: dagger.Container, env: Mapping[str, str]) -> dagger.Container:
    """Set several variables."""
    for name, value in env.items():
        container = container.with_env_variable(name, value)
    return container


def with_version(ctx: Context, container: dagger.Container) -> dagger.Container:
    """Tell build backends that read the version from tags which one it is: no repository is in there."""
    version = str(ctx.options.get("version", ""))
    return with_env(container, dict.fromkeys(TELL_VERSION, version)) if version else container


def stage_env(ctx: Context) -> dict[str, str]:
    """Return the variables the project's configuration sets for this stage."""
    return {str(name): str(value) for name, value in dict(ctx.options.get("env", {})).items()}


def python_image(ctx: Context) -> str:
    """Return the Python image for the project: the configured version, else by `requires-python`."""
    from pipeline.connect import python_image_for

    wanted = ctx.options.get("python_version")
    return f"python:{wanted}-slim" if wanted else python_image_for(str(ctx.options["requires_python"]))


async def hold(ctx: Context, container: dagger.Container) -> Held:
    """Evaluate a container and return what it is known by."""
    container = await container.sync()
    return Held(id=str(await container.id()), stage=ctx.stage)


async def take(ctx: Context, held: Held) -> dagger.Container:
    """Return a container that a needed stage made.

    Raises:
        NeedGone: The engine no longer has it: the scheduler makes that stage again.
    """
    import dagger

    client = await ctx.dagger()
    container = client.load_container_from_id(dagger.ContainerID(held.id))
    try:
        return await container.sync()
    except dagger.QueryError as error:
        raise NeedGone(held.stage, str(error).splitlines()[0]) from error


def parse_facts(kind: type[Any], ctx: Context) -> Any:
    """Return the facts about the project that the stage was given in its options."""
    table = dict(ctx.options["facts"])
    return kind(**{name: _frozen(value) for name, value in table.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
