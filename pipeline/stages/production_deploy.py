"""`production_deploy`: the digests the environment before has proved, in the next; never a rebuild."""

from __future__ import annotations

from itertools import pairwise

from pipeline.graph.context import Context, Skip
from pipeline.graph.stage import stage
from pipeline.stages.deploying import chain_to, delivery_of, deploy_parts
from pipeline.stages.results import Deployed  # noqa: TC001 - read when the graph is built


@stage(
    effect=True, inputs=["pyproject.toml", "ci/**"], timeout_s=14400, exclusive="delivery", after=["smoke"]
)
async def production_deploy(ctx: Context) -> Deployed:
    """Bring what the environment before has proved to the next, up to the one the run is for."""
    delivery = delivery_of(ctx)
    chain = chain_to(ctx.root, delivery.config, ctx.environment)
    if len(chain) == 1:
        raise Skip(f"`{chain[0]}` takes what was built, and the run is for no other environment")
    for source, name in pairwise(chain):
        parts = await delivery.proved_parts(source)
        deployed = await deploy_parts(delivery, delivery.environment(name), parts, "promote")
    return deployed
