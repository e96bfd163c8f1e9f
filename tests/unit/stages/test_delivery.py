"""Deliveries at a target in a file: releases made, backups, migrations, going back, promotion, drift."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.config import load_config
from pipeline.config.values import Seconds
from pipeline.deploy.execute import Request
from pipeline.deploy.outcome import Outcome, Verdict
from pipeline.deploy.release import ImageNotPinned
from pipeline.deploy.secrets import read_secrets
from pipeline.stages.delivery import (
    Asked,
    BackupFailed,
    Delivery,
    NothingToGoBackTo,
    ReleaseUnknown,
    TargetUnknown,
    release_to_go_back_to,
    settings_for,
)
from pipeline.stages.environment_status import look_at
from pipeline.stages.releases import ImageMissing, Parts, SecretsMissing, images_of, keyed, make_release
from tests.unit.deploy.doubles import FixedJudge
from tests.unit.deploy.fake_target import FakeTarget

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.config.delivery import Environment
    from pipeline.deploy.outcome import Result
    from pipeline.deploy.release import Release
    from pipeline.deploy.target import Target

pytestmark = pytest.mark.anyio

ONE, TWO, STORE = (f"registry.example.com/app@sha256:{digit * 64}" for digit in "123")
SETTINGS = """
[tool.pipeline.deploy.services.api]
secrets = ["TOKEN"]
health = { tcp = 80, interval = "1ms", passes = 1, healthy_for = "1ms" }
[tool.pipeline.deploy.services.store]
image = "redis:7"
health = { tcp = 80, interval = "1ms", passes = 1, healthy_for = "1ms" }
[tool.pipeline.deploy.smoke.works]
command = ["true"]
[tool.pipeline.environments.staging]
[tool.pipeline.environments.production]
promote_from = "staging"
"""


def make_delivery(root: Path, more: str = "", **values: Any) -> Delivery:
    """A project's deliveries to targets in files below `root`."""
    (root / "pyproject.toml").write_text(SETTINGS + more)

    def opened(_: Delivery, environment: Environment) -> Target:
        return FakeTarget(root / "places" / environment.name)

    given: dict[str, Any] = {
        "openers": {"local": opened},
        "secret": {"TOKEN": "hunter2"}.get,
        "judge": FixedJudge(),
        **values,
    }
    return Delivery(
        root=root, config=load_config(root), state=root / ".pipeline", actor="ann", run="run-1", **given
    )


def parts(image: str = ONE, version: str = "1.0.0") -> Parts:
    return Parts(
        images=keyed({"app": image}), pins={"docker.io/library/redis:7": STORE[-71:]}, version=version
    )


async def deploy(
    delivery: Delivery, made_of: Parts, name: str = "staging", release: Release | None = None, **asked: Any
) -> Result:
    """Bring a release to an environment."""
    environment = delivery.environment(name)
    async with delivery.opened(environment) as target:
        release = release or await delivery.plan_release(environment, target, made_of)
        wish = Asked(environment=environment, target=target, **asked)
        return await delivery.deployer(wish).deploy(Request(release=release, kind=wish.kind))


async def test_a_release_has_the_images_pins_and_versions_of_secrets_it_is_made_of(tmp_path: Path) -> None:
    """Values of secrets are kept when it is deployed."""
    delivery = make_delivery(tmp_path)
    environment = delivery.environment("staging")

    result = await deploy(delivery, parts())

    async with delivery.opened(environment) as target:
        release = await delivery.plan_release(environment, target, parts())
        kept = await read_secrets(target.state, release.services["api"].secrets)
    assert result.release == release.id
    assert {name: one.image for name, one in release.services.items()} == {
        "api": ONE,
        "store": f"redis:7@sha256:{'3' * 64}",
    }
    assert kept == {"TOKEN": "hunter2"}


@pytest.mark.parametrize(
    ("made_of", "error", "says"),
    [
        pytest.param(
            Parts(images={}), ImageMissing, "cannot release `api`: there is no image `built`", id="none"
        ),
        pytest.param(
            Parts(images=keyed({"app": ONE, "web": TWO})),
            ImageMissing,
            "cannot release `api`: there is no image `built`; there are: built:app, built:web",
            id="several",
        ),
        pytest.param(
            Parts(images=keyed({"app": ONE})),
            ImageNotPinned,
            "cannot release `store` as `redis:7`: it names no digest",
            id="a tag",
        ),
    ],
)
def test_an_image_that_is_missing_is_named(
    tmp_path: Path, made_of: Parts, error: type[Exception], says: str
) -> None:
    """With the service that wants it."""
    environment = make_delivery(tmp_path).environment("staging")

    with pytest.raises(error) as refused:
        make_release(environment, made_of, {"TOKEN": "v-1"})

    assert str(refused.value) == says


async def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    """A secret without a value, and a target of an unknown kind."""
    without = make_delivery(tmp_path, secret={}.get)
    nothing = make_delivery(tmp_path, openers={})

    with pytest.raises(SecretsMissing, match="no value here for TOKEN"):
        await deploy(without, parts())
    with pytest.raises(TargetUnknown, match="there is no target `local` here"):
        await deploy(nothing, parts())


