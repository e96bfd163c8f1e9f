"""Releases at GitHub, against a server that keeps state as its API does, and misbehaves as it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.config.release import ReleaseSettings
from pipeline.errors import UsageError
from pipeline.release.api import Api, ApiBusy, ApiDenied, ApiLimited
from pipeline.release.forge import ForgeConflict, ForgeUnknown, body_of, open_forge
from pipeline.release.github import GitHub, api_of
from pipeline.release.places import last_bill
from pipeline.release.publish import ReleaseUnfinished, publish
from tests.unit.release.githubserver import TOKEN, Failure, GitHubState, github
from tests.unit.release.world import ISOLATED, World, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.release.plan import ReleasePlan

STEPS = ["notes", "files", "attestation", "tag", "push", "release", "close"]


@pytest.fixture
def hub(world: World) -> Iterator[GitHubState]:
    """A GitHub whose git is the remote of the tests."""
    world.commit("feat: begin")
    world.push()
    with github(lambda: set(world.remote_tags())) as state:
        yield state


def forge(hub: GitHubState, token: str = TOKEN) -> GitHub:
    made = api_of(hub.address, "github.com", {"GITHUB_TOKEN": token})
    api = Api(
        address=made.address,
        headers=made.headers,
        access_hint=made.access_hint,
        pause_s=0.01,
        longest_wait_s=2,
    )
    return GitHub(api=api, repository="ann/app")


def plan_of(world: World, tmp_path: Path, content: str = "") -> ReleasePlan:
    return world.plan(files=[wheel(tmp_path / "dist", "0.1.0", content=content)])


def test_a_release_is_drafted_with_its_files_and_shown_after_its_tag(
    world: World, hub: GitHubState, tmp_path: Path
) -> None:
    """The server itself refuses to publish a release whose tag is not there."""
    plan = plan_of(world, tmp_path)

    told = publish(plan, world.places(forge=forge(hub)))

    assert told == dict.fromkeys(STEPS, "done")
    attestation = (tmp_path / "kept/provenance.intoto.json").read_bytes()
    files = {one.name: one.read() for one in plan.files}
    assert hub.shown() == {"v0.1.0": {**files, "provenance.intoto.json": attestation}}
    release = hub.releases[0]
    assert [release[name] for name in ("name", "tag_name", "target_commitish", "body", "prerelease")] == [
        "app 0.1.0",
        "v0.1.0",
        plan.commit,
        body_of(plan),
        False,
    ]


def test_notes_tell_which_packages_changed_since_the_last_release(
    world: World, hub: GitHubState, tmp_path: Path
) -> None:
    """The bill of materials of that release comes from the forge; where it has none nothing is told."""
    first = world.plan(files=[wheel(tmp_path / "dist", "0.1.0", requires=("httpx", "attrs"))])
    publish(first, world.places(forge=forge(hub)))
    world.commit("fix: another library")
    files = [wheel(tmp_path / "dist", "0.1.1", requires=("rich", "attrs"))]

    plan = world.plan(files=files, previous_sbom=last_bill(forge(hub)))
    hub.releases[0]["assets"].clear()
    without = world.plan(files=files, previous_sbom=last_bill(forge(hub)))

    assert "## Packages\n- `rich` is new\n- `httpx` is gone\n" in plan.notes
    assert "## Packages" not in without.notes


def test_certificates_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none\n", encoding="utf-8")
    api = api_of(None, "github.com", {"GITHUB_TOKEN": "x"}, str(tmp_path / "ca.pem"))

    with pytest.raises(UsageError, match="cannot read the certificates in"), api.open():
        pass


def test_what_is_there_is_not_sent_again(world: World, hub: GitHubState, tmp_path: Path) -> None:
    """Also on another machine, which takes the attestation there; digests are made where none are told."""
    hub.tells_digests = False
    plan = plan_of(world, tmp_path)
    publish(plan, world.places(forge=forge(hub)))
    sent = len(hub.requests)
    (tmp_path / "kept/provenance.intoto.json").unlink()

    told = publish(plan, world.places(forge=forge(hub)))

    assert told == {**dict.fromkeys(STEPS, "found"), "attestation": "done"}
    assert {line.split()[0] for line in hub.requests[sent:]} == {"GET"}


def test_a_draft_of_an_earlier_plan_is_brought_up_to_date(
    world: World, hub: GitHubState, tmp_path: Path
) -> None:
    """It is ours and nobody saw it: what differs is replaced."""
    first = plan_of(world, tmp_path, content="x = 1\n")
    forge(hub).prepare(first, [*first.files])
    plan = plan_of(world, tmp_path)

    publish(plan, world.places(forge=forge(hub)))

    assert len(hub.releases) == 1
    assert hub.shown()["v0.1.0"]["app-0.1.0-py3-none-any.whl"] == plan.files[0].read()
    assert hub.releases[0]["body"] == body_of(plan)


@pytest.mark.parametrize(
    ("draft", "body", "why"),
    [
        (True, "by hand", "there is one already that was not made by a release plan"),
        (False, "by hand", "there is one already that was not made by a release plan"),
        (False, f"x\n<!-- plan: sha256:{'0' * 64} -->", "it was published for another plan"),
    ],
    ids=["draft", "published", "other plan"],
)
def test_somebody_elses_release_is_left_alone(
    world: World, hub: GitHubState, tmp_path: Path, draft: bool, body: str, why: str
) -> None:
    """Refused before anything is done."""
    hub.releases.append({"id": 9, "tag_name": "v0.1.0", "draft": draft, "body": body, "assets": []})

    with pytest.raises(ForgeConflict) as raised:
        publish(plan_of(world, tmp_path), world.places(forge=forge(hub)))

    assert str(raised.value) == f"cannot make the release `v0.1.0` at the forge: {why}"
    assert raised.value.exit_code == 3
    assert (world.local_tags(), hub.contents) == ([], {})


def test_a_published_file_is_never_replaced(world: World, hub: GitHubState, tmp_path: Path) -> None:
    plan = plan_of(world, tmp_path)
    publish(plan, world.places(forge=forge(hub)))
    hub.releases[0]["assets"][0].update(digest="sha256:" + "0" * 64)

    with pytest.raises(ForgeConflict, match="differs, and it is published") as raised:
        publish(plan, world.places(forge=forge(hub)))

    assert raised.value.exit_code == 3


def test_a_draft_is_found_behind_many_releases(world: World, hub: GitHubState, tmp_path: Path) -> None:
    plan = plan_of(world, tmp_path)
    forge(hub).prepare(plan, plan.files)
    hub.releases += [
        {"id": n, "tag_name": f"x{n}", "draft": False, "body": "", "assets": []} for n in range(250)
    ]

    publish(plan, world.places(forge=forge(hub)))

    assert [one["tag_name"] for one in hub.releases if one["tag_name"] == "v0.1.0"] == ["v0.1.0"]


def test_a_wrong_token_is_said_before_anything_is_done(
    world: World, hub: GitHubState, tmp_path: Path
) -> None:
    """The token itself is in no message."""
    with pytest.raises(ApiDenied) as raised:
        publish(plan_of(world, tmp_path), world.places(forge=forge(hub, token="a wrong one")))

    assert str(raised.value) == "cannot find the release `v0.1.0`: the answer is 401: Bad credentials"
    assert raised.value.hint == "GITHUB_TOKEN needs `contents: write` for this repository"
    assert (raised.value.exit_code, world.local_tags()) == (1, [])


def test_a_token_that_may_not_write_changes_nothing(world: World, hub: GitHubState, tmp_path: Path) -> None:
    denied: Failure = (403, {}, {"message": "Resource not accessible by integration"})
    hub.fail = lambda line, _: denied if line.startswith("POST") else None

    with pytest.raises(ApiDenied, match="Resource not accessible by integration") as raised:
        publish(plan_of(world, tmp_path), world.places(forge=forge(hub)))

    assert (raised.value.exit_code, world.local_tags(), hub.releases) == (1, [], [])


def test_a_repository_that_may_not_be_changed_is_said(world: World, hub: GitHubState, tmp_path: Path) -> None:
    """What a token may not change is answered as if it were not there."""
    hidden: Failure = (404, {}, {"message": "Not Found"})
    hub.fail = lambda line, _: hidden if line.startswith("POST") else None

    with pytest.raises(ApiDenied, match=r"cannot draft the release `v0\.1\.0`: the answer is 404") as raised:
        publish(plan_of(world, tmp_path), world.places(forge=forge(hub)))

    assert "contents: write" in (raised.value.hint or "")
    assert hub.releases == []


@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "1"}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0"}],
    ids=["retry-after", "remaining"],
)
@pytest.mark.parametrize("status", [403, 429])
def test_a_short_limit_on_requests_is_waited_for(
    world: World, hub: GitHubState, tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    hub.fail = lambda _, number: (status, headers, {"message": "slow down"}) if number == 5 else None

    publish(plan_of(world, tmp_path), world.places(forge=forge(hub)))

    assert list(hub.shown()) == ["v0.1.0"]


def test_a_long_limit_ends_the_run_which_can_go_on_later(
    world: World, hub: GitHubState, tmp_path: Path
) -> None:
    """At the beginning nothing is changed and the code is 6; later it is an unfinished release, and 7."""
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 900)}
    plan, places = plan_of(world, tmp_path), world.places(forge=forge(hub))

    hub.fail = lambda _, __: (403, headers, {"message": "API rate limit exceeded"})
    with pytest.raises(ApiLimited, match="the limit on requests is reached, for ") as early:
        publish(plan, places)
    hub.fail = lambda line, _: (403, headers, {"message": "x"}) if line.startswith("PATCH") else None
    with pytest.raises(ReleaseUnfinished) as late:
        publish(plan, places)
    hub.fail = lambda _, __: None
    publish(plan, places)

    assert (early.value.exit_code, late.value.exit_code, late.value.step) == (6, 7, "release")
    assert list(hub.shown()) == ["v0.1.0"]


def test_each_request_may_fail_twice(world: World, hub: GitHubState, tmp_path: Path) -> None:
    """Each is answered 502, first without and then after it was done: there is one release all the same."""
    plan = plan_of(world, tmp_path)
    bad: Failure = (502, {}, {"message": "bad gateway"})
    hub.fail = lambda line, _: bad if hub.requests.count(line) == 1 else None
    hub.after = lambda line, _: 502 if hub.requests.count(line) == 2 else None

    publish(plan, world.places(forge=forge(hub)))

    assert len(hub.releases) == 1
    assert set(hub.shown()["v0.1.0"]) == {*(one.name for one in plan.files), "provenance.intoto.json"}


def test_a_server_that_stays_broken_ends_the_run(world: World, hub: GitHubState, tmp_path: Path) -> None:
    hub.fail = lambda _, __: (503, {}, {"message": "unavailable"})

    with pytest.raises(ApiBusy, match=r"127\.0\.0\.1 answers 503: unavailable"):
        publish(plan_of(world, tmp_path), world.places(forge=forge(hub)))


def test_a_half_upload_is_made_anew(world: World, hub: GitHubState, tmp_path: Path) -> None:
    """GitHub keeps a file in the state `starter` when its upload broke off, and its name is taken."""
    plan = plan_of(world, tmp_path)
    forge(hub).prepare(plan, plan.files)
    hub.releases[0]["assets"][0].update(state="starter", size=0)

    publish(plan, world.places(forge=forge(hub)))

    assert hub.shown()["v0.1.0"]["app-0.1.0-py3-none-any.whl"] == plan.files[0].read()


VICTIMS = """
import json, os, sys
from pathlib import Path
from pipeline.config.release import ReleaseSettings
from pipeline.release.github import GitHub, api_of
from pipeline.release.plan import Request, make_plan
from pipeline.release.publish import Places, publish
from pipeline.release.repository import Repository
import httpx, cyclonedx.model.bom, cyclonedx.output.json, packaging.utils

