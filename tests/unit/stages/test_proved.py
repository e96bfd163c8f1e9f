"""What production has proved, at targets in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.deploy.outcome import Verdict
from pipeline.release.verify import Ran
from pipeline.stages.proved import find_deployments, production_of
from tests.unit.deploy.doubles import FixedJudge
from tests.unit.stages.test_delivery import ONE, TWO, deploy, make_delivery, parts

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio
DIGESTS = tuple(image.rpartition("@")[2] for image in (ONE, TWO))


async def test_an_image_is_proved_by_production_alone(tmp_path: Path) -> None:
    """Not by what ran in staging, and not by a release that was rolled back."""
    delivery = make_delivery(tmp_path)
    await deploy(delivery, parts(TWO))
    first = await deploy(delivery, parts(ONE), "production")
    bad = FixedJudge(Verdict(decision="breach", reason="it is slow"))

    asked = await find_deployments(delivery)
    assert asked is not None
    before = [asked(digest) for digest in DIGESTS]
    await deploy(make_delivery(tmp_path, judge=bad), parts(TWO), "production")
    asked = await find_deployments(delivery)

    assert [one.name for one in production_of(delivery)] == ["production"]
    assert before == [Ran(environment="production", release=first.release, is_healthy=True), None]
    assert asked is not None
    after = asked(DIGESTS[1])
    assert after is not None
    assert (after.environment, after.is_healthy) == ("production", False)


async def test_without_environments_nothing_is_known(tmp_path: Path) -> None:
    """Which is not the same as never having run."""
    delivery = make_delivery(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    bare = type(delivery)(
        root=tmp_path,
        config=type(delivery.config)(),
        state=delivery.state,
        openers=delivery.openers,
        actor="ann",
        run="run-1",
    )

    assert await find_deployments(bare) is None
