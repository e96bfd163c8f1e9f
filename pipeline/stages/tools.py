"""Tools in containers: installed from locks of ours, run with an empty home and within limits.

What a tool said is handed to its scanner as it is; nothing here judges an exit code.
"""

from __future__ import annotations

import re
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.digest import digest_bytes
from pipeline.errors import PipelineError
from pipeline.scan.bundle_tools import imported_wheels
from pipeline.scan.data import data_folder
from pipeline.scan.scanner import Ran
from pipeline.stages.containers import SOURCE, source, with_env

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dagger

    from pipeline.graph.context import Context
    from pipeline.scan.scanner import Command

HOME: Final = "/home/scan"  # empty: no setting of a user leaks in
OUT: Final = "/scan-out"
WHEELS: Final = "/opt/wheels"
MOST_BYTES: Final = 64 * 1024**2  # of one output that is read; more is garbage or an attack
LOCKS: Final = "tools"  # folder of pipeline/scan with a hash-locked requirements file for each tool
# What a tool says goes to files and not to the log: it may quote secrets, and there may be much of it. It is
# killed when its time is over. The shell outlives it: what a tool wrote till a signal ended it can be read,
# and how it ended is a file too. Only of 137 the engine is told, which knows whether memory ran out.
PROGRAM: Final = "/opt/run-tool"
RUN: Final = f"""
mkdir -p {OUT} {HOME}; limit="$1"; most="$2"; outputs="$3"; shift 3
ulimit -f 8388608
began=$(date +%s)
timeout -k 5 "$limit" "$@" >{OUT}/stdout 2>{OUT}/stderr
code=$?; took=$(($(date +%s) - began))
number=0
printf '%s\n' "$outputs" | while IFS= read -r path; do
  if [ -f "$path" ] && [ ! -L "$path" ]; then mv "$path" {OUT}/output-$number; fi
  number=$((number + 1))
done
for file in {OUT}/*; do
  if [ "$(wc -c <"$file")" -gt "$most" ]; then head -c "$most" "$file" >{OUT}/.cut; mv {OUT}/.cut "$file"; fi
done
echo "$code $took" >{OUT}/ended
if [ "$code" = 137 ] && [ "$took" -lt "${{limit%.*}}" ]; then exit 137; fi
"""
PIP: Final = ("python3", "-m", "pip", "--quiet", "--disable-pip-version-check", "--python")
INSTALL: Final = (
    "install",
    "--no-deps",
    "--require-hashes",
    "--only-binary=:all:",
    "--root-user-action=ignore",
)
TIMED_OUT: Final = 124  # exit code of `timeout`; where it is busybox's, or had to kill, it is one of
STOPPED: Final = (137, 143)


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

    Their locks become part of the stage's key. Wheels that `prefetch --import` brought go before the index.

    Raises:
        NoSuchTool: One has no lock file.
        DataBroken: What was imported is damaged.
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
        install = [*PIP, f"{venv}/bin/python", *INSTALL, "-r", f"{venv}/lock.txt"]
        carried = imported_wheels(data_folder(), lock)
        if carried is None:
            container = container.with_exec(install)
        else:
            folder, names = carried
            wheels = client.host().directory(str(folder), include=list(names))
            container = container.with_mounted_directory(WHEELS, wheels)
            container = container.with_exec([*install, "--no-index", "--find-links", WHEELS])
            container = container.without_mount(WHEELS)
    container = container.without_mount("/root/.cache/pip")  # tools run the project's code, or read it
    path = ":".join([*(f"/opt/tools/{tool}/bin" for tool in tools), "/usr/local/bin:/usr/bin:/bin"])
    return with_env(container, {"PATH": path, "HOME": HOME, "PYTHONDONTWRITEBYTECODE": "1"})


def tool_image(ctx: Context) -> str:
    """Return the image tools run on: a plain Python, whatever the project asks for."""
    return str(ctx.options.get("tool_image", "python:3.11-slim"))


async def with_project(
    ctx: Context, container: dagger.Container, *, without: Sequence[str] = ()
) -> dagger.Container:
    """Put the project's tracked files at `/src`, for reading, but for some."""
    files = await source(ctx, without=without)
    return container.with_mounted_directory(SOURCE, files).with_workdir(SOURCE)


async def run_command(container: dagger.Container, command: Command) -> Ran:
    """Run a tool, whatever its exit code, and take what it left.

    Raises:
        dagger.QueryError: The container could not be run, or memory ran out in it.
    """
    ready = with_env(container, command.env)
    for path, text in command.files.items():
        ready = ready.with_new_file(path, text)
    given = (f"{command.timeout_s:g}", str(MOST_BYTES + 1), "\n".join(command.outputs))
    ready = ready.with_new_file(PROGRAM, RUN)
    ran = ready.with_exec(["sh", PROGRAM, *given, *command.argv], stdin=command.stdin)
    with tempfile.TemporaryDirectory() as name:
        await ran.directory(OUT).export(name)
        said = _read(Path(name))
    texts = {name: data[:MOST_BYTES] for name, data in said.items()}
    ended = re.fullmatch(rb"(\d+) (\d+)\n", texts.get("ended", b""))
    code, took_s = (int(ended[1]), int(ended[2])) if ended else (-1, 0)  # no room for it: the disk is full
    timed_out = code == TIMED_OUT or (code in STOPPED and took_s >= int(command.timeout_s))
    outputs = {path: f"output-{number}" for number, path in enumerate(command.outputs)}
    return Ran(
        exit_code=None if timed_out else code,
        stdout=texts.get("stdout", b""),
        stderr=texts.get("stderr", b""),
        files={path: texts[name] for path, name in outputs.items() if name in texts},
        is_cut=any(len(data) > MOST_BYTES for data in said.values()),
    )


def _read(folder: Path) -> dict[str, bytes]:
    """The first bytes of each file, one more than is used."""
    said = {}
    for path in folder.iterdir():
        with path.open("rb") as stream:
            said[path.name] = stream.read(MOST_BYTES + 1)
    return said
