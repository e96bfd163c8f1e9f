"""Which stages a Dockerfile has, what each starts from, and which of them a target needs. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pipeline.engine.dockerfile.expand import BadSubstitution, Budget, Quoting, expand_word
from pipeline.engine.dockerfile.instructions import (
    Arg,
    Copy,
    Dockerfile,
    DockerfileError,
    From,
    Instruction,
    Run,
)
from pipeline.engine.oci.platform import InvalidPlatform, normalise_platform, parse_platform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCRATCH: Final = "scratch"
_DIGITS: Final = 9  # more are beyond any number of stages
_FRONTEND: Final = re.compile(r"(docker\.io/)?docker/dockerfile(-upstream)?([:@].*)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One FROM and what follows it.

    `base` is the image address, "scratch", or the name of the stage numbered `base_stage`.
    `needs` are the stages it uses, its base among them; `copied` those whose files it uses.
    """

    index: int
    name: str
    base: str
    base_stage: int | None
    platform: str
    start: From
    instructions: tuple[Instruction, ...]
    needs: frozenset[int]
    copied: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """Every stage in order, the one asked for, and the arguments declared before the first FROM."""

    file: Dockerfile
    stages: tuple[Stage, ...]
    target: int
    global_args: Mapping[str, str]
    build_args: Mapping[str, str]
    names: Mapping[str, Sequence[int]]

    def needed(self) -> frozenset[int]:
        """Return the stages that have to be built for the target."""
        found: set[int] = set()
        waiting = [self.target]
        while waiting:
            index = waiting.pop()
            if index not in found:
                found.add(index)
                waiting.extend(self.stages[index].needs)
        return frozenset(found)

    def find_stage(self, reference: str, *, before: int) -> int | None:
        """Return the stage that `reference` (name or number) means in stage `before`; None: an image."""
        return _find(reference, self.names, before)


def plan_build(
    dockerfile: Dockerfile,
    *,
    platform: str,
    build_platform: str,
    build_args: Sequence[tuple[str, str]] = (),
    target: str = "",
) -> BuildPlan:
    """Split a Dockerfile into stages for `platform`; the last stage is the target unless one is named.

    Raises:
        DockerfileError: No stage, an unknown target, a foreign frontend, a FROM that cannot be expanded,
            or stages that need each other.
    """
    _check_frontend(dockerfile)
    given = dict(build_args)
    automatic = automatic_args(platform, build_platform)
    first = next((i for i, each in enumerate(dockerfile.instructions) if isinstance(each, From)), None)
    before = dockerfile.instructions if first is None else dockerfile.instructions[:first]
    global_args = _global_args(dockerfile, before, automatic, given)
    if first is None:
        raise DockerfileError("build", dockerfile.file, 0, "it has no FROM")
    stages: list[Stage] = []
    names: dict[str, list[int]] = {}
    for group in _groups(dockerfile.instructions[first:]):
        stage = _stage(dockerfile, group, stages, names, global_args, platform)
        stages.append(stage)
        if stage.name:
            names.setdefault(stage.name, []).append(stage.index)
    stages = [_with_copied(dockerfile, stage, names) for stage in stages]
    _check_cycles(dockerfile, stages)
    return BuildPlan(
        file=dockerfile,
        stages=tuple(stages),
        target=_target(dockerfile, stages, names, target),
        names=MappingProxyType(names),
        global_args=MappingProxyType(global_args),
        build_args=MappingProxyType(given),
    )


def automatic_args(platform: str, build_platform: str) -> dict[str, str]:
    """Return the arguments that describe the two platforms: `TARGETARCH`, `BUILDPLATFORM` and the like."""
    found: dict[str, str] = {}
    for prefix, text in (("BUILD", build_platform), ("TARGET", platform)):
        parsed = parse_platform(text)
        found[f"{prefix}PLATFORM"] = str(parsed)
        found[f"{prefix}OS"] = parsed.os
        found[f"{prefix}ARCH"] = parsed.architecture
        found[f"{prefix}VARIANT"] = parsed.variant
    return found


def declare_args(
    instruction: Arg,
    *,
    env: Mapping[str, str],
    build_args: Mapping[str, str],
    inherited: Mapping[str, str],
    escape: str,
) -> dict[str, str]:
    """Return the values an ARG line gives: what was passed, else the default, else what is inherited.

    A name without any of these is left out.

    Raises:
        BadSubstitution: A default cannot be expanded.
    """
    found: dict[str, str] = {}
    for raw_name, default in instruction.args:
        name = expand_word(raw_name, env, Quoting(escape=escape))
        if name in build_args:
            found[name] = build_args[name]
        elif default is not None:
            found[name] = expand_word(default, {**found, **env}, Quoting(escape=escape))
        elif name in inherited:
            found[name] = inherited[name]
    return found


def _check_frontend(dockerfile: Dockerfile) -> None:
    image = dockerfile.syntax.split()[0] if dockerfile.syntax else ""
    if image and not _FRONTEND.match(image):
        error = DockerfileError(
            "build", dockerfile.file, dockerfile.syntax_line, f'syntax frontend "{image}" is unsupported'
        )
        error.hint = "only docker/dockerfile is built in: remove the `# syntax=` line"
        raise error


