"""Scanners over the project: each in a container with its tool, given only files that changed since then.

What a tool cannot be asked any more (it broke, it hung, it said garbage) is the answer of that scanner alone.
"""

from __future__ import annotations

import os
import re
import signal
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipeline.digest import digest_text
from pipeline.scan.finding import InFile
from pipeline.scan.scanner import Coverage, Missed, Settling, Target, broken, unchecked
from pipeline.stages import memory
from pipeline.stages.containers import SOURCE, escaped, python_image, source
from pipeline.stages.contents import MOST_FILE_BYTES, Part, too_large
from pipeline.stages.tools import (
    MOST_BYTES,
    locked_version,
    run_command,
    tool_container,
    tool_image,
    tool_lock,
    with_project,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import dagger

    from pipeline.graph.context import Context
    from pipeline.scan.finding import Finding
    from pipeline.scan.scanner import Command, CommandScanner, Ran, Scan

IN_PARTS: Final = frozenset({"bandit", "vulture"})  # slow: as many parts as most machines have processors
PARTS: Final = 2
LEAST_IN_PARTS: Final = 60  # Python files; fewer are one part
BY_PYTHON: Final = frozenset({"bandit", "semgrep", "vulture"})  # read code as the Python they run on does
MOST_NAMED: Final = 2000  # files; of more the whole project is given
STATES: Final = ("complete", "skipped", "incomplete", "stale", "unsupported", "unavailable", "error")
LOOKED: Final = frozenset({"complete", "incomplete"})
SIGNALS: Final = range(129, 193)  # exit codes of what a signal ended


async def run_scanners(
    ctx: Context, scanners: Sequence[CommandScanner], files: Mapping[str, bytes]
) -> list[Scan]:
    """Run scanners over the project, each in a container with its own tool; answers in order.

    As many run side by side as there are processors: more are no sooner done and take more memory. One that
    cannot be installed is unavailable; the others look all the same.
    """
    import anyio

    answers: dict[int, Scan] = {}
    processors = anyio.CapacityLimiter(os.cpu_count() or 1)

    async def work(number: int) -> None:
        async with processors:
            answers[number] = await look(ctx, scanners[number], files)

    async with anyio.create_task_group() as group:
        for number in range(len(scanners)):
            group.start_soon(work, number)
    return [answers[number] for number in range(len(scanners))]


async def look(ctx: Context, scanner: CommandScanner, files: Mapping[str, bytes]) -> Scan:
    """Say what a scanner says of the project; the tool looks only at what changed since it did."""
    lock = tool_lock(scanner.name)
    ctx.depend_on(f"lock {scanner.name}", digest_text(lock))
    target = target_of(ctx, scanner, Part(files, scanner.wants(sorted(files))))
    newer = newer_image(ctx)
    images = f"{tool_image(ctx)} {newer}"
    key = memory.memory_key(scanner, files, root=ctx.root, image=images, lock=lock, options=target.options)
    note = f"{type(scanner).__name__.lower()}.json"
    before = memory.load_memory(ctx.recall(note), key)
    expected = scanner.expects(target)

    async def run(paths: Sequence[str]) -> Scan:
        scan = await run_in_parts(ctx, scanner, files, paths)
        again = unparsed(scan) if newer and scanner.name in BY_PYTHON else []
        if not again:
            return scan
        better = await run_in_parts(ctx, scanner, files, again, image=newer)
        return joined([without(scan, again), better]) if better.state in LOOKED else scan

    is_whole = not set(expected).isdisjoint(scanner.settings(sorted(files)))
    whole, after = await look_again(before, files, expected, run, is_whole=is_whole)
    ctx.remember(note, memory.dump_memory(after))
    whole = scanner.settle(whole) if isinstance(scanner, Settling) else whole
    return with_large(whole, scanner.wants(too_large(files)))


async def look_again(
    before: memory.Memory,
    files: Mapping[str, bytes],
    expected: Sequence[str],
    run: Callable[[Sequence[str]], Awaitable[Scan]],
    *,
    is_whole: bool = False,
) -> tuple[Scan, memory.Memory]:
    """What is said of the expected files, and what to remember: `run` looks at those that changed.

    Args:
        is_whole: What is said of one file depends on the others: all are looked at, or none.
    """
    digests = memory.digests_of(files, expected)
    same = memory.unchanged(before, digests)
    if is_whole and len(same) < len(digests):
        same = []
    after = replace(before, files={path: before.files[path] for path in same})
    changed = [path for path in expected if path not in after.files]
    scans = [memory.recalled(before, same)] if same else []
    if changed or not same:
        fresh = await run(changed)
        now = memory.digests_of(files, changed)  # a file that was changed meanwhile teaches nothing
        stable = {path: digest for path, digest in now.items() if digest == digests[path]}
        after = memory.learned(after, fresh, stable)
        scans.append(fresh)
    return joined(scans), after


def newer_image(ctx: Context) -> str:
    """The image of the project's own Python where that is newer than the tools'; "" where it is not."""
    if "requires_python" not in ctx.options:
        return ""
    own = python_image(ctx)
    return own if _minor(own) > _minor(tool_image(ctx)) else ""


def _minor(image: str) -> int:
    """The y of `python:3.y`; 0 for an image that is named differently."""
    found = re.match(r"python:3\.(\d+)", image)
    return int(found[1]) if found else 0


def unparsed(scan: Scan) -> list[str]:
    """Python files that were missed, it may be for want of a newer Python."""
    return [one.what for one in scan.coverage.missed if one.what.endswith(".py")]


def without(scan: Scan, paths: Sequence[str]) -> Scan:
    """The answer for all files but these, which were missed."""
    missed = tuple(one for one in scan.coverage.missed if one.what not in paths)
    before, is_short = scan.coverage, scan.reason == unchecked(scan.coverage.missed)
    found = (one for one in scan.findings if not (isinstance(one.place, InFile) and one.place.path in paths))
    return replace(
        scan,
        state="complete" if is_short and not missed else scan.state,
        reason=unchecked(missed) if is_short else scan.reason,
        coverage=replace(before, expected=before.expected - len(paths), missed=missed),
        findings=tuple(found),
    )


async def run_in_parts(
    ctx: Context,
    scanner: CommandScanner,
    files: Mapping[str, bytes],
    paths: Sequence[str],
    *,
    image: str | None = None,
) -> Scan:
    """Run a scanner over some files of the project, a slow one over parts of them side by side.

    Args:
        image: In place of the one tools run on.
    """
    import anyio
    import dagger

    try:
        container = await (await tool_container(ctx, scanner.name, image=image)).sync()
    except dagger.QueryError as error:
        return not_installed(scanner, paths, error)
    settings = scanner.settings(sorted(files))
    if len(paths) + len(settings) > MOST_NAMED:
        ready = await with_project(ctx, container, without=too_large(files))
        return await run_scanner(ctx, ready, scanner, Part(files, [*paths, *settings]))
    parts = parts_of(paths) if scanner.name in IN_PARTS else [list(paths)]
    scans: dict[int, Scan] = {}

    async def work(number: int) -> None:
        names = dict.fromkeys([*parts[number], *settings])
        some = await source(ctx, include=[escaped(name) for name in names])
        ready = container.with_mounted_directory(SOURCE, some).with_workdir(SOURCE)
        scans[number] = await run_scanner(ctx, ready, scanner, Part(files, names))

    async with anyio.create_task_group() as group:
        for number in range(len(parts)):
            group.start_soon(work, number)
    return joined([scans[number] for number in sorted(scans)])


def parts_of(paths: Sequence[str]) -> list[list[str]]:
    """Divide files by their paths alone; few are one part."""
    if len(paths) < LEAST_IN_PARTS:
        return [list(paths)]
    parts: list[list[str]] = [[] for _ in range(PARTS)]
    for path in paths:
        parts[zlib.crc32(os.fsencode(path)) % PARTS].append(path)
    return [part for part in parts if part]


def joined(scans: Sequence[Scan]) -> Scan:
    """One answer of those for parts, findings by place; the worst state is the state of all."""
    worst = max(scans, key=lambda one: STATES.index(one.state))
    before = [one.coverage for one in scans]
    coverage = Coverage(
        unit=before[0].unit,
        expected=sum(one.expected for one in before),
        seen=sum(one.seen for one in before),
        missed=tuple(sorted((one for each in before for one in each.missed), key=lambda one: one.what)),
    )
    reason = worst.reason
    if worst.state == "incomplete":
        said = {one.reason for one in scans if one.reason != unchecked(one.coverage.missed)}
        reason = "; ".join([*filter(None, [unchecked(coverage.missed)]), *sorted(said)])
    return replace(
        worst,
        coverage=coverage,
        reason=reason,
        findings=tuple(sorted((one for scan in scans for one in scan.findings), key=place_of)),
        names={path: names for one in scans for path, names in one.names.items()},
    )


def place_of(finding: Finding) -> tuple[str, int]:
    """Where a finding is, to sort by."""
    place = finding.place
    return (place.path, place.line) if isinstance(place, InFile) else ("", 0)


def not_installed(scanner: CommandScanner, paths: Sequence[str], error: dagger.QueryError) -> Scan:
    """The answer of a scanner whose tool could not be had."""
    coverage = Coverage(unit="files", expected=len(paths), seen=0)
    reason = f"`{scanner.name}` could not be installed: {last_words(error)}"
    hint = "`pipeline prefetch --bundle` and `--import` bring tools and images to machines without a network"
    return broken(scanner.name, coverage, reason, state="unavailable", hint=hint)


def last_words(error: dagger.QueryError) -> str:
    """The one line of an error of the engine that says most."""
    lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return next((line for line in reversed(lines) if line.strip()), "")[:300]


def target_of(ctx: Context, scanner: CommandScanner, files: Mapping[str, bytes]) -> Target:
    """What a scanner is asked about these files of the project."""
    options = ctx.options.get(scanner.name, {})
    return Target(
        root=SOURCE,
        files=files,
        version=locked_version(scanner.name),
        options=options if isinstance(options, dict) else {},
    )


async def run_scanner(
    ctx: Context, container: dagger.Container, scanner: CommandScanner, files: Mapping[str, bytes]
) -> Scan:
    """Run one scanner over files of the project in a container that has its tool.

    Args:
        files: By path; the scanner takes those it wants.
    """
    import dagger

    target = target_of(ctx, scanner, Part(files, scanner.wants(sorted(files))))
    nothing = Coverage(unit="files", expected=len(scanner.expects(target)), seen=0)
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
        return scanner.read(target, answers)
    except Exception as error:  # noqa: BLE001 - told: what one tool prints must not end the others
        reason = f"what `{scanner.name}` said cannot be understood ({type(error).__name__}: {error})"
        return broken(scanner.name, nothing, reason[:500])


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
