"""Events of deployments as CDEvents (https://cdevents.dev), each a line of a run's `cdevents.jsonl`.

A deployment is a pipeline run, each of its steps a task run; what comes of it is told for each service. They
are sent by CloudEvents' HTTP binding, in binary mode.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence  # noqa: TC003 - part of the public values
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

from pipeline.errors import PipelineError

SPEC: Final = "0.4.1"
VERSION: Final = "0.2.0"  # of every type used here, in that version of the specification
FILE: Final = "cdevents.jsonl"
SEND_LIMIT_S: Final = 10.0

Event: TypeAlias = dict[str, Any]
Outcome: TypeAlias = Literal["success", "failure", "error"]
Change: TypeAlias = Literal["deployed", "upgraded", "rolledback", "removed"]


class EventsNotSent(PipelineError):
    """A receiver did not take all events; they are in the run folder all the same."""

    def __init__(self, url: str, sent: int, total: int, why: str) -> None:
        super().__init__(f"cannot send events to `{url}`: {why} (it has {sent} of {total})")
        self.sent = sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What all events of one deployment share. `source` is a URI of who sends them: "/org/app/production"."""

    source: str
    deployment: str
    environment: str
    url: str = ""  # where people see the run

    def deployment_started(self, at: float) -> Event:
        """A deployment began. `at` is in seconds since 1970, here and below."""
        return self._run("started", at, {})

    def deployment_finished(self, at: float, outcome: Outcome, errors: str = "") -> Event:
        """A deployment ended: by `failure` it was undone or refused, by `error` nobody knows what runs."""
        return self._run("finished", at, _ended(outcome, errors))

    def step_started(self, step: str, at: float) -> Event:
        """A step began."""
        return self._step("started", step, at, {})

    def step_finished(self, step: str, at: float, outcome: Outcome, errors: str = "") -> Event:
        """A step ended."""
        return self._step("finished", step, at, _ended(outcome, errors))

    def service(self, name: str, image: str, change: Change, at: float) -> Event:
        """A service came, changed, went back, or went; `image` is a reference with its digest."""
        content: dict[str, Any] = {"environment": {"id": self.environment, "source": self.source}}
        if change != "removed":
            content["artifactId"] = package_url(image)
        return self._event("service", change, name, f"{name} {image}", at, content)

    def _run(self, predicate: str, at: float, more: Mapping[str, str]) -> Event:
        content = {"pipelineName": f"deploy {self.environment}", **self._url(), **more}
        return self._event("pipelineRun", predicate, self.deployment, "", at, content)

    def _step(self, predicate: str, step: str, at: float, more: Mapping[str, str]) -> Event:
        run = {"id": self.deployment, "source": self.source}
        content = {"taskName": step, "pipelineRun": run, **self._url(), **more}
        return self._event("taskRun", predicate, f"{self.deployment}/{quote(step)}", step, at, content)

    def _url(self) -> Mapping[str, str]:
        return {"url": self.url} if self.url else {}

    def _event(
        self, kind: str, predicate: str, subject: str, what: str, at: float, content: Mapping[str, Any]
    ) -> Event:
        # The same happening has the same id, so that a receiver knows an event that was sent twice.
        name = f"{self.source} {self.deployment} {kind} {predicate} {what} {at}"
        moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        return {
            "context": {
                "version": SPEC,
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
                "chainId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.source} {self.deployment}")),
                "source": self.source,
                "type": f"dev.cdevents.{kind.lower()}.{predicate}.{VERSION}",
                "timestamp": moment.replace("+00:00", "Z"),
            },
            "subject": {"id": subject, "source": self.source, "type": kind, "content": dict(content)},
        }


def _ended(outcome: Outcome, errors: str) -> Mapping[str, str]:
    return {"outcome": outcome, **({"errors": errors} if errors else {})}


def package_url(image: str) -> str:
    """Return an image's reference with its digest as a package URL of type `oci`."""
    reference, _, digest = image.rpartition("@")
    repository, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:  # the colon of a registry's port, or none
        repository, tag = reference, ""
    name = repository.rpartition("/")[2].lower()
    where = f"repository_url={quote(repository, safe='/:')}"
    return f"pkg:oci/{name}@{quote(digest, safe='')}?{where}" + (f"&tag={quote(tag)}" if tag else "")


def write_events(events: Sequence[Event]) -> bytes:
    """Return events as lines of JSON."""
    lines = (json.dumps(event, sort_keys=True, separators=(",", ":")) for event in events)
    return "".join(f"{line}\n" for line in lines).encode()


async def send_events(url: str, events: Sequence[Event]) -> None:
    """Send events to a receiver, one after the other, in order.

    Raises:
        EventsNotSent: It did not take one; those after it were not sent.
    """
    import httpx

    shown = url.partition("?")[0].rpartition("@")[2]
    async with httpx.AsyncClient(timeout=SEND_LIMIT_S) as client:
        for sent, event in enumerate(events):
            try:
                answer = await client.post(url, content=json.dumps(event), headers=_headers(event))
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                why = f"it cannot be reached ({type(error).__name__})"
                raise EventsNotSent(shown, sent, len(events), why) from error
            if not answer.is_success:
                raise EventsNotSent(shown, sent, len(events), f"it answered {answer.status_code}")


def _headers(event: Event) -> Mapping[str, str]:
    context = event["context"]
    return {
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": context["id"],
        "ce-source": context["source"],
        "ce-type": context["type"],
        "ce-time": context["timestamp"],
        "ce-subject": event["subject"]["id"],
    }
