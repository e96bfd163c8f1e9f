"""Which stages a Dockerfile has, what each starts from, and which of them a target needs. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pipeline.engine.dockerfile.expand import BadSubstitution, Quoting, expand_word
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
        return _find(reference, self.stages[:before])


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
        DockerfileError: No stage, an unknown target, a foreign frontend, or a FROM that cannot be expanded.
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
    for group in _groups(dockerfile.instructions[first:]):
        stages.append(_stage(dockerfile, group, stages, global_args, platform))
    return BuildPlan(
        file=dockerfile,
        stages=tuple(stages),
        target=_target(dockerfile, stages, target),
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
        error = DockerfileError("build", dockerfile.file, 1, f'syntax frontend "{image}" is unsupported')
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
    for each in before:
        if not isinstance(each, Arg):
            reason = "no build stage in current context: only ARG may stand before FROM"
            raise DockerfileError("parse", dockerfile.file, each.at.line, reason)
        try:
            known |= declare_args(
                each, env=known, build_args=given, inherited=automatic, escape=dockerfile.escape
            )
        except BadSubstitution as error:
            raise DockerfileError("build", dockerfile.file, each.at.line, str(error)) from error
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
    base_stage = None if base.lower() == SCRATCH else _find_name(base, earlier)
    if base_stage is not None and not wanted:
        chosen = earlier[base_stage].platform
    copied = _copied(dockerfile, body, earlier)
    return Stage(
        index=len(earlier),
        name=start.name,
        base=base,
        base_stage=base_stage,
        platform=chosen,
        start=start,
        instructions=tuple(body),
        needs=copied if base_stage is None else copied | {base_stage},
        copied=copied,
    )


def _copied(dockerfile: Dockerfile, body: Sequence[Instruction], earlier: Sequence[Stage]) -> frozenset[int]:
    """Return the stages that COPY and RUN mounts take files from."""
    found: set[int] = set()
    for each in body:
        references: list[str] = []
        if isinstance(each, Copy):
            references = [each.from_]
        elif isinstance(each, Run):
            references = [mount.from_ for mount in each.mounts]
        for reference in filter(None, references):
            _check_reference(dockerfile, reference, each.at.line, len(earlier))
            index = _find(reference, earlier)
            if index is not None:
                found.add(index)
    return frozenset(found)


def _check_reference(dockerfile: Dockerfile, reference: str, line: int, count: int) -> None:
    if "$" in reference:
        error = DockerfileError(
            "build", dockerfile.file, line, f"variables are not expanded in `from={reference}`"
        )
        error.hint = "name a stage with `FROM … AS name`, using an ARG declared before the first FROM"
        raise error
    if reference.isdecimal() and int(reference) >= count:
        reason = f"invalid stage index {reference}: {count} stages stand before this one"
        raise DockerfileError("build", dockerfile.file, line, reason)


def _find(reference: str, stages: Sequence[Stage]) -> int | None:
    by_name = _find_name(reference, stages)
    if by_name is None and reference.isdecimal() and int(reference) < len(stages):
        return int(reference)
    return by_name


def _find_name(name: str, stages: Sequence[Stage]) -> int | None:
    """Return the last stage of that name; one that is repeated hides those before it."""
    return next(
        (stage.index for stage in reversed(stages) if stage.name and stage.name == name.lower()), None
    )


def _target(dockerfile: Dockerfile, stages: Sequence[Stage], target: str) -> int:
    if not target:
        return len(stages) - 1
    index = _find(target, stages)
    if index is None:
        error = DockerfileError("build", dockerfile.file, 0, f'target stage "{target}" could not be found')
        named = [stage.name for stage in stages if stage.name]
        error.hint = f"its stages are {', '.join(named)}" if named else "none of its stages has a name"
        raise error
    return index
