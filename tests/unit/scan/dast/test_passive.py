"""What our own checks see in a service, and that they are silent about a sound one that looks alike."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.scan.dast.serving import MISSING, PAGE, Reply, linking, seen, serving, told

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = {"content-type": "application/json", "x-content-type-options": "nosniff"}
TEXT = {"content-type": "text/plain", "x-content-type-options": "nosniff"}


def one_page(link: str, reply: Any) -> Any:
    """A service with a start page and one more, which `reply(values, headers)` answers."""

    def answer(method: str, path: str, values: dict[str, str], headers: dict[str, str]) -> Reply:
        if path == "/":
            return 200, PAGE, linking(link)
        return reply(values, headers) if path == link.partition("?")[0] else MISSING

    return answer


def broken_by_a_quote(values: dict[str, str], _: dict[str, str]) -> Reply:
    return (500, TEXT, "oops") if values["v"].count("'") % 2 else (200, JSON, "[]")


def cookie(line: str) -> Any:
    return lambda values, headers: (200, {**PAGE, "set-cookie": line}, "x")


FLAWS = {
    "reflected": (lambda v, h: (200, PAGE, f"hello {v['v']}"), "reflected", "GET /a (v)"),
    "reflected in an attribute": (
        lambda v, h: (200, PAGE, '<input value="' + v["v"].replace("<", "&lt;") + '">'),
        "reflected",
        "GET /a (v)",
    ),
    "leads away": (lambda v, h: (302, {"location": v["v"]}, ""), "open-redirect", "GET /a (v)"),
    "leads away by two slashes": (
        lambda v, h: (302, {"location": v["v"] if not v["v"].startswith("http") else "/"}, ""),
        "open-redirect",
        "GET /a (v)",
    ),
    "quote": (broken_by_a_quote, "sql-error", "GET /a (v)"),
    "zero": (lambda v, h: (500 if v["v"] == "0" else 200, TEXT, "x"), "server-error", "GET /a (v)"),
    "trace": (
        lambda v, h: (
            (200, TEXT, "x") if v["v"].isdecimal() else (500, TEXT, "Traceback (most recent call last):\n")
        ),
        "stack-trace",
        "GET /a (v)",
    ),
    "other origins": (
        lambda v, h: (
            200,
            {
                **TEXT,
                "access-control-allow-origin": h.get("origin", "x"),
                "access-control-allow-credentials": "true",
            },
            "x",
        ),
        "cors-reflected",
        "GET /a (origin)",
    ),
    "no origin": (
        lambda v, h: (
            200,
            {**TEXT, "access-control-allow-origin": "null", "access-control-allow-credentials": "true"},
            "x",
        ),
        "cors-null",
        "GET /a (origin)",
    ),
    "cookie for scripts": (
        cookie("session=abc; Secure; SameSite=Lax"),
        "cookie-httponly",
        "GET /a (session)",
    ),
    "cookie without encryption": (cookie("sid=abc; HttpOnly; SameSite=Lax"), "cookie-secure", "GET /a (sid)"),
    "cookie for all sites": (
        cookie("auth_token=a; HttpOnly; Secure"),
        "cookie-samesite",
        "GET /a (auth_token)",
    ),
    "listing": (lambda v, h: (200, PAGE, "<title>Index of /a</title>"), "listing", "GET /a"),
    "headers": (
        lambda v, h: (200, {"content-type": "text/html"}, "x"),
        "header-nosniff",
        "GET /a (x-content-type-options)",
    ),
}


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_is_found_where_it_is(name: str) -> None:
    reply, rule, where = FLAWS[name]
    link = "/a?v=1" if "(v)" in where else "/a"

    with serving(one_page(link, reply)) as base:
        scan = seen(base)

    assert (rule, where) in told(scan)
    assert scan.state == "complete"


SOUND = {
    "escaped": lambda v, h: (200, PAGE, f"hello {html.escape(v['v'])} <b title='{html.escape(v['v'])}'>"),
    "in JSON": lambda v, h: (200, JSON, f'["{v["v"]}"]'),
    "in plain text": lambda v, h: (200, TEXT, v["v"]),
    "leads to itself": lambda v, h: (
        302,
        {"location": "/" if "//" in v["v"] or "\\" in v["v"] else "/x"},
        "",
    ),
    "leads with it in the query": lambda v, h: (
        302,
        {"location": "/login?next=https%3A%2F%2Fzq7v.invalid"},
        "",
    ),
    "refuses": lambda v, h: (200, JSON, "[]") if v["v"].isalnum() else (422, JSON, "{}"),
    "session with all flags": cookie("session=a; HttpOnly; Secure; SameSite=Strict"),
    "taste": cookie("theme=dark"),
    "token of forms": cookie("csrftoken=a; Secure; SameSite=Lax"),
    "session that ends": cookie("session=; Max-Age=0"),
    "one other origin": lambda v, h: (
        200,
        {
            **TEXT,
            "access-control-allow-origin": "https://a.example",
            "access-control-allow-credentials": "true",
        },
        "x",
    ),
    "everyone without credentials": lambda v, h: (200, {**TEXT, "access-control-allow-origin": "*"}, "x"),
    "speaks of traces": lambda v, h: (200, PAGE, "a guide to errors" if v["v"] else ""),
    "busy": lambda v, h: (503, TEXT, "later"),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound_is_left_alone(name: str) -> None:
    with serving(one_page("/a?v=1", SOUND[name])) as base:
        scan = seen(base, active=True)

    assert told(scan) == set()


def exposed(path: str, text: str | bytes) -> Any:
    def answer(method: str, at: str, values: dict[str, str], headers: dict[str, str]) -> Reply:
        if at == "/":
            return 200, PAGE, linking("/static/app/page.html")
        return (200, TEXT, text) if at == path else MISSING

    return answer


@pytest.mark.parametrize(
    ("path", "text", "rule"),
    [
        ("/.env", "# settings\nSECRET_KEY=a\n", "exposed-secrets"),
        ("/static/.env", "DATABASE_URL=x\n", "exposed-secrets"),
        ("/.git/HEAD", "ref: refs/heads/main\n", "exposed-git"),
        ("/static/app/.git/config", "[core]\n\tbare = false\n", "exposed-git"),
        ("/db.sqlite3", b"SQLite format 3\x00....", "exposed-database"),
        ("/backup.sql", "-- dump\nCREATE TABLE a (b int);\n", "exposed-database"),
        ("/backup.zip", b"PK\x03\x04....", "exposed-backup"),
    ],
)
def test_a_file_that_should_not_be_served_is_known_by_its_content(path: str, text: str, rule: str) -> None:
    """In the root and in the folders that pages lead to."""
    with serving(exposed(path, text)) as base, serving(exposed(path, "<html>not here</html>")) as other:
        found, silent = seen(base), seen(other)

    assert (told(found), told(silent)) == ({(rule, f"GET {path}")}, set())


DESCRIPTION = {
    "openapi": "3.1.0",
    "paths": {
        "/items/{item}": {
            "get": {
                "parameters": [
                    {"name": "item", "in": "path", "required": True, "schema": {"type": "integer"}}
                ],
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/I"}}}}
                },
            }
        },
        "/notes": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {"type": "object", "properties": {"text": {"type": "string"}}}
                        }
                    }
                }
            },
        },
    },
    "components": {
        "schemas": {"I": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}}
    },
}


def described(kept: list[str]) -> Any:
    def answer(method: str, path: str, values: dict[str, str], headers: dict[str, str]) -> Reply:
        if path.startswith("/items/"):
            return 200, JSON, '{"id": "x"}' if path == "/items/-1" else '{"id": 1}'
        if path == "/notes":
            kept.append(values["text"])
            return 201, JSON, "{}"
        return (200, PAGE, "".join(kept)) if path == "/" else MISSING

    return answer


def test_an_answer_that_breaks_its_schema_for_an_odd_value_is_told_by_its_route() -> None:
    with serving(described([])) as base:
        scan = seen(base, description=DESCRIPTION)

    [one] = [one for one in scan.findings if one.rule.id == "schema-mismatch"]
    assert (one.where, one.severity.level, one.cwe) == ("GET /items/{item} (item)", "low", (440,))
    assert one.message.endswith("status 200: $.id is string, declared is integer")


def test_what_is_kept_and_shown_as_markup_is_found_only_by_attacks() -> None:
    """The marker goes in with one request and comes out in a page of another."""
    with serving(described([])) as base:
        quiet = seen(base, description=DESCRIPTION)
    with serving(described([])) as base:
        active = seen(base, description=DESCRIPTION, active=True)

    assert [rule for rule, _ in told(active) - told(quiet)] == ["stored"]
    assert ("stored", "POST /notes (text)") in told(active)


def test_nothing_is_sent_that_may_change_something_unless_it_may() -> None:
    kept: list[str] = []

    with serving(described(kept)) as base:
        scan = seen(base, description=DESCRIPTION, writes=False)

    assert kept == []
    assert scan.state == "complete"


INJECTIONS: dict[str, Callable[[str], str]] = {
    "path-traversal": lambda v: "root:x:0:0:root:/root:/bin/sh\n" if v.endswith("etc/passwd") else "",
    "command": lambda v: "uid=0(root) gid=0(root)" if ";id;" in v else "",
    "template": lambda v: v.replace("{{61*1733}}", "105713"),
    "sql-blind": lambda v: "yes" if v in ("1", "1 AND 7=7") else "no",
}


@pytest.mark.parametrize("rule", INJECTIONS)
def test_attacks_see_what_a_value_did(rule: str) -> None:
    def reply(values: dict[str, str], _: dict[str, str]) -> Reply:
        return 200, JSON, INJECTIONS[rule](values["v"])

    with serving(one_page("/a?v=1", reply)) as base:
        scan = seen(base, active=True)

    [one] = [one for one in scan.findings if one.severity.level == "critical"]
    assert (one.rule.id, one.where) == (rule, "GET /a (v)")
    assert "root:x" not in repr(scan)


def test_what_the_whole_service_does_is_one_finding() -> None:
    """As when a middleware lets every origin in: the routes are its evidence."""
    pages = [f"/{name}" for name in ("one", "two", "three", "four")]

    def answer(method: str, path: str, values: dict[str, str], headers: dict[str, str]) -> Reply:
        allowed = {
            "access-control-allow-origin": headers.get("origin", ""),
            "access-control-allow-credentials": "true",
        }
        return (200, {**PAGE, **allowed}, linking(*pages)) if path in ("/", *pages) else MISSING

    with serving(answer) as base:
        scan = seen(base)

    [found] = [one for one in scan.findings if one.rule.id == "cors-reflected"]
    assert found.where == "GET / (origin)"
    assert found.evidence == ("GET /", "GET /four", "GET /one", "GET /three", "GET /two")