def _global_args(
    dockerfile: Dockerfile,
    before: Sequence[Instruction],
    automatic: Mapping[str, str],
    given: Mapping[str, str],
) -> dict[str, str]:
    """Return what FROM lines may use: the platforms, and the ARGs above the first FROM."""
    known = {name: given.get(name, value) for name, value in automatic.items()}
    budget = Budget()
    for each in before:
        if not isinstance(each, Arg):
            reason = "no build stage in current context: only ARG may stand before FROM"
            raise DockerfileError("parse", dockerfile.file, each.at.line, reason)
        try:
            found = declare_args(
                each, env=known, build_args=given, inherited=automatic, escape=dockerfile.escape
            )
            budget.take(sum(map(len, found.values())))
        except BadSubstitution as error:
            raise DockerfileError("build", dockerfile.file, each.at.line, str(error)) from error
        known |= found
    return known


def _groups(instructions: Sequence[Instruction]) -> list[tuple[From, list[Instruction]]]:
    groups: list[tuple[From, list[Instruction]]] = []
    for each in instructions:
        if isinstance(each, From):
            groups.append((each, []))
        else:
            groups[-1][1].append(each)
    return groups


def _stage(
    dockerfile: Dockerfile,
    group: tuple[From, list[Instruction]],
    earlier: Sequence[Stage],
    names: Mapping[str, Sequence[int]],
    global_args: Mapping[str, str],
    platform: str,
) -> Stage:
    start, body = group
    line = start.at.line
    try:
        quoting = Quoting(escape=dockerfile.escape)
        base = expand_word(start.image, global_args, quoting)
        wanted = expand_word(start.platform, global_args, quoting)
        chosen = normalise_platform(wanted) if wanted else platform
    except (BadSubstitution, InvalidPlatform) as error:
        raise DockerfileError("build", dockerfile.file, line, str(error)) from error
    if not base:
        raise DockerfileError(
            "build", dockerfile.file, line, f"base name ({start.image}) should not be blank"
        )
    same_name = names.get(base.lower(), ())
    base_stage = None if base.lower() == SCRATCH or not same_name else same_name[-1]
    if base_stage is not None and not wanted:
        chosen = earlier[base_stage].platform
    return Stage(
        index=len(earlier),
        name=start.name,
        base=base,
        base_stage=base_stage,
        platform=chosen,
        start=start,
        instructions=tuple(body),
        needs=frozenset() if base_stage is None else frozenset({base_stage}),
        copied=frozenset(),
    )


def _with_copied(dockerfile: Dockerfile, stage: Stage, names: Mapping[str, Sequence[int]]) -> Stage:
    """Return the stage with those that its COPY and RUN mounts take files from; they may stand below it."""
    found: set[int] = set()
    for each in stage.instructions:
        references: list[str] = []
        if isinstance(each, Copy):
            references = [each.from_]
        elif isinstance(each, Run):
            references = [mount.from_ for mount in each.mounts]
        for reference in filter(None, references):
            _check_reference(dockerfile, reference, each.at.line, stage.index)
            index = _find(reference, names, stage.index)
            if index is not None:
                found.add(index)
    return replace(stage, copied=frozenset(found), needs=stage.needs | found)


def _check_cycles(dockerfile: Dockerfile, stages: Sequence[Stage]) -> None:
    """Refuse stages that need each other: take away what needs nothing, again and again."""
    open_needs = {stage.index: len(stage.needs) for stage in stages}
    users: dict[int, list[int]] = {}
    for stage in stages:
        for need in stage.needs:
            users.setdefault(need, []).append(stage.index)
    free = [index for index, count in open_needs.items() if count == 0]
    while free:
        index = free.pop()
        del open_needs[index]
        for user in users.get(index, ()):
            open_needs[user] -= 1
            if open_needs[user] == 0:
                free.append(user)
    if not open_needs:
        return
    path = [min(open_needs)]
    while path[-1] not in path[:-1]:
        path.append(min(stages[path[-1]].needs & open_needs.keys()))
    circle = path[path.index(path[-1]) :]
    shown = " needs ".join(f"`{stages[index].name or index}`" for index in circle)
    line = stages[circle[0]].start.at.line
    raise DockerfileError("build", dockerfile.file, line, f"stages need each other: {shown}")


def _check_reference(dockerfile: Dockerfile, reference: str, line: int, count: int) -> None:
    if "$" in reference:
        error = DockerfileError(
            "build", dockerfile.file, line, f"variables are not expanded in `from={reference}`"
        )
        error.hint = "name a stage with `FROM … AS name`, using an ARG declared before the first FROM"
        raise error
    if reference.isdecimal() and _number(reference) >= count:
        reason = f"invalid stage index {reference}: {count} stages stand before this one"
        raise DockerfileError("build", dockerfile.file, line, reason)


def _number(reference: str) -> int:
    return int(reference) if len(reference) <= _DIGITS else 10**_DIGITS


def _find(reference: str, names: Mapping[str, Sequence[int]], before: int) -> int | None:
    """Return what a name or number means in stage `before`: the last one above it, else one below it."""
    same_name = names.get(reference.lower(), ())
    above = bisect_left(same_name, before)
    if above:
        return same_name[above - 1]
    if reference.isdecimal() and _number(reference) < before:
        return _number(reference)
    return same_name[-1] if same_name else None


def _target(
    dockerfile: Dockerfile, stages: Sequence[Stage], names: Mapping[str, Sequence[int]], target: str
) -> int:
    if not target:
        return len(stages) - 1
    index = _find(target, names, len(stages))
    if index is None:
        error = DockerfileError("build", dockerfile.file, 0, f'target stage "{target}" could not be found')
        named = [stage.name for stage in stages if stage.name]
        error.hint = f"its stages are {', '.join(named)}" if named else "none of its stages has a name"
        raise error
    return index
