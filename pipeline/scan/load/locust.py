"""Locust as it is called for a closed workload, and a locustfile for projects that have none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.load.plan import Request


def locust_argv(
    locustfile: str,
    listener: str,
    *,
    base: str,
    users: int,
    seconds: float,
    out: str,
    args: Sequence[str] = (),
) -> list[str]:
    """The command that runs a locustfile as it is; figures go to `out` with `.json` and `_stats.csv` added.

    Args:
        listener: Path of our second file, which notes response times by second.
        args: Added at the end, so that they win.
    """
    return [
        *("locust", "-f", f"{locustfile},{listener}", "--headless", "--host", base),
        *("--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds:.0f}s"),
        *("--stop-timeout", "10s", "--only-summary", "--json-file", out, "--csv", out),
        *("--exit-code-on-error", "0"),  # whether failures matter is for the limits to say
        *args,
    ]


def locustfile_for(requests: Sequence[Request], *, per_user: float) -> str:
    """A locustfile that sends these requests, each user `per_user` of them a second at most."""
    tasks = "".join(_task(number, one) for number, one in enumerate(requests))
    return (
        "import itertools\n\n"
        "from locust import FastHttpUser, constant_throughput, task\n\n\n"
        "class Visitor(FastHttpUser):\n"
        f"    wait_time = constant_throughput({per_user!r})\n{tasks}"
    )


def _task(number: int, one: Request) -> str:
    label = one.name.removeprefix(f"{one.method} ")  # Locust puts the method before it
    body = f", data={one.body!r}" if one.body else ""
    call = f"{one.method!r}, next(self.paths_{number}), name={label!r}"
    good = f"response.status_code in {set(one.expect)!r}" if one.expect else "response.ok"
    return f"""
    paths_{number} = itertools.cycle({json.dumps(list(one.paths))})

    @task({one.weight})
    def request_{number}(self):
        asked = dict(headers={dict(one.headers)!r}{body}, catch_response=True)
        with self.client.request({call}, **asked) as response:
            if {good}:
                response.success()
            else:
                response.failure(f"status {{response.status_code}}")
"""
