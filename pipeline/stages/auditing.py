"""What is kept and told of deployments: the audit log, its checkpoints, CDEvents, notices.

A decision is in the log before anything is done: what cannot be logged is not deployed. How a deployment
ended is told after it is written down: that telling fails is said, and changes nothing.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import anyio
import anyio.to_thread

from pipeline.deploy.outcome import Outcome, Told
from pipeline.deploy.policy import DeploymentRefused
from pipeline.errors import PipelineError
from pipeline.ops.audit import Act, AuditLog
from pipeline.ops.cdevents import FILE, Origin, send_events, write_events
from pipeline.ops.channels import ChannelSender, read_place
from pipeline.ops.checkpoints import FolderPlace, NotesPlace, make_checkpoint
from pipeline.ops.notify import Notice, Notifier, say_failures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.config.notify import AuditSettings, Severity
    from pipeline.deploy.history import Entry
    from pipeline.deploy.policy import Decision
    from pipeline.deploy.steps import Step
    from pipeline.deploy.target import Deployment
    from pipeline.ops.cdevents import Change, Event
    from pipeline.ops.cdevents import Outcome as EventOutcome
    from pipeline.ops.checkpoints import Place
    from pipeline.stages.delivery import Asked, Delivery

NOTES: Final = "notes:"
_OUTCOMES: Final[Mapping[str, EventOutcome]] = {"done": "success", "failed": "failure"}
TELL_LIMIT_S: Final = 60.0
"""For all that is told of one deployment's end."""

SEVERITIES: Final[Mapping[Outcome, Severity]] = {
    Outcome.SUCCEEDED: "info",
    Outcome.FAILED: "warning",
    Outcome.WAITING: "warning",
    Outcome.ROLLED_BACK: "critical",
    Outcome.ROLLBACK_FAILED: "critical",
}


