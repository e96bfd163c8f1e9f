"""What the instructions that only set things make of a stage's container. Pure.

COPY and ADD are in `transfer`, RUN in `run`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, assert_never

from pipeline.engine import actions, ops
from pipeline.engine.dockerfile import instructions as ins
from pipeline.engine.dockerfile.expand import Budget, Quoting, expand_word, expand_words
from pipeline.engine.dockerfile.plan import declare_args

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine.container import Container

DEFAULT_SHELL: Final = ("/bin/sh", "-c")
_PORT: Final = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp))?\Z", re.IGNORECASE)
_PORT_MAX: Final = 65535
_ENTRY_LIMIT: Final = 5_000  # variables, labels or volumes of one stage

_Process = (
    ins.Cmd
    | ins.Entrypoint
    | ins.Shell
    | ins.User
    | ins.StopSignal
    | ins.Healthcheck
    | ins.Onbuild
    | ins.Maintainer
)
Setting = ins.Arg | ins.Env | ins.Label | ins.Workdir | ins.Expose | ins.Volume | _Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A stage so far: its container, the ARGs in scope, and whether this stage said CMD."""

    container: Container
    args: Mapping[str, str] = field(default_factory=dict)
    is_cmd_set: bool = False

    def variables(self) -> dict[str, str]:
        """Return what words are expanded with; ENV wins over ARG."""
        return {**self.args, **dict(self.container.config.env)}

    def shell_argv(self, command: ins.CommandLine) -> tuple[str, ...]:
        """Return the argument list of a command, its shell put before it where it has one."""
        if not command.is_shell:
            return command.args
        return (*(self.container.config.shell or DEFAULT_SHELL), *command.args)

    def with_config(self, **changes: object) -> Progress:
        """Return this with fields of the image configuration replaced."""
        config = replace(self.container.config, **changes)  # type: ignore[arg-type]
        return replace(self, container=replace(self.container, config=config, image_ref=""))

    def with_container(self, container: Container) -> Progress:
        """Return this with another container."""
        return replace(self, container=container)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Where the values of ARG come from: what the caller passed, what stands before the first FROM."""

    passed: Mapping[str, str]
    inherited: Mapping[str, str]
    budget: Budget = field(default_factory=Budget)


def configure(progress: Progress, instruction: Setting, arguments: Arguments, *, escape: str) -> Progress:
    """Return the stage after one instruction that runs and copies nothing.

    Raises:
        BadSubstitution: A word cannot be expanded.
        ValueError: A port, path or name is not one, or there are too many of them.
    """
    after = _configured(progress, instruction, arguments, escape)
    config = after.container.config
    counts = {
        "variables": len(config.env) + len(after.args),
        "labels": len(config.labels),
        "volumes": len(config.volumes),
    }
    for what, count in counts.items():
        if count > _ENTRY_LIMIT:
            raise ValueError(f"more than {_ENTRY_LIMIT:,} {what}")
    return after


def _configured(progress: Progress, instruction: Setting, arguments: Arguments, escape: str) -> Progress:
    expand = _Expander(progress, escape, arguments.budget)
    match instruction:
        case ins.Arg():
            return _declare(progress, instruction, arguments, escape)
        case ins.Env():
            return _set_env(progress, instruction, expand)
        case ins.Label():
            container = progress.container
            for name, value in instruction.pairs:
                container = container.with_label(expand(name), expand(value))
            return progress.with_container(container)
        case ins.Workdir():
            return _enter(progress, expand(instruction.path))
        case ins.Expose():
            texts = [port for text in instruction.ports for port in expand.words(text)]
            return _expose(progress, texts, arguments.budget)
        case ins.Volume():
            paths = {expand(path) for path in instruction.paths}
            return progress.with_config(volumes=tuple(sorted({*progress.container.config.volumes, *paths})))
        case _:
            return _set_process(progress, instruction, expand)


def _set_process(progress: Progress, instruction: _Process, expand: _Expander) -> Progress:
    """Set what is said of the process of later containers: its command, user, signal and health."""
    match instruction:
        case ins.Cmd():
            container = progress.container.with_default_args(progress.shell_argv(instruction.command))
            return replace(progress, container=container, is_cmd_set=True)
        case ins.Entrypoint():
            # A CMD of the base was meant for the base's entrypoint.
            container = progress.container.with_entrypoint(
                progress.shell_argv(instruction.command), keep_default_args=progress.is_cmd_set
            )
            return progress.with_container(container)
        case ins.Shell():
            return progress.with_config(shell=instruction.args)
        case ins.Healthcheck():
            return progress.with_config(healthcheck=_healthcheck(instruction))
        case ins.Onbuild():
            triggers = (*progress.container.config.on_build, instruction.trigger)
            return progress.with_config(on_build=triggers)
        case ins.User():
            return progress.with_config(user=expand(instruction.user))
        case ins.StopSignal():
            return progress.with_config(stop_signal=expand(instruction.signal))
        case ins.Maintainer():
            return progress  # the author is no part of how a container runs
        case _:
            assert_never(instruction)


class _Expander:
    """Expands words with what a stage knows at this line."""

    def __init__(self, progress: Progress, escape: str, budget: Budget) -> None:
        self._variables = progress.variables()
        self._quoting = Quoting(escape=escape)
        self._budget = budget

    def __call__(self, text: str) -> str:
        word = expand_word(text, self._variables, self._quoting)
        self._budget.take(len(word))
        return word

    def words(self, text: str) -> list[str]:
        words = expand_words(text, self._variables, self._quoting)
        self._budget.take(sum(map(len, words)))
        return words


def _declare(progress: Progress, instruction: ins.Arg, arguments: Arguments, escape: str) -> Progress:
    found = declare_args(
        instruction,
        env=progress.variables(),
        build_args=arguments.passed,
        inherited=arguments.inherited,
        escape=escape,
    )
    arguments.budget.take(sum(map(len, found.values())))
    return replace(progress, args={**progress.args, **found})


def _set_env(progress: Progress, instruction: ins.Env, expand: _Expander) -> Progress:
    """Set variables; all values of one line are expanded with what was known before it."""
    container = progress.container
    for name, value in instruction.pairs:
        container = container.with_env_variable(expand(name), expand(value))
    return progress.with_container(container)


def _enter(progress: Progress, path: str) -> Progress:
    if not path:
        raise ValueError("WORKDIR is empty once its variables are replaced")
    container = progress.container.with_workdir(path)
    workdir = container.config.workdir
    if workdir == "/":
        return progress.with_container(container)
    made = actions.MakeDirectory(path=workdir, owner=container.config.user)
    return progress.with_container(container.edit(workdir, made))


def _expose(progress: Progress, texts: list[str], budget: Budget) -> Progress:
    new: dict[tuple[int, str], ops.Port] = {}
    for text in texts:
        match = _PORT.match(text)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not first <= last <= _PORT_MAX:
            raise ValueError(f"`{text}` is no port: write 80, 53/udp or 8000-8010")
        protocol: Literal["TCP", "UDP"] = "UDP" if (match[3] or "").lower() == "udp" else "TCP"
        # What is there is sorted anew, so that it is paid for too.
        budget.take(64 * (last - first) + len(progress.container.ports))
        ports = (ops.Port(port=port, protocol=protocol) for port in range(first, last + 1))
        new |= {(port.port, port.protocol): port for port in ports}
    container = progress.container
    others = tuple(port for port in container.ports if (port.port, port.protocol) not in new)
    names = {f"{port}/{protocol.lower()}" for port, protocol in new}
    after = progress.with_config(exposed_ports=tuple(sorted({*container.config.exposed_ports, *names})))
    return after.with_container(replace(after.container, ports=(*others, *new.values())))


def _healthcheck(instruction: ins.Healthcheck) -> ops.Healthcheck | None:
    if instruction.command is None:
        return None
    return ops.Healthcheck(
        args=instruction.command.args,
        shell=instruction.command.is_shell,
        interval_s=instruction.interval_s,
        timeout_s=instruction.timeout_s,
        start_period_s=instruction.start_period_s,
        start_interval_s=instruction.start_interval_s,
        retries=instruction.retries,
    )
