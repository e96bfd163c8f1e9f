"""Tools in containers: installed from locks of ours, run with an empty home and within limits.

What a tool said is handed to its scanner as it is; nothing here judges an exit code.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import zlib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from pipeline.digest import digest_bytes
from pipeline.errors import PipelineError
from pipeline.scan.bundle_tools import imported_wheels
from pipeline.scan.data import data_folder
from pipeline.scan.finding import InFile
from pipeline.scan.scanner import Coverage, Missed, Ran, Target, broken
from pipeline.stages.containers import SOURCE, escaped, source, with_env
from pipeline.stages.contents import MOST_FILE_BYTES, Part, too_large

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import dagger

    from pipeline.graph.context import Context
    from pipeline.scan.finding import Finding
    from pipeline.scan.scanner import Command, CommandScanner, Scan

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
IN_PARTS: Final = frozenset({"bandit"})  # scanners that are slow and judge each file alone
PARTS: Final = 6
# Scanners that look at nothing but what they want and, by themselves, at settings of these names.
NARROW: Final = IN_PARTS | {"check-jsonschema", "hadolint", "ruff", "shellcheck", "vulture", "zizmor"}
SETTINGS: Final = frozenset(
    {".bandit", ".hadolint.yaml", ".hadolint.yml", "pyproject.toml", "zizmor.yml", "zizmor.yaml"}
)
MOST_NAMED: Final = 2000  # files; of more the whole project is given
LEAST_IN_PARTS: Final = 60  # Python files; fewer are one part
STATES: Final = ("complete", "skipped", "incomplete", "stale", "unsupported", "unavailable", "error")
TIMED_OUT: Final = 124  # exit code of `timeout`; where it is busybox's, or had to kill, it is one of
STOPPED: Final = (137, 143)
SIGNALS: Final = range(129, 193)  # exit codes of what a signal ended


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


async def run_scanners(
    ctx: Context, scanners: Sequence[CommandScanner], files: Mapping[str, bytes]
) -> list[Scan]:
    """Run scanners side by side over the project, each in a container with its own tool; answers in order.

    One that cannot be installed is unavailable; the others look all the same.
    """
    import anyio

    answers: dict[str, Scan] = {}

    async def work(scanner: CommandScanner) -> None:
        import dagger

        try:
            container = await (await tool_container(ctx, scanner.name)).sync()
        except dagger.QueryError as error:
            answers[scanner.name] = not_installed(scanner, files, error)
        else:
            answers[scanner.name] = await run_in_parts(ctx, container, scanner, files)

    async with anyio.create_task_group() as group:
        for one in scanners:
            group.start_soon(work, one)
    return [answers[one.name] for one in scanners]


async def run_in_parts(
    ctx: Context, container: dagger.Container, scanner: CommandScanner, files: Mapping[str, bytes]
) -> Scan:
    """Run a scanner over the files it wants; one that is slow and judges each file alone, over parts of them.

    Where these did not change, whatever else did, the engine has the answer.
    """
    import anyio

    wanted = scanner.wants(sorted(files))
    if scanner.name not in NARROW or len(wanted) > MOST_NAMED:
        ready = await with_project(ctx, container, without=too_large(files))
        return await run_scanner(ctx, ready, scanner, files)
    parts = parts_of(wanted) if scanner.name in IN_PARTS else [wanted]
    settings = [name for name in files if PurePosixPath(name).name in SETTINGS]
    scans: dict[int, Scan] = {}

    async def work(number: int) -> None:
        names = dict.fromkeys([*parts[number], *settings])
        some = await source(ctx, include=[escaped(name) for name in names])
        ready = container.with_mounted_directory(SOURCE, some).with_workdir(SOURCE)
        scans[number] = await run_scanner(ctx, ready, scanner, Part(files, names))

    async with anyio.create_task_group() as group:
        for number in range(len(parts)):
            group.start_soon(work, number)
    whole = joined([scans[number] for number in sorted(scans)]) if len(scans) > 1 else scans[0]
    return with_large(whole, scanner.wants(too_large(files)))


def parts_of(names: Sequence[str]) -> list[list[str]]:
    """Divide Python files by their paths alone; other files, which are settings, are in each part."""
    code = [name for name in names if name.endswith(".py")]
    if len(code) < LEAST_IN_PARTS:
        return [list(names)]
    parts: list[list[str]] = [[] for _ in range(PARTS)]
    for name in code:
        parts[zlib.crc32(os.fsencode(name)) % PARTS].append(name)
    settings = [name for name in names if not name.endswith(".py")]
    return [[*part, *settings] for part in parts if part]


def joined(scans: Sequence[Scan]) -> Scan:
    """One answer of those for parts; the worst state is the state of all."""
    worst = max(scans, key=lambda one: STATES.index(one.state))
    before = [one.coverage for one in scans]
    coverage = Coverage(
        unit=before[0].unit,
        expected=sum(one.expected for one in before),
        seen=sum(one.seen for one in before),
        missed=tuple(sorted((one for each in before for one in each.missed), key=lambda one: one.what)),
    )
    found = tuple(finding for one in scans for finding in one.findings)
    reason = worst.reason
    if worst.state == "incomplete":
        reason = f"{len(coverage.missed)} files were not checked"
    return replace(worst, coverage=coverage, reason=reason, findings=tuple(sorted(found, key=place_of)))


def place_of(finding: Finding) -> tuple[str, int]:
    """Where a finding is, to sort by."""
    place = finding.place
    return (place.path, place.line) if isinstance(place, InFile) else ("", 0)


def not_installed(scanner: CommandScanner, files: Mapping[str, bytes], error: dagger.QueryError) -> Scan:
    """The answer of a scanner whose tool could not be had."""
    coverage = Coverage(unit="files", expected=len(scanner.wants(sorted(files))), seen=0)
    reason = f"`{scanner.name}` could not be installed: {last_words(error)}"
    hint = "`pipeline prefetch --bundle` and `--import` bring tools and images to machines without a network"
    return broken(scanner.name, coverage, reason, state="unavailable", hint=hint)


def last_words(error: dagger.QueryError) -> str:
    """The one line of an error of the engine that says most."""
    lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return next((line for line in reversed(lines) if line.strip()), "")[:300]


async def run_scanner(
    ctx: Context, container: dagger.Container, scanner: CommandScanner, files: Mapping[str, bytes]
) -> Scan:
    """Run one scanner over the project's files in a container that has its tool.

    Args:
        files: The project's files by path; the scanner takes those it wants.
    """
    import dagger

    wanted = Part(files, scanner.wants(sorted(files)))
    large = scanner.wants(too_large(files))
    options = ctx.options.get(scanner.name, {})
    target = Target(
        root=SOURCE,
        files=wanted,
        version=locked_version(scanner.name),
        options=options if isinstance(options, dict) else {},
    )
    nothing = Coverage(unit="files", expected=len(wanted) + len(large), seen=0)
    answers = []
    for command in scanner.commands(target):
        tool = command.argv[0]
        try:
            ran = await run_command(container, command)
        except dagger.QueryError as error:  # the sandbox's own words: out of memory, the disk is full
            return broken(scanner.name, nothing, f"`{tool}` could not run: {sandbox_words(error)}")
        if why := why_useless(ran, command):
            return broken(scanner.name, nothing, f"`{tool}` {why}")
        answers.append(ran)
    try:
        scan = scanner.read(target, answers)
    except Exception as error:  # noqa: BLE001 - told: what one tool prints must not end the others
        reason = f"what `{scanner.name}` said cannot be understood ({type(error).__name__}: {error})"
        return broken(scanner.name, nothing, reason[:500])
    return with_large(scan, large)


def why_useless(ran: Ran, command: Command) -> str:
    """Why what a tool left is not worth reading; "" if it is."""
    if ran.exit_code is None:
        return f"was stopped after {command.timeout_s:g} s"
    if ran.exit_code in SIGNALS:
        number = ran.exit_code - 128
        names = {one.value: one.name for one in signal.Signals}
        return f"was ended by {names.get(number, f'signal {number}')}"
    if ran.exit_code < 0:
        return "left nothing: there is no room on the disk"
    return f"said more than {MOST_BYTES // 1024**2} MiB" if ran.is_cut else ""


def sandbox_words(error: dagger.QueryError) -> str:
    """What the engine says of a container it could not run to its end."""
    return str(error).splitlines()[0][:300]


def with_large(scan: Scan, large: Sequence[str]) -> Scan:
    """Tell files that were left out for their size as missed."""
    if not large:
        return scan
    before = scan.coverage
    why = f"it has more than {MOST_FILE_BYTES // 1024**2} MiB"
    coverage = replace(
        before,
        expected=before.expected + len(large),
        missed=(*before.missed, *(Missed(what=path, why=why) for path in large)),
    )
    said = f"{len(large)} files have more than {MOST_FILE_BYTES // 1024**2} MiB, such as {large[0]}"
    return replace(
        scan,
        coverage=coverage,
        state="incomplete" if scan.state == "complete" else scan.state,
        reason="; ".join(part for part in (scan.reason, said) if part),
    )
