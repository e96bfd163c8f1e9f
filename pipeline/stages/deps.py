"""`deps`: the project's dependencies, installed into a container."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pipeline.detect.python import PythonProject
from pipeline.graph.context import CheckFailed, Context
from pipeline.graph.outcome import Failure
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
    without_caches,
)
from pipeline.stages.results import Deps, Source

if TYPE_CHECKING:
    import dagger

FOLDER: Final = "/deps"
TOOLS: Final = "/opt/tools"
LOCAL_LINE: Final = re.compile(r"^\s*(?:-e\s+|--editable[ =])?(?:\.|file:\.)(?:\[[^]]*\])?\s*(?:#.*)?$")

POETRY_SOURCE: Final = re.compile(r'^type = "(?:git|directory|file|url)"', re.MULTILINE)
EXPORTED: Final = f"{FOLDER}/.exported-requirements.txt"
COMPILING: Final = re.compile(
    r"Getting requirements to build \w+ did not run|Building wheel for .* did not run|Failed to build "
)
ERROR_LINE: Final = re.compile(r"^ERROR: (?P<text>.*?)(?:\. | \(|$)", re.MULTILINE)  # pip's first sentence
TAIL_LINES: Final = 40
HASHED: Final = "--hash="


@stage(timeout_s=1800)
async def deps(ctx: Context, checkout: Source) -> Deps:
    """Install what the project's lock file, requirement files or metadata name; hashes are honoured."""
    import dagger

    project = parse_facts(PythonProject, ctx)
    image = python_image(ctx)
    ctx.log(f"base image {image} (requires-python: {project.requires_python or 'any'})\n")
    container = await with_system_packages(ctx, await python_container(ctx, image))
    container = with_env(container, stage_env(ctx)).with_workdir(FOLDER)
    container = container.with_directory(FOLDER, await source(ctx))
    container = install(container, project, ctx)
    if extra := [str(one) for one in ctx.options.get("tools", ())]:
        container = container.with_exec(["pip", "install", *extra])
    container = without_caches(container)
    container = container.with_exec(["pip", "freeze", "--all"])
    try:
        frozen = await container.stdout()
    except dagger.ExecError as error:
        raise CheckFailed(failure(error, image)) from error
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


def failure(error: dagger.ExecError, image: str) -> Failure:
    """Return why the installation failed; where a package had to be compiled, with what may help."""
    said = f"{error.stdout}\n{error.stderr}"
    command = tuple(str(word) for word in error.command)
    hint = ""
    if COMPILING.search(said):
        hint = (
            f"a package has no ready-made wheel for {image}: another Python is chosen by `python` in "
            "[tool.pipeline.images], compilers and libraries are added by `system_packages` in "
            "[tool.pipeline.stages.deps]"
        )
    message = f"`{command[0] if command else 'a command'}` ended with exit code {error.exit_code}"
    if why := ERROR_LINE.search(error.stderr):
        message = f"{message}: {why['text']}"
    return Failure(
        message=message,
        error_class="InstallFailed",
        command=command,
        exit_code=error.exit_code,
        tail=tuple((error.stderr if error.stderr.strip() else error.stdout).splitlines()[-TAIL_LINES:]),
        hint=hint,
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
    is_hashed = False
    for name in project.requirement_files:
        text = (ctx.root / name).read_text(encoding="utf-8", errors="replace")
        container = _with_requirements(container, name, text)
        is_hashed = is_hashed or HASHED in text
    if is_hashed:
        container = container.with_exec(["pip", "check"])
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
    return container.with_exec(argv).with_exec(["pip", "install", "--no-deps", "-r", EXPORTED])


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
    all_ = ["--all-packages"] if project.workspace else []
    argv = [f"{TOOLS}/bin/uv", "sync", "--frozen", "--inexact", "--no-install-workspace"]
    argv += [*all_, *extras, *groups]
    return with_env(container, env).with_exec(argv)


def _with_requirements(container: dagger.Container, name: str, text: str) -> dagger.Container:
    """Install one requirements file; lines that name the project itself are left for later stages.

    A file with hashes names everything there is: nothing is resolved, which pip before 23.3 does wrongly for
    extras as soon as a newer version is out. What such a file lacks `pip check` tells.
    """
    kept = [line for line in text.splitlines() if not LOCAL_LINE.match(line)]
    if len(kept) != len(text.splitlines()):
        container = container.with_new_file(f"{FOLDER}/{name}", "\n".join(kept) + "\n")
    whole = ["--no-deps"] if HASHED in text else []
    return container.with_exec(["pip", "install", *whole, "-r", name])
