"""`quality`: linters, formatting and types, as the project itself has configured them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.detect.python import PythonProject
from pipeline.errors import PipelineError
from pipeline.graph.context import CheckFailed, Context
from pipeline.graph.outcome import Failure
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
)
from pipeline.stages.results import Deps, Findings, Quality, Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.scanner import CommandScanner, Scan

# Without a configuration only what is wrong in any code: syntax errors, undefined names.
KNOWN_TO_RUFF: Final = re.compile(r"3\.(1[1-4])\b")  # older ones are what it takes a file for anyway
ALWAYS_WRONG: Final = "E9,F63,F7,F82"
TAIL_LINES: Final = 40
FOUND: Final = 1  # exit code of mypy when it found something; a higher one is a crash or a wrong setting
# The version the project itself installs goes before the one its commit hooks fix.
ADD_TOOL: Final = 'pip show -q "$1" 2>/dev/null || pip install "$2"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One tool with its arguments, and the package that has it."""

    name: str
    argv: tuple[str, ...]
    package: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a check ended that was not good."""

    check: Check
    code: int
    text: str


@stage(timeout_s=1800, despite=["deps"])
async def quality(ctx: Context, checkout: Source, deps: Deps | None = None) -> Quality:
    """Run the configured linters, format checks and type checker, and linters of what is no Python."""
    import anyio

    from pipeline.stages.scanning import absent_scans

    checks: list[Check] = []
    bad: list[Ended] = []
    scans: list[Scan] = []

    async def check() -> None:
        if deps is not None:
            project = parse_facts(PythonProject, ctx)
            command = tuple(ctx.options.get("command", ()))
            checks.extend(checks_of(project, command, deps.python))
            bad.extend(await run_checks(ctx, project, deps, checks))

    async def lint() -> None:
        if not ctx.options.get("command"):
            scans.extend(await run_lints(ctx))
        scans.extend(absent_scans(ctx, "the project's own checks", "checks"))

    async with anyio.create_task_group() as group:
        group.start_soon(check)
        group.start_soon(lint)
    findings = None
    try:
        findings = conclude_lints(ctx, scans) if scans else None
    except PipelineError:
        if not bad:
            raise  # else the project's own checks are told: people look for them first
    if bad:
        raise failure_of(bad)
    return Quality(checks=tuple(one.name for one in checks), findings=findings)


async def run_checks(
    ctx: Context, project: PythonProject, deps: Deps, checks: Sequence[Check]
) -> list[Ended]:
    """Run the project's own checks in its own environment and keep what each says; return the bad ones."""
    import dagger

    container = await with_system_packages(ctx, await take(ctx, deps.container))
    packages = sorted({check.package for check in checks if check.package})
    for package in packages:
        container = container.with_exec(["sh", "-c", ADD_TOOL, "add", package, pinned(project, package)])
    container = container.with_directory(SOURCE, await source(ctx)).with_workdir(SOURCE)
    container = with_env(container, stage_env(ctx))
    bad: list[Ended] = []
    for check in checks:
        ran = container.with_exec(list(check.argv), expect=dagger.ReturnType.ANY)
        code = await ran.exit_code()
        text = await ran.stdout() + await ran.stderr()
        ctx.keep(f"{check.name}.txt", text)
        ctx.log(f"{check.name}: {'ok' if code == 0 else f'exit code {code}'}\n")
        if code != 0:
            bad.append(Ended(check=check, code=code, text=text))
    return bad


