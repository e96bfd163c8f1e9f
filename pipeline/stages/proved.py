"""What production has proved: which images its environments ran, and whether they were healthy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.delivery import OVERLAYS
from pipeline.deploy.history import read_history
from pipeline.deploy.outcome import Outcome
from pipeline.release.verify import Ran

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config.delivery import Environment
    from pipeline.deploy.history import Entry
    from pipeline.release.verify import Deployments
    from pipeline.stages.delivery import Delivery


def production_of(delivery: Delivery) -> tuple[Environment, ...]:
    """Return the declared environments that no other takes its releases from, and that stand in for none."""
    files = {path.stem for path in (delivery.root / OVERLAYS).glob("*.toml")}
    found = [delivery.environment(name) for name in sorted({*delivery.config.environments, *files})]
    passed_on = {one.promote_from for one in found}
    return tuple(one for one in found if one.name not in passed_on and one.standby_of is None)


async def find_deployments(delivery: Delivery) -> Deployments | None:
    """Return what tells how production ran an image, by its digest; None where no environment is declared.

    Raises:
        PipelineError: An environment's records cannot be read.
    """
    environments = production_of(delivery)
    if not environments:
        return None
    entries: list[Entry] = []
    for environment in environments:
        async with delivery.opened(environment) as target:
            entries += await read_history(target.state)
    return lambda digest: how_it_ran(entries, digest)


def how_it_ran(entries: Sequence[Entry], digest: str) -> Ran | None:
    """Say how the last deployment of an image that ended went; None when there was none."""
    ends = (Outcome.SUCCEEDED, Outcome.ROLLED_BACK, Outcome.ROLLBACK_FAILED)
    ran = [one for one in entries if digest in one.images.values() and one.outcome in ends]
    if not ran:
        return None
    last = max(ran, key=lambda one: one.ended)
    return Ran(environment=last.environment, release=last.new, is_healthy=last.outcome is Outcome.SUCCEEDED)
