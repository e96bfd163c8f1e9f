"""What a cluster says about something that went wrong: last lines, events, the end of a job."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.deploy.target import TargetFailed
from pipeline.deploy.targets import kubernetes_pods as reading
from pipeline.deploy.targets.kubernetes_calls import CallFailed

if TYPE_CHECKING:
    from pipeline.deploy.targets.kubernetes_calls import Kubectl
    from pipeline.deploy.targets.kubernetes_pods import Stuck, Thing
    from pipeline.deploy.targets.kubernetes_world import World

LOG_LINES: Final = 200
LAST_LINES: Final = 20


@dataclass(kw_only=True)
class Reports:
    """Reports of one namespace."""

    kubectl: Kubectl
    _watched: reading.Watched = field(default_factory=reading.Watched, init=False)

    async def failure(self, stuck: Stuck) -> TargetFailed:
        """Return what is wrong, with the pod's last lines and what the cluster noted about it."""
        log = await self.log(f"pod/{stuck.pod}", LAST_LINES) if stuck.pod else ""
        events = await self.events(stuck.pod)
        where = f" (pod `{stuck.pod}`)" if stuck.pod else ""
        return TargetFailed(
            f"`{stuck.service}` cannot start: {stuck.what}{where}",
            logs="\n".join(filter(None, (log, events))),
        )

    async def log(self, what: str, lines: int = LOG_LINES) -> str:
        """Return the last lines of a pod; why there are none, where they cannot be had."""
        try:
            said = await self.kubectl.call(
                "read the log", "logs", what, f"--tail={lines}", "--timestamps=false"
            )
        except CallFailed as error:
            return f"no log: {error}\n"
        return said.decode(errors="replace")

    async def events(self, pod: str = "") -> str:
        about = [f"--field-selector=involvedObject.name={pod}"] if pod else []
        columns = "TYPE:.type,REASON:.reason,OBJECT:.involvedObject.name,MESSAGE:.message"
        words = ("get", "events", *about, "--sort-by=.metadata.creationTimestamp")
        said = await self.kubectl.call("read the events", *words, f"--output=custom-columns={columns}")
        return "".join(said.decode(errors="replace").splitlines(keepends=True)[-LOG_LINES:])

    async def await_job(self, world: World, name: str, timeout_s: float) -> str:
        """Wait for the end of a job and return what it printed.

        Raises:
            TargetFailed: It failed, cannot start, or takes too long.
        """
        ended: list[Thing] = []

        async def missing() -> str:
            status = (await self.kubectl.read("see the job", "job", name)).get("status", {})
            ended[:] = [one for one in status.get("conditions", ()) if one.get("status") == "True"]
            ended[:] = [one for one in ended if one.get("type") in ("Complete", "Failed")]
            found = await self.kubectl.read("see the job", "pods", f"--selector=job-name={name}")
            # A pod that has failed is the job's to speak of: its log is what the command said.
            pods = [pod for pod in found.get("items", ()) if pod["status"].get("phase") != "Failed"]
            stuck = reading.find_stuck((), pods, self._watched, time.monotonic())
            if stuck is not None and not ended:
                raise TargetFailed(f"cannot run the command: {stuck.what}", logs=await self.events())
            return "" if ended else "it has not ended"

        await world.wait("run the command", timeout_s, missing)
        said = await self.log(f"job/{name}")
        if ended[0]["type"] == "Failed":
            raise TargetFailed(
                f"the command failed: {ended[0].get('message', '')} {_last_line(said)}".strip(), logs=said
            )
        return said


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
