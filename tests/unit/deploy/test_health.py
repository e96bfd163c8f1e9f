"""Waiting for a release: what is ready, what is late, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline.config.delivery import Environment
from pipeline.config.values import Count, Seconds
from pipeline.deploy.health import NotReady, wait_until_ready
from pipeline.deploy.target import Deployment, Probe
from tests.unit.deploy.doubles import API, QUICK, release
from tests.unit.deploy.fake_target import FakeTarget

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.deploy.release import Release

pytestmark = pytest.mark.anyio
GOOD = Probe(service="api", instance="1", passed=True, said="200")
BAD = replace(GOOD, passed=False, said="connection refused")
RULES = replace(QUICK, passes=Count(2), healthy_for_s=Seconds(0.002), deadline_s=Seconds(0.2))
NEW = release(2, replace(API, health=RULES))


class Scripted(FakeTarget):
    """Shows one list of probes after the other, and the last again and again."""

    def __init__(self, folder: Path, *looks: Sequence[Probe]) -> None:
        super().__init__(folder)
        self.looks = list(looks)
        self.looked = 0

    async def probe(self, deployment: Deployment, release: Release) -> tuple[Probe, ...]:
        self.looked += 1
        return tuple(self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])


def _deployment(new: Release = NEW) -> Deployment:
    return Deployment(id="d-1", environment=Environment(name="staging"), new=new, old=None, fence=1)


async def test_ready_is_so_many_passes_in_a_row(tmp_path: Path) -> None:
    """A failure in between begins anew."""
    target = Scripted(tmp_path, [], [BAD], [GOOD], [BAD], [GOOD])

    probes = await wait_until_ready(target, _deployment(), NEW)

    assert (probes, target.looked >= 6) == ((GOOD,), True)


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([[BAD]], "is not ready after 0.2 s: connection refused"),
        ([[GOOD], [BAD]], "is not ready after 0.2 s: connection refused"),
        (
            [[GOOD], [replace(GOOD, restarts=1)], [replace(BAD, restarts=1)]],
            "is not ready after 0.2 s",
        ),
        ([[]], "none of its instances is there after 0.2 s"),
        ([[GOOD, replace(BAD, instance="2")]], "`api/2` is not ready after 0.2 s: connection refused"),
    ],
    ids=["never", "once", "restarts", "nothing", "one-of-two"],
)
async def test_what_is_late_is_told_with_its_last_words(
    looks: list[list[Probe]], told: str, tmp_path: Path
) -> None:
    """By instance."""
    with pytest.raises(NotReady) as error:
        await wait_until_ready(Scripted(tmp_path, *looks), _deployment(), NEW)

    assert str(error.value).startswith(f"cannot use release `{NEW.id}`: ")
    assert told in str(error.value)


async def test_a_restart_begins_anew(tmp_path: Path) -> None:
    """Though every look is a pass."""
    again = replace(GOOD, restarts=1)
    target = Scripted(tmp_path, [GOOD], [again], [replace(GOOD, restarts=2)], [replace(GOOD, restarts=2)])

    await wait_until_ready(target, _deployment(), NEW)

    assert target.looked >= 5


async def test_an_instance_that_says_it_runs_something_else_is_told_at_once(tmp_path: Path) -> None:
    """Digest, version, commit or id are as good as each other."""
    asked = release(2, replace(API, health=replace(RULES, version="version")))
    for right in (asked.services["api"].image_digest, asked.version, asked.commit, asked.id):
        await wait_until_ready(Scripted(tmp_path, [replace(GOOD, version=right)]), _deployment(asked), asked)

    other = Scripted(tmp_path, [replace(GOOD, version="1.0.1")])
    with pytest.raises(NotReady, match=r"it says that it runs `1\.0\.1`, not `"):
        await wait_until_ready(other, _deployment(asked), asked)
