"""Notices reach real servers, by severity and not too often; that telling fails is said and fails nothing."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.controller import Controller

from pipeline.config.notify import ChannelSettings, NotifySettings, SecretPlace, Severity, Whole
from pipeline.deploy.state import LocalState
from pipeline.ops.channels import PAGERDUTY_BYTES, ChannelSender, pagerduty_event
from pipeline.ops.notify import (
    Delivery,
    Ledger,
    Notice,
    Notifier,
    add_held,
    add_sent,
    find_reason,
    parse_ledger,
    say_failures,
)
from tests.unit.ops.servers import http_sink

if TYPE_CHECKING:
    from pathlib import Path

# A library of apprise's looks for a module that Python will lose.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOW = 1_000_000.0
NOTICE = Notice(
    severity="critical",
    title="production was rolled back",
    text="12 % errors",
    key="production rolled back r-2",
    environment="production",
    link="https://ci.example.org/runs/7",
    facts={"release": "r-2"},
)


def chat(url: str, **more: Any) -> tuple[NotifySettings, dict[str, str]]:
    """Return settings with one channel for everything, and its secret."""
    names = ("chat",)
    settings = NotifySettings(
        critical=names,
        warning=names,
        info=names,
        channels={"chat": ChannelSettings(url=SecretPlace("env:CHAT"))},
        **more,
    )
    return settings, {"CHAT": url}


def notifier(settings: NotifySettings, environ: dict[str, str], **more: Any) -> Notifier:
    sender = ChannelSender(environ=environ, timeout_s=5.0, pause_s=0.001)
    return Notifier(settings=settings, sender=sender, clock=lambda: NOW, **more)


@pytest.mark.anyio
async def test_a_notice_reaches_a_webhook() -> None:
    with http_sink() as sink:
        one = notifier(*chat(sink.url.replace("http://", "json://") + "/hook"))

        deliveries = await one.tell(NOTICE)

    body = json.loads(sink.received[0].body)
    assert deliveries == (Delivery(channel="chat"),)
    assert (sink.received[0].path, body["title"], body["type"]) == ("/hook", NOTICE.title, "failure")
    assert body["message"] == "12 % errors\nrelease: r-2\nhttps://ci.example.org/runs/7"


@pytest.mark.anyio
async def test_a_notice_reaches_people_by_mail() -> None:
    class Box:
        def __init__(self) -> None:
            self.mails: list[Any] = []

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - its name
            self.mails.append(envelope)
            return "250 taken"

    box = Box()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        people = "from=ops@example.org&to=team@example.org"
        url = f"mailto://localhost:{port}/?{people}&smtp=127.0.0.1&mode=insecure"
        deliveries = await notifier(*chat(url)).tell(NOTICE)
    finally:
        controller.stop()

    assert deliveries == (Delivery(channel="chat"),)
    mail = message_from_bytes(box.mails[0].content)
    assert (box.mails[0].rcpt_tos, mail["Subject"]) == (["team@example.org"], NOTICE.title)


@pytest.mark.anyio
async def test_a_service_that_fails_is_said_and_nothing_is_raised(capfd: pytest.CaptureFixture[str]) -> None:
    """The secret in its address is in no sentence; the notice may be sent again at once."""
    with http_sink(500) as sink:
        url = sink.url.replace("http://", "json://") + "/s3cr3t-token"
        one = notifier(*chat(url))

        first = await one.tell(NOTICE)
        again = await one.tell(NOTICE)

    assert first == again
    assert first[0].failed
    assert "s3cr3t" not in first[0].why + capfd.readouterr().err
    assert say_failures(first).startswith("cannot tell `chat`: the service did not take it")
    assert len(sink.received) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "the variable CHAT is not set"),
        ("nothing at all", "its `url` names no service that apprise knows"),
    ],
)
async def test_a_channel_that_is_not_set_up_is_said(url: str, said: str) -> None:
    deliveries = await notifier(*chat(url)).tell(NOTICE)

    assert deliveries == (Delivery(channel="chat", why=said, failed=True),)


@pytest.mark.anyio
async def test_a_service_that_does_not_answer_holds_nobody_up() -> None:
    with http_sink(0) as sink:
        settings, environ = chat(sink.url.replace("http://", "json://"))
        sender = ChannelSender(environ=environ, timeout_s=0.3)
        one = Notifier(settings=settings, sender=sender)

        deliveries = await one.tell(NOTICE)

        sink.release.set()
    assert deliveries == (Delivery(channel="chat", why="no answer within 0.3 s", failed=True),)


@pytest.mark.anyio
async def test_only_channels_of_the_severity_are_told() -> None:
    settings, environ = chat("json://127.0.0.1:1")

    assert await notifier(settings, environ).tell(replace(NOTICE, severity="trend")) == ()


@pytest.mark.anyio
async def test_what_was_told_is_known_to_the_next_process(tmp_path: Path) -> None:
    """The same notice goes out once, and what was held back is counted in the next one."""
    with http_sink() as sink:
        settings, environ = chat(sink.url.replace("http://", "json://"))
        state = LocalState(tmp_path)

        first = await notifier(settings, environ, records=state).tell(NOTICE)
        again = await notifier(settings, environ, records=state).tell(NOTICE)
        other = await notifier(settings, environ, records=state).tell(replace(NOTICE, key="other"))

    assert first == other == (Delivery(channel="chat"),)
    assert again == (Delivery(channel="chat", why="it was told 0 s ago"),)
    messages = [json.loads(one.body)["message"] for one in sink.received]
    assert [text.endswith("(1 more since the last one were held back)") for text in messages] == [False, True]


@pytest.mark.anyio
async def test_damaged_records_keep_nobody_from_being_told(tmp_path: Path) -> None:
    (tmp_path / "notices.json").write_bytes(b"[1")
    with http_sink() as sink:
        settings, environ = chat(sink.url.replace("http://", "json://"))
        one = notifier(settings, environ, records=LocalState(tmp_path))

        assert await one.tell(NOTICE) == (Delivery(channel="chat"),)


@pytest.mark.parametrize(
    ("severity", "resolves", "said"),
    [
        ("warning", False, "3 notices were sent within the hour"),
        ("critical", False, ""),
        ("warning", True, ""),
    ],
)
def test_too_many_are_held_back_but_not_critical_ones(severity: Severity, resolves: bool, said: str) -> None:
    ledger = Ledger(times={"chat": (NOW - 4000, NOW - 30, NOW - 20, NOW - 10)})
    settings = NotifySettings(limit=Whole(3))
    notice = replace(NOTICE, severity=severity, resolves=resolves)

    assert find_reason(ledger, settings, "chat", notice, NOW) == said


def test_the_same_is_told_again_after_a_while_or_after_it_was_over() -> None:
    settings = NotifySettings()
    told = add_sent(Ledger(), "chat", NOTICE, NOW)
    over = add_sent(told, "chat", replace(NOTICE, resolves=True), NOW + 60)

    reasons = [
        find_reason(told, settings, "chat", NOTICE, NOW + 60),
        find_reason(told, settings, "mail", NOTICE, NOW + 60),
        find_reason(told, settings, "chat", NOTICE, NOW + 1800),
        find_reason(over, settings, "chat", NOTICE, NOW + 61),
    ]

    assert reasons == ["it was told 60 s ago", "", "", ""]


def test_the_ledger_forgets_what_is_long_past_and_is_read_as_written() -> None:
    old = add_sent(add_held(Ledger(), "chat"), "chat", replace(NOTICE, key="old"), NOW)
    new = add_sent(old, "chat", NOTICE, NOW + 90000)

    assert new == Ledger(times={"chat": (NOW + 90000,)}, keys={f"chat {NOTICE.key}": NOW + 90000})
    text = json.dumps({"times": new.times, "keys": new.keys, "held": new.held})
    assert parse_ledger(text.encode()) == new
    assert parse_ledger(b"") == parse_ledger(b'{"times": 3}') == Ledger()


def pager(api: str) -> NotifySettings:
    channel = ChannelSettings(routing_key=SecretPlace("env:PD"), api=api)
    return NotifySettings(
        critical=("pager",), warning=("pager",), info=("pager",), channels={"pager": channel}
    )


KEY = {"PD": "R" * 32}


@pytest.mark.anyio
async def test_pagerduty_gets_an_event_of_its_kind() -> None:
    with http_sink(202) as sink:
        one = notifier(pager(sink.url), KEY)
        await one.tell(NOTICE)
        await one.tell(replace(NOTICE, resolves=True))
        await one.tell(replace(NOTICE, severity="info", key="deployed"))

    bodies = [json.loads(one.body) for one in sink.received]
    assert [one.path for one in sink.received] == ["/v2/enqueue", "/v2/enqueue", "/v2/change/enqueue"]
    assert [body.get("event_action") for body in bodies] == ["trigger", "resolve", None]
    assert bodies[0] == {
        "routing_key": "R" * 32,
        "event_action": "trigger",
        "dedup_key": NOTICE.key,
        "client": "pipeline",
        "links": [{"href": NOTICE.link, "text": "details"}],
        "payload": {
            "summary": NOTICE.title,
            "source": "pipeline",
            "severity": "critical",
            "group": "production",
            "custom_details": {"release": "r-2", "text": "12 % errors"},
        },
    }


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answers", "requests", "said"),
    [
        ((429, 500, 202), 3, ""),
        ((500,), 3, "PagerDuty answered 500"),
        ((400,), 1, "PagerDuty answered 400"),
        ((200,), 1, "PagerDuty answered 200"),
    ],
)
async def test_pagerduty_is_asked_again_only_where_that_may_help(
    answers: tuple[int, ...], requests: int, said: str
) -> None:
    with http_sink(*answers, retry_after="0") as sink:
        (delivery,) = await notifier(pager(sink.url), KEY).tell(NOTICE)

    assert (len(sink.received), delivery.why, delivery.failed) == (requests, said, bool(said))


@pytest.mark.anyio
async def test_a_pagerduty_that_is_away_is_said_without_its_key() -> None:
    (delivery,) = await notifier(pager("http://127.0.0.1:1"), KEY).tell(NOTICE)

    assert delivery == Delivery(
        channel="pager", why="PagerDuty cannot be reached (ConnectError)", failed=True
    )


def test_an_event_keeps_to_the_limits_of_pagerduty() -> None:
    """Details go first; a key that is too long is hashed, so that it still tells the same from other."""
    long = replace(NOTICE, title="t" * 2000, text="x" * 600_000, key="k" * 300)

    _, body = pagerduty_event("R", long, "pipeline")

    event = json.loads(body)
    assert len(body) < PAGERDUTY_BYTES
    assert (len(event["payload"]["summary"]), event["payload"]["custom_details"]) == (1024, {})
    assert event["dedup_key"].startswith("sha256:")
