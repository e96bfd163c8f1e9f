"""Active: values that would do something in a careless application, and show that they did."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipeline.scan.dast.prober.checks import HTML, issue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.scan.dast.prober.checks import Issue
    from pipeline.scan.dast.prober.inputs import Prober
    from pipeline.scan.dast.prober.request import Input, Request
    from pipeline.scan.dast.prober.wire import Answer

PASSWD: Final = re.compile(r"(?m)^root:[^:\n]*:0:0:")
PASSWD_PATHS: Final = (
    "/etc/passwd",
    "../" * 10 + "etc/passwd",
    "....//" * 10 + "etc/passwd",
    "..%2f" * 10 + "etc/passwd",
    "file:///etc/passwd",
)
ID: Final = re.compile(r"uid=\d+\([^)\n]*\) gid=\d+")
ENVIRON: Final = re.compile(r"(?m)^PATH=/\S*")
COMMANDS: Final = (";id;", "|id", "\nid\n", "$(id)", "`id`", "&id&", "';id;'", '";id;"', ";env;")
SUM: Final = ("{{61*1733}}", "${61*1733}", "<%= 61*1733 %>", "#{61*1733}")
PRODUCT: Final = "105713"
# What is true, and what is false: a number, a text in single quotes, one in double quotes, within a pattern.
CONDITIONS: Final = (
    ("{} AND 7=7", "{} AND 7=8"),
    ("{}' AND '7'='7", "{}' AND '7'='8"),
    ('{}" AND "7"="7', '{}" AND "7"="8'),
    ("{}%' AND '7%'='7", "{}%' AND '7%'='8"),
    ("{}) AND (7=7", "{}) AND (7=8"),
)


def inject(prober: Prober, request: Request, base: Answer) -> Iterator[Issue]:
    """Try each input of a request that was answered."""
    for one in request.inputs:
        if one.spot == "header":
            continue
        yield from _seen(prober, request, one, base)
        for value in dict.fromkeys((str(one.value), "1")):
            found = list(_blind(prober, request.having(one, value), replace(one, value=value)))
            yield from found
            if found:
                break


def _seen(prober: Prober, request: Request, one: Input, base: Answer) -> Iterator[Issue]:
    value = one.value if isinstance(one.value, str | int) else ""
    tries: Sequence[tuple[str, Sequence[str], re.Pattern[str], str]] = (
        ("path-traversal", PASSWD_PATHS, PASSWD, "a file of the system comes back"),
        ("command", [f"{value}{end}" for end in COMMANDS], ID, "what `id` says comes back"),
        ("command", [f"{value};env;"], ENVIRON, "what `env` says comes back"),
        ("template", SUM, re.compile(PRODUCT), "a calculation comes back as its result"),
    )
    done: set[str] = set()
    for rule, payloads, proof, said in tries:
        if rule in done or proof.search(base.text):
            continue
        for payload in payloads:
            asked = request.having(one, payload)
            answer = prober.send(asked)
            if answer is not None and proof.search(answer.text):
                done.add(rule)
                yield issue(rule, asked, one.name, said)
                break


def _blind(prober: Prober, request: Request, one: Input) -> Iterator[Issue]:
    """Twice: what is true changes nothing, what is false does."""
    plain = _mark(prober.send(request), "")
    if plain is None or plain != _mark(prober.send(request), "") or plain[0] >= 400:
        return
    for true, false in CONDITIONS:
        results = []
        for _ in range(2):
            for text in (true, false):
                value = text.format(one.value)
                results.append(_mark(prober.send(request.having(one, value)), value))
                if text == true and results[-1] != plain:
                    break
            if len(results) % 2:
                break
        if len(results) == 4 and results[0] == results[2] == plain and results[1] == results[3] != plain:
            asked = request.having(one, true.format(one.value))
            yield issue("sql-blind", asked, one.name, "a condition in the value decides about the answer")
            return


def _mark(answer: Answer | None, value: str) -> tuple[int, str] | None:
    """What of an answer can be compared: without what was sent."""
    if answer is None:
        return None
    text = answer.text.replace(value, "") if value else answer.text
    return answer.status, text


def store(prober: Prober, requests: Sequence[Request], pages: Sequence[Request]) -> Iterator[Issue]:
    """Leave markers with requests that write, and look for them in every page."""
    left: dict[str, tuple[Request, Input]] = {}
    for request in requests:
        for one in request.inputs:
            if one.spot not in ("form", "json", "query") or one.kind != "string":
                continue
            mark = f"zq7s{len(left)}e"
            asked = request.having(one, f"x<{mark}>")
            if prober.send(asked) is not None:
                left[mark] = (asked, one)
    found: set[str] = set()
    for page in pages if left else ():
        answer = prober.send(page)
        if answer is None or answer.kind not in HTML:
            continue
        for mark, (asked, one) in left.items():
            if f"<{mark}>" in answer.text and mark not in found:
                found.add(mark)
                yield issue("stored", asked, one.name, f"`<{mark}>` comes back as markup at {page.route}")
