"""A target in a file: what runs there outlives a killed deployer, and it can be told to fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pipeline.deploy.secrets import read_secrets
from pipeline.deploy.state import LocalState
from pipeline.deploy.target import Deployment, Drained, Fenced, Live, Probe, TargetFailed, Traffic, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipeline.config.delivery import StrategyKind
    from pipeline.deploy.release import Release

EMPTY: Final[dict[str, Any]] = {"fence": 0, "up": {}, "down": {}, "shares": {}, "fetched": [], "calls": []}


class FakeTarget:
    """One folder: `world.json` is what runs; `faults` maps method names to what they fail with."""

    kind = "fake"

    def __init__(self, folder: Path, faults: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.state = LocalState(folder / "state")
        self.faults = dict(faults or {})
        self._file = folder / "world.json"
        if not self._file.exists():
            self._file.write_text(json.dumps(EMPTY))

    @property
    def world(self) -> dict[str, Any]:
        """What runs, as it lies in the file."""
        found: dict[str, Any] = json.loads(self._file.read_text())
        return found

    def find_refusal(self, strategy: StrategyKind) -> str:
        return ""

    async def check(self, deployment: Deployment) -> None:
        self._fail("check")

    async def live(self) -> Live:
        world = self.world
        here = {*world["up"], *world["down"], *world["fetched"]}
        return Live(shares=world["shares"], running=frozenset(world["up"]), here=frozenset(here))

    async def fetch(self, deployment: Deployment) -> None:
        self._change("fetch", deployment, lambda world: _add(world["fetched"], deployment.new.id))

    async def run(
        self, deployment: Deployment, service: str, command: Sequence[str], timeout_s: float
    ) -> str:
        await read_secrets(self.state, deployment.new.services[service].secrets)
        self._change("run", deployment, lambda world: None)
        return f"{service}: {' '.join(command)}"

    async def start(self, deployment: Deployment, part: int) -> None:
        def act(world: dict[str, Any]) -> None:
            _add(world["up"].setdefault(deployment.new.id, []), part)

        self._change("start", deployment, act)

    async def probe(self, deployment: Deployment, release: Release) -> tuple[Probe, ...]:
        fault = self.faults.get("probe", "") if release == deployment.new else ""
        return tuple(
            Probe(service=service, instance=str(part), passed=not fault, said=fault or "200")
            for part in self.world["up"].get(release.id, [])
            for service in release.services
        )

    async def preview(self, deployment: Deployment) -> Mapping[str, str]:
        self._fail("preview")
        return dict.fromkeys(deployment.new.services, f"http://{deployment.new.id}.invalid")

    async def shift(self, deployment: Deployment, share: float) -> None:
        def act(world: dict[str, Any]) -> None:
            shares = {deployment.new.id: share}
            if deployment.old is not None:
                shares[deployment.old.id] = 100 - share
            world["shares"] = {name: part for name, part in shares.items() if part}

        self._change("shift" if share else "shift back", deployment, act)

    async def traffic(self, deployment: Deployment) -> Mapping[str, Traffic]:
        return {}

    async def usage(self, deployment: Deployment) -> tuple[Usage, ...]:
        return ()

    async def drain(self, deployment: Deployment, part: int) -> Drained:
        def act(world: dict[str, Any]) -> None:
            if deployment.old is not None:
                _move(world["up"], world["down"], deployment.old.id, part, deployment.parts)

        self._change("drain", deployment, act)
        return Drained()

    async def restore(self, deployment: Deployment, part: int) -> None:
        def act(world: dict[str, Any]) -> None:
            if deployment.old is not None:
                _move(world["down"], world["up"], deployment.old.id, part, deployment.parts)

        self._change("restore", deployment, act)

    async def remove(self, deployment: Deployment, part: int) -> None:
        def act(world: dict[str, Any]) -> None:
            left = [one for one in world["up"].get(deployment.new.id, []) if one != part]
            world["up"] |= {deployment.new.id: left}
            if not left:
                del world["up"][deployment.new.id]
                world["shares"].pop(deployment.new.id, None)

        self._change("remove", deployment, act)

    async def evidence(self, deployment: Deployment) -> Mapping[str, bytes]:
        self._fail("evidence")
        return {"api.log": b"started\n"}

    async def prune(self, deployment: Deployment, keep: frozenset[str]) -> tuple[str, ...]:
        gone = tuple(name for name in self.world["down"] if name not in keep)

        def act(world: dict[str, Any]) -> None:
            for name in gone:
                del world["down"][name]

        self._change("prune", deployment, act)
        return gone

    async def close(self) -> None:
        """Hold nothing open."""

    def _change(self, call: str, deployment: Deployment, act: Any) -> None:
        """Fail if told to; else change the world at once, unless a later deployer has been here."""
        self._fail(call)
        with self.state.alone():
            world = self.world
            if deployment.fence < world["fence"]:
                raise Fenced(deployment.fence, world["fence"])
            act(world)
            world["fence"] = deployment.fence
            world["calls"].append(call)
            fresh = self._file.with_name("world.new")
            fresh.write_text(json.dumps(world))
            fresh.replace(self._file)

    def _fail(self, call: str) -> None:
        if call in self.faults:
            raise TargetFailed(self.faults[call])


def _add(numbers: list[Any], number: object) -> None:
    if number not in numbers:
        numbers.append(number)


def _move(source: dict[str, Any], to: dict[str, Any], release: str, part: int, parts: int) -> None:
    """Move a part of a release's instances; all of them when there is one part."""
    had = source.pop(release, [])
    moved = had if parts == 1 else [one for one in had if one == part]
    if left := [one for one in had if one not in moved]:
        source[release] = left
    for one in moved:
        _add(to.setdefault(release, []), one)
