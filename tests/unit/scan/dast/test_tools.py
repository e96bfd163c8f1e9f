"""What schemathesis and wapiti are told, and what their reports say and do not say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.scan.dast import schemathesis, wapiti
from pipeline.scan.dast.aim import Aim, AimRefused, description_of, redacted, refuse_unless_agreed
from pipeline.scan.dast.schemathesis import Schemathesis
from pipeline.scan.dast.wapiti import Wapiti
from pipeline.scan.scanner import Missed, Ran, Scan, Target

BASE = "http://service:8000"
DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "servers": [{"url": "https://api.example.com/v1"}],
    "paths": {"/items/{id}": {"get": {}, "delete": {}}, "/login": {"post": {}}},
}


def target(**more: Any) -> Target:
    given: dict[str, Any] = {"base": BASE, "description": DESCRIPTION, "writes": True}
    return Target(root=BASE, files={}, version="4.32.5", options={"aim": Aim(**(given | more))})


def scenario(label: str, *failures: dict[str, Any], **request: Any) -> dict[str, Any]:
    """An operation that was tried, as schemathesis records it."""
    checks = [
        {"name": one["name"], "status": "failure", "failure_info": {"failure": {**one, "operation": label}}}
        for one in failures
    ]
    interaction = {"request": {"method": label.split()[0], **request}, "response": {"status_code": 500}}
    recorder = {"label": label, "cases": {}, "checks": {"c": checks}, "interactions": {"c": interaction}}
    return {"ScenarioFinished": {"status": "failure", "recorder": recorder}}


ALL = ("GET /items/{id}", "DELETE /items/{id}", "POST /login")
END: dict[str, Any] = {"EngineFinished": {}}


def events(*more: dict[str, Any], labels: tuple[str, ...] = ALL, end: bool = True) -> bytes:
    whole = [*(scenario(label) for label in labels), *more, *([END] if end else [])]
    return "".join(json.dumps(one) + "\n" for one in whole).encode()


def read(data: bytes, code: int | None = 0, **more: Any) -> Scan:
    files = {schemathesis.REPORT: data} if data else {}
    return Schemathesis().read(target(**more), [Ran(exit_code=code, stdout=b"", files=files)])


def test_a_failure_is_a_finding_of_its_route_with_a_command_to_see_it_again() -> None:
    """Once for each operation and check; what identifies the sender is left out."""
    failure = {"name": "not_a_server_error", "title": "Server error", "message": ""}
    sent = {"uri": f"{BASE}/v1/items/0", "headers": {"Cookie": ["session=swordfish"], "Accept": ["*/*"]}}
    one = scenario("GET /items/{id}", failure, **sent)

    scan = read(events(one, one))

    [found] = scan.findings
    assert (found.severity.level, found.cwe, found.where) == ("medium", (755,), "GET /v1/items/{id}")
    assert found.message == "Server error: status 500"
    assert found.evidence == (f"curl -X GET -H 'Cookie: ***' -H 'Accept: */*' {BASE}/v1/items/0",)
    assert (scan.state, scan.coverage.seen) == ("complete", 3)


@pytest.mark.parametrize(
    ("check", "level"),
    [
        ("not_a_server_error", "medium"),
        ("response_schema_conformance", "low"),
        ("status_code_conformance", "info"),
        ("content_type_conformance", "info"),
        ("ignored_auth", "high"),
        ("a_check_of_tomorrow", "info"),
    ],
)
def test_a_check_has_a_level_of_ours(check: str, level: str) -> None:
    [found] = read(events(scenario("POST /login", {"name": check, "severity": "critical"}))).findings

    assert (found.severity.level, found.severity.basis) == (level, f"schemathesis {check}")


def test_operations_that_were_not_tried_are_missed() -> None:
    scan = read(events(labels=ALL[:2]))

    assert (scan.state, scan.reason) == ("incomplete", "1 operations were not tried, such as POST /login")
    assert scan.coverage.missed == (Missed(what="POST /login", why="it was not tried"),)


def test_only_what_reads_is_expected_where_nothing_may_change() -> None:
    scan = read(events(labels=ALL[:1]), writes=False)

    [command] = Schemathesis().commands(target(writes=False))
    assert (scan.state, scan.coverage.expected) == ("complete", 1)
    assert " --include-method GET " in " ".join(command.argv)


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (b"", 0, "schemathesis gave no report: exit code 0, no output"),
        (b"oops\n{}\n", 0, "schemathesis gave no report: exit code 0, no output"),
        (events(end=False), 1, "schemathesis gave no whole report: exit code 1, no output"),
        (events(labels=()), 0, "no operation was tried: exit code 0, no output"),
        (
            events({"FatalError": {"info": {"message": "no  such\nschema"}}}, labels=()),
            2,
            "no operation was tried: no such schema",
        ),
        (
            b'{"ScenarioFinished": 3}\n{"EngineFinished": {}}\n',
            0,
            "no operation was tried: exit code 0, no output",
        ),
    ],
    ids=["nothing", "garbage", "cut", "nothing tried", "fatal", "another shape"],
)
def test_a_report_without_proof_is_an_error(data: bytes, code: int, reason: str) -> None:
    scan = read(data, code)

    assert (scan.state, scan.reason, scan.findings) == ("error", reason, ())


def test_what_was_found_until_it_was_stopped_is_told() -> None:
    failure = {"name": "not_a_server_error", "title": "Server error"}

    scan = read(events(scenario("POST /login", failure), end=False) + b'{"ScenarioFi', None)

    assert (scan.state, len(scan.findings)) == ("incomplete", 1)
    assert scan.reason == "schemathesis was stopped after 120 s"


def test_no_tool_is_sent_where_a_description_says_the_service_is() -> None:
    """The address of the first server is elsewhere: only its path is taken."""
    [one] = Schemathesis().commands(target())
    [other] = Wapiti().commands(target(active=True))

    assert one.argv[one.argv.index("--url") + 1] == f"{BASE}/v1"
    assert json.loads(other.files[wapiti.SCHEMA])["servers"] == [{"url": f"{BASE}/v1"}]
    assert "example.com" not in " ".join([*one.argv, *other.argv])


def test_wapiti_calls_nobody_else() -> None:
    [command] = Wapiti().commands(target(active=True))

    modules = set(command.argv[command.argv.index("--module") + 1].split(","))
    assert "--no-bugreport" in command.argv
    assert modules.isdisjoint({"ssrf", "xxe", "log4shell", "wapp", "cms", "upload"})


def row(**more: Any) -> dict[str, Any]:
    """A result as wapiti writes it."""
    request = "GET /v1/items/7?q=x&token=swordfish HTTP/1.1\nhost: service\ncookie: session=swordfish"
    given = {"method": "GET", "path": "/v1/items/7", "parameter": "q", "info": "a problem", "module": "sql"}
    return {**given, "level": 1, "http_request": request, "curl_command": "", "wstg": [], **more}


def wapiti_says(
    pages: Any = 3, stdout: bytes = b"", code: int | None = 0, found: dict[str, Any] | None = None
) -> Scan:
    report = {"vulnerabilities": found or {}, "anomalies": {}, "additionals": {}}
    data = json.dumps({**report, "infos": {"crawled_pages_nbr": pages}}).encode()
    ran = Ran(exit_code=code, stdout=stdout, files={wapiti.REPORT: data})
    return Wapiti().read(target(active=True), [ran])


@pytest.mark.parametrize(
    ("category", "raw", "level", "basis"),
    [
        ("SQL Injection", 4, "critical", "wapiti SQL Injection"),
        ("Reflected Cross Site Scripting", 2, "high", "wapiti Reflected Cross Site Scripting"),
        ("Open Redirect", 1, "medium", "wapiti Open Redirect"),
        ("Weak credentials", 4, "high", "wapiti level 4"),
        ("Potentially dangerous file", 2, "medium", "wapiti level 2"),
        ("Fingerprint", 0, "info", "wapiti level 0"),
    ],
)
def test_wapiti_levels_are_ours_where_its_own_mislead(
    category: str, raw: int, level: str, basis: str
) -> None:
    [found] = wapiti_says(found={category: [row(level=raw)]}).findings

    assert (found.severity.level, found.severity.basis) == (level, basis)
    assert (found.where, found.evidence) == ("GET /v1/items/{id} (q)", ("GET /v1/items/7?q=x&token=***",))


def test_a_cookie_is_the_parameter() -> None:
    found = wapiti_says(
        found={"HttpOnly Flag cookie": [row(parameter="", info="not set in the cookie : sid")]}
    ).findings

    assert [one.where for one in found] == ["GET /v1/items/{id} (sid)"]


@pytest.mark.parametrize("pages", [0, None, "many"])
def test_wapiti_without_a_page_read_proves_nothing(pages: Any) -> None:
    """As when nobody listens: it ends well, and its report has no findings."""
    scan = wapiti_says(pages)

    assert (scan.state, scan.reason) == ("error", f"wapiti read no page of {BASE}")


@pytest.mark.parametrize("data", [b"", b"oops", b"[]", b"{}", b'{"infos": {}}'], ids=repr)
def test_a_report_of_wapiti_that_is_none_is_an_error(data: bytes) -> None:
    ran = Ran(exit_code=0, stdout=b"", files={wapiti.REPORT: data} if data else {})

    scan = Wapiti().read(target(), [ran])

    assert (scan.state, scan.reason) == ("error", "wapiti gave no report: exit code 0, no output")


@pytest.mark.parametrize(
    ("stdout", "code", "reason"),
    [
        (b"Max scan time was reached, stopping.", 0, "wapiti was stopped after 60 s"),
        (b"", None, "wapiti was stopped after 60 s"),
        (
            b"Max attack time was reached for module sql, stopping.",
            0,
            "its module sql was stopped before it was done",
        ),
    ],
)
def test_wapiti_that_was_stopped_is_incomplete(stdout: bytes, code: int | None, reason: str) -> None:
    scan = wapiti_says(3, stdout, code)

    assert (scan.state, scan.reason) == ("incomplete", reason)


@pytest.mark.parametrize(
    ("address", "consent", "environment", "what"),
    [
        ("https://shop.example.com", False, None, "nobody stated that its owner agrees"),
        ("https://shop.example.com", True, "production", "this run is for production"),
        ("shop.example.com", True, None, "it is no http or https address"),
        ("file:///etc/passwd", True, None, "it is no http or https address"),
        ("http://[::bad", True, None, "it is no http or https address"),
        ("https://me:secret@shop.example.com", True, None, "it holds a user name"),
        ("http://169.254.169.254/latest/meta-data/", True, None, "hands out the credentials"),
        ("http://[fd00:ec2::254]", True, None, "hands out the credentials"),
        ("http://[::ffff:169.254.169.254]", True, None, "hands out the credentials"),
        ("http://Metadata.Google.Internal.", True, None, "hands out the credentials"),
    ],
)
def test_an_address_is_refused(address: str, consent: bool, environment: str | None, what: str) -> None:
    with pytest.raises(AimRefused, match=what) as caught:
        refuse_unless_agreed(address, consent=consent, environment=environment)

    assert "secret" not in str(caught.value)


def test_an_address_that_was_agreed_to_is_taken_without_what_follows_the_path() -> None:
    agreed = refuse_unless_agreed("https://shop.example.com/app/?a=1", consent=True, environment="staging")

    assert agreed == ("https://shop.example.com", "/app/")


def test_a_private_address_is_a_host_like_others_once_it_was_agreed_to() -> None:
    """Where staging is, usually."""
    agreed = refuse_unless_agreed("http://10.1.2.3:8080", consent=True, environment=None)

    assert agreed == ("http://10.1.2.3:8080", "/")


@pytest.mark.parametrize(
    ("environment", "hint"),
    [(None, "if its owner does, state `consent = true` in [tool.pipeline.dast]"), ("production", "")],
)
def test_consent_is_asked_for_only_where_it_is_what_is_missing(environment: str | None, hint: str) -> None:
    with pytest.raises(AimRefused) as caught:
        refuse_unless_agreed("http://shop.test", consent=environment is not None, environment=environment)

    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Cookie: a=swordfish; b=2", "Cookie: ***"),
        ("authorization: Bearer swordfish", "authorization: ***"),
        ("GET /a?access_token=swordfish&b=1", "GET /a?access_token=***&b=1"),
        ('{"password": "swordfish"}', '{"password": "***"}'),
        ("GET /a?b=1", "GET /a?b=1"),
    ],
)
def test_what_identifies_the_sender_is_not_kept(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"paths": {"/a": {}}}', {"paths": {"/a": {}}}),
        (b"paths:\n  /a: {}\n", {"paths": {"/a": {}}}),
        (b"<html>", None),
        (b'{"paths": 3}', None),
        (b"a: [", None),
    ],
)
def test_a_description_is_read_from_json_or_yaml(data: bytes, expected: Any) -> None:
    assert description_of(data) == expected
