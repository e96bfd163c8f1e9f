"""The settings of what is told and kept of deployments: `[tool.pipeline.notify]`, `[tool.pipeline.audit]`."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time by the check
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NewType, TypeAlias

SecretPlace = NewType("SecretPlace", str)  # where a value is: "env:NAME" or "file:PATH"; never the value
Whole = NewType("Whole", int)  # 1 or more
Duration = NewType("Duration", float)  # written "30s", "5m", "1h30m"
SEVERITIES: Final = ("critical", "warning", "info", "trend")
Severity: TypeAlias = Literal["critical", "warning", "info", "trend"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """`[tool.pipeline.audit]`: what makes the audit log known outside."""

    checkpoints: str | None = None  # a folder elsewhere, or "notes:REMOTE" of git
    key: str | None = None  # path of the ssh key that signs them


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """`notify.channels.NAME`: where notices go. One of `url` and `routing_key`."""

    url: SecretPlace | None = None  # as apprise writes services: "slack://…", "mailtos://…", "json://…"
    routing_key: SecretPlace | None = None  # of a service at PagerDuty
    api: str = "https://events.pagerduty.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySettings:
    """`[tool.pipeline.notify]`: names of channels by severity, and how often they are told something."""

    critical: tuple[str, ...] = ()
    warning: tuple[str, ...] = ()
    info: tuple[str, ...] = ()
    trend: tuple[str, ...] = ()
    limit: Whole = Whole(20)  # notices to one channel within an hour; critical ones always go
    repeat_s: Duration = Duration(1800.0)  # the same notice is not sent again so soon
    timeout_s: Duration = Duration(10.0)  # of one try to send
    events: SecretPlace | None = None  # of the URL that CDEvents are sent to
    channels: Mapping[str, ChannelSettings] = field(default_factory=dict)


def find_notify_problems(table: object) -> list[tuple[str, str]]:
    """What does not fit together in `notify` as it was written: path and sentence."""
    channels = table.get("channels", {}) if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(channels, dict):
        return []
    problems = []
    for severity in SEVERITIES:
        names = table.get(severity)
        for name in names if isinstance(names, list) else []:
            if name not in channels:
                problems.append((f"notify.{severity}", f"there is no channel `{name}` in `notify.channels`"))
    for name, channel in channels.items():
        if isinstance(channel, dict) and ("url" in channel) == ("routing_key" in channel):
            problems.append((f"notify.channels.{name}", "expected one of `url` and `routing_key`"))
    return problems


def notify_of(table: Mapping[str, Any]) -> NotifySettings:
    """Make the settings again of what `dataclasses.asdict` made of them."""
    channels = {name: ChannelSettings(**one) for name, one in table["channels"].items()}
    return NotifySettings(**{**table, "channels": channels})
