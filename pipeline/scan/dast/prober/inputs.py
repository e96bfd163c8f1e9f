"""Values that disturb a careless application and harm none: markers, odd numbers, a quote."""

from __future__ import annotations

import json
import re
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.dast.prober.checks import DATABASE, HTML, issue, look
from pipeline.scan.dast.prober.shape import misfit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.scan.dast.prober.checks import Issue
    from pipeline.scan.dast.prober.request import Input, Request
    from pipeline.scan.dast.prober.wire import Answer, Client

MARK: Final = "zq7v"
BREAKING: Final = f"{MARK}\"'<{MARK}>"
ELSEWHERE: Final = f"{MARK}.invalid"  # a name that nobody can have
REDIRECTS: Final = (f"https://{ELSEWHERE}/", f"//{ELSEWHERE}/", f"/\\{ELSEWHERE}/", f"https:{ELSEWHERE}/")
TARGETS: Final = re.compile(
    r"^(to|go|r|u|url|uri|link|next|dest(ination)?|target|out|return.*|redir.*|continue|forward|back|callback|goto|"
    r"success|service|location|page|view)$|url$|uri$|_to$",
    re.IGNORECASE,
)
NUMBERS: Final = (0, -1, 1_000_001)  # none so large that it could be a size that takes the service down
TEXTS: Final = ("", "0", "-1", "zq" * 100)  # shorter than the longest name of a file
REFUSED: Final = "status {status} for the value {value}"


class Prober:
    """Tries the inputs of requests, one at a time.

    Args:
        whole: The description, where its references lead.
    """

    def __init__(self, client: Client, whole: dict[str, Any]) -> None:
        self.client = client
        self.whole = whole

    def send(self, request: Request) -> Answer | None:
        """Send a request."""
        return self.client.send(request.method, request.target, request.headers, request.body)

    def base(self, request: Request, answer: Answer) -> Iterator[Issue]:
        """What the plain request shows."""
        yield from look(request, answer, self.client.base)
        yield from self.shape(request, answer)
        if answer.status >= 500 and answer.status not in (501, 503):
            yield issue("server-error", request, "", f"status {answer.status} for a plain request")

    def shape(self, request: Request, answer: Answer) -> Iterator[Issue]:
        """Whether an answer is as declared."""
        schema = request.answers.get(str(answer.status)) or request.answers.get(f"{answer.status // 100}XX")
        if not schema or "json" not in answer.kind or answer.is_cut:
            return
        try:
            value = json.loads(answer.body)
        except ValueError:
            yield issue("schema-mismatch", request, "", "it says it is JSON and is not")
            return
        try:
            said = misfit(value, schema, self.whole)
        except (TypeError, AttributeError, LookupError, ValueError):
            said = ""  # the schema is none: nothing can be said
        if said:
            yield issue("schema-mismatch", request, "", f"status {answer.status}: {said}")

    def disturb(self, request: Request, answer: Answer) -> Iterator[Issue]:
        """Try odd values for each input of a request that was answered."""
        for one in request.inputs:
            yield from self._marked(request, one)
            if answer.status < 500:
                yield from self._odd(request, one)
                yield from self._quoted(request, one)
            if one.spot in ("query", "path", "form") and (
                300 <= answer.status < 400 or TARGETS.search(one.name)
            ):
                yield from self._led_away(request, one)

    def _marked(self, request: Request, one: Input) -> Iterator[Issue]:
        asked = request.having(one, BREAKING)
        answer = self.send(asked)
        if answer is None:
            return
        yield from _named(look(asked, answer, self.client.base, is_odd=True), one)
        yield from reflected(asked, answer, one)

    def _odd(self, request: Request, one: Input) -> Iterator[Issue]:
        values: tuple[Any, ...] = NUMBERS if one.kind in ("integer", "number") else TEXTS
        has_failed = False
        for value in values:
            if value == "" and one.spot == "path":
                continue
            asked = request.having(one, value)
            answer = self.send(asked)
            if answer is None:
                continue
            yield from _named(look(asked, answer, self.client.base, is_odd=True), one)
            yield from _named(self.shape(asked, answer), one)
            if answer.status in (500, 502, 504) and not has_failed:
                has_failed = True
                shown = json.dumps(value)
                shown = shown if len(shown) < 40 else f"of {len(str(value))} characters"
                yield issue(
                    "server-error", asked, one.name, REFUSED.format(status=answer.status, value=shown)
                )

    def _quoted(self, request: Request, one: Input) -> Iterator[Issue]:
        """One quote breaks what two leave whole: the value is part of a statement."""
        value = one.value if isinstance(one.value, str | int) else MARK
        broken, whole = (request.having(one, f"{value}{quotes}") for quotes in ("'", "''"))
        first = self.send(broken)
        if first is None or not _is_broken(first):
            return
        second = self.send(whole)
        if second is not None and not _is_broken(second) and second.status < 500:
            sure = "high" if DATABASE.search(first.text) else "medium"
            yield issue("sql-error", broken, one.name, "one quote breaks the answer, two do not", sure)
        elif DATABASE.search(first.text):
            yield issue("sql-error", broken, one.name, "the database complains of a quote", "medium")
        else:
            yield from _named(look(broken, first, self.client.base, is_odd=True), one)
            yield issue(
                "server-error", broken, one.name, REFUSED.format(status=first.status, value="with a quote")
            )

    def _led_away(self, request: Request, one: Input) -> Iterator[Issue]:
        for value in REDIRECTS:
            asked = request.having(one, value)
            answer = self.send(asked)
            if answer is None or not 300 <= answer.status < 400:
                continue
            if leads_to(answer.header("location")) == ELSEWHERE:
                yield issue("open-redirect", asked, one.name, f"`{value}` is where it leads")
                return


def leads_to(location: str) -> str:
    """The host a browser goes to, to which backslashes are slashes; "" stays."""
    said = location.strip().replace("\\", "/")
    if re.match(r"(?i)https?:(?!//)", said):
        return ""  # browsers stay at the host then
    try:
        return urllib.parse.urlsplit(said).hostname or ""
    except ValueError:
        return ""


def reflected(request: Request, answer: Answer, one: Input) -> Iterator[Issue]:
    """The marker in a page, with what would be markup unescaped."""
    is_page = answer.kind in HTML or (
        not answer.kind and answer.header("x-content-type-options") != "nosniff"
    )
    if not is_page:
        return
    text = answer.text
    if f"<{MARK}>" in text:
        yield issue("reflected", request, one.name, f"`<{MARK}>` comes back as markup")
        return
    inside = re.search(rf"=\s*\"[^\"<>]*{MARK}\"['&]|=\s*'[^'<>]*{MARK}(?:\"|&quot;|&#34;)'", text)
    if inside:
        yield issue("reflected", request, one.name, "a quote comes back and ends the attribute", "medium")


def _is_broken(answer: Answer) -> bool:
    return answer.status in (500, 502, 504) or DATABASE.search(answer.text) is not None


def _named(issues: Iterator[Issue], one: Input) -> Iterator[Issue]:
    """Errors that one input brought about carry its name."""
    from dataclasses import replace

    for each in issues:
        is_error = each.rule in ("stack-trace", "database-error", "schema-mismatch")
        yield replace(each, parameter=one.name) if is_error else each
