"""`pipeline approve`: give one's signed word for exactly one deployment."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from pipeline.cli.deliveries import open_delivery, wait_s
from pipeline.cli.options import directory_option, duration_value, json_option
from pipeline.cli.output import write, write_json
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.deploy.approval import Approval
    from pipeline.stages.delivery import Delivery

NEEDED: Final = ("environment", "release", "images", "plan")


class NoPlan(UsageError):
    """What is to be approved is no plan of a deployment."""

    def __init__(self, what: str) -> None:
        super().__init__(f"cannot approve: {what}")
        self.hint = "`pipeline deploy ENV --plan --json` writes one"


@click.command()
@click.argument("plan", metavar="PLAN", type=click.File(encoding="utf-8"))
@click.option(
    "--key",
    metavar="PATH",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The private ssh key to sign with.",
)
@click.option("--as", "approver", metavar="NAME", help="Who approves, in place of git's `user.email`.")
@click.option(
    "--expires",
    metavar="TIME",
    default="24h",
    show_default=True,
    callback=duration_value,
    help="How long it counts.",
)
@click.option("--note", metavar="TEXT", default="", help="Kept with it.")
@json_option
@directory_option
def command(
    plan: TextIO,
    key: Path,
    approver: str | None,
    expires: str,
    note: str,
    as_json: bool,
    directory: str | None,
) -> int:
    """Give one's signed word for exactly one deployment.

    PLAN is what `pipeline deploy ENV --plan --json` wrote, "-" standard input. The approval is bound to
    environment, release, images and steps: of another deployment it says nothing. It is kept in the
    environment's records, and counts for whom `ci/policies` says.
    """
    from pipeline.deploy.approval import Approval

    wanted = read_plan(plan)
    delivery = open_delivery(directory, quiet=True)
    now = time.time()
    approval = Approval(
        environment=wanted["environment"],
        release=wanted["release"],
        images=wanted["images"],
        plan=wanted["plan"],
        approver=approver or delivery.actor,
        given=now,
        expires=now + wait_s(expires),
        note=note,
    )
    name = asyncio.run(_give(delivery, approval, key))
    if as_json:
        write_json({"record": name, "approver": approval.approver, "expires": approval.expires})
    else:
        write(f"{approval.approver} approves {approval.release} in {approval.environment} for {expires}")
    return 0


def read_plan(file: TextIO) -> dict[str, Any]:
    """Read what an approval is given for.

    Raises:
        NoPlan: It is something else.
    """
    try:
        found = json.load(file)
    except ValueError as error:
        raise NoPlan(f"`{file.name}` is not JSON") from error
    missing = [name for name in NEEDED if not isinstance(found, dict) or not found.get(name)]
    if missing:
        raise NoPlan(f"`{file.name}` is no plan: it has no {', '.join(missing)}")
    return {name: found[name] for name in NEEDED}


async def _give(delivery: Delivery, approval: Approval, key: Path) -> str:
    from pipeline.config.delivery_policy import SIGNERS
    from pipeline.deploy.approval import give_approval

    async with delivery.opened(delivery.environment(approval.environment)) as target:
        return await give_approval(target.state, approval, key=key, signers=delivery.root / SIGNERS)