address, token, file = sys.argv[1:]
for line in sys.stdin:
    root, folder = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        repository = Repository(root=Path(root))
        plan = make_plan(repository, ReleaseSettings(), Request(name="app", files=[Path(file)]))
        forge = GitHub(api=api_of(address, "github.com", {"GITHUB_TOKEN": token}), repository="ann/app")
        print(json.dumps(["pid", os.getpid()]), flush=True)
        sys.stdin.readline()
        publish(plan, Places(repository=repository, folder=Path(folder), remote="origin", forge=forge))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(json.dumps(["status", os.waitstatus_to_exitcode(status)]), flush=True)
"""


@pytest.mark.slow
def test_killed_at_every_change_one_more_run_completes(
    world: World, hub: GitHubState, tmp_path: Path
) -> None:
    """Before the server did what was asked, and after: one more run, and there is one release, and whole."""
    file = wheel(tmp_path / "dist", "0.1.0")
    plan = world.plan(files=[file])
    sha = plan.commit
    places = world.places(forge=forge(hub))
    argv = [sys.executable, "-c", VICTIMS, hub.address, TOKEN, str(file)]
    killed = 0
    with subprocess.Popen(
        argv, env={**os.environ, **ISOLATED}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None

        def say(what: Any) -> None:
            nursery.stdin.write(json.dumps(what) + "\n")  # type: ignore[union-attr]  # a pipe, as said above
            nursery.stdin.flush()  # type: ignore[union-attr]

        for number in range(1, 50):
            for is_done in (False, True):
                for tag in world.local_tags():
                    world.git("tag", "-d", tag)
                    world.git("push", "-q", "--delete", "origin", tag)
                hub.releases.clear()
                hub.requests.clear()
                folder = tmp_path / f"kept-{number}-{is_done}"
                say([str(world.root), str(folder)])
                _, pid = json.loads(nursery.stdout.readline())
                hub.kill = (pid, number, is_done)
                say("go")
                _, status = json.loads(nursery.stdout.readline())
                hub.kill = None
                killed += status == -signal.SIGKILL
                assert status in (0, -signal.SIGKILL)

                publish(plan, world.places(folder=folder, forge=places.forge))

                assert (world.local_tags(), world.remote_tags()) == (["v0.1.0"], {"v0.1.0": sha})
                assert [one["draft"] for one in hub.releases] == [False]
                assert set(hub.shown()["v0.1.0"]) == {
                    *(one.name for one in plan.files),
                    "provenance.intoto.json",
                }
            if status == 0:
                break
        nursery.stdin.close()
    assert killed >= 10


@pytest.mark.parametrize(
    ("repository", "remote", "why"),
    [
        (None, "/srv/app.git", "is no owner and name"),
        ("../x/y z", "git@github.com:a/b", "is no owner and name"),
        ("ann/app", "/srv/app.git", "the remote is not on the web"),
    ],
    ids=["path", "odd name", "no host"],
)
def test_a_forge_has_to_be_known(repository: str | None, remote: str, why: str) -> None:
    settings = ReleaseSettings(forge="github", forge_repository=repository)

    with pytest.raises(ForgeUnknown, match=why):
        open_forge(settings, remote, {"GITHUB_TOKEN": "x"})


def test_a_forge_needs_a_token_which_is_nowhere_to_be_read() -> None:
    settings = ReleaseSettings(forge="github")

    with pytest.raises(UsageError, match="GITHUB_TOKEN or GH_TOKEN is not set"):
        open_forge(settings, "git@github.com:ann/app.git", {})
    found = open_forge(settings, "git@github.com:ann/app.git", {"GH_TOKEN": "very secret"})

    assert "very secret" not in repr(found)
    assert isinstance(found, GitHub)
    assert (found.api.address, found.repository) == ("https://api.github.com", "ann/app")