def lints(settings: Mapping[str, Any] | None = None) -> tuple[CommandScanner, ...]:
    """Return the linters that need nothing of the project but its files.

    Args:
        settings: `[tool.pipeline.quality]`.
    """
    from pipeline.scan.lint.actionlint import Actionlint
    from pipeline.scan.lint.duplicates import LINES, MANY_LINES, Duplicates
    from pipeline.scan.lint.hadolint import Hadolint
    from pipeline.scan.lint.manifests import Manifests
    from pipeline.scan.lint.shape import Shape
    from pipeline.scan.lint.shellcheck import ShellCheck
    from pipeline.scan.lint.vulture import Vulture
    from pipeline.scan.lint.zizmor import Zizmor

    given = settings or {}
    least, many = given.get("duplicate_lines", LINES), given.get("duplicate_lines_warning", MANY_LINES)
    duplicates = (Duplicates(least, many),) if least else ()
    return (Shape(), Vulture(), *duplicates, Hadolint(), ShellCheck(), Zizmor(), Actionlint(), Manifests())


async def run_lints(ctx: Context) -> list[Scan]:
    """Run the linters for which the project has files, side by side."""
    from pipeline.stages.looking import run_scanners
    from pipeline.stages.scanning import read_files

    files = read_files(ctx)
    known = lints(ctx.config.get("quality", {}))
    return await run_scanners(ctx, [one for one in known if one.wants(sorted(files))], files)


def conclude_lints(ctx: Context, scans: Sequence[Scan]) -> Findings:
    """Judge what the linters found.

    Raises:
        CheckFailed: Something blocks.
        NotChecked: Something could not be looked at, and the policy does not let that pass.
    """
    from pipeline.stages.contents import Texts
    from pipeline.stages.scanning import conclude, read_files

    kinds = frozenset({"quality", "misconfiguration"})
    return conclude(ctx, scans, kinds=kinds, texts=Texts(read_files(ctx)))


def checks_of(project: PythonProject, command: Sequence[str], python: str = "") -> list[Check]:
    """Return the checks to make: the project's own command, or what its configuration names.

    Args:
        python: The version the project runs on; what is wrong in any code depends on it.
    """
    if command:
        return [Check(name="command", argv=tuple(command), package="")]
    checks: list[Check] = []
    tools = project.tools
    if "ruff" in tools:
        checks.append(Check(name="ruff", argv=("ruff", "check", "."), package="ruff"))
    elif "flake8" in tools:
        checks.append(Check(name="flake8", argv=("flake8", "."), package="flake8"))
    else:
        newer = KNOWN_TO_RUFF.match(python)
        target = ("--target-version", f"py3{newer[1]}") if newer else ()
        minimal = ("ruff", "check", "--isolated", *target, "--select", ALWAYS_WRONG, ".")
        checks.append(Check(name="ruff", argv=minimal, package="ruff"))
    if "ruff-format" in tools:
        checks.append(Check(name="format", argv=("ruff", "format", "--check", "."), package="ruff"))
    elif "black" in tools:
        checks.append(Check(name="format", argv=("black", "--check", "."), package="black"))
    if "mypy" in tools:
        argv = ("mypy",) if project.mypy_knows_files else ("mypy", *(project.packages or (".",)))
        checks.append(Check(name="mypy", argv=argv, package="mypy"))
    return checks


def pinned(project: PythonProject, package: str) -> str:
    """Return what to install of a tool: the version that the commit hooks fix, else the newest."""
    return next((pin for pin in project.tool_pins if pin.startswith(f"{package}==")), package)


def failure_of(bad: Sequence[Ended]) -> Exception:
    """Return the error for the checks that were not good; the last lines are those of the first."""
    broken = next((one for one in bad if one.check.name == "mypy" and one.code > FOUND), None)
    first = broken or bad[0]
    tail = tuple(first.text.splitlines()[-TAIL_LINES:])
    if broken is not None and len(bad) == 1:
        return StageBroken("\n".join(["mypy could not check the types", *tail[-15:]]))
    names = ", ".join(one.check.name for one in bad)
    return CheckFailed(
        Failure(
            message=f"{names}: {len(bad)} of the checks found something to mend",
            error_class="QualityFailed",
            command=first.check.argv,
            exit_code=first.code,
            tail=tail,
        )
    )
