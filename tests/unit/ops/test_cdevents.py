"""Events of deployments: as the specification has them, in the run folder, and at a receiver on request."""

from __future__ import annotations

import json

import pytest

from pipeline.ops.cdevents import (
    EventsNotSent,
    Origin,
    package_url,
    send_events,
    write_events,
)
from tests.unit.ops.servers import http_sink

DIGEST = "sha256:" + "1" * 64
ORIGIN = Origin(source="/org/app", deployment="d-1", environment="production", url="https://ci.example.org/7")


def test_a_step_that_ended_is_a_task_run() -> None:
    event = ORIGIN.step_finished("shift 25%", 1795521600.5, "failure", "12 % errors")

    assert event == {
        "context": {
            "version": "0.4.1",
            "id": event["context"]["id"],
            "chainId": event["context"]["chainId"],
            "source": "/org/app",
            "type": "dev.cdevents.taskrun.finished.0.2.0",
            "timestamp": "2026-11-24T12:00:00.500Z",
        },
        "subject": {
            "id": "d-1/shift%2025%25",
            "source": "/org/app",
            "type": "taskRun",
            "content": {
                "taskName": "shift 25%",
                "pipelineRun": {"id": "d-1", "source": "/org/app"},
                "url": "https://ci.example.org/7",
                "outcome": "failure",
                "errors": "12 % errors",
            },
        },
    }


def test_a_deployment_is_a_pipeline_run_and_changes_services() -> None:
    started = ORIGIN.deployment_started(1.0)
    finished = ORIGIN.deployment_finished(2.0, "success")
    upgraded = ORIGIN.service("api", f"registry.example.org:5000/org/Api:1.2@{DIGEST}", "upgraded", 3.0)
    removed = ORIGIN.service("worker", f"registry.example.org/worker@{DIGEST}", "removed", 4.0)

    contents = [one["subject"]["content"] for one in (started, finished, upgraded, removed)]
    run = {"pipelineName": "deploy production", "url": "https://ci.example.org/7"}
    place = {"id": "production", "source": "/org/app"}
    assert [one["context"]["type"] for one in (started, finished, upgraded, removed)] == [
        "dev.cdevents.pipelinerun.started.0.2.0",
        "dev.cdevents.pipelinerun.finished.0.2.0",
        "dev.cdevents.service.upgraded.0.2.0",
        "dev.cdevents.service.removed.0.2.0",
    ]
    assert contents == [
        run,
        {**run, "outcome": "success"},
        {
            "environment": place,
            "artifactId": f"pkg:oci/api@sha256%3A{'1' * 64}"
            "?repository_url=registry.example.org:5000/org/Api&tag=1.2",
        },
        {"environment": place},
    ]


def test_the_same_happening_has_the_same_id_and_another_one_another() -> None:
    """A receiver knows an event that was sent twice; all of one deployment are one chain."""
    events = [ORIGIN.step_started("start", 1.0), ORIGIN.step_started("start", 1.0)]
    other = ORIGIN.step_started("ready", 1.0)

    ids = {one["context"]["id"] for one in events}
    assert len(ids) == 1
    assert other["context"]["id"] not in ids
    assert other["context"]["chainId"] == events[0]["context"]["chainId"]


@pytest.mark.parametrize(
    ("image", "url"),
    [
        (f"api@{DIGEST}", "pkg:oci/api@{}?repository_url=api"),
        (f"localhost:5000/api@{DIGEST}", "pkg:oci/api@{}?repository_url=localhost:5000/api"),
        (f"a.example/b/c:1@{DIGEST}", "pkg:oci/c@{}?repository_url=a.example/b/c&tag=1"),
    ],
)
def test_an_image_is_named_by_its_package_url(image: str, url: str) -> None:
    assert package_url(image) == url.format(DIGEST.replace(":", "%3A"))


def test_events_are_lines_of_json() -> None:
    events = [ORIGIN.deployment_started(1.0), ORIGIN.step_started("start", 2.0)]

    assert [json.loads(line) for line in write_events(events).splitlines()] == events


@pytest.mark.anyio
async def test_events_are_sent_in_order_as_cloud_events() -> None:
    events = (ORIGIN.deployment_started(1.0), ORIGIN.step_started("start", 2.0))
    with http_sink(202) as sink:
        await send_events(f"{sink.url}/events", events)

    assert [json.loads(one.body) for one in sink.received] == list(events)
    headers = {name.lower(): value for name, value in sink.received[1].headers.items()}
    assert {name: value for name, value in headers.items() if name.startswith(("ce-", "content-type"))} == {
        "ce-specversion": "1.0",
        "ce-id": events[1]["context"]["id"],
        "ce-source": "/org/app",
        "ce-type": "dev.cdevents.taskrun.started.0.2.0",
        "ce-time": "1970-01-01T00:00:02.000Z",
        "ce-subject": "d-1/start",
        "content-type": "application/json",
    }


@pytest.mark.anyio
async def test_a_receiver_that_refuses_is_told_with_what_it_has() -> None:
    """What is after the question mark of its address may be a token, and is not told."""
    events = (ORIGIN.deployment_started(1.0), ORIGIN.deployment_finished(2.0, "success"))
    with http_sink(202, 503) as sink, pytest.raises(EventsNotSent) as caught:
        await send_events(f"{sink.url}/events?token=s3cret", events)

    shown = sink.url.removeprefix("http://")
    assert str(caught.value) == (
        f"cannot send events to `http://{shown}/events`: it answered 503 (it has 1 of 2)"
    )


@pytest.mark.anyio
async def test_a_receiver_that_is_away_is_told() -> None:
    with pytest.raises(EventsNotSent, match=r"cannot be reached \(ConnectError\) \(it has 0 of 1\)"):
        await send_events("http://127.0.0.1:1/", [ORIGIN.deployment_started(1.0)])
