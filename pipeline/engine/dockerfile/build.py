"""Build a container from a Dockerfile: its instructions become container values and engine operations.

Only the stages that the target needs are built, side by side where they do not depend on each other.
A RUN is not carried out here unless a later instruction has to look at what it left.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import anyio

from pipeline.engine.configured import BadArgument
from pipeline.engine.container import Container
from pipeline.engine.dockerfile.configure import Arguments, Progress, configure
from pipeline.engine.dockerfile.expand import BadSubstitution
from pipeline.engine.dockerfile.instructions import Add, Copy, DockerfileError, From, Instruction, Run
from pipeline.engine.dockerfile.look import TooLarge, read_ignore_patterns, read_text
from pipeline.engine.dockerfile.parse import parse_dockerfile, parse_trigger
from pipeline.engine.dockerfile.plan import SCRATCH, BuildPlan, Stage, plan_build
from pipeline.engine.dockerfile.run import SECRETS_FOLDER, run
from pipeline.engine.dockerfile.session import BuildSession, Origin, Site
from pipeline.engine.dockerfile.transfer import transfer
from pipeline.engine.files import BadPath
from pipeline.engine.oci.platform import host_platform, normalise_platform
from pipeline.engine.paths import NameTooLong, base_name, join
from pipeline.engine.patterns import BadPattern

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Sequence
    from pathlib import Path

    from pipeline.engine import ops
    from pipeline.engine.files import Directory

_USUAL_NAME: Final = "Dockerfile"  # in lower case it is found too
PROXY_NAMES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")


async def build(
    session: BuildSession,
    context: Directory,
    *,
    dockerfile: str = "Dockerfile",
    platform: str | None = None,
    build_args: Sequence[tuple[str, str]] = (),
    target: str = "",
    secrets: Sequence[tuple[str, ops.SecretHandle]] = (),
    no_init: bool = False,
    ssh: str | None = None,
) -> Container:
    """Return the container that the Dockerfile of `context` describes.

    Args:
        dockerfile: Its path in `context`; it is read before the ignore file has its say. Where there is
            no `Dockerfile`, `dockerfile` is taken.
        platform: What to build for; None means this machine's.
        target: The name or number of a stage; "" means the last one.
        secrets: Pairs of a name and a handle; RUN mounts find them by name, and the result has each
            one mounted at `/run/secrets/<name>`.
        ssh: The path of the host's agent socket, for every mount of type ssh.

    Raises:
        DockerfileError: The file is missing, cannot be read, or says what cannot be done.
        ExecFailed: A RUN whose files a later instruction takes failed.
        EngineError: An image, a download or a repository cannot be had.
    """
    handles = _by_name(secrets, dockerfile)
    text, ignored = await session.look(context.tree, lambda root: _read(root, context.path, dockerfile))
    chosen = normalise_platform(platform) if platform else host_platform()
    plan = plan_build(
        parse_dockerfile(text, file=dockerfile),
        platform=chosen,
        build_platform=host_platform(),
        build_args=build_args,
        target=target,
    )
    visible = context.filter(exclude=ignored) if ignored else context
    origin = Origin(
        tree=visible.as_tree(),
        title="the build context",
        hint="the ignore file may leave it out" if ignored else None,
    )
    builder = _Builder(session, origin, plan, handles, ssh=ssh, no_init=no_init)
    container = (await builder.stage(plan.target)).container
    for name, handle in handles.items():
        container = container.with_mounted_secret(f"{SECRETS_FOLDER}/{name}", handle)
    return container


def _read(root: Path, directory: str, dockerfile: str) -> tuple[str, tuple[str, ...]]:
    path = join(directory, dockerfile.lstrip("/"))
    try:
        text = read_text(root, path)
        if text is None and base_name(path) == _USUAL_NAME:
            text = read_text(root, path.removesuffix(_USUAL_NAME) + _USUAL_NAME.lower())
        ignored = read_ignore_patterns(root, directory, dockerfile)
    except TooLarge as error:
        raise DockerfileError("read", dockerfile, 0, str(error)) from error
    if text is None:
        raise DockerfileError("read", dockerfile, 0, "no such file or directory")
    return text, ignored


def _by_name(secrets: Sequence[tuple[str, ops.SecretHandle]], dockerfile: str) -> dict[str, ops.SecretHandle]:
    found: dict[str, ops.SecretHandle] = {}
    for name, handle in secrets:
        if not name:
            raise DockerfileError("build", dockerfile, 0, "a build secret has no name")
        if found.setdefault(name, handle) != handle:
            raise DockerfileError("build", dockerfile, 0, f"two build secrets have the name `{name}`")
    return found


class _Builder:
    """Builds the stages of one plan, each once."""

    def __init__(
        self,
        session: BuildSession,
        context: Origin,
        plan: BuildPlan,
        secrets: dict[str, ops.SecretHandle],
        *,
        ssh: str | None,
        no_init: bool,
    ) -> None:
        self._session = session
        self._context = context
        self._plan = plan
        self._secrets = secrets
        self._ssh = ssh
        self._no_init = no_init
        self._arguments = Arguments(passed=plan.build_args, inherited=plan.global_args)
        self._locks: defaultdict[int, anyio.Lock] = defaultdict(anyio.Lock)
        self._done: dict[int, Progress] = {}

    async def stage(self, index: int) -> Progress:
        """Return a stage as it is after its last instruction, built now if it was not yet."""
        async with self._locks[index]:
            if index not in self._done:
                self._done[index] = await self._build(self._plan.stages[index])
        return self._done[index]

    async def _build(self, stage: Stage) -> Progress:
        await self._prepare(stage)
        site = self._site(stage)
        progress = await self._start(stage, site)
        for instruction in stage.instructions:
            progress = await self._apply(progress, instruction, site)
        return progress

    async def _prepare(self, stage: Stage) -> None:
        """Build the stages that this one needs, side by side, and carry out those it copies from."""

        async def one(index: int) -> None:
            progress = await self.stage(index)
            if index in stage.copied:
                await self._session.look(progress.container.rootfs, lambda _root: None)

        await _together(one, stage.needs)

    async def _start(self, stage: Stage, site: Site) -> Progress:
        """Return the stage after FROM, and after what its base wants to happen then."""
        if stage.base_stage is not None:
            base = await self.stage(stage.base_stage)
            progress = replace(base, is_cmd_set=False)
        else:
            bare = Container(platform=stage.platform)
            is_empty = stage.base.lower() == SCRATCH
            container = bare if is_empty else await self._session.from_image(bare, stage.base)
            progress = Progress(container=container)
        triggers = progress.container.config.on_build
        if not triggers:
            return progress
        progress = progress.with_config(on_build=())
        for trigger in triggers:
            instruction = parse_trigger(trigger, file=site.file, line=stage.start.at.line)
            progress = await self._apply(progress, instruction, site)
        return progress

    async def _apply(self, progress: Progress, instruction: Instruction, site: Site) -> Progress:
        try:
            match instruction:
                case Run():
                    return await run(progress, instruction, site)
                case Copy() | Add():
                    return await transfer(progress, instruction, site)
                case From():
                    raise ValueError("FROM cannot stand inside a stage")
                case _:
                    return configure(progress, instruction, self._arguments, escape=site.escape)
        except (BadSubstitution, BadArgument, BadPath, BadPattern, NameTooLong, ValueError) as error:
            raise site.refuse(instruction.at.line, str(error)) from error

    def _site(self, stage: Stage) -> Site:
        async def origin(reference: str) -> Origin:
            return await self._origin(reference, stage)

        passed = self._plan.build_args
        names = [name for upper in PROXY_NAMES for name in (upper, upper.lower())]
        return Site(
            session=self._session,
            file=self._plan.file.file,
            escape=self._plan.file.escape,
            secrets=MappingProxyType(self._secrets),
            ssh=self._ssh,
            proxies=tuple((name, passed[name]) for name in names if name in passed),
            no_init=self._no_init,
            budget=self._arguments.budget,
            origin=origin,
        )

    async def _origin(self, reference: str, stage: Stage) -> Origin:
        """Return the tree that `--from` means in `stage`: an earlier stage, else an image."""
        if not reference:
            return self._context
        index = self._plan.find_stage(reference, before=stage.index)
        if index is not None:
            progress = await self.stage(index)
            return Origin(tree=progress.container.rootfs, title=f"stage `{reference}`")
        image = await self._session.from_image(Container(platform=stage.platform), reference)
        return Origin(tree=image.rootfs, title=f"image `{reference}`", is_image=True)


async def _together(one: Callable[[int], Coroutine[Any, Any, None]], indices: Collection[int]) -> None:
    """Call `one` for each index, side by side; the first failure cancels the others and is raised itself."""
    try:
        async with anyio.create_task_group() as group:
            for index in sorted(indices):
                group.start_soon(one, index)
    except BaseExceptionGroup as failures:
        raise _first(failures) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
