"""`pipeline lock` and `run --locked`, against a real registry whose tag moves."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.harness import Answer, lines
from tests.engine.oci.servers import real_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.harness import CliProject

pytestmark = pytest.mark.root

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
STAGES = '''
"""Reads the file that tells one image from the other."""

from pipeline import Context, stage

drop = ["deps", "unit", "quality"]


@stage(inputs=[])
async def tell(ctx: Context) -> str:
    """Tell which image it is."""
    client = await ctx.dagger()
    return await client.container().from_("IMAGE").file("/which").contents()
'''
PUBLISH = """
import asyncio, dagger
async def main():
    async with dagger.connection():
        print(await dagger.dag.container().with_new_file("/which", "{which}").publish("{image}"))
asyncio.run(main())
"""


@pytest.fixture
def image(cli: CliProject, tmp_path: Path) -> Iterator[str]:
    """The name of an image in a registry; a project with a stage and a Dockerfile that begin with it."""
    with real_registry(tmp_path / "registry") as registry:
        name = f"{registry.address}/base:1"
        cli.write({"ci/stages.py": STAGES.replace("IMAGE", name), "Dockerfile": f"FROM {name}\n"})
        cli.write({".gitignore": "store\n"})
        yield name


def publish(cli: CliProject, image: str, which: str) -> str:
    """Let the tag lead to another image and return its digest."""
    script = PUBLISH.format(which=which, image=image)
    answer = run(cli, "engine", "shell", "--", sys.executable, "-c", script)
    assert answer.code == 0, answer.stderr
    return answer.stdout.strip().rpartition("@")[2]


def run(cli: CliProject, *argv: str) -> Answer:
    """Run a command on a store of the test's own."""
    return cli(*argv, PIPELINE_STORE=str(cli.home / "store"), PIPELINE_CA_BUNDLE=CA_BUNDLE)


def told(cli: CliProject) -> str:
    """What the stage told in the last run."""
    found = max((cli.root / ".pipeline/runs").iterdir()) / "stages/tell/result.json"
    return str(json.loads(found.read_text())["result"])


def test_a_pinned_image_stays_although_its_tag_moves(cli: CliProject, image: str) -> None:
    """Until the lock is updated, which shows what changed, and `explain` names the image."""
    first = publish(cli, image, "one")
    locked = run(cli, "lock")
    second = publish(cli, image, "two")

    pinned = run(cli, "run", "-q", "--only", "tell", "--locked"), told(cli)
    updated = run(cli, "lock", "--update")
    explained = run(cli, "explain", "tell")
    moved = run(cli, "run", "-q", "--only", "tell"), told(cli)

    assert locked == Answer(
        stdout=f"{image}  nothing -> {first[:19]}\npipeline.lock: 1 image, 0 stand-ins\n",
        stderr=f"looking up {image}\n",
        code=0,
    )
    assert (pinned[0].code, pinned[1]) == (0, "one")
    assert updated.stdout == f"{image}  {first[:19]} -> {second[:19]}\npipeline.lock: 1 image, 0 stand-ins\n"
    assert explained.stdout.splitlines()[0] == f"tell would run: used `image {image}` changed"
    assert (moved[0].code, moved[1]) == (0, "two")
    assert (cli.root / "pipeline.lock").read_text() == lines(f"""
        # What image names stand for. Written by `pipeline lock`; `pipeline lock --update` looks again.
        version = 1

        [images]
        "{image}" = "{second}"
    """)


def test_a_locked_run_refuses_what_nobody_pinned(cli: CliProject, image: str) -> None:
    """Before anything is run where that is known; else the stage that asks fails."""
    publish(cli, image, "one")

    refused = run(cli, "run", "--locked")
    cli.write({"Dockerfile": "FROM scratch\n"})
    failed = run(cli, "run", "-q", "--only", "tell", "--locked")

    assert refused == Answer(
        stdout="",
        stderr=lines(f"""
            error: cannot run with --locked: pipeline.lock does not pin {image}
            hint: `pipeline lock` adds what is missing
        """),
        code=3,
    )
    assert failed.stdout.splitlines()[:2] == [
        "error tell",
        f"  cannot use the image `{image}`: pipeline.lock does not pin it",
    ]
    assert failed.code == 1


def test_check_tells_what_is_not_pinned_and_changes_nothing(cli: CliProject, image: str) -> None:
    """For a check in CI that starts no engine."""
    before = run(cli, "lock", "--check")
    publish(cli, image, "one")
    run(cli, "lock")

    after = run(cli, "lock", "--check")

    assert before == Answer(stdout=f"{image} is not pinned\npin them: pipeline lock\n", stderr="", code=1)
    assert after == Answer(stdout="all images are pinned\n", stderr="", code=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 2\n", "it is of version 2, this pipeline reads 1"),
        ('[images]\n"a" = "latest"\n', "`a` is pinned to `latest`, which is no digest"),
        ("images = 1\n", "`images` is no table"),
    ],
)
def test_a_lock_file_that_is_wrong_is_wrong_use(cli: CliProject, text: str, said: str) -> None:
    """It names the file and the entry; nothing is run."""
    cli.write({"pipeline.lock": text})

    answer = run(cli, "plan")

    assert answer.stderr == f"error: cannot read `pipeline.lock`: {said}\n"
    assert (answer.stdout, answer.code) == ("", 2)


def test_a_dagger_engine_cannot_be_held_to_the_lock(cli: CliProject) -> None:
    """It looks names up by itself: a run that says otherwise would not be true."""
    answer = run(cli, "run", "--locked", "--engine", "dagger")

    assert answer.stderr.startswith("error: cannot run with --locked on a Dagger engine: ")
    assert answer.code == 2
