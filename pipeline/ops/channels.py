"""Sends notices: to many services by apprise, to PagerDuty by its Events API v2."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from pipeline.digest import digest_text
from pipeline.errors import PipelineError
from pipeline.text import clean, secret_forms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.config.notify import ChannelSettings
    from pipeline.ops.notify import Notice

PAGERDUTY_TRIES: Final = 3
PAGERDUTY_BYTES: Final = 512_000
SUMMARY_LENGTH: Final = 1024
KEY_LENGTH: Final = 255
LOAD_LIMIT_S: Final = 60.0
LONGEST_PAUSE_S: Final = 10.0
SHORTEST_SECRET: Final = 6


class NotSent(PipelineError):
    """A channel could not be told."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot send the notice: {why}")
        self.why = why


def read_place(place: str, environ: Mapping[str, str], root: Path) -> str:
    """Return the value that a setting names: "env:NAME", or "file:PATH" from the project's root on.

    Raises:
        NotSent: There is none.
    """
    kind, _, name = place.partition(":")
    if kind == "env":
        value = environ.get(name, "")
        if not value:
            raise NotSent(f"the variable {name} is not set")
        return value
    try:
        value = (root / Path(name).expanduser()).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotSent(f"`{name}` cannot be read") from error
    if not value:
        raise NotSent(f"`{name}` is empty")
    return value


@dataclass(kw_only=True)
class ChannelSender:
    """Sends to channels. `timeout_s` is for one try; `pause_s` grows from try to try."""

    timeout_s: float = 10.0
    pause_s: float = 1.0
    root: Path = field(default_factory=Path)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    source: str = "pipeline"

    async def send(self, channel: ChannelSettings, notice: Notice, *, held: int = 0) -> None:
        """Send a notice; `held` is how many were held back before it.

        Raises:
            NotSent: The channel did not take it, in time; never says a secret.
        """
        place = channel.routing_key or channel.url
        if place is None:
            raise NotSent("neither `url` nor `routing_key` is set")
        value = read_place(place, self.environ, self.root)
        if channel.routing_key is not None:
            await self._send_pagerduty(channel.api, value, notice, held)
            return
        with anyio.move_on_after(LOAD_LIMIT_S):
            await anyio.to_thread.run_sync(_load_apprise, abandon_on_cancel=True)
        with anyio.move_on_after(self.timeout_s) as scope:
            text = text_of(notice, held)
            why = await anyio.to_thread.run_sync(_by_apprise, value, notice, text, abandon_on_cancel=True)
            if why:
                raise NotSent(why)
        if scope.cancelled_caught:
            raise NotSent(f"no answer within {self.timeout_s:g} s")

    async def _send_pagerduty(self, api: str, key: str, notice: Notice, held: int) -> None:
        import httpx

        path, body = pagerduty_event(key, notice, self.source, held)
        why = ""
        async with httpx.AsyncClient(timeout=self.timeout_s) as client:
            for number in range(PAGERDUTY_TRIES):
                pause = self.pause_s * 2**number
                try:
                    answer = await client.post(f"{api.rstrip('/')}{path}", content=body, headers=_JSON)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    why = f"PagerDuty cannot be reached ({type(error).__name__})"
                else:
                    if answer.status_code == 202:
                        return
                    why = f"PagerDuty answered {answer.status_code}"
                    if answer.status_code != 429 and answer.status_code < 500:
                        break  # it will say the same again
                    pause = _asked_pause(answer.headers.get("Retry-After", ""), pause)
                if number + 1 < PAGERDUTY_TRIES:
                    await anyio.sleep(min(pause, LONGEST_PAUSE_S))
        raise NotSent(why)


_JSON: Final = {"Content-Type": "application/json"}


def _asked_pause(text: str, pause: float) -> float:
    return float(text) if text.isdecimal() and len(text) < 6 else pause


def text_of(notice: Notice, held: int) -> str:
    """Return what people read below the title."""
    lines = [notice.text] if notice.text else []
    lines += [f"{name}: {value}" for name, value in notice.facts.items()]
    lines += [notice.link] if notice.link else []
    lines += [f"({held} more since the last one were held back)"] if held else []
    return "\n".join(lines) or notice.title


def pagerduty_event(key: str, notice: Notice, source: str, held: int = 0) -> tuple[str, bytes]:
    """Return the path and the body of an event; what is only told (`info`, `trend`) pages nobody."""
    summary = notice.title[:SUMMARY_LENGTH]
    details: dict[str, str] = dict(notice.facts)
    if notice.text:
        details["text"] = notice.text
    if held:
        details["held_back"] = str(held)
    links = [{"href": notice.link, "text": "details"}] if notice.link else []
    payload: dict[str, Any] = {"summary": summary, "source": source, "custom_details": details}
    if notice.severity in ("info", "trend") and not notice.resolves:
        payload["timestamp"] = datetime.now(UTC).isoformat(timespec="seconds")
        change = {"routing_key": key, "payload": payload, "links": links}
        return "/v2/change/enqueue", _fitting(change)
    event = {
        "routing_key": key,
        "event_action": "resolve" if notice.resolves else "trigger",
        "dedup_key": notice.key if len(notice.key) <= KEY_LENGTH else digest_text(notice.key),
        "client": "pipeline",
        "links": links,
        "payload": {
            **payload,
            "severity": "critical" if notice.severity == "critical" else "warning",
            "group": notice.environment or source,
        },
    }
    return "/v2/enqueue", _fitting(event)


def _fitting(event: dict[str, Any]) -> bytes:
    """Write an event, without its details where it is longer than what is taken."""
    body = json.dumps(event).encode()
    if len(body) <= PAGERDUTY_BYTES:
        return body
    return json.dumps({**event, "payload": {**event["payload"], "custom_details": {}}}).encode()


def _load_apprise() -> None:
    """Load its services, which takes seconds: not of the time that a service has to answer."""
    try:
        import apprise
    except ImportError:
        return  # told when something is to be sent
    apprise.Apprise.instantiate("json://localhost")


def _by_apprise(url: str, notice: Notice, text: str) -> str:
    """Send by apprise; return why it did not work, or ""."""
    try:
        import apprise
    except ImportError:
        return "apprise is not installed (`pip install 'dagger-pipeline[notify]'`)"
    kinds = {"critical": apprise.NotifyType.FAILURE, "warning": apprise.NotifyType.WARNING}
    kind = kinds.get(notice.severity, apprise.NotifyType.INFO)
    if notice.resolves:
        kind = apprise.NotifyType.SUCCESS
    capture: Any = apprise.LogCapture
    with capture(level=logging.WARNING, fmt="%(message)s") as said:
        service = apprise.Apprise()
        try:
            if not service.add(url):
                return "its `url` names no service that apprise knows"
            if service.notify(body=text, title=notice.title, notify_type=kind):
                return ""
        except Exception as error:  # noqa: BLE001 - services are plugins: what they raise must end no deployment
            return f"the service failed ({type(error).__name__})"
        lines = said.getvalue().strip().splitlines()
    return f"the service did not take it{': ' + _without(lines[-1], url) if lines else ''}"


def _without(line: str, url: str) -> str:
    """Take the parts of a URL that may be secret out of a line."""
    parts = {url, *url.replace("/", " ").replace(":", " ").replace("@", " ").replace("?", " ").split()}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) < SHORTEST_SECRET:
            continue
        for form in secret_forms(part.encode()):
            line = line.replace(form.decode(errors="replace"), "***")
    return clean(line)[:300]
