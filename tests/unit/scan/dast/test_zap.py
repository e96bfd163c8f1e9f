"""ZAP by its API, against a small fake that answers as ZAP does."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.dast.aim import Aim
from pipeline.scan.dast.zap import Zap
from tests.unit.scan.dast.serving import Reply, serving
from tests.unit.scan.dast.test_states import free_port

if TYPE_CHECKING:
    from pipeline.scan.scanner import Scan

KEY = "swordfish"
BASE = "https://staging.example.com"
ALERT: dict[str, Any] = {
    "pluginId": "40018",
    "alertRef": "40018",
    "name": "SQL Injection",
    "risk": "High",
    "confidence": "Medium",
    "cweid": "89",
    "url": f"{BASE}/items/7?q=1&token=swordfish",
    "method": "GET",
    "param": "q",
    "description": "SQL injection\nmay be possible.",
    "solution": "Bind values.",
}


RULES: dict[str, Any] = {"scanners": [{"id": "10020", "enabled": "true"}]}
NO_ADDON = {"code": "no_implementor", "message": "No Implementor"}  # as ZAP 2.17.0 says it


class FakeZap:
    """Answers as ZAP's API does; `answers` replaces some of it."""

    def __init__(self, *alerts: dict[str, Any], **answers: Any) -> None:
        self.asked: list[str] = []
        self.progress = {"spider": 0, "ascan": 0}
        self.told: dict[str, Any] = {
            "core/view/version": {"version": "2.16.1"},
            "core/view/urls": {"urls": [f"{BASE}/", f"{BASE}/items/7"]},
            "pscan/view/recordsToScan": {"recordsToScan": "0"},
            "pscan/view/scanners": RULES,
            "ascan/view/scanners": RULES,
            "core/view/alerts": {"alerts": list(alerts)},
            **{name.replace("__", "/"): value for name, value in answers.items()},
        }

    def __call__(self, method: str, path: str, values: dict[str, str], headers: dict[str, str]) -> Reply:
        name = path.removeprefix("/JSON/").strip("/")
        self.asked.append(name)
        if headers.get("x-zap-api-key") != KEY:
            return 401, {}, json.dumps({"code": "bad_api_key", "message": "Provided parameter is wrong"})
        told = self.told.get(name)
        if isinstance(told, str):
            return 200, {"content-type": "text/html"}, told
        if told is None:
            kind = name.partition("/")[0]
            self.progress[kind] = min(100, self.progress[kind] + 50)
            told = {"scan": "0"} if "action" in name else {"status": str(self.progress[kind])}
        if told == NO_ADDON:
            return 400, {"content-type": "application/json"}, json.dumps(told)
        if name == "core/view/alerts":
            first, count = int(values["start"]), int(values["count"])
            told = {"alerts": told["alerts"][first : first + count]}
        return 200, {"content-type": "application/json"}, json.dumps(told)


async def ask(fake: FakeZap, key: str = KEY, **more: Any) -> Scan:
    paths: dict[str, Any] = {"/items/{id}": {"get": {}}}
    with serving(fake) as address:
        return await Zap(address, key, every_s=0.01).scan(
            Aim(base=BASE, description={"paths": paths}, **more)
        )


@pytest.mark.anyio
async def test_an_alert_is_a_finding_of_its_route() -> None:
    """Once for each rule and parameter; what ZAP itself takes for false is left out."""
    false = {**ALERT, "param": "other", "confidence": "False Positive"}

    scan = await ask(FakeZap(ALERT, ALERT, false))

    [found] = scan.findings
    assert (found.rule.id, found.where, found.cwe) == ("40018", "GET /items/{id} (q)", (89,))
    assert (found.severity.level, found.severity.basis, found.confidence) == (
        "critical",
        "ZAP High",
        "medium",
    )
    assert found.message == "SQL injection may be possible."
    assert KEY not in repr(found)
    assert (scan.state, scan.coverage.seen, scan.version) == ("complete", 2, "2.16.1")


