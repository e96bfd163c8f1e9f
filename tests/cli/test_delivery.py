"""Deliveries from the command line, to environments that are changed by commands of the project."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.deploy.history import NAME, Entry
from pipeline.deploy.outcome import Outcome
from pipeline.deploy.records import read_record
from tests.cli.harness import COMMAND, CliProject, lines

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE, TWO = (f"registry.example.com/app@sha256:{digit * 64}" for digit in "12")

PYPROJECT = """
[project]
name = "app"
version = "1.0"

[tool.pipeline.deploy]
bake = "1ms"
lock_ttl = "6s"

[tool.pipeline.deploy.visits]
enabled = false

[tool.pipeline.deploy.canary]
on_inconclusive = "promote"

[tool.pipeline.deploy.services.api.health]
tcp = 80
interval = "1ms"
passes = 1
healthy_for = "1ms"
deadline = "5s"

[tool.pipeline.deploy.services.api]
secrets = ["TOKEN"]

[tool.pipeline.deploy.smoke.works]
command = ["sh", "-c", "test ! -e bad && { test ! -e slow || { touch began; sleep 15; }; }"]
within = "60s"

[tool.pipeline.environments.staging]
target = "command"

[tool.pipeline.environments.production]
target = "command"
promote_from = "staging"
address = "http://127.0.0.1:9"
"""
HOOKS = """
[commands]
start = ["true"]
ready = ["true"]
shift = ["true"]
remove = ["true"]
"""
POLICY = """
owner = "team"

[roles.releaser]
actors = ["ann@example.org"]

