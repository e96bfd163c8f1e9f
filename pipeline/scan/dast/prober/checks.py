"""What can be seen in an answer without asking again."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.scan.dast.prober.html import Page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.scan.dast.prober.request import Request
    from pipeline.scan.dast.prober.wire import Answer

HTML: Final = ("text/html", "application/xhtml+xml")
SESSION: Final = re.compile(
    r"sess|(^|[_.-])sid|token|auth|jwt|login|remember|identity|credential|(^|[_.-])user([_.-]?id)?$",
    re.IGNORECASE,
)
FOR_SCRIPTS: Final = re.compile(r"csrf|xsrf", re.IGNORECASE)  # meant to be read by the page
TRACES: Final = (
    re.compile(r"Traceback \(most recent call last\)"),
    re.compile(r'File "[^"\n]+", line \d+, in \w+'),
    re.compile(r"\n\s+at [\w.$<>]+\([\w$]+\.(java|kt|scala|groovy):\d+\)"),
    re.compile(r"\n\s+at .{1,200}\((/|file:|node:|[A-Z]:\\).{1,200}:\d+:\d+\)"),
    re.compile(r"\n\s+at .{1,200} in .{1,200}\.cs:line \d+"),
    re.compile(r"(Fatal error|Warning|Parse error)\b.{1,200} in .{1,200}\.php\b.{0,20} on line"),
    re.compile(r"goroutine \d+ \[running\]:"),
    re.compile(r"(?m)^\S+\.rb:\d+:in [`']"),
    re.compile(r"Werkzeug Debugger|You're seeing this error because you have <code>DEBUG = True"),
)
DATABASE: Final = re.compile(
    r"sqlite3?\.(Operational|Programming|Database)?Error|near \"[^\"]{0,40}\": syntax error|"
    r"unrecognized token: |You have an error in your SQL syntax|psycopg2?\.errors\.|asyncpg\.exceptions|"
    r"syntax error at or near|unterminated quoted string|ORA-\d{5}|SQLSTATE\[|Unclosed quotation mark|"
    r"sqlalchemy\.exc\.|PG::SyntaxError",
    re.IGNORECASE,
)
BANNER: Final = re.compile(r"/\d|\d+\.\d+")
LISTING: Final = re.compile(
    r"<title>\s*(Index of /|Directory listing for /|Listing directory)|<h1>\s*Index of /", re.IGNORECASE
)
SOURCE_MAP: Final = re.compile(r"//[#@] sourceMappingURL=([^\s'\"]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """Something seen; what it means is the host's to say."""

    rule: str
    method: str
    target: str
    route: str
    parameter: str = ""
    said: str = ""  # what was seen, nothing secret
    confidence: str = "high"


def issue(
    rule: str, request: Request, parameter: str = "", said: str = "", confidence: str = "high"
) -> Issue:
    """An issue of a request."""
    return Issue(
        rule=rule,
        method=request.method,
        target=request.target,
        route=request.route,
        parameter=parameter,
        said=said[:300],
        confidence=confidence,
    )


def look(request: Request, answer: Answer, base: str, *, is_odd: bool = False) -> Iterator[Issue]:
    """Everything one answer shows.

    Args:
        is_odd: The request had values made to disturb: what is shown then is shown because of them.
    """
    yield from _headers(request, answer, base)
    yield from _cookies(request, answer)
    yield from _errors(request, answer, is_odd=is_odd)
    if answer.kind in HTML:
        yield from _page(request, answer, base)
    if "javascript" in answer.kind and (found := SOURCE_MAP.search(answer.text)):
        yield issue("source-map", request, "", f"the script names its source map `{found[1][:80]}`")


def _headers(request: Request, answer: Answer, base: str) -> Iterator[Issue]:
    if answer.kind in HTML and 200 <= answer.status < 300:
        policy = answer.header("content-security-policy")
        if not policy and 'http-equiv="content-security-policy"' not in answer.text.lower():
            yield issue("header-csp", request, "content-security-policy")
        if not answer.header("x-frame-options") and "frame-ancestors" not in policy:
            yield issue("header-frame", request, "x-frame-options")
        if not answer.header("referrer-policy"):
            yield issue("header-referrer", request, "referrer-policy")
    is_good = answer.body and 200 <= answer.status < 300
    if is_good and answer.header("x-content-type-options").lower() != "nosniff":
        yield issue("header-nosniff", request, "x-content-type-options")
    if base.startswith("https:") and not answer.header("strict-transport-security"):
        yield issue("header-hsts", request, "strict-transport-security")
    for name in ("server", "x-powered-by", "x-aspnet-version", "x-generator"):
        value = answer.header(name)
        if value and (BANNER.search(value) or name == "x-powered-by"):
            yield issue("banner", request, name, f"`{name}: {value[:80]}`")


def _cookies(request: Request, answer: Answer) -> Iterator[Issue]:
    for line in answer.all("set-cookie"):
        first, *rest = (part.strip() for part in line.split(";"))
        name, _, value = first.partition("=")
        flags = {part.partition("=")[0].lower(): part.partition("=")[2].strip() for part in rest}
        if not value.strip('"') or flags.get("max-age") == "0" or "1970" in flags.get("expires", ""):
            continue  # it takes the cookie away
        same_site = flags.get("samesite", "").lower()
        if same_site == "none" and "secure" not in flags:
            yield issue("cookie-none", request, name)
        if FOR_SCRIPTS.search(name) or not SESSION.search(name):
            continue
        if "httponly" not in flags:
            yield issue("cookie-httponly", request, name)
        if "secure" not in flags:
            yield issue("cookie-secure", request, name)
        if not same_site:
            yield issue("cookie-samesite", request, name)


def _errors(request: Request, answer: Answer, *, is_odd: bool) -> Iterator[Issue]:
    if answer.status < 400 and not is_odd:
        return
    text = answer.text
    if found := next((match for one in TRACES if (match := one.search(text))), None):
        line = " ".join(found[0].split())[:100]
        yield issue("stack-trace", request, "", f"status {answer.status}, `{line}`")
    elif found := DATABASE.search(text):
        yield issue("database-error", request, "", f"status {answer.status}, `{found[0][:60]}`")


def _page(request: Request, answer: Answer, base: str) -> Iterator[Issue]:
    if LISTING.search(answer.text[:4000]):
        yield issue("listing", request)
    if not base.startswith("https:"):
        return
    page = Page(answer.text)
    for address in page.loads:
        if address.lower().startswith("http:"):
            yield issue(
                "mixed-content", request, "", f"it loads {urllib.parse.urlsplit(address).hostname} by http"
            )
            break
    if any(form.action.lower().startswith("http:") for form in page.forms):
        yield issue("mixed-content", request, "", "a form goes to an http address")


def cors(request: Request, answer: Answer, origin: str) -> Iterator[Issue]:
    """What an answer lets pages of an origin read that has nothing to do with the service."""
    allowed = answer.header("access-control-allow-origin")
    with_credentials = answer.header("access-control-allow-credentials").lower() == "true"
    if allowed == origin and with_credentials:
        rule = "cors-null" if origin == "null" else "cors-reflected"
        yield issue(rule, request, "origin", "any origin is allowed, with credentials")
    elif allowed == "*" and with_credentials:
        yield issue("cors-wildcard", request, "origin", "`*` with credentials, which browsers refuse")
    elif allowed == origin and origin != "null":
        yield issue("cors-any", request, "origin", "any origin is allowed, without credentials")
