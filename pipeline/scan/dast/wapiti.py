"""wapiti: attacks, only where they were asked for.

Its exit code is 0 with findings, without, and when nobody answers: the pages it says it read are what counts.
It is started by a few lines of ours that leave out its proxy for browsers and its reader of Flash files.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pipeline.scan.dast.aim import aim_of, redacted
from pipeline.scan.dast.operations import base_path, requests_of
from pipeline.scan.finding import Finding, InRequest, Level, Rule, Severity, Witness
from pipeline.scan.merge import told_once
from pipeline.scan.scanner import Command, Coverage, Ran, Scan, broken, json_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.scan.dast.aim import Aim
    from pipeline.scan.scanner import Target

PYTHON: Final = "/opt/tools/wapiti3/bin/python"  # its own: another tool's comes first on the path
START: Final = "/scan-in/start_wapiti.py"
START_TEXT: Final = '''"""Start wapiti without what no scan needs, and let it ask nobody but its target."""

import os
import sys
import types

proxy = types.ModuleType("wapitiCore.net.intercepting_explorer")
proxy.InterceptingExplorer = None
flash = types.ModuleType("yaswfp")
flash.swfparser = None
sys.modules |= {proxy.__name__: proxy, flash.__name__: flash}

import httpx

host, port = os.environ["SCAN_HOST"], os.environ["SCAN_PORT"]
send = httpx.AsyncHTTPTransport.handle_async_request


async def send_home(self, request):
    """Send a request to the target; some of its modules follow redirects to whoever they lead to."""
    url = request.url
    if url.host != host or str(url.port or {"https": 443}.get(url.scheme, 80)) != port:
        raise httpx.ConnectError("not the target", request=request)
    return await send(self, request)


httpx.AsyncHTTPTransport.handle_async_request = send_home

from wapitiCore.main.wapiti import wapiti_asyncio_wrapper

wapiti_asyncio_wrapper()
'''
SCHEMA: Final = "/scan-in/openapi.json"
REPORT: Final = "/scan-out/wapiti.json"
OWN: Final = "/home/scan/wapiti"  # in the container
# Without those that ask servers on the internet whether the service called them (ssrf, xxe, log4shell).
MODULES: Final = (
    *("cookieflags", "csp", "http_headers", "redirect", "xss", "permanentxss"),
    *("sql", "exec", "file", "crlf"),
)
GRACE_S: Final = 60.0
PARTS: Final = frozenset({"vulnerabilities", "anomalies", "additionals", "infos"})  # of a report
STARTS: Final = 100  # addresses of the description that it begins with
LEVELS: Final[Mapping[int, Level]] = {4: "high", 3: "medium", 2: "medium", 1: "low", 0: "info"}
# What its categories are; the levels that are not its own are here.
CATEGORIES: Final[Mapping[str, tuple[int, Level | None]]] = {
    "SQL Injection": (89, "critical"),
    "Blind SQL Injection": (89, "critical"),
    "Command execution": (78, "critical"),
    "Path Traversal": (22, "critical"),
    "Local File Inclusion": (98, "critical"),
    "LDAP Injection": (90, "critical"),
    "Reflected Cross Site Scripting": (79, "high"),
    "Stored Cross Site Scripting": (79, "high"),
    "Cross Site Scripting": (79, "high"),
    "HTML Injection": (79, "high"),
    "Stored HTML Injection": (79, "high"),
    "Open Redirect": (601, "medium"),
    "CRLF Injection": (93, "medium"),
    "Unrestricted File Upload": (434, "high"),
    "Cross Site Request Forgery": (352, "low"),
    "HttpOnly Flag cookie": (1004, "low"),
    "Secure Flag cookie": (614, "low"),
    "Content Security Policy Configuration": (693, "low"),
    "Clickjacking Protection": (1021, "low"),
    "MIME Type Confusion": (693, "low"),
    "HTTP Strict Transport Security (HSTS)": (319, "low"),
    "Internal Server Error": (755, "medium"),
    "Resource consumption": (400, "low"),
}
_COOKIE: Final = re.compile(r"cookie : (\S+)")
_HEADERS: Final[Mapping[str, str]] = {
    "Content Security Policy Configuration": "content-security-policy",
    "Clickjacking Protection": "x-frame-options",
    "MIME Type Confusion": "x-content-type-options",
    "HTTP Strict Transport Security (HSTS)": "strict-transport-security",
}


class Wapiti:
    """`wapiti` with the modules that need nobody else, beginning at every address that is known."""

    name: Final = "wapiti"

    def commands(self, target: Target) -> list[Command]:
        """One run over the service."""
        aim = aim_of(target)
        limit_s = round(aim.limit_s)
        argv = [
            *(PYTHON, START, "--url", aim.base + aim.start, "--scope", "folder", "--format", "json"),
            *("--output", REPORT, "--store-session", f"{OWN}/session", "--store-config", f"{OWN}/config"),
            *("--flush-session", "--no-bugreport", "--max-scan-time", str(limit_s), "--verbose", "1"),
            *("--max-attack-time", str(max(20, limit_s // 3)), "--timeout", "5", "--tasks", "4"),
            *("--max-links-per-page", "100", "--max-files-per-dir", "50", "--depth", "8"),
            *("--module", ",".join(MODULES)),
        ]
        files = {START: START_TEXT}
        if aim.description is not None:
            files[SCHEMA] = json.dumps(with_server(aim))
            argv += ["--swagger", SCHEMA]
            # With values that fit: what it makes up itself rarely gets past the checks of the service.
            for one in requests_of(aim.description, writes=False)[:STARTS]:
                argv += ["--start", aim.base + one.target]
        for pattern in aim.exclude:
            argv += ["--exclude", f"{aim.base}{pattern}"]
        address = urlsplit(aim.base)
        port = address.port or {"https": 443}.get(address.scheme, 80)
        return [
            Command(
                argv=tuple(argv),
                env={"SCAN_HOST": str(address.hostname), "SCAN_PORT": str(port)},
                files=files,
                outputs=(REPORT,),
                timeout_s=aim.limit_s + GRACE_S,
            )
        ]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings; with no page read, or modules that were cut off, it proves nothing or less."""
        aim = aim_of(target)
        nothing = Coverage(unit="pages", expected=1, seen=0)
        report = _report(ran[0].files.get(REPORT, b""))
        if report is None:
            return broken(self.name, nothing, f"wapiti gave no report: {ran[0].last_words}")
        pages = report["infos"].get("crawled_pages_nbr")
        if not isinstance(pages, int) or pages < 1:
            return broken(self.name, nothing, f"wapiti read no page of {aim.base}")
        said = (ran[0].stdout + ran[0].stderr).decode("utf-8", "replace")
        reason = ""
        if ran[0].exit_code is None or "Max scan time was reached" in said:
            reason = f"wapiti was stopped after {aim.limit_s:g} s"
        elif found := re.search(r"Max attack time was reached for module (\w+)", said):
            reason = f"its module {found[1]} was stopped before it was done"
        return Scan(
            scanner=self.name,
            state="incomplete" if reason else "complete",
            reason=reason,
            coverage=Coverage(unit="pages", expected=pages, seen=pages),
            findings=told_once(_findings(report, aim, target.version)),
            version=target.version,
        )


