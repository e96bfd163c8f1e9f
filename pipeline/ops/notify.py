"""Notices: who is told of what, by severity, not too often. That telling fails is said, and fails nothing.

How a channel is told is in `channels`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping  # noqa: TC003 - read at run time when a record is read
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.errors import PipelineError
from pipeline.ops.channels import ChannelSender, NotSent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.config.notify import NotifySettings, Severity
    from pipeline.ops.audit import Records

LEDGER: Final = "notices.json"
HOUR_S: Final = 3600.0
TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is told. Notices with the same `key` are about the same thing; `resolves` says it is over."""

    severity: Severity
    title: str
    text: str = ""
    key: str
    environment: str = ""
    link: str = ""
    resolves: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of a notice at one channel; `why` says why it was not sent, `failed` that it should."""

    channel: str
    why: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What was sent: when, by channel; when last, by channel and key; and how many were held back since."""

    times: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    keys: Mapping[str, float] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)


def find_reason(ledger: Ledger, settings: NotifySettings, channel: str, notice: Notice, now: float) -> str:
    """Say why a notice is not sent to a channel now; "" when it is."""
    if notice.resolves:
        return ""
    last = ledger.keys.get(f"{channel} {notice.key}")
    if last is not None and 0 <= now - last < settings.repeat_s:
        return f"it was told {now - last:.0f} s ago"
    recent = [at for at in ledger.times.get(channel, ()) if now - HOUR_S < at <= now]
    if notice.severity != "critical" and len(recent) >= settings.limit:
        return f"{len(recent)} notices were sent within the hour"
    return ""


def add_sent(ledger: Ledger, channel: str, notice: Notice, now: float) -> Ledger:
    """Note that a notice was sent. One that resolves lets the next of its key go at once."""
    times = {name: tuple(at for at in sent if at > now - HOUR_S) for name, sent in ledger.times.items()}
    times[channel] = (*times.get(channel, ()), now)
    keys = {name: at for name, at in ledger.keys.items() if at > now - 24 * HOUR_S}
    keys.pop(f"{channel} {notice.key}", None)
    if not notice.resolves:
        keys[f"{channel} {notice.key}"] = now
    held = {name: count for name, count in ledger.held.items() if name != channel}
    return Ledger(times=times, keys=keys, held=held)


def add_held(ledger: Ledger, channel: str) -> Ledger:
    """Note that a notice was held back: the next one says so."""
    held = {**ledger.held, channel: ledger.held.get(channel, 0) + 1}
    return Ledger(times=ledger.times, keys=ledger.keys, held=held)


def channels_of(settings: NotifySettings, severity: Severity) -> tuple[str, ...]:
    """Return the names of the channels that are told of a severity."""
    by_severity: Mapping[Severity, tuple[str, ...]] = {
        "critical": settings.critical,
        "warning": settings.warning,
        "info": settings.info,
        "trend": settings.trend,
    }
    return by_severity[severity]


@dataclass(kw_only=True)
class Notifier:
    """Tells channels. With `records` what was told is known to the next process too."""

    settings: NotifySettings
    sender: ChannelSender
    records: Records | None = None
    clock: Callable[[], float] = time.time
    _ledger: Ledger = field(default_factory=Ledger, init=False)

    async def tell(self, notice: Notice) -> tuple[Delivery, ...]:
        """Tell everybody whom a notice is for, one after the other; raises nothing that is ours."""
        found = []
        for channel in channels_of(self.settings, notice.severity):
            found.append(await self._tell(channel, notice))
        return tuple(found)

    async def _tell(self, channel: str, notice: Notice) -> Delivery:
        if channel not in self.settings.channels:
            return Delivery(channel=channel, why="there is no channel of that name", failed=True)
        ledger = await self._load()
        why = find_reason(ledger, self.settings, channel, notice, self.clock())
        if why:
            await self._note(lambda one: add_held(one, channel))
            return Delivery(channel=channel, why=why)
        try:
            await self.sender.send(self.settings.channels[channel], notice, held=ledger.held.get(channel, 0))
        except NotSent as error:
            return Delivery(channel=channel, why=error.why, failed=True)
        await self._note(lambda one: add_sent(one, channel, notice, self.clock()))
        return Delivery(channel=channel)

    async def _load(self) -> Ledger:
        """Return what was told; what cannot be read was not."""
        if self.records is not None:
            try:
                data, _ = await self.records.read(LEDGER)
                self._ledger = parse_ledger(data)
            except (PipelineError, OSError):
                return self._ledger  # a record that cannot be read keeps nobody from being told
        return self._ledger

    async def _note(self, change: Callable[[Ledger], Ledger]) -> None:
        """Change what is known to have been told; where it cannot be written it is told twice."""
        self._ledger = change(self._ledger)
        for _ in range(TRIES if self.records is not None else 0):
            assert self.records is not None  # noqa: S101 - said by the loop
            try:
                data, version = await self.records.read(LEDGER)
                text = json.dumps(asdict(change(parse_ledger(data))), sort_keys=True)
                await self.records.write(LEDGER, text.encode() + b"\n", version=version)
            except (PipelineError, OSError):
                continue  # somebody else was told something at this moment
            return


def parse_ledger(data: bytes) -> Ledger:
    """Read what was told; what cannot be read was not."""
    try:
        plain = json.loads(data)
        return Ledger(
            times={str(name): tuple(map(float, sent)) for name, sent in plain["times"].items()},
            keys={str(name): float(at) for name, at in plain["keys"].items()},
            held={str(name): int(count) for name, count in plain["held"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Ledger()


def say_failures(deliveries: Sequence[Delivery]) -> str:
    """Return a sentence about what could not be told; "" when all was."""
    failed = [f"`{one.channel}`: {one.why}" for one in deliveries if one.failed]
    return f"cannot tell {'; '.join(failed)}" if failed else ""