[environments.production]
deploy = ["releaser"]
"""


@pytest.fixture
def shop(bare: CliProject) -> CliProject:
    """A project in git with `staging` and `production`, which Ann may deploy."""
    bare.write(
        {
            "pyproject.toml": PYPROJECT,
            "ci/environments/staging.toml": HOOKS,
            "ci/environments/production.toml": HOOKS,
            "ci/policies/delivery.toml": POLICY,
            ".gitignore": "bad\nslow\nbegan\n",
        }
    )
    git(bare, "init", "-q", "-b", "main")
    git(bare, "add", "-A")
    git(bare, "-c", "user.name=Ann", "-c", "user.email=ann@example.org", "commit", "-q", "-m", "begin")
    git(bare, "config", "user.email", "ann@example.org")
    return CliProject(root=bare.root, home=bare.home, environ=bare.environ)


def git(project: CliProject, *argv: str) -> None:
    subprocess.run(["git", *argv], cwd=project.root, check=True, capture_output=True)


def deploy(project: CliProject, image: str, version: str, *more: str, env: str = "staging") -> dict[str, Any]:
    """Deploy an image and return the answer."""
    argv = ["deploy", env, "--image", f"app={image}", "--version", version, "--json", *more]
    answer = project(*argv, TOKEN="hunter2hunter2")
    found: dict[str, Any] = json.loads(answer.stdout) if answer.stdout else {"stderr": answer.stderr}
    return {**found, "code": answer.code}


def asked(project: CliProject, *argv: str) -> Any:
    """What a command answers with `--json`."""
    return json.loads(project(*argv, "--json", TOKEN="hunter2hunter2").stdout)


def history(project: CliProject, env: str = "staging") -> list[Entry]:
    """The deployments of an environment, the newest first."""
    data = (project.root / f".pipeline/environments/{env}/{NAME}").read_bytes()
    found = {one.deployment: one for one in (read_record(line, Entry, NAME) for line in data.splitlines())}
    return [*found.values()][::-1]


def runs_in(project: CliProject) -> str:
    """The version of the release that came to stay in staging last."""
    good = [one for one in history(project) if one.outcome is Outcome.SUCCEEDED]
    return good[0].version


def scrubbed(text: str) -> str:
    """Text without ids and times."""
    text = re.sub(r"r-[0-9a-f]{12}", "R-ID", text)
    text = re.sub(r"d-\d{8}-\d{6}-[0-9a-f]{6}", "D-ID", text)
    return re.sub(r"sha256:[0-9a-f]{64}", "DIGEST", text)


def test_a_deployment_is_told_step_by_step_and_is_in_the_history(shop: CliProject) -> None:
    """What happens goes to standard error, what runs now to standard output; all of it fits 80 columns."""
    answer = shop("deploy", "staging", "--image", f"app={ONE}", "--version", "1.0.0", TOKEN="hunter2hunter2")

    assert (answer.code, scrubbed(answer.stdout)) == (0, "succeeded\nstaging runs R-ID\n")
    assert [line.split()[0] for line in answer.stderr.splitlines()] == [
        *("deployment", "fetch", "start", "ready", "preview", "shift", "warning:", "bake", "finish")
    ]
    told = [shop(*argv).stdout for argv in (["history", "staging"], ["status"], ["status", "staging"])]
    assert max(len(line) for text in told for line in text.splitlines()) <= 80
    (entry,) = asked(shop, "history", "staging")
    assert (entry["kind"], entry["version"], entry["outcome"], entry["actor"], entry["images"]) == (
        *("deploy", "1.0.0", "succeeded", "ann@example.org"),
        {"api": "sha256:" + "1" * 64},
    )


def test_a_plan_shows_the_steps_and_changes_nothing(shop: CliProject) -> None:
    """It fits 80 columns; the value of a secret that it needs is not kept."""
    argv = ["deploy", "staging", "--image", f"app={ONE}", "--version", "1.0.0", "--plan"]

    answer = shop(*argv, TOKEN="hunter2hunter2")

    assert answer.code == 0
    assert scrubbed(answer.stdout) == lines("""
        R-ID 1.0.0 to staging (command, blue_green)
        the first release there
          api  registry.example.com/app@sha256:111111111111  added
        steps: preflight, authorise, lock, record, fetch, start, ready, preview, shift
               100%, bake 100%, finish
        plan: DIGEST
    """)
    assert not (shop.root / ".pipeline/environments/staging/history.jsonl").exists()
    kept = b"".join(path.read_bytes() for path in (shop.root / ".pipeline").rglob("*") if path.is_file())
    assert b"hunter2" not in kept


def test_the_same_again_is_already_there(shop: CliProject) -> None:
    """Another value of a secret is another release."""
    deploy(shop, ONE, "1.0.0")

    again = deploy(shop, ONE, "1.0.0")
    changed = shop("deploy", "staging", "--image", f"app={ONE}", "--json", TOKEN="another value")

    assert (again["outcome"], again["code"]) == ("already there", 0)
    assert json.loads(changed.stdout)["outcome"] == "succeeded"


def test_a_release_that_fails_its_smoke_check_is_rolled_back(shop: CliProject) -> None:
    """The exit code says that the old one runs; what was seen is kept."""
    deploy(shop, ONE, "1.0.0")
    (shop.root / "bad").touch()

    failed = deploy(shop, TWO, "2.0.0")

    assert (failed["outcome"], failed["code"]) == ("rolled back", 4)
    assert runs_in(shop) == "1.0.0"
    kept = [json.loads(path.read_bytes()) for path in shop.root.glob(".pipeline/deployments/*/smoke.json")]
    assert sorted(one["problem"] for (one,) in kept) == ["", "ended with code 1: (nothing)"]


def test_a_rollback_without_a_name_goes_to_the_last_good_release(shop: CliProject) -> None:
    """By the same steps; the values of its secrets are those it had."""
    deploy(shop, ONE, "1.0.0")
    deploy(shop, TWO, "2.0.0")

    answer = shop("rollback", "staging")

    assert (answer.code, runs_in(shop)) == (0, "1.0.0")
    assert [one.kind for one in history(shop)] == ["rollback", "deploy", "deploy"]


def test_what_cannot_be_is_said_in_one_sentence(shop: CliProject) -> None:
    """Nothing is changed."""
    deploy(shop, ONE, "1.0.0")
    (shop.root / "bad").touch()
    deploy(shop, TWO, "2.0.0")
    before = history(shop)
    wanted = {
        "rollback staging": "cannot roll back `staging`: it has had no other release that came to stay",
        "rollback staging 2.0.0": "cannot find release `2.0.0`: it has never come to stay in `staging`",
        "deploy staging": "cannot deploy to `staging`: no run here has pushed images",
        "deploy staging --image app=x:1": "cannot release `api` as `x:1`: it names no digest",
        "deploy staging --continue": "cannot go on in `staging`: no deployment waits there",
        "deploy nowhere": "there is no environment `nowhere`; there are: local, production, staging",
    }

    said = {words: shop(*words.split(), TOKEN="hunter2hunter2") for words in wanted}

    assert {words: one.stderr.splitlines()[0] for words, one in said.items()} == {
        words: f"error: {sentence}" for words, sentence in wanted.items()
    }
    assert {one.code for one in said.values()} == {2}
    assert history(shop) == before


def test_production_takes_what_staging_has_proved_and_nothing_else(shop: CliProject) -> None:
    """By the same digest, with its own settings; the refusal names the rule and who may change it."""
    deploy(shop, ONE, "1.0.0")

    refused = deploy(shop, TWO, "2.0.0", env="production")
    promoted = shop("promote", "staging", "production", "--json", TOKEN="hunter2hunter2")

    assert refused["code"] == 3
    assert "(rule `environments.production.promotion.green`)" in refused["stderr"]
    assert "team may change them" in refused["stderr"]
    assert (promoted.code, json.loads(promoted.stdout)["outcome"]) == (0, "succeeded")
    assert asked(shop, "status", "production")[0]["images"] == {"api": ONE}


def test_who_may_not_deploy_is_refused(shop: CliProject) -> None:
    """A plan says so too, by its exit code."""
    deploy(shop, ONE, "1.0.0")
    git(shop, "config", "user.email", "eve@example.org")

    answer = shop("promote", "staging", "production", "--plan", TOKEN="hunter2hunter2")

    assert answer.code == 3
    assert "needs the role `releaser`; `eve@example.org` has none" in answer.stdout


def test_a_deployment_that_waits_goes_on_or_is_undone_by_a_word(shop: CliProject) -> None:
    """`--continue` brings it to its end; `rollback` to the old release."""
    deploy(shop, ONE, "1.0.0")
    text = (shop.root / "pyproject.toml").read_text()
    shop.write({"pyproject.toml": text.replace('"promote"', '"pause"')})

    held = deploy(shop, TWO, "2.0.0")
    standing = asked(shop, "status", "staging")[0]
    went_on = shop("deploy", "staging", "--continue", "--json")
    held_again = deploy(shop, ONE, "3.0.0")
    undone = shop("rollback", "staging", "--json")

    assert (held["outcome"], held["code"]) == ("waiting", 6)
    assert (standing["open"]["waits"], standing["open"]["step"]) == (True, "bake")
    assert (went_on.code, json.loads(went_on.stdout)["outcome"]) == (0, "succeeded")
    assert held_again["code"] == 6
    assert (undone.code, json.loads(undone.stdout)["outcome"]) == (4, "rolled back")
    assert runs_in(shop) == "2.0.0"


@pytest.fixture
def slow(shop: CliProject) -> Iterator[subprocess.Popen[bytes]]:
    """A deployment of 2.0.0, over 1.0.0, whose smoke check takes half a minute."""
    deploy(shop, ONE, "1.0.0")
    (shop.root / "slow").touch()
    process = subprocess.Popen(
        [str(COMMAND), "deploy", "staging", "--image", f"app={TWO}", "--version", "2.0.0"],
        cwd=shop.root,
        env=shop.environment({"TOKEN": "hunter2hunter2"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until = time.monotonic() + 20
    while not (shop.root / "began").exists() and time.monotonic() < until:
        time.sleep(0.02)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_second_deployer_is_refused_by_name(shop: CliProject, slow: subprocess.Popen[bytes]) -> None:
    """It is told who is at work, at which step, and how to look."""
    refused = deploy(shop, ONE, "3.0.0")
    shown = shop("env", "lock", "show", "staging")
    broken = shop("env", "lock", "break", "staging")

    assert refused["code"] == 3
    assert "ann@example.org holds it" in refused["stderr"]
    assert "`pipeline env lock show staging`" in refused["stderr"]
    assert "ann@example.org holds the lock" in shown.stdout
    assert (broken.code, f"(process {slow.pid})" in broken.stderr) == (2, True)


def test_a_killed_deployer_is_resolved_by_the_next(shop: CliProject, slow: subprocess.Popen[bytes]) -> None:
    """At once, for its process is seen to be gone."""
    os.killpg(slow.pid, signal.SIGKILL)
    slow.wait()
    (shop.root / "slow").unlink()

    standing = asked(shop, "status", "staging")[0]
    next_one = deploy(shop, TWO, "2.0.0")

    assert standing["open"]["waits"] is False
    assert (next_one["outcome"], runs_in(shop)) == ("succeeded", "2.0.0")
    assert history(shop)[1].outcome is Outcome.ROLLED_BACK


def test_a_broken_lock_cuts_its_holder_off(shop: CliProject, slow: subprocess.Popen[bytes]) -> None:
    """It changes nothing any more, and says that the next deployer resolves it."""
    broken = shop("env", "lock", "break", "staging", "--force")
    (shop.root / "slow").unlink()

    next_one = deploy(shop, ONE, "1.0.0")

    assert (broken.code, broken.stdout) == (0, "staging: the lock of ann@example.org is broken\n")
    assert next_one["outcome"] == "already there"
    _, said = slow.communicate(timeout=30)
    assert (slow.returncode, b"somebody else has taken its lock" in said) == (7, True)
    assert runs_in(shop) == "1.0.0"


def test_settings_of_environments_are_shown_with_their_file_and_compared(shop: CliProject) -> None:
    """Those of services and checks too, each by its own path."""
    shown = asked(shop, "env", "show", "production")
    differ = asked(shop, "env", "diff", "staging", "production")

    assert shown["promote_from"] == {"value": "staging", "origin": "pyproject.toml"}
    assert shown["commands.start"] == {"value": ["true"], "origin": "ci/environments/production.toml"}
    assert shown["deploy.services.api.health.interval"]["value"] == 0.001
    assert differ == {
        "address": {"staging": None, "production": "http://127.0.0.1:9"},
        "promote_from": {"staging": None, "production": "staging"},
    }


def test_changed_settings_are_drift(shop: CliProject) -> None:
    """Until they are deployed."""
    deploy(shop, ONE, "1.0.0")
    same = shop("env", "drift", "staging")
    text = (shop.root / "pyproject.toml").read_text()
    shop.write({"pyproject.toml": text.replace('secrets = ["TOKEN"]', "replicas = 3")})

    changed = shop("env", "drift", "staging")

    assert (same.code, same.stdout) == (0, "nothing differs\n")
    assert (changed.code, changed.stdout) == (
        1,
        "the settings of service `api` have changed since it was deployed\n",
    )


def test_the_first_interrupt_undoes(shop: CliProject, slow: subprocess.Popen[bytes]) -> None:
    """What ran before runs again, and the exit code says so."""
    slow.send_signal(signal.SIGINT)
    out, said = slow.communicate(timeout=30)

    assert (slow.returncode, out.splitlines()[0]) == (4, b"rolled back: it was interrupted")
    assert b"SIGINT: undoing" in said
    assert runs_in(shop) == "1.0.0"


def test_a_second_interrupt_leaves_it_for_the_next(shop: CliProject, slow: subprocess.Popen[bytes]) -> None:
    """At once, with the code that says so."""
    slow.send_signal(signal.SIGSTOP)
    slow.send_signal(signal.SIGINT)
    slow.send_signal(signal.SIGTERM)
    slow.send_signal(signal.SIGCONT)
    _, said = slow.communicate(timeout=30)

    assert (slow.returncode, b"the next deployer resolves what was begun" in said) == (7, True)
