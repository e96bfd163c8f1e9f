"""A service that shows nothing is never clean: each way to show nothing ends in the state it must."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.dast.aim import Aim
from pipeline.scan.dast.passive import REPORT, Passive
from pipeline.scan.dast.prober.main import alive, describe
from pipeline.scan.dast.programs import FOLDER, PACKAGE, program_files
from pipeline.scan.scanner import Ran, Scan, Target
from tests.unit.scan.dast.serving import MISSING, PAGE, Reply, linking, seen, serving, told

if TYPE_CHECKING:
    from pathlib import Path

TEXT = {"content-type": "text/plain"}


def state(scan: Scan) -> tuple[str, str]:
    return scan.state, scan.reason


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_nobody_listens() -> None:
    base = f"http://127.0.0.1:{free_port()}"

    scan = seen(base)

    assert state(scan) == ("error", f"nothing answers at {base}")
    assert alive(base, "/", 0.3) == {"alive": False, "status": 0}


ALIKE: dict[str, tuple[Any, str, str]] = {
    "the same page": (
        lambda path: (200, PAGE, "welcome"),
        "incomplete",
        "every address is answered with the same page",
    ),
    "a login": (
        lambda path: (
            (200, PAGE, "<form method=post>")
            if path == "/login"
            else (302, {"location": f"/login?to={path}"}, "")
        ),
        "incomplete",
        "every address leads to `/login`: nothing behind it was looked at",
    ),
    "a refusal": (
        lambda path: (401, TEXT, "who are you?"),
        "incomplete",
        "every request is refused: nothing behind the login was looked at",
    ),
    "an error": (
        lambda path: (500, TEXT, "oops"),
        "error",
        "every request is answered with an error such as 500",
    ),
    "not found": (
        lambda path: MISSING,
        "incomplete",
        "no page was found, and there is no OpenAPI description that names any",
    ),
}


@pytest.mark.parametrize("name", ALIKE)
def test_everything_is_answered_alike(name: str) -> None:
    reply, expected, reason = ALIKE[name]

    with serving(lambda method, path, values, headers: reply(path)) as base:
        scan = seen(base)

    assert state(scan) == (expected, reason)


def test_a_page_shown_for_everything_is_not_taken_for_the_files_it_stands_for() -> None:
    with serving(lambda *_: (200, TEXT, "A=1\n")) as base:
        scan = seen(base)

    assert [one.rule.id for one in scan.findings if one.rule.id.startswith("exposed")] == []


def test_a_service_that_crashes_meanwhile() -> None:
    """It answers for a while, and then nobody does."""
    count = 0

    def answer(method: str, path: str, values: dict[str, str], headers: dict[str, str]) -> Reply | None:
        nonlocal count
        count += 1
        return (200, PAGE, linking(f"/{count}")) if count < 8 else None

    with serving(answer) as base:
        scan = seen(base)

    assert scan.state == "error"
    assert scan.reason.startswith("the service stopped answering after ")


def test_a_service_that_hangs_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        scan = seen(f"http://127.0.0.1:{listener.getsockname()[1]}", request_timeout_s=0.1)

    assert scan.state == "error"
    assert time.monotonic() - began < 20


def test_a_page_that_hangs_is_missed_and_the_others_are_looked_at() -> None:
    is_over = threading.Event()

    def answer(method: str, path: str, values: dict[str, str], headers: dict[str, str]) -> Reply | None:
        if path == "/slow":
            is_over.wait(5)
            return None
        return (
            (200, PAGE, linking("/slow", "/b?v=1")) if path == "/" else (200, PAGE, f"hi {values.get('v')}")
        )

    with serving(answer) as base:
        scan = seen(base, request_timeout_s=0.2)
        is_over.set()

    assert state(scan) == ("incomplete", "not looked at: GET /slow (no answer in time)")
    assert ("reflected", "GET /b (v)") in told(scan)


def test_of_a_large_page_only_the_beginning_is_read() -> None:
    large = linking("/b") + "x" * 10_000_000

    with serving(lambda m, path, v, h: (200, PAGE, large if path == "/" else f"at {path}")) as base:
        began = time.monotonic()
        scan = seen(base)

    assert state(scan) == ("complete", "")
    assert time.monotonic() - began < 10


def test_links_without_end_of_one_kind_are_sampled() -> None:
    """A calendar: `/day/1` leads to `/day/2` and so on."""
    asked = set()

    def answer(method: str, path: str, values: dict[str, str], headers: dict[str, str]) -> Reply:
        asked.add(path)
        day = (
            int(path.rpartition("/")[2] or 0) if path.rpartition("/")[2].isdecimal() or path == "/" else None
        )
        return MISSING if day is None else (200, PAGE, linking(f"/day/{day + 1}"))

    with serving(answer) as base:
        scan = seen(base)

    assert state(scan) == ("complete", "")
    assert sorted(one for one in asked if one.startswith("/day/") and one[5:].isdecimal()) == [
        f"/day/{day}" for day in range(1, 5)
    ]


def test_links_without_end_of_ever_new_kinds_end_at_the_limit_and_say_so() -> None:
    def answer(method: str, path: str, values: dict[str, str], headers: dict[str, str]) -> Reply:
        return 200, PAGE, linking(*(f"{path.rstrip('/')}/{word}" for word in ("ab", "cd", "ef"))) + path

    with serving(answer) as base:
        scan = seen(base, pages=20)

    assert scan.state == "incomplete"
    assert scan.reason.endswith("more pages (only 20 are looked at)")
    assert scan.coverage.seen == 19  # and robots.txt


def test_when_the_time_is_over_what_was_seen_is_told() -> None:
    with serving(lambda m, path, v, h: (200, {"content-type": "text/html"}, f"at {path}")) as base:
        scan = seen(base, rate=20, limit_s=0.5)

    assert scan.state == "incomplete"
    assert scan.reason.startswith("the time was over after ")
    assert ("header-csp", "GET / (content-security-policy)") in told(scan)


@pytest.mark.parametrize(
    "text", [b"", b"oops", b"[]", b"{}", b'{"version": 2}', b'{"version": 1, "issues": []}'], ids=repr
)
def test_a_report_that_is_none_is_an_error(text: bytes) -> None:
    target = Target(root="", files={}, options={"aim": Aim(base="http://service")})

    scan = Passive().read(target, [Ran(exit_code=0, stdout=b"", files={REPORT: text} if text else {})])

    assert state(scan) == ("error", "our program gave no report: exit code 0, no output")


def test_html_in_place_of_a_description_is_none() -> None:
    described = json.dumps({"openapi": "3.1.0", "paths": {}})
    answers = {"/a": (200, PAGE, "<p>"), "/b": (200, TEXT, "{}"), "/c": (200, TEXT, described)}

    with serving(lambda m, path, v, h: answers.get(path, MISSING)) as base:
        found = [describe(base, ["/a", "/b", *more]) for more in ([], ["/c"])]

    assert [one["path"] for one in found] == ["", "/c"]
    assert found[0]["said"] == "/a is text/html, not JSON; /b is JSON without `paths`"


def test_the_program_runs_on_a_bare_python(tmp_path: Path) -> None:
    """As in a container: its own package, the standard library, nothing of ours."""
    for name, text in program_files().items():
        path = tmp_path / name.removeprefix(f"{FOLDER}/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    with serving(lambda *_: (200, PAGE, "x")) as base:
        argv = [sys.executable, "-S", "-m", f"{PACKAGE}.main", "alive", base, "/", "5"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == {"alive": True, "status": 200}
    assert "pipeline.scan" not in "".join(program_files().values())


HOSTILE: list[Any] = [
    {"paths": {"/a": []}},
    {"paths": {"/a": {"get": None, "post": 7}}},
    {"paths": {"/a": {"get": {"parameters": {"name": 1}, "responses": [], "requestBody": 3}}}},
    {"paths": {"/a": {"get": {"parameters": [{"$ref": "#/paths/~1a/get/parameters/0"}]}}}},
    {"paths": {"/a/{b}": {"get": {"parameters": [{"name": "b", "in": "path", "schema": {"type": ["x"]}}]}}}},
    {
        "paths": {
            "/a": {"get": {"responses": {"200": {"content": {"application/json": {"schema": {"anyOf": 3}}}}}}}
        }
    },
    {"paths": {"/a": {}}, "servers": [{"url": "http://[::bad"}]},
    {"paths": {"/a": {}}, "servers": {"url": "x"}},
]


@pytest.mark.parametrize("description", HOSTILE, ids=str)
def test_a_description_that_is_wrong_disturbs_nothing(description: Any) -> None:
    with serving(
        lambda m, path, v, h: (200, {"content-type": "application/json"}, f'{{"p": "{path}"}}')
    ) as base:
        scan = seen(base, description=description)

    assert scan.state == "complete"