@pytest.mark.anyio
async def test_all_pages_of_alerts_are_read() -> None:
    alerts = [{**ALERT, "param": f"p{number}"} for number in range(1203)]

    scan = await ask(FakeZap(*alerts))

    assert len(scan.findings) == 1203


@pytest.mark.anyio
@pytest.mark.parametrize("active", [False, True])
async def test_attacks_are_sent_only_where_they_were_asked_for(active: bool) -> None:
    fake = FakeZap()

    scan = await ask(fake, active=active)

    assert ("ascan/action/scan" in fake.asked, scan.state) == (active, "complete")


@pytest.mark.anyio
async def test_zap_is_not_there() -> None:
    scan = await Zap(f"http://127.0.0.1:{free_port()}").scan(Aim(base=BASE))

    assert scan.state == "unavailable"
    assert scan.reason.startswith("cannot ask ZAP for `core/view/version`: ")
    assert scan.hint == "start ZAP as a daemon, and name its address by `zap` and its key"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (
            {"core__view__version": "<html>"},
            "cannot ask ZAP for `core/view/version`: it answers 200 without JSON",
        ),
        ({"core__view__version": {}}, "cannot ask ZAP for `core/view/version`: its answer has no `version`"),
        ({"core__view__urls": {"urls": []}}, f"ZAP read no page of {BASE}"),
        (
            {"spider__view__status": {"status": "does_not_exist"}},
            "cannot ask ZAP for `spider/view/status`: it answers `does_not_exist`",
        ),
        (
            {"pscan__view__recordsToScan": {"left": 1}},
            "cannot ask ZAP for `pscan/view/recordsToScan`: its answer has no `recordsToScan`",
        ),
    ],
)
async def test_an_answer_that_is_none_is_an_error(answers: dict[str, Any], reason: str) -> None:
    scan = await ask(FakeZap(ALERT, **answers))

    assert (scan.state, scan.reason, scan.findings) == ("error", reason, ())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"pscan__view__scanners": NO_ADDON}, "passive"),
        ({"pscan__view__scanners": {"scanners": [{"id": "10020", "enabled": "false"}]}}, "passive"),
        ({"ascan__view__scanners": {"scanners": []}}, "active"),
    ],
    ids=["no add-on", "all off", "no attacks"],
)
async def test_zap_without_rules_is_not_a_clean_service(answers: dict[str, Any], kind: str) -> None:
    """Rules are add-ons: a ZAP without them crawls, attacks nothing, ends well and has no alert."""
    scan = await ask(FakeZap(**answers), active=True)

    assert (scan.state, scan.reason) == ("unavailable", f"ZAP 2.16.1 has no {kind} rules")
    assert scan.hint.startswith(f"install its add-on `{kind[0]}scanrules`")


@pytest.mark.anyio
async def test_zap_that_hangs_up_is_told_with_the_likely_reason() -> None:
    """A real one answers nothing at all to a wrong key."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: server.accept()[0].close())

        scan = await Zap(f"http://127.0.0.1:{server.getsockname()[1]}", KEY).scan(Aim(base=BASE))

    assert scan.state == "unavailable"
    assert "it ends the connection, as it does for a wrong key" in scan.reason


@pytest.mark.anyio
async def test_a_wrong_key_is_told_without_the_key() -> None:
    scan = await ask(FakeZap(), key="mackerel")

    assert (scan.state, scan.reason) == (
        "error",
        "cannot ask ZAP for `core/view/version`: it answers 401 Provided parameter is wrong",
    )


@pytest.mark.anyio
async def test_zap_that_does_not_end_is_stopped_and_what_it_found_is_told() -> None:
    fake = FakeZap(ALERT, spider__view__status={"status": "10"})

    scan = await ask(fake, limit_s=0.1)

    assert (scan.state, scan.reason, len(scan.findings)) == ("incomplete", "ZAP was stopped after 0.1 s", 1)
    assert "spider/action/stop" in fake.asked
