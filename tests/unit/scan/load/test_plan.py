"""What is sent and how long, by the settings."""

from __future__ import annotations

import ast

import pytest

from pipeline.config.values import Count, PerformanceSettings, RequestSettings, Seconds
from pipeline.scan.load.locust import locust_argv, locustfile_for
from pipeline.scan.load.plan import Request, configured_requests, duration_for, generator_plan, plan_digest

RARE = [Request(name="often", paths=("/",), weight=9), Request(name="rare", paths=("/r",))]


def test_the_settings_name_requests() -> None:
    settings = PerformanceSettings(
        requests={"add": RequestSettings(path="/notes", method="post", body="{}", expect=(Count(201),))}
    )

    assert configured_requests(settings) == [
        Request(name="add", method="POST", paths=("/notes",), body="{}", expect=(201,))
    ]


@pytest.mark.parametrize(
    ("requests", "settings", "seconds"),
    [
        (RARE[:1], PerformanceSettings(), 30.0),
        (RARE, PerformanceSettings(), 44.0),
        (RARE, PerformanceSettings(duration_s=Seconds(12.0)), 12.0),
        (RARE, PerformanceSettings(rate=Count(1)), 600.0),
    ],
    ids=["usual", "until the rarest was sent often enough", "as set", "at most ten minutes"],
)
def test_it_is_measured_as_long_as_needed(
    requests: list[Request], settings: PerformanceSettings, seconds: float
) -> None:
    assert duration_for(requests, settings) == seconds


def test_plans_are_alike_wherever_the_service_is() -> None:
    """What is sent makes the digest, not where to."""
    settings = PerformanceSettings()
    here = generator_plan(RARE, settings, host="a", port=1)
    there = generator_plan(RARE, settings, host="b", port=2)
    other = generator_plan(RARE[:1], settings, host="a", port=1)

    assert plan_digest(here) == plan_digest(there) != plan_digest(other)


def test_locust_is_called_with_the_users_arguments_last() -> None:
    argv = locust_argv(
        "l.py", "/x/listener.py", base="http://s:1", users=3, seconds=12, out="/o/l", args=["--tags", "a"]
    )

    assert argv[:4] == ["locust", "-f", "l.py,/x/listener.py", "--headless"]
    assert argv[argv.index("--run-time") + 1] == "12s"
    assert argv[-2:] == ["--tags", "a"]


def test_a_locustfile_that_is_made_up_is_python() -> None:
    """Whatever quotes and brackets the requests hold."""
    odd = Request(
        name='POST /"x"/{id}',
        method="POST",
        paths=('/"x"/1',),
        body="{'\"}",
        headers={"a": "'"},
        expect=(201,),
    )

    tree = ast.parse(locustfile_for([odd, *RARE], per_user=5.0))

    classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert (classes, functions) == (["Visitor"], ["request_0", "request_1", "request_2"])
