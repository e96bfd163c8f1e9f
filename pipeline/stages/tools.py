"""Tools in containers: installed from locks of ours, run with an empty home and within limits.

What a tool said is handed to its scanner as it is; nothing here judges an exit code.
"""

from __future__ import annotations

import re
import tempfile
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from pipeline.digest import digest_bytes
from pipeline.errors import PipelineError
from pipeline.scan.scanner import Ran, Scan, Target, broken, counted
from pipeline.stages.containers import SOURCE, source, with_env

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import dagger

    from pipeline.graph.context import Context
    from pipeline.scan.scanner import Command, CommandScanner

HOME: Final = "/home/scan"  # empty: no setting of a user leaks in
OUT: Final = "/scan-out"
MOST_BYTES: Final = 64 * 1024**2  # of one output that is read; more is garbage or an attack
LOCKS: Final = "tools"  # folder of pipeline/scan with a hash-locked requirements file for each tool
# What a tool says goes to files and not to the log: it may quote secrets, and there may be much of it.
# It is killed when its time is over, so that what it said till then can still be read.
RUN: Final = (
    f'mkdir -p {OUT} {HOME}; limit="$1"; shift; '
    f'exec timeout --kill-after=5 "$limit" "$@" >{OUT}/stdout 2>{OUT}/stderr'
)
PIP: Final = ("python3", "-m", "pip", "--quiet", "--disable-pip-version-check", "--python")
INSTALL: Final = (
    "install",
    "--no-deps",
    "--require-hashes",
    "--only-binary=:all:",
    "--root-user-action=ignore",
)
TIMED_OUT: Final = (124, 137)


class NoSuchTool(PipelineError):
    """There is no lock file for a tool."""

    def __init__(self, tool: str) -> None:
        super().__init__(f"cannot install `{tool}`: there is no lock file for it in pipeline/scan/{LOCKS}")


def tool_lock(tool: str) -> str:
    """The hash-locked requirements of a tool.

    Raises:
        NoSuchTool: None is packaged.
    """
    path = files("pipeline.scan").joinpath(LOCKS, f"{tool}.txt")
    if not path.is_file():
        raise NoSuchTool(tool)
    return path.read_text(encoding="utf-8")


def locked_version(tool: str) -> str:
    """The version of a tool in its lock; "" where the lock names it differently."""
    found = re.search(rf"^{re.escape(tool)}(?:-bin|-py)?==(\S+)", tool_lock(tool), re.MULTILINE)
    return found[1] if found else ""


async def tool_container(ctx: Context, *tools: str, image: str | None = None) -> dagger.Container:
    """Return a container with these tools on its path, each in an environment of its own.

    Their locks become part of the stage's key.

    Raises:
        NoSuchTool: One has no lock file.
    """
    client = await ctx.dagger()
    container = client.container().from_(image or tool_image(ctx))
    container = container.with_mounted_cache("/root/.cache/pip", client.cache_volume("pip"))
    for tool in tools:
        lock = tool_lock(tool)
        ctx.depend_on(f"lock {tool}", digest_bytes(lock.encode()))
        venv = f"/opt/tools/{tool}"
        container = container.with_exec(["python3", "-m", "venv", "--without-pip", venv])
        container = container.with_new_file(f"{venv}/lock.txt", lock)
        container = container.with_exec([*PIP, f"{venv}/bin/python", *INSTALL, "-r", f"{venv}/lock.txt"])
    path = ":".join([*(f"/opt/tools/{tool}/bin" for tool in tools), "/usr/local/bin:/usr/bin:/bin"])
    return with_env(container, {"PATH": path, "HOME": HOME, "PYTHONDONTWRITEBYTECODE": "1"})


def tool_image(ctx: Context) -> str:
    """Return the image tools run on: a plain Python, whatever the project asks for."""
    return str(ctx.options.get("tool_image", "python:3.11-slim"))


async def with_project(ctx: Context, container: dagger.Container) -> dagger.Container:
    """Put the project's tracked files at `/src`, for reading."""
    return container.with_mounted_directory(SOURCE, await source(ctx)).with_workdir(SOURCE)


async def run_command(container: dagger.Container, command: Command) -> Ran:
    """Run a tool, whatever its exit code, and take what it left."""
    import dagger

    ready = with_env(container, command.env)
    for path, text in command.files.items():
        ready = ready.with_new_file(path, text)
    argv = ["sh", "-c", RUN, "run", f"{command.timeout_s:g}", *command.argv]
    ran = ready.with_exec(argv, stdin=command.stdin, expect=dagger.ReturnType.ANY)
    code = await ran.exit_code()
    outputs = {path: f"output-{index}" for index, path in enumerate(command.outputs)}
    with tempfile.TemporaryDirectory() as folder:
        await ran.directory(OUT).export(folder)
        stdout, is_cut = _read(Path(folder) / "stdout")
        stderr, _ = _read(Path(folder) / "stderr")
        found: dict[str, bytes] = {}
        for path in outputs:
            parent, name = str(PurePosixPath(path).parent), PurePosixPath(path).name
            if name not in await ran.directory(parent).entries():
                continue
            place = Path(folder) / outputs[path]
            await ran.file(path).export(str(place))
            found[path], cut = _read(place)
            is_cut = is_cut or cut
    ended = None if code in TIMED_OUT else code
    return Ran(exit_code=ended, stdout=stdout, stderr=stderr, files=found, is_cut=is_cut)


def _read(path: Path) -> tuple[bytes, bool]:
    """The first bytes of a file, and whether there are more."""
    if not path.exists():
        return b"", False
    with path.open("rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    return data[:MOST_BYTES], len(data) > MOST_BYTES


async def run_scanners(
    ctx: Context, scanners: Sequence[CommandScanner], files: Mapping[str, bytes]
) -> list[Scan]:
    """Run scanners side by side over the project, each in a container with its own tool; answers in order."""
    import anyio

    answers: dict[str, Scan] = {}

    async def work(scanner: CommandScanner) -> None:
        container = await with_project(ctx, await tool_container(ctx, scanner.name))
        answers[scanner.name] = await run_scanner(ctx, container, scanner, files)

    async with anyio.create_task_group() as group:
        for one in scanners:
            group.start_soon(work, one)
    return [answers[one.name] for one in scanners]


async def run_scanner(
    ctx: Context, container: dagger.Container, scanner: CommandScanner, files: Mapping[str, bytes]
) -> Scan:
    """Run one scanner over the project's files in a container that has its tool.

    Args:
        files: The project's files by path; the scanner takes those it wants.
    """
    import dagger

    wanted = {path: files[path] for path in scanner.wants(sorted(files))}
    options = ctx.options.get(scanner.name, {})
    target = Target(
        root=SOURCE,
        files=wanted,
        version=locked_version(scanner.name),
        options=options if isinstance(options, dict) else {},
    )
    coverage = counted("files", sorted(wanted))
    answers = []
    for command in scanner.commands(target):
        try:
            ran = await run_command(container, command)
        except dagger.ExecError as error:  # the sandbox's own words: out of memory, no such program
            said = (error.stderr or error.stdout or str(error)).strip().splitlines()
            return broken(
                scanner.name, coverage, f"`{command.argv[0]}` could not run: {said[-1] if said else ''}"
            )
        if ran.exit_code is None:
            reason = f"`{command.argv[0]}` was stopped after {command.timeout_s:g} s"
            return broken(scanner.name, coverage, reason)
        if ran.is_cut:
            reason = f"`{command.argv[0]}` said more than {MOST_BYTES // 1024**2} MiB"
            return broken(scanner.name, coverage, reason)
        answers.append(ran)
    return scanner.read(target, answers)
