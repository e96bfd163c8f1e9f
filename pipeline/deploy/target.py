"""What every place where releases run can do. `tests/contract/test_target.py` holds each to it.

A target knows nothing of order, of undoing or of thresholds: `execute` does. Each method looks at the world
first, so that doing it twice is the same as once. Those that change something are given the deployment, whose
fencing number a target compares with the highest it has seen: a deployer that was cut off changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time when a record is read
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pipeline.errors import PipelineError, RefusedByPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config.delivery import Environment, StrategyKind
    from pipeline.deploy.release import Release
    from pipeline.deploy.state import State


class TargetUnfit(PipelineError):
    """The target cannot take the release; nothing was changed."""


class TargetFailed(PipelineError):
    """Something did not work at the target; `logs` is what it said."""

    def __init__(self, sentence: str, *, logs: str = "", hint: str | None = None) -> None:
        super().__init__(sentence)
        self.logs = logs
        self.hint = hint


class Fenced(PipelineError):
    """Another deployer has taken over since: nothing was changed."""

    def __init__(self, ours: int, theirs: int) -> None:
        super().__init__(f"cannot change the target: our lock has number {ours}, by now there is {theirs}")


class StrategyRefused(RefusedByPolicy):
    """The target cannot deploy in that way."""

    def __init__(self, target: str, strategy: str, why: str) -> None:
        super().__init__(f"cannot deploy by `{strategy}` to target `{target}`: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One try to bring `new` to an environment in which `old` runs; `parts` is more than 1 when rolling."""

    id: str
    environment: Environment
    new: Release
    old: Release | None
    fence: int
    parts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What runs. `shares` maps release ids to percent of the traffic; `running` are all with instances up.

    `here` names everything that can be started without fetching it again, running or not.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    running: frozenset[str] = frozenset()
    here: frozenset[str] = frozenset()

    @property
    def release(self) -> str:
        """The one release that has all the traffic; "" when there is none, or several share it."""
        whole = [name for name, share in self.shares.items() if share >= 100]
        return whole[0] if len(whole) == 1 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One look at one instance. `version` is what it says it runs; "" when it was not asked."""

    service: str
    instance: str
    passed: bool
    said: str = ""  # one line: the answer, or why there was none
    restarts: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests answered by one release since the last shift. Latencies are a sample, in seconds."""

    requests: int
    errors: int
    latencies: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one instance takes; None where it cannot be seen."""

    service: str
    instance: str
    cpu_percent: float | None = None  # of its limit, or of one CPU
    memory_bytes: int | None = None
    restarts: int = 0
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How instances left: requests still in flight when the time was over, and how many had to be killed."""

    cut_off: int = 0
    killed: int = 0


class Target(Protocol):
    """One environment's place. Methods raise `TargetFailed`; those that change, `Fenced` as well."""

    @property
    def kind(self) -> str:
        """What the settings call it: `docker`."""

    @property
    def state(self) -> State:
        """The environment's records, which lie beside what runs."""

    def find_refusal(self, strategy: StrategyKind) -> str:
        """Say why it cannot deploy in that way; "" when it can."""

    async def check(self, deployment: Deployment) -> None:
        """Look whether the release can run here: hosts answer, images can be had, disk, clocks, settings.

        Raises:
            TargetUnfit: It cannot, and why.
        """

    async def live(self) -> Live:
        """Look at what runs."""

    async def fetch(self, deployment: Deployment) -> None:
        """Bring all images of the new release to every host. Nothing that runs changes."""

    async def run(
        self, deployment: Deployment, service: str, command: Sequence[str], timeout_s: float
    ) -> str:
        """Run a command once in a fresh container of the new release, and return what it printed.

        Raises:
            TargetFailed: It ended with another code than 0, or took too long; carries what it said.
        """

    async def start(self, deployment: Deployment, part: int) -> None:
        """Start the new instances of a part, without traffic. An exclusive service's old one stops before."""

    async def probe(self, deployment: Deployment, release: Release) -> tuple[Probe, ...]:
        """Look once at every instance of a release that should be up, side by side."""

    async def preview(self, deployment: Deployment) -> Mapping[str, str]:
        """Return for each service with a port a URL at which only the new release answers."""

    async def shift(self, deployment: Deployment, share: float) -> None:
        """Give the new release `share` percent of new requests, and the old one the rest.

        0 gives all back to the old one. Returns when the last new request went by the old rule.
        """

    async def traffic(self, deployment: Deployment) -> Mapping[str, Traffic]:
        """Count by release id, since the last shift. {} where the target cannot count."""

    async def usage(self, deployment: Deployment) -> tuple[Usage, ...]:
        """Look at what the new release's instances take."""

    async def drain(self, deployment: Deployment, part: int) -> Drained:
        """Let the old instances of a part finish their requests, then stop them. They stay to be started."""

    async def restore(self, deployment: Deployment, part: int) -> None:
        """Start the old instances of a part again, after `drain`."""

    async def remove(self, deployment: Deployment, part: int) -> None:
        """Stop and remove the new instances of a part. An exclusive service's old one starts again."""

    async def evidence(self, deployment: Deployment) -> Mapping[str, bytes]:
        """Collect logs and states of the new instances, by file name."""

    async def prune(self, deployment: Deployment, keep: frozenset[str]) -> tuple[str, ...]:
        """Remove what is left of other releases than `keep` and what runs; return their ids."""

    async def close(self) -> None:
        """Let go of connections. What runs goes on."""
