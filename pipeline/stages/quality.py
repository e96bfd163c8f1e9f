"""`quality`: linters, formatting and types, as the project itself has configured them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.detect.python import PythonProject
from pipeline.graph.context import CheckFailed, Context
from pipeline.graph.outcome import Failure
from pipeline.graph.stage import stage
from pipeline.stages.containers import (
    SOURCE,
    parse_facts,
    source,
    stage_env,
    take,
    with_env,
    with_system_packages,
)
from pipeline.stages.results import Deps, Quality, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

# Without a configuration only what is wrong in any code: syntax errors, undefined names.
ALWAYS_WRONG: Final = "E9,F63,F7,F82"
TAIL_LINES: Final = 40
# The version the project itself installs goes before the one its commit hooks fix.
ADD_TOOL: Final = 'pip show -q "$1" 2>/dev/null || pip install "$2"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One tool with its arguments, and the package that has it."""

    name: str
    argv: tuple[str, ...]
    package: str


@stage(timeout_s=1200)
async def quality(ctx: Context, checkout: Source, deps: Deps) -> Quality:
    """Run the configured linters, format checks and type checker; keep what each says."""
    import dagger

    project = parse_facts(PythonProject, ctx)
    checks = checks_of(project, tuple(ctx.options.get("command", ())))
    container = await with_system_packages(ctx, await take(ctx, deps.container))
    packages = sorted({check.package for check in checks if check.package})
    for package in packages:
        container = container.with_exec(["sh", "-c", ADD_TOOL, "add", package, pinned(project, package)])
    container = container.with_directory(SOURCE, await source(ctx)).with_workdir(SOURCE)
    container = with_env(container, stage_env(ctx))
    bad: list[tuple[Check, int, str]] = []
    for check in checks:
        ran = container.with_exec(list(check.argv), expect=dagger.ReturnType.ANY)
        code = await ran.exit_code()
        text = await ran.stdout() + await ran.stderr()
        ctx.keep(f"{check.name}.txt", text)
        ctx.log(f"{check.name}: {'ok' if code == 0 else f'exit code {code}'}\n")
        if code != 0:
            bad.append((check, code, text))
    if bad:
        raise CheckFailed(failure_of(bad))
    return Quality(checks=tuple(check.name for check in checks))


def checks_of(project: PythonProject, command: Sequence[str]) -> list[Check]:
    """Return the checks to make: the project's own command, or what its configuration names."""
    if command:
        return [Check(name="command", argv=tuple(command), package="")]
    checks: list[Check] = []
    tools = project.tools
    if "ruff" in tools:
        checks.append(Check(name="ruff", argv=("ruff", "check", "."), package="ruff"))
    elif "flake8" in tools:
        checks.append(Check(name="flake8", argv=("flake8", "."), package="flake8"))
    else:
        minimal = ("ruff", "check", "--isolated", "--select", ALWAYS_WRONG, ".")
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


def failure_of(bad: Sequence[tuple[Check, int, str]]) -> Failure:
    """Return one failure for all checks that were not good; the last lines are those of the first."""
    first, code, text = bad[0]
    names = ", ".join(check.name for check, _, _ in bad)
    return Failure(
        message=f"{names}: {len(bad)} of the checks found something to mend",
        error_class="QualityFailed",
        command=first.argv,
        exit_code=code,
        tail=tuple(text.splitlines()[-TAIL_LINES:]),
    )