async def test_going_back_restores_the_last_good_release(tmp_path: Path) -> None:
    """What was tried, and did not stay, is nothing to go back to."""
    delivery = make_delivery(tmp_path)
    bad = make_delivery(tmp_path, judge=FixedJudge(Verdict(decision="breach", reason="9 of 10 failed")))
    environment = delivery.environment("staging")
    async with delivery.opened(environment) as target:
        with pytest.raises(NothingToGoBackTo):
            await release_to_go_back_to(environment, target)
        first = await deploy(delivery, parts(ONE, "1.0.0"))
        tried = await deploy(bad, parts(TWO, "2.0.0"))
        second = await deploy(delivery, parts(STORE, "3.0.0"))

        last = await release_to_go_back_to(environment, target)
        with pytest.raises(ReleaseUnknown, match=r"`2\.0\.0`: it has never come to stay"):
            await release_to_go_back_to(environment, target, "2.0.0")
    back = await deploy(delivery, parts(), release=last, kind="rollback")

    assert [one.outcome for one in (first, tried, second, back)] == [
        *(Outcome.SUCCEEDED, Outcome.ROLLED_BACK, Outcome.SUCCEEDED, Outcome.SUCCEEDED)
    ]
    assert (last.version, back.release) == ("1.0.0", first.release)


def test_going_back_has_no_canary_no_backup_and_is_never_held(tmp_path: Path) -> None:
    """Everything else is as for any deployment."""
    more = (
        '[tool.pipeline.deploy]\nstrategy = "canary"\nbackup = ["dump"]\non_failure = "pause"\nbake = "5m"\n'
    )
    environment = make_delivery(tmp_path, more).environment("staging")

    deploy_settings = settings_for(environment, "rollback").deploy

    assert settings_for(environment, "deploy") is environment
    assert deploy_settings == replace(
        environment.deploy,
        strategy="blue_green",
        backup=None,
        on_failure="rollback",
        bake_s=Seconds(5.0),
        canary=replace(environment.deploy.canary, on_inconclusive="promote"),
    )


async def test_another_environment_takes_the_digests_that_were_proved(tmp_path: Path) -> None:
    """Of all services, the pinned ones too."""
    delivery = make_delivery(tmp_path)
    await deploy(delivery, parts(TWO, "2.0.0"))

    proved = await delivery.proved_parts("staging")
    result = await deploy(delivery, proved, "production", kind="promote")

    async with delivery.opened(delivery.environment("production")) as target:
        release = await release_to_go_back_to(delivery.environment("production"), target, result.release)
    assert (images_of(release)["built"], release.version) == (TWO, "2.0.0")
    assert release.services["store"].image_digest == "sha256:" + "3" * 64


async def test_a_backup_is_named_by_its_last_line_and_ends_a_deployment_when_it_fails(tmp_path: Path) -> None:
    """Nothing is changed then."""
    good = make_delivery(
        tmp_path,
        '[tool.pipeline.deploy]\nbackup = ["sh", "-c", "echo 1; echo b-$PIPELINE_ENVIRONMENT"]\n',
    )
    await deploy(good, parts())
    (entry,) = await _history(good)
    bad = make_delivery(
        tmp_path, '[tool.pipeline.deploy]\nbackup = ["sh", "-c", "echo no space >&2; exit 3"]\n'
    )

    failed = await deploy(bad, parts(TWO))

    assert entry.backup == "b-staging"
    assert (failed.outcome, failed.reason) == (
        Outcome.FAILED,
        str(BackupFailed("staging", "`sh` ended with code 3: no space")),
    )
    assert FakeTarget(tmp_path / "places/staging").world["shares"] == {entry.new: 100}


@pytest.mark.parametrize(
    ("settings", "migrates"),
    [
        pytest.param('expand = ["up"]', True, id="nothing tells"),
        pytest.param('expand = ["up"]\npending = ["look"]', True, id="something is printed"),
        pytest.param('pending = ["look"]', False, id="nothing to do it by"),
    ],
)
async def test_migrations_are_done_when_some_are_pending_but_never_on_the_way_back(
    tmp_path: Path, settings: str, migrates: bool
) -> None:
    """Looking for them works behind any earlier deployment."""
    delivery = make_delivery(tmp_path, f"[tool.pipeline.deploy.migrations]\n{settings}\n")
    await deploy(delivery, parts())

    environment = delivery.environment("staging")
    async with delivery.opened(environment) as target:
        release = await delivery.plan_release(environment, target, parts(TWO))
        wish = Asked(environment=environment, target=target)
        _, forth = await delivery.deployer(wish).plan(release)
        _, back = await delivery.deployer(replace(wish, kind="rollback")).plan(release)

    assert ("expand" in [step.name for step in forth]) is migrates
    assert "expand" not in [step.name for step in back]


async def test_an_environment_is_looked_at_with_what_differs(tmp_path: Path) -> None:
    """One that cannot be looked at says why."""
    delivery = make_delivery(tmp_path)
    await deploy(delivery, parts(ONE, "1.0.0"))
    same = await look_at(delivery, delivery.environment("staging"))
    changed = make_delivery(tmp_path, "[tool.pipeline.deploy.services.worker]\n")

    found = await look_at(changed, changed.environment("staging"))
    unknown = await look_at(make_delivery(tmp_path, openers={}), delivery.environment("staging"))

    assert (same.release.version if same.release else "", same.healthy, same.drift) == ("1.0.0", True, ())
    assert found.drift == ("service `worker` is in the settings, and was not deployed",)
    assert unknown.problem.startswith("cannot open `staging`: ")


async def _history(delivery: Delivery) -> Any:
    from pipeline.deploy.history import read_history

    async with delivery.opened(delivery.environment("staging")) as target:
        return await read_history(target.state)
