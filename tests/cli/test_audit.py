"""What is kept and told of deployments: the audit log, events, notices, the four keys."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.ops.servers import http_sink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cli.harness import CliProject

IMAGE = "registry.example.com/app@sha256:" + "1" * 64
LOG = ".pipeline/environments/staging/audit/log-000001.jsonl"
PYPROJECT = """
[project]
name = "app"
version = "1.0"

[tool.pipeline.deploy]
bake = "1ms"
visits = { enabled = false }
canary = { on_inconclusive = "promote" }
services.api = {}
smoke.works = { command = ["true"] }

[tool.pipeline.environments.staging]
target = "command"
commands = { start = ["true"], ready = ["true"], shift = ["true"], remove = ["true"] }

[tool.pipeline.audit]
checkpoints = "elsewhere"

[tool.pipeline.notify]
critical = ["pager"]
info = ["pager"]
warning = ["pager"]
channels.pager = { routing_key = "env:PAGER", api = "http://127.0.0.1:9" }
"""
POLICY = """
owner = "team"

[roles.releaser]
actors = ["ann@example.org"]

[roles.sre]
actors = ["sue@example.org"]

[environments.staging]
deploy = ["releaser"]
break_glass = ["sre"]
"""


@pytest.fixture
def shop(bare: CliProject) -> CliProject:
    """A project in git with `staging`, which Ann may deploy, and Sue for a reason."""
    bare.write(
        {
            "pyproject.toml": PYPROJECT,
            "ci/policies/delivery.toml": POLICY,
            ".gitignore": "elsewhere\n",
        }
    )
    git(bare, "init", "-q", "-b", "main")
    git(bare, "add", "-A")
    git(bare, "-c", "user.name=Ann", "-c", "user.email=ann@example.org", "commit", "-q", "-m", "begin")
    return bare


def git(project: CliProject, *argv: str) -> None:
    subprocess.run(["git", *argv], cwd=project.root, check=True, capture_output=True)


def deploy(project: CliProject, who: str, *more: str, pager: str = "") -> tuple[int, str]:
    """Deploy as somebody; return the exit code and what was said."""
    git(project, "config", "user.email", f"{who}@example.org")
    answer = project("deploy", "staging", "--image", f"app={IMAGE}", *more, PAGER=pager)
    return answer.code, answer.stderr


def entries(project: CliProject) -> list[Mapping[str, Any]]:
    """The audit log, the oldest first."""
    found: list[Mapping[str, Any]] = json.loads(project("audit", "show", "staging", "--json").stdout)
    return found[::-1]


def test_who_deployed_and_who_was_refused_is_in_the_log(shop: CliProject) -> None:
    """A refusal is there with its rule, a rule that was broken with the reason, an end with its outcome."""
    refused, said = deploy(shop, "eve")
    allowed, _ = deploy(shop, "ann")
    broken, _ = deploy(shop, "sue", "--version", "2", "--break-glass", "site is down")

    assert (refused, allowed, broken) == (3, 0, 0)
    assert "rule `environments.staging.deploy`" in said
    rule = "environments.staging.deploy"
    assert [(one["actor"].partition("@")[0], one["action"], one["decision"]) for one in entries(shop)] == [
        ("eve", "deploy", "refused"),
        ("ann", "deploy", "allowed"),
        ("ann", "deploy", "succeeded"),
        ("sue", "break glass", "allowed"),
        ("sue", "deploy", "already there"),
    ]
    assert entries(shop)[0]["detail"] == {"rules": rule}
    assert entries(shop)[3]["detail"] == {
        "passed over": rule,
        "reason": "site is down",
        "roles": "sre",
    }


def test_the_log_is_verified_against_checkpoints_elsewhere(shop: CliProject) -> None:
    deploy(shop, "ann")
    whole = shop("audit", "verify", "staging")
    without = shop("audit", "verify", "staging", "--checkpoints", "nowhere")
    log = shop.root / LOG
    log.write_text(log.read_text(encoding="utf-8").replace("ann@", "eve@"), encoding="utf-8")

    forged = shop("audit", "verify", "staging")

    assert (whole.code, whole.stdout) == (0, "staging: complete: 2 entries\n")
    assert (without.code, without.stdout) == (
        0,
        "staging: consistent: 2 entries, completeness unknown\n",
    )
    assert (forged.code, forged.stdout) == (
        1,
        "staging: broken from entry 1 on\n  entry 1 was changed\n  entry 2 was changed\n",
    )


def test_what_cannot_be_logged_is_not_deployed(shop: CliProject) -> None:
    """A rollback goes on all the same."""
    deploy(shop, "ann")
    (shop.root / ".pipeline/environments/staging/audit/head.json").write_bytes(b"{")

    code, said = deploy(shop, "ann", "--version", "2")

    assert code == 1
    assert "cannot add to the audit log: `audit/head.json` is damaged" in said


def test_steps_are_events_beside_the_evidence(shop: CliProject) -> None:
    deploy(shop, "ann")

    (file,) = (shop.root / ".pipeline/deployments").glob("*/cdevents.jsonl")
    events = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    kinds = [
        event["context"]["type"].removeprefix("dev.cdevents.").removesuffix(".0.2.0") for event in events
    ]
    assert (kinds[0], kinds[-2:]) == ("pipelinerun.started", ["service.deployed", "pipelinerun.finished"])
    assert kinds.count("taskrun.started") == kinds.count("taskrun.finished") == 7
    assert len({event["context"]["chainId"] for event in events}) == 1


def test_a_pager_that_cannot_be_told_is_said_and_fails_nothing(shop: CliProject) -> None:
    """With one that answers, what was deployed is a change event, and a broken rule an alert."""
    code, said = deploy(shop, "ann")
    with http_sink(202) as sink:
        text = PYPROJECT.replace("http://127.0.0.1:9", sink.url)
        shop.write({"pyproject.toml": text})
        told, _ = deploy(shop, "sue", "--break-glass", "site is down", pager="R" * 32)

    assert (code, told) == (0, 0)
    assert "cannot tell `pager`: the variable PAGER is not set" in said
    assert [one.path for one in sink.received] == ["/v2/enqueue"]
    assert json.loads(sink.received[0].body)["payload"]["severity"] == "critical"


def test_the_four_keys_come_from_the_history(shop: CliProject) -> None:
    deploy(shop, "ann")

    keys = json.loads(shop("report", "dora", "staging", "--json").stdout)

    assert 0 < keys.pop("lead_time_s") < 600
    assert keys == {
        "environment": "staging",
        "days": 90,
        "deployments": 1,
        "failed": 0,
        "days_a_week": 0.0,
        "with_commit": 1,
        "failure_rate": 0.0,
        "restore_s": None,
        "restored": 0,
        "levels": {
            "days_a_week": "low",
            "lead_time_s": "elite",
            "failure_rate": "elite",
            "restore_s": "unknown",
        },
    }


def test_a_checkpoint_is_made_on_request(shop: CliProject) -> None:
    nothing = shop("audit", "checkpoint", "staging")
    deploy(shop, "ann")

    made = shop("audit", "checkpoint", "staging")

    assert (nothing.code, nothing.stderr) == (
        2,
        "error: cannot make a checkpoint: nothing was ever done to `staging`\n",
    )
    assert json.loads(made.stdout)["checkpoint"]["seq"] == 2
