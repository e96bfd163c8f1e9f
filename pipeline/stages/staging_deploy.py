"""`staging_deploy`: what was pushed, in the first environment on the way to the one the run is for."""

from __future__ import annotations

from pipeline.config.lock import load_lock
from pipeline.graph.context import Context  # noqa: TC001 - read when the graph is built
from pipeline.graph.stage import stage
from pipeline.stages.deploying import chain_to, delivery_of, deploy_parts
from pipeline.stages.releases import Parts, keyed
from pipeline.stages.results import Deployed, PushedImages  # noqa: TC001 - likewise


@stage(effect=True, inputs=["pyproject.toml", "ci/**"], timeout_s=7200, exclusive="delivery")
async def staging_deploy(ctx: Context, push: PushedImages) -> Deployed:
    """Bring the pushed images to the first environment; undo it when they do not do well there."""
    delivery = delivery_of(ctx)
    first = chain_to(ctx.root, delivery.config, ctx.environment)[0]
    parts = Parts(
        images=keyed({one.name: one.reference for one in push.images}),
        pins=load_lock(ctx.root).names,
        commit=push.commit,
        version=push.version,
    )
    return await deploy_parts(delivery, delivery.environment(first), parts, "deploy")
