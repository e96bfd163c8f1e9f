"""`pipeline prefetch`: what a run would fetch is fetched now, so that a later run can work offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import directory_option, image_fallback_option, json_option
from pipeline.cli.output import say, write, write_json
from pipeline.cli.project import Project, find_root, open_project
from pipeline.config import load_config
from pipeline.config.lock import load_lock
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.config import Config

PACKAGES_STAGE = "deps"


class NotFetched(PipelineError):
    """An image could not be fetched; the engine's own sentence says why."""

    def __init__(self, image: str, text: str, *, act: str = "prefetch") -> None:
        message, _, hint = text.partition(" (hint: ")
        super().__init__(f"cannot {act} `{image}`: {message}")
        self.hint = hint.removesuffix(")") or None


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option("--bundle", metavar="FILE", help="Write what this project's scans need into a file to carry.")
@click.option(
    "--section",
    "sections",
    multiple=True,
    type=click.Choice(("advisories", "tools", "rules", "images")),
    help="Carry this in the file; again for more. Without it: all.",
)
@click.option("--tool", "tools", multiple=True, metavar="NAME", help="Of the tools, carry only this.")
@click.option("--sign", "key", metavar="KEY", help="Sign that file with this key of OpenSSH's.")
@click.option("--import", "imported", metavar="FILE", help="Verify such a file and use what it holds.")
@click.option("--allow-older", is_flag=True, help="Import data older than what is here.")
@image_fallback_option
@json_option
@directory_option
def command(
    images: Sequence[str],
    bundle: str | None,
    sections: Sequence[str],
    tools: Sequence[str],
    key: str | None,
    imported: str | None,
    allow_older: bool,
    image_fallback: str | None,
    as_json: bool,
    directory: str | None,
) -> int:
    """Fetch images and packages for working offline; or carry data of scanners in a file.

    Without IMAGE: the images that stages used before, that Dockerfiles begin with and that pipeline.lock
    names; and by running the stage `deps`, where there is one, the packages.
    """
    import asyncio

    if key is not None and bundle is None:
        raise click.UsageError("--sign goes with --bundle")
    if imported is not None or bundle is not None:
        from pipeline.cli import bundles

        if imported is not None:
            root = find_root(directory)
            config = load_config(root)
            return bundles.take_in(imported, root, config, allow_older=allow_older, as_json=as_json)
        project = open_project(directory, {"images.fallback": image_fallback})
        return bundles.write_out(bundle or "", project, sections, tools, key=key, as_json=as_json)
    project = open_project(directory, {"images.fallback": image_fallback})
    wanted = list(images) or known_images(project)
    fetched = asyncio.run(_fetch(project, wanted)) if wanted else {}
    if as_json:
        write_json(fetched)
    else:
        for name, reference in fetched.items():
            write(f"{name}  {reference}")
    if images or PACKAGES_STAGE not in project.graph.stages:
        return 0
    return _fetch_packages(project)


def known_images(project: Project) -> list[str]:
    """The images of `pipeline.lock` and of Dockerfiles, and those the stages used when they last ran."""
    from pipeline.graph.cache import StageCache

    cache = StageCache(project.state / "cache")
    used = [parts.observed for name in project.graph.order if (parts := cache.last(name)) is not None]
    names = {key.removeprefix("image ") for observed in used for key in observed if key.startswith("image ")}
    return sorted({*names, *base_images(project), *load_lock(project.root).names})


def base_images(project: Project) -> Iterator[str]:
    """The images that the project's Dockerfiles begin with, but for names that only a build knows."""
    from pipeline.engine.dockerfile.instructions import From
    from pipeline.engine.dockerfile.parse import parse_dockerfile
    from pipeline.engine.oci.reference import canonical_reference

    build = project.graph.stages.get("container_build")
    for table in build.options.get("dockerfiles", ()) if build is not None else ():
        path = str(table["path"])
        text = (project.root / path).read_text(encoding="utf-8", errors="replace")
        stages = {"scratch"}
        for line in parse_dockerfile(text, file=path).instructions:
            if not isinstance(line, From):
                continue
            if "$" not in line.image and line.image.lower() not in stages:
                yield canonical_reference(line.image)
            stages.add(line.name)


async def _fetch(project: Project, images: Sequence[str]) -> dict[str, str]:
    """Pull the images one after the other; give the exact reference of each."""
    import dagger

    from pipeline.cli.sessions import say_notice
    from pipeline.connect import Target, engine_settings, open_session

    config: Config = project.config
    target = Target(kind=config.engine.kind, address=config.engine.address or "")
    fetched: dict[str, str] = {}
    settings = engine_settings(config, load_lock(project.root))
    async with open_session(target, settings, workdir=project.root, observer=say_notice) as client:
        for image in images:
            say(f"fetching {image}")
            try:
                container: Any = await client.container().from_(image).sync()
                fetched[image] = await container.image_ref()
            except dagger.QueryError as error:
                raise NotFetched(image, str(error)) from error
    return fetched


def _fetch_packages(project: Project) -> int:
    """Run the stage that installs packages, whose download cache a later run uses."""
    from pipeline.cli.planning import Choice, prepare
    from pipeline.cli.run_command import carry_out

    prepared = prepare(project, Choice(only=(PACKAGES_STAGE,)))
    return carry_out(prepared, read_cache=False, verbosity=0, as_json=False)
