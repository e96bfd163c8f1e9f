"""`deps`: the project's dependencies, installed into a container."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pipeline.detect.python import PythonProject
from pipeline.graph.context import Context  # noqa: TC001 - read when the graph is checked
from pipeline.graph.stage import stage
from pipeline.stages.containers import (
    hold,
    parse_facts,
    python_container,
    python_image,
    source,
    stage_env,
    with_env,
    with_system_packages,
)
from pipeline.stages.results import Deps, Source

if TYPE_CHECKING:
    import dagger

FOLDER: Final = "/deps"
TOOLS: Final = "/opt/tools"
LOCAL_LINE: Final = re.compile(r"^\s*(?:-e\s+|--editable[ =])?(?:\.|file:\.)(?:\[[^]]*\])?\s*(?:#.*)?$")

POETRY_SOURCE: Final = re.compile(r'^type = "(?:git|directory|file|url)"', re.MULTILINE)
EXPORTED: Final = f"{FOLDER}/.exported-requirements.txt"


@stage(timeout_s=1800)
async def deps(ctx: Context, checkout: Source) -> Deps:
    """Install what the project's lock file, requirement files or metadata name; hashes are honoured."""
    project = parse_facts(PythonProject, ctx)
    image = python_image(ctx)
    ctx.log(f"base image {image} (requires-python: {project.requires_python or 'any'})\n")
    container = await with_system_packages(ctx, await python_container(ctx, image))
    container = with_env(container, stage_env(ctx)).with_workdir(FOLDER)
    container = container.with_directory(FOLDER, await source(ctx))
    container = install(container, project, ctx)
    if extra := [str(one) for one in ctx.options.get("tools", ())]:
        container = container.with_exec(["pip", "install", *extra])
    container = container.with_exec(["pip", "freeze", "--all"])
    frozen = await container.stdout()
    python = (await container.with_exec(["python", "-V"]).stdout()).split()[-1]
    ctx.keep("packages.txt", frozen)
    packages = len(frozen.splitlines())
    ctx.log(f"Python {python}, {packages} packages, installed with {project.installer}\n")
    return Deps(
        container=await hold(ctx, container),
        image=image,
        python=python,
        installer=project.installer,
        packages=packages,
        complete=not (project.installer == "metadata" and project.has_dynamic_dependencies),
    )


def install(container: dagger.Container, project: PythonProject, ctx: Context) -> dagger.Container:
    """Describe the installation with the project's own installer."""
    if project.installer == "uv":
        return _with_uv(container, project)
    if project.installer == "poetry":
        return _with_poetry(container, project, ctx)
    if project.installer == "pdm":
        container = _tool(container, "pdm")
        return container.with_exec([f"{TOOLS}/bin/pdm", "sync", "--no-self", "--no-editable", "-G:all"])
    for name in project.requirement_files:
        container = _with_requirements(container, name, ctx)
    if project.requirements:
        text = "\n".join(project.requirements) + "\n"
        container = container.with_new_file(f"{FOLDER}/.project-requirements.txt", text)
        container = container.with_exec(["pip", "install", "-r", ".project-requirements.txt"])
    return container


def _with_poetry(container: dagger.Container, project: PythonProject, ctx: Context) -> dagger.Container:
    """Install what `poetry.lock` names, with its hashes.

    pip installs it: unlike Poetry it takes the package index, the proxy and the certificates of the
    network settings. Only a lock that names repositories or folders is left to Poetry itself.
    """
    container = _tool(container, "poetry", "poetry-plugin-export")
    lock = (ctx.root / "poetry.lock").read_text(encoding="utf-8", errors="replace")
    if POETRY_SOURCE.search(lock):
        return container.with_exec([f"{TOOLS}/bin/poetry", "install", "--no-root", "--no-interaction"])
    groups = [word for name in project.test_groups for word in ("--with", name)]
    extras = [word for name in project.test_extras for word in ("--extras", name)]
    argv = [f"{TOOLS}/bin/poetry", "export", "--no-interaction", "--output", EXPORTED, *groups, *extras]
    return container.with_exec(argv).with_exec(["pip", "install", "-r", EXPORTED])


def _tool(container: dagger.Container, *names: str) -> dagger.Container:
    """Install a tool beside the project's environment, so that neither sees the other's packages."""
    make = ["python3", "-m", "venv", TOOLS]
    return container.with_exec(make).with_exec([f"{TOOLS}/bin/pip", "install", *names])


def _with_uv(container: dagger.Container, project: PythonProject) -> dagger.Container:
    container = _tool(container, "uv")
    env = {
        "UV_PROJECT_ENVIRONMENT": "/venv",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_LINK_MODE": "copy",
        "UV_NATIVE_TLS": "true",
    }
    extras = [word for name in project.test_extras for word in ("--extra", name)]
    groups = [word for name in project.test_groups for word in ("--group", name)]
    argv = [f"{TOOLS}/bin/uv", "sync", "--frozen", "--inexact", "--no-install-workspace", *extras, *groups]
    return with_env(container, env).with_exec(argv)


def _with_requirements(container: dagger.Container, name: str, ctx: Context) -> dagger.Container:
    """Install one requirements file; lines that name the project itself are left for later stages."""
    text = (ctx.root / name).read_text(encoding="utf-8", errors="replace")
    kept = [line for line in text.splitlines() if not LOCAL_LINE.match(line)]
    if len(kept) != len(text.splitlines()):
        container = container.with_new_file(f"{FOLDER}/{name}", "\n".join(kept) + "\n")
    return container.with_exec(["pip", "install", "-r", name])
