"""The target `command`: a place that only its own commands can change, run in the same order as everywhere.

Commands get these variables: PIPELINE_ENVIRONMENT, PIPELINE_RELEASE, PIPELINE_RELEASE_FILE (all of it, as
JSON), PIPELINE_OLD_RELEASE, PIPELINE_VERSION, PIPELINE_COMMIT, PIPELINE_FENCE, PIPELINE_IMAGE_<SERVICE> for
each service, its secrets by their names, and PIPELINE_SERVICE or PIPELINE_SHARE where one is meant.
"""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from shutil import which
from typing import TYPE_CHECKING, Any, Final

import anyio

from pipeline.deploy.records import read_record, write_record
from pipeline.deploy.secrets import read_secrets
from pipeline.deploy.target import Drained, Fenced, Live, Probe, TargetFailed, TargetUnfit, Traffic, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipeline.config.delivery import Environment, HookSettings, StrategyKind
    from pipeline.deploy.release import Release
    from pipeline.deploy.state import LocalState
    from pipeline.deploy.target import Deployment

RECORD: Final = "world.json"
LONGEST_SAID: Final = 1 << 20
LAST_LINES: Final = 20
STOP_LIMIT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the commands have brought about, as far as their exit codes tell."""

    fence: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()


class CommandTarget:
    """Runs an environment's commands in the project's folder, and remembers what they did."""

    kind: Final = "command"

    def __init__(self, environment: Environment, state: LocalState, root: Path) -> None:
        self.environment = environment
        self.state = state
        self._root = root

    @property
    def _hooks(self) -> HookSettings:
        return self.environment.commands

    def find_refusal(self, strategy: StrategyKind) -> str:
        if strategy == "rolling":
            return "commands are not told of single instances"
        if strategy in ("canary", "blue_green") and (self._hooks.shift is None or self._hooks.remove is None):
            return "it needs `commands.shift` and `commands.remove`; `recreate` does without"
        return ""

    async def check(self, deployment: Deployment) -> None:

        for name in self._hooks.__slots__:
            argv = getattr(self._hooks, name)
            if argv is not None and not self._can_run(argv[0]):
                raise TargetUnfit(f"cannot run `commands.{name}`: `{argv[0]}` is no program")

    def _can_run(self, program: str) -> bool:
        return which(program) is not None or os.access(self._root / program, os.X_OK)

    async def live(self) -> Live:
        world = await self._world()
        here = frozenset({*world.up, *world.down})
        if self._hooks.live is None:
            return Live(shares=world.shares, running=frozenset(world.up), here=here)
        said = (await self._run(self._hooks.live, self._plain())).strip()
        if said and not re.fullmatch(r"r-[0-9a-f]{12}", said):
            raise TargetFailed(f"cannot tell what runs: `commands.live` printed `{said[:80]}`, no release")
        if not said:
            return Live(here=here)
        if said in world.up:
            return Live(shares=world.shares, running=frozenset(world.up), here=here)
        return Live(shares={said: 100.0}, running=frozenset({said}), here=here)

    async def fetch(self, deployment: Deployment) -> None:
        await self._act(deployment, self._hooks.fetch, deployment.new)

    async def run(
        self, deployment: Deployment, service: str, command: Sequence[str], timeout_s: float
    ) -> str:
        variables = await self._variables(deployment, deployment.new, PIPELINE_SERVICE=service)
        return await self._run(command, variables, timeout_s)

    async def start(self, deployment: Deployment, part: int) -> None:
        await self._act(deployment, self._hooks.start, deployment.new)
        await self._note(deployment, up=deployment.new)
        if self._hooks.shift is None:
            await self._note(deployment, share=100.0)

    async def probe(self, deployment: Deployment, release: Release) -> tuple[Probe, ...]:
        if release.id not in (await self._world()).up:
            return ()
        return tuple([await self._probe(deployment, release, name) for name in release.in_order()])

    async def _probe(self, deployment: Deployment, release: Release, service: str) -> Probe:
        if self._hooks.ready is None:  # the settings are checked for it
            raise TargetUnfit(f"cannot tell whether `{service}` is well: there is no `commands.ready`")
        variables = await self._variables(deployment, release, PIPELINE_SERVICE=service)
        try:
            said = await self._run(self._hooks.ready, variables)
        except TargetFailed as error:
            last = error.logs.strip().splitlines()[-1:] or [str(error)]
            return Probe(service=service, instance="command", passed=False, said=last[0])
        return Probe(service=service, instance="command", passed=True, said="".join(said.splitlines()[-1:]))

    async def preview(self, deployment: Deployment) -> Mapping[str, str]:
        if self._hooks.preview is not None:
            variables = await self._variables(deployment, deployment.new)
            url = (await self._run(self._hooks.preview, variables)).strip()
        else:
            # Without a switch of its own the new release answers where people reach it.
            url = (self.environment.address or "") if self._hooks.shift is None else ""
        names = [name for name, one in deployment.new.services.items() if one.settings.port is not None]
        return dict.fromkeys(names, url) if url else {}

    async def shift(self, deployment: Deployment, share: float) -> None:
        if self._hooks.shift is not None:
            await self._act(deployment, self._hooks.shift, deployment.new, PIPELINE_SHARE=f"{share:g}")
        await self._note(deployment, share=share)

    async def traffic(self, deployment: Deployment) -> Mapping[str, Traffic]:
        return {}

    async def usage(self, deployment: Deployment) -> tuple[Usage, ...]:
        return ()

    async def drain(self, deployment: Deployment, part: int) -> Drained:
        if deployment.old is not None:
            await self._act(deployment, self._hooks.drain, deployment.old)
            await self._note(deployment, down=deployment.old)
        return Drained()

    async def restore(self, deployment: Deployment, part: int) -> None:
        if deployment.old is not None:
            await self._act(deployment, self._hooks.start, deployment.old)
            await self._note(deployment, up=deployment.old)

    async def remove(self, deployment: Deployment, part: int) -> None:
        await self._act(deployment, self._hooks.remove, deployment.new)
        await self._note(deployment, gone=deployment.new)

    async def evidence(self, deployment: Deployment) -> Mapping[str, bytes]:
        if self._hooks.logs is None:
            return {}
        variables = await self._variables(deployment, deployment.new)
        return {"command.log": (await self._run(self._hooks.logs, variables)).encode()}

    async def prune(self, deployment: Deployment, keep: frozenset[str]) -> tuple[str, ...]:
        return ()  # what commands keep is theirs

    async def close(self) -> None:
        """Hold nothing open."""

    async def _world(self) -> World:
        data, _ = await self.state.read(RECORD)
        return read_record(data, World, RECORD) if data else World()

    async def _note(
        self,
        deployment: Deployment,
        *,
        up: Release | None = None,
        down: Release | None = None,
        gone: Release | None = None,
        share: float | None = None,
    ) -> None:
        """Write down what a command has brought about."""
        data, version = await self.state.read(RECORD)
        world = read_record(data, World, RECORD) if data else World()
        names = {one.id for one in (up, down, gone) if one is not None}
        ups = [*(name for name in world.up if name not in names), *([up.id] if up else [])]
        downs = [*(name for name in world.down if name not in names), *([down.id] if down else [])]
        shares = {name: part for name, part in world.shares.items() if gone is None or name != gone.id}
        if share is not None:
            old = {deployment.old.id: 100.0 - share} if deployment.old is not None else {}
            shares = {name: part for name, part in {deployment.new.id: share, **old}.items() if part > 0}
        fresh = World(fence=deployment.fence, shares=shares, up=tuple(ups), down=tuple(downs))
        await self.state.write(RECORD, write_record(fresh), version=version)

    async def _act(
        self, deployment: Deployment, argv: Sequence[str] | None, release: Release, **more: str
    ) -> None:
        """Run a command that changes something, unless a later deployer has been here."""
        world = await self._world()
        if deployment.fence < world.fence:
            raise Fenced(deployment.fence, world.fence)
        if argv is not None:
            await self._run(argv, await self._variables(deployment, release, **more))

    def _plain(self) -> dict[str, str]:
        return {**os.environ, "PIPELINE_ENVIRONMENT": self.environment.name}

    async def _variables(self, deployment: Deployment, release: Release, **more: str) -> dict[str, str]:
        secrets: dict[str, str] = {}
        images: dict[str, str] = {}
        for name, service in release.services.items():
            secrets |= await read_secrets(self.state, service.secrets)
            images["PIPELINE_IMAGE_" + re.sub(r"\W", "_", name).upper()] = service.image
        file = self.state.folder / f"releases/{release.id}.json"
        return {
            **self._plain(),
            **secrets,
            **images,
            "PIPELINE_RELEASE": release.id,
            "PIPELINE_RELEASE_FILE": os.fspath(file),
            "PIPELINE_OLD_RELEASE": deployment.old.id if deployment.old is not None else "",
            "PIPELINE_VERSION": release.version,
            "PIPELINE_COMMIT": release.commit,
            "PIPELINE_FENCE": str(deployment.fence),
            **more,
        }

    async def _run(self, argv: Sequence[str], env: Mapping[str, str], timeout_s: float | None = None) -> str:
        """Run a command to its end and return what it printed, cut to its last megabyte.

        Raises:
            TargetFailed: It cannot be started, ends with another code than 0, or takes too long.
        """
        limit_s = timeout_s if timeout_s is not None else self.environment.deploy.deadline_s
        name, began, said = " ".join(argv)[:200], time.monotonic(), bytearray()
        try:
            process = await anyio.open_process(
                argv, stdin=None, stderr=-2, cwd=self._root, env=env, start_new_session=True
            )
        except OSError as error:
            raise TargetFailed(f"cannot run `{name}`: {(error.strerror or str(error)).lower()}") from error
        try:
            with anyio.move_on_after(limit_s):
                if process.stdout is not None:
                    async for part in process.stdout:
                        said += part
                        del said[:-LONGEST_SAID]
                await process.wait()
        finally:
            if process.returncode is None:
                await _end(process)
        text = said.decode(errors="replace")
        if time.monotonic() - began >= limit_s:
            raise TargetFailed(f"`{name}` did not end within {limit_s:g} s", logs=text)
        if process.returncode != 0:
            raise TargetFailed(f"`{name}` ended with code {process.returncode}: {_last(text)}", logs=text)
        return text


async def _end(process: Any) -> None:
    """End a command and all it has started."""
    with anyio.CancelScope(shield=True):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with anyio.move_on_after(STOP_LIMIT_S):
                await process.wait()
                return


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