@dataclass(kw_only=True)
class Chronicle:
    """What is kept and told of one deployment."""

    delivery: Delivery
    asked: Asked
    clock: Callable[[], float] = time.time
    events: list[Event] = field(default_factory=list)
    origin: Origin | None = None

    @property
    def log(self) -> AuditLog:
        """The environment's audit log."""
        return AuditLog(records=self.asked.target.state)

    async def authorise(self, deployment: Deployment, steps: Sequence[Step]) -> None:
        """Ask the rules, and log what they say.

        Raises:
            RefusedByPolicy: They forbid it.
            PipelineError: It cannot be logged.
        """
        try:
            decision = await self.delivery.authorise(self.asked, deployment, steps)
        except DeploymentRefused as error:
            await self.refused(deployment, error)
            raise
        if decision is not None:
            await self.decided(deployment, decision)

    def tell(self, told: Told) -> None:
        """Tell people, and make an event of it."""
        self._make_event(told, self.clock())
        self.delivery.tell(told)

    async def decided(self, deployment: Deployment, decision: Decision) -> None:
        """Log a decision that allows.

        Raises:
            PipelineError: It cannot be logged, and this is no rollback.
        """
        action = "break glass" if decision.passed_over else self.asked.kind
        detail = {"roles": ", ".join(decision.roles)}
        if decision.passed_over:
            detail["passed over"] = "; ".join(one.rule for one in decision.passed_over)
            detail["reason"] = self.asked.break_glass
        try:
            await self._add(action, deployment.new.id, "allowed", decision.inputs, detail)
        except PipelineError as error:
            if self.asked.kind != "rollback":
                raise
            self._warn(
                deployment.id, str(error)
            )  # nothing stands between a bad release and the last good one
        if decision.passed_over:
            place = self.asked.environment.name
            await self._notify(
                deployment.id,
                Notice(
                    severity="critical",
                    title=f"{self.delivery.actor} passes over the rules of {place}",
                    text=self.asked.break_glass,
                    key=f"{place} break glass {deployment.id}",
                    environment=place,
                    facts={"release": deployment.new.id, "rules": detail["passed over"]},
                ),
            )

    async def refused(self, deployment: Deployment, error: DeploymentRefused) -> None:
        """Log a decision that forbids; where that fails it is said, and forbidden all the same."""
        rules = "; ".join(one.rule for one in error.decision.refusals)
        try:
            await self._add(
                self.asked.kind, deployment.new.id, "refused", error.decision.inputs, {"rules": rules}
            )
        except PipelineError as problem:
            self._warn(deployment.id, str(problem))

    def _make_event(self, told: Told, at: float) -> None:
        origin = self._origin_of(told.deployment)
        if told.what == "open":
            self.events.append(origin.deployment_started(at))
        elif told.what == "begin":
            self.events.append(origin.step_started(told.step, at))
        elif told.what in ("done", "failed"):
            ended = origin.step_finished(told.step, at, _OUTCOMES[told.what], told.text)
            self.events.append(ended)

    async def ended(self, entry: Entry) -> None:
        """Log, send and tell how it ended; raises nothing of ours, and takes a minute at most."""
        with anyio.move_on_after(TELL_LIMIT_S):
            for tell in (self._log_end, self._send_events, self._notify_end):
                try:
                    await tell(entry)
                except (PipelineError, OSError) as error:
                    self._warn(entry.deployment, str(error))

    async def _log_end(self, entry: Entry) -> None:
        detail = {"deployment": entry.deployment, "old": entry.old, "reason": entry.reason}
        await self._add(entry.kind, entry.new, str(entry.outcome), entry.plan, detail)
        settings = self.delivery.config.audit
        key = key_of(self.delivery.root, settings)
        name = self.asked.environment.name
        signed = await make_checkpoint(self.log, name, key)
        place = place_of(self.delivery.root, settings.checkpoints, entry.commit)
        if signed is not None and place is not None:
            await anyio.to_thread.run_sync(place.put, signed)

    async def _send_events(self, entry: Entry) -> None:
        origin = self._origin_of(entry.deployment)
        self.events += ending_events(origin, entry)
        self.delivery.keep({FILE: write_events(self.events)})
        where = self.delivery.config.notify.events
        if where is not None:
            await send_events(read_place(where, os.environ, self.delivery.root), self.events)

    async def _notify_end(self, entry: Entry) -> None:
        severity = SEVERITIES.get(entry.outcome) if entry.outcome is not None else None
        if severity is None:
            return
        place, release = entry.environment, entry.version or entry.new
        facts = {"deployment": entry.deployment, "release": entry.new, "by": entry.actor}
        notice = Notice(
            severity=severity,
            title=f"{place}: {entry.kind} of {release}: {entry.outcome}",
            text=entry.reason,
            key=f"{place} {entry.outcome} {entry.new}",
            environment=place,
            facts={name: value for name, value in facts.items() if value},
        )
        await self._notify(entry.deployment, notice)

    async def _notify(self, deployment: str, notice: Notice) -> None:
        failures = say_failures(await self._notifier().tell(notice))
        if failures:
            self._warn(deployment, failures)

    def _notifier(self) -> Notifier:
        settings = self.delivery.config.notify
        sender = ChannelSender(timeout_s=settings.timeout_s, root=self.delivery.root)
        return Notifier(settings=settings, sender=sender, records=self.asked.target.state)

    async def _add(
        self, action: str, subject: str, decision: str, inputs: str, detail: Mapping[str, str]
    ) -> None:
        act = Act(
            action=action,
            environment=self.asked.environment.name,
            actor=self.delivery.actor,
            subject=subject,
            decision=decision,
            inputs=inputs,
            run=self.delivery.run,
            detail={name: value for name, value in detail.items() if value},
        )
        await self.log.add(act)

    def _origin_of(self, deployment: str) -> Origin:
        if self.origin is None or self.origin.deployment != deployment:
            self.origin = Origin(
                source=f"/{quote(self.delivery.root.name)}",
                deployment=deployment,
                environment=self.asked.environment.name,
            )
        return self.origin

    def _warn(self, deployment: str, text: str) -> None:
        self.delivery.tell(Told(deployment=deployment, what="warn", text=text))


def ending_events(origin: Origin, entry: Entry) -> list[Event]:
    """Return the events of a deployment's end: of itself, and of each service that changed by it."""
    if entry.outcome is Outcome.WAITING:
        return []
    good = entry.outcome in (Outcome.SUCCEEDED, Outcome.ALREADY)
    bad: EventOutcome = "error" if entry.outcome is Outcome.ROLLBACK_FAILED else "failure"
    events: list[Event] = []
    if entry.outcome is Outcome.SUCCEEDED:
        change: Change = "rolledback" if entry.kind == "rollback" else "upgraded" if entry.old else "deployed"
        for name, digest in entry.images.items():
            events.append(origin.service(name, f"{name}@{digest}", change, entry.ended))
    ended = origin.deployment_finished(entry.ended, "success" if good else bad, entry.reason)
    return [*events, ended]


def key_of(root: Path, settings: AuditSettings) -> Path | None:
    """Return the key that signs checkpoints; None where none is named."""
    return root / Path(settings.key).expanduser() if settings.key else None


def place_of(root: Path, setting: str | None, commit: str) -> Place | None:
    """Return where checkpoints go: a folder, or `notes:REMOTE` of git; None for nowhere."""
    if setting is None:
        return None
    if setting.startswith(NOTES):
        return NotesPlace(root=root, commit=commit or "HEAD", remote=setting.removeprefix(NOTES))
    return FolderPlace(folder=root / Path(setting).expanduser())