def with_server(aim: Aim) -> dict[str, Any]:
    """The description, naming the service itself: another address in it would be attacked."""
    description = dict(aim.description or {})
    return {**description, "servers": [{"url": aim.base + base_path(description)}]}


def _report(data: bytes) -> dict[str, Any] | None:
    report = json_table(data, PARTS)
    return report if report is not None and all(isinstance(report[one], dict) for one in PARTS) else None


def _findings(report: dict[str, Any], aim: Aim, version: str) -> Iterator[Finding]:
    for part in ("vulnerabilities", "anomalies", "additionals"):
        for category, rows in report[part].items():
            for row in rows:
                yield _finding(str(category), row, aim, version)


def _finding(category: str, row: dict[str, Any], aim: Aim, version: str) -> Finding:
    level = row.get("level")
    cwe, own = CATEGORIES.get(category, (0, None))
    method, path = str(row.get("method") or "GET"), urlsplit(str(row.get("path") or "/")).path or "/"
    info = " ".join(str(row.get("info", "")).split())
    cookie = _COOKIE.search(info)  # its name
    info = info[:300] if cookie else redacted(info)[:300]
    parameter = str(row.get("parameter") or "") or _HEADERS.get(category, "")
    by_wapiti = LEVELS.get(level if isinstance(level, int) else -1, "medium")
    request = str(row.get("http_request", "")).splitlines()
    return Finding(
        id="",
        kind="dast",
        rule=Rule(id=f"{row.get('module', 'wapiti')}-{category.lower().replace(' ', '-')}", name=category),
        title=category[:1].upper() + category[1:].lower() if not category.isupper() else category,
        message=info or category,
        severity=Severity(
            level=own or by_wapiti, basis=f"wapiti {category}" if own else f"wapiti level {level}"
        ),
        place=InRequest(
            method=method,
            url=aim.base + path,
            route=aim.route(path),
            parameter=cookie[1] if cookie else parameter,
        ),
        confidence="medium",
        cwe=(cwe,) if cwe else (),
        evidence=(redacted(request[0])[:500],) if request else (),
        witnesses=(Witness(tool="wapiti", version=version, rule=category),),
    )
