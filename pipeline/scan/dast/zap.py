"""ZAP by its API, where the user runs one: spider, passive rules, and attacks where they were asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import httpx

from pipeline.errors import PipelineError
from pipeline.scan.dast.aim import redacted
from pipeline.scan.finding import Confidence, Finding, InRequest, Level, Rule, Severity, Witness
from pipeline.scan.merge import told_once
from pipeline.scan.scanner import Coverage, Scan, State, broken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.dast.aim import Aim

EVERY_S: Final = 1.0
REQUEST_S: Final = 30.0
CONNECT_S: Final = 5.0
AT_ONCE: Final = 500  # alerts of one request
MOST: Final = 20_000  # alerts that are read
NAME: Final = "zap"
LEVELS: Final[Mapping[str, Level]] = {
    "High": "high",
    "Medium": "medium",
    "Low": "low",
    "Informational": "info",
}
CONFIDENCES: Final[Mapping[str, Confidence]] = {"User Confirmed": "high", "Confirmed": "high", "High": "high"}
# Weaknesses whose level is not ZAP's own, as with the other tools.
OVERRIDES: Final[Mapping[int, Level]] = {
    78: "critical",
    89: "critical",
    22: "critical",
    79: "high",
    601: "medium",
}


RULES: Final[Mapping[str, str]] = {"pscan": "passive", "ascan": "active"}
REFUSES: Final = "it ends the connection, as it does for a wrong key or an address it does not allow"


class ZapFailed(PipelineError):
    """ZAP does not answer, or not as its API does; `code` is its own word for it."""

    def __init__(self, action: str, what: str, *, is_away: bool = False, code: str = "") -> None:
        super().__init__(f"cannot ask ZAP for `{action}`: {what}")
        self.is_away = is_away
        self.code = code


@dataclass(slots=True)
class Zap:
    """A client of one ZAP.

    Args:
        address: Where its API is, such as "http://127.0.0.1:8090".
        key: Of the API; "" where it asks for none.
    """

    address: str
    key: str = field(default="", repr=False)
    every_s: float = EVERY_S

    async def scan(self, aim: Aim) -> Scan:
        """Let ZAP look at the service; never raises for what ZAP does."""
        nothing = Coverage(unit="pages", expected=1, seen=0)
        headers = {"X-ZAP-API-Key": self.key} if self.key else {}
        timeout = httpx.Timeout(REQUEST_S, connect=CONNECT_S)
        try:
            # Proxies of the environment are for the internet; ZAP is beside us.
            async with httpx.AsyncClient(
                base_url=self.address, headers=headers, timeout=timeout, trust_env=False
            ) as client:
                return await self._scan(client, aim)
        except ZapFailed as error:
            hint = "start ZAP as a daemon, and name its address by `zap` and its key" if error.is_away else ""
            state: State = "unavailable" if error.is_away else "error"
            return broken(NAME, nothing, str(error), state=state, hint=hint)

    async def _scan(self, client: httpx.AsyncClient, aim: Aim) -> Scan:
        until = time.monotonic() + aim.limit_s
        version = str((await ask(client, "core/view/version"))["version"])
        for kind in ("pscan", *(["ascan"] if aim.active else [])):
            if not await _has_rules(client, kind):
                nothing = Coverage(unit="pages", expected=1, seen=0)
                said = f"ZAP {version} has no {RULES[kind]} rules"
                hint = f"install its add-on `{kind}rules`: without it ZAP finds nothing anywhere"
                return broken(NAME, nothing, said, state="unavailable", hint=hint)
        url = f"{aim.base}{aim.start}"
        done = [await self._work(client, "spider", {"url": url, "recurse": "true"}, until)]
        pages = (await ask(client, "core/view/urls", baseurl=aim.base))["urls"]
        seen = len(pages) if isinstance(pages, list) else 0
        coverage = Coverage(unit="pages", expected=max(seen, 1), seen=seen)
        if not seen:
            return broken(NAME, coverage, f"ZAP read no page of {aim.base}")
        if aim.active:
            done.append(await self._work(client, "ascan", {"url": url, "recurse": "true"}, until))
        done.append(await self._passive(client, until))
        alerts = await _alerts(client, aim)
        is_whole = all(done)
        return Scan(
            scanner=NAME,
            state="complete" if is_whole else "incomplete",
            reason="" if is_whole else f"ZAP was stopped after {aim.limit_s:g} s",
            coverage=coverage,
            findings=tuple(findings_of(alerts, aim, version)),
            version=version,
        )

    async def _work(self, client: httpx.AsyncClient, kind: str, wanted: dict[str, str], until: float) -> bool:
        """Start a scan and wait for its end; False when it was stopped because the time was over."""
        number = str((await ask(client, f"{kind}/action/scan", **wanted))["scan"])
        while True:
            status = str((await ask(client, f"{kind}/view/status", scanId=number))["status"])
            if not status.isdecimal():
                raise ZapFailed(f"{kind}/view/status", f"it answers `{status[:80]}`")
            if int(status) >= 100:
                return True
            if time.monotonic() > until:
                await ask(client, f"{kind}/action/stop", scanId=number)
                return False
            await anyio.sleep(self.every_s)

    async def _passive(self, client: httpx.AsyncClient, until: float) -> bool:
        """Wait until the passive rules have seen every answer."""
        while True:
            left = str((await ask(client, "pscan/view/recordsToScan"))["recordsToScan"])
            if left == "0":
                return True
            if time.monotonic() > until:
                return False
            await anyio.sleep(self.every_s)


async def _has_rules(client: httpx.AsyncClient, kind: str) -> bool:
    """Whether ZAP has rules of a kind: they are add-ons, and without them every service is clean."""
    try:
        told = (await ask(client, f"{kind}/view/scanners"))["scanners"]
    except ZapFailed as error:
        if error.code == "no_implementor":  # not even what runs them is installed
            return False
        raise
    return isinstance(told, list) and any(one.get("enabled") == "true" for one in told)


async def ask(client: httpx.AsyncClient, action: str, **parameters: str) -> dict[str, Any]:
    """Ask the API for one thing.

    Raises:
        ZapFailed: There is no answer, or another than the API gives.
    """
    try:
        response = await client.get(f"/JSON/{action}/", params=parameters)
    except (httpx.RemoteProtocolError, httpx.ReadError) as error:
        raise ZapFailed(action, REFUSES, is_away=True) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ZapFailed(action, str(error) or type(error).__name__, is_away=True) from error
    try:
        told = response.json()
    except ValueError as error:
        raise ZapFailed(action, f"it answers {response.status_code} without JSON") from error
    if response.status_code != 200 or not isinstance(told, dict):
        said = told if isinstance(told, dict) else {}
        what = f"it answers {response.status_code} {said.get('message', '')}".strip()
        raise ZapFailed(action, what, code=str(said.get("code", "")))
    return _Strict(action, told)


class _Strict(dict[str, Any]):
    """An answer whose missing keys are ZAP's fault."""

    def __init__(self, action: str, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.action = action

    def __missing__(self, key: str) -> Any:
        raise ZapFailed(self.action, f"its answer has no `{key}`")


async def _alerts(client: httpx.AsyncClient, aim: Aim) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < MOST:
        page = (
            await ask(client, "core/view/alerts", baseurl=aim.base, start=str(len(found)), count=str(AT_ONCE))
        )["alerts"]
        if not isinstance(page, list):
            raise ZapFailed("core/view/alerts", "its alerts are no list")
        found += [one for one in page if isinstance(one, dict)]
        if len(page) < AT_ONCE:
            break
    return found


def findings_of(alerts: Sequence[dict[str, Any]], aim: Aim, version: str) -> list[Finding]:
    """One finding for each rule, route and parameter; what ZAP takes for false is left out."""
    real = (one for one in alerts if one.get("confidence") != "False Positive")
    return list(told_once(_finding(one, aim, version) for one in real))


def _finding(alert: dict[str, Any], aim: Aim, version: str) -> Finding:
    name = str(alert.get("name") or alert.get("alert") or "an alert")
    url = str(alert.get("url", ""))
    cwe = str(alert.get("cweid", ""))
    number = int(cwe) if cwe.isdecimal() else 0
    risk = str(alert.get("risk", ""))
    rule = str(alert.get("alertRef") or alert.get("pluginId") or name)
    return Finding(
        id="",
        kind="dast",
        rule=Rule(id=rule, name=name, url=f"https://www.zaproxy.org/docs/alerts/{rule}/"),
        title=name,
        message=redacted(" ".join(str(alert.get("description") or name).split()))[:500],
        severity=Severity(level=OVERRIDES.get(number) or LEVELS.get(risk, "unknown"), basis=f"ZAP {risk}"),
        place=InRequest(
            method=str(alert.get("method") or "GET"),
            url=redacted(url)[:1000],
            route=aim.route(urlsplit(url).path or "/"),
            parameter=str(alert.get("param") or ""),
        ),
        confidence=CONFIDENCES.get(str(alert.get("confidence")), "medium"),
        cwe=(number,) if number > 0 else (),
        fix=" ".join(str(alert.get("solution") or "").split())[:300],
        evidence=(redacted(f"{alert.get('method') or 'GET'} {url}")[:500],),
        witnesses=(Witness(tool=NAME, version=version, rule=rule),),
    )
