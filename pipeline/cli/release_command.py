"""`pipeline release`: what would be released, releasing it, and whether a release is what it says."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import painted, say, table, write, write_json
from pipeline.cli.project import STATE, find_root, keep_out_of_git
from pipeline.errors import EXIT_OK, RefusedByPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.config import Config
    from pipeline.release.plan import NothingToRelease, ReleasePlan
    from pipeline.release.publish import Places
    from pipeline.release.verify import Deployments, Verified

F = TypeVar("F", bound="Callable[..., Any]")


class PlanChanged(RefusedByPolicy):
    """The plan is not the one that somebody agreed to."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"cannot release: the plan is {found}, not {expected}")
        self.hint = "`pipeline release plan` shows what it is now"


@click.group()
def command() -> None:
    """Plan, publish and verify releases."""


def _images(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Read NAME=DIGEST."""
    found: dict[str, str] = {}
    for value in values:
        name, separator, digest = value.partition("=")
        if not separator or name in found:
            raise click.BadParameter(f'expected each image once, as "app=sha256:...", got "{value}"')
        found[name] = digest
    return found


def request_options(function: F) -> F:
    """Add the options that say what is to be released; they arrive as one mapping, `asked`."""
    for option in reversed(
        [
            click.option("--version", metavar="VERSION", help="In place of what the commits say."),
            click.option("--branch", metavar="NAME", help="In place of the one that is checked out."),
            click.option(
                "--image",
                "images",
                metavar="NAME=DIGEST",
                multiple=True,
                callback=_images,
                help="An image that is part of the release; may be repeated.",
            ),
            click.option(
                "--file",
                "files",
                metavar="PATH",
                multiple=True,
                type=click.Path(path_type=Path),
                help="A file of the release, in place of those the settings name; may be repeated.",
            ),
            click.option(
                "--sbom",
                metavar="PATH",
                type=click.Path(path_type=Path),
                help="A bill of materials in CycloneDX's JSON, in place of one made of the files.",
            ),
        ]
    ):
        function = option(function)
    return function


@command.command()
@request_options
@click.option("--changelog", is_flag=True, help="Write the section for a changelog, and nothing else.")
@json_option
@directory_option
def plan(changelog: bool, as_json: bool, directory: str | None, **asked: Any) -> int:
    """Show what would be released, and what stands in the way; change nothing."""
    from pipeline.release.plan import NothingToRelease
    from pipeline.release.publish import check, steps_of

    made, places = _made(find_root(directory), asked)
    if isinstance(made, NothingToRelease):
        return _nothing(made, as_json=as_json)
    check(made, places)
    if changelog:
        write(made.changelog.rstrip("\n"))
        return EXIT_OK
    steps = {step.name: step.is_done() for step in steps_of(made, places)}
    if as_json:
        write_json({**_as_table(made), "steps": steps})
    else:
        _show(made, steps)
    return EXIT_OK


@command.command()
@request_options
@click.option("--expect", metavar="PLAN", help="Refuse to release unless this is the plan's hash.")
@click.option(
    "--without-health",
    is_flag=True,
    help="Release images though production is not known to have proved them.",
)
@json_option
@directory_option
def publish(
    expect: str | None, without_health: bool, as_json: bool, directory: str | None, **asked: Any
) -> int:
    """Release: tag, push, upload; or complete a release that ended half done."""
    from pipeline.release.plan import NothingToRelease
    from pipeline.release.publish import publish as carry_out
    from pipeline.release.verify import require_health

    root = find_root(directory)
    made, places = _made(root, asked)
    if isinstance(made, NothingToRelease):
        return _nothing(made, as_json=as_json)
    if expect is not None and expect != made.digest:
        raise PlanChanged(expect, made.digest)
    if _config(root).release.when == "after_health" and not without_health:
        require_health(dict(made.images), _deployments(directory) if made.images else None)
    keep_out_of_git(root / STATE)

    def observe(step: str, moment: str) -> None:
        if not as_json:
            say(f"{step}: {'done already' if moment == 'found' else moment}")

    told = carry_out(made, places, observe)
    if as_json:
        write_json({"tag": made.tag, "version": str(made.version), "plan": made.digest, "steps": told})
    else:
        write(f"released {made.name} {made.version} as {made.tag}")
    return EXIT_OK


@command.command()
@click.argument("tag")
@click.option(
    "--file",
    "files",
    metavar="PATH",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file that has to be of this release; may be repeated.",
)
@click.option(
    "--attestation",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="In place of the one that is kept here, or the forge's.",
)
@json_option
@directory_option
def verify(
    tag: str, files: Sequence[Path], attestation: Path | None, as_json: bool, directory: str | None
) -> int:
    """Say whether the release TAG is what it says: signatures, digests, files, and that production ran it.

    The exit code is 0 when all of it is good, 1 when something is bad, 6 when something cannot be known here.
    """
    from pipeline.release.forge import open_forge
    from pipeline.release.places import find_files, folder_of
    from pipeline.release.plan import ATTESTATION_FILE
    from pipeline.release.repository import Repository
    from pipeline.release.signing import allowed_signers
    from pipeline.release.verify import Evidence
    from pipeline.release.verify import verify as look

    root = find_root(directory)
    config, repository = _config(root), Repository(root=root)
    settings = config.release
    repository.head()
    url = repository.remote_url(settings.remote)
    kept = folder_of(root / STATE, tag)
    found = look(
        tag,
        Evidence(
            repository=repository,
            remote=settings.remote if url else None,
            signers=allowed_signers(repository, settings),
            files=files,
            perhaps=[*find_files(root, settings.files), *find_files(kept, ("*",))],
            attestation=attestation or _existing(kept / ATTESTATION_FILE),
            forge=open_forge(settings, url, os.environ, config.network.ca_bundle or ""),
            deployments=_deployments(directory),
        ),
    )
    _tell(found, as_json=as_json)
    return found.exit_code


def _deployments(directory: str | None) -> Deployments | None:
    """Return what knows how production ran an image; None where no environment is declared."""
    import anyio

    from pipeline.cli.deliveries import open_delivery
    from pipeline.stages.proved import find_deployments

    return anyio.run(find_deployments, open_delivery(directory, quiet=True))


def _config(root: Path) -> Config:
    from pipeline.config import load_config

    return load_config(root)


def _made(root: Path, asked: Mapping[str, Any]) -> tuple[ReleasePlan | NothingToRelease, Places]:
    """Plan what is asked for, and find where it goes."""
    from pipeline.release.places import find_files, find_places, folder_of, last_bill, project_name
    from pipeline.release.plan import NothingToRelease, Request, make_plan
    from pipeline.release.repository import Repository

    config, repository = _config(root), Repository(root=root)
    settings = config.release
    repository.head()  # the clearest words where there is nothing to release from
    places = find_places(repository, settings, root / STATE, os.environ, config.network.ca_bundle or "")
    files = list(asked["files"]) or find_files(root, settings.files)
    request = Request(
        name=project_name(root),
        files=files,
        images=asked["images"],
        version=asked["version"],
        branch=asked["branch"],
        sbom=asked["sbom"],
        previous_sbom=last_bill(places.forge),
    )
    made = make_plan(repository, settings, request)
    if isinstance(made, NothingToRelease):
        return made, places
    return made, dataclasses.replace(places, folder=folder_of(root / STATE, made.tag))


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _nothing(made: NothingToRelease, *, as_json: bool) -> int:
    if as_json:
        write_json({"version": None, **dataclasses.asdict(made)})
    else:
        write(f"nothing to release: {made.why}")
    return EXIT_OK


def _as_table(made: ReleasePlan) -> dict[str, Any]:
    return {
        "name": made.name,
        "version": str(made.version),
        "pep440": made.version.pep440,
        "tag": made.tag,
        "why": made.why,
        "plan": made.digest,
        "commit": made.commit,
        "branch": made.branch,
        "previous": made.previous,
        "prerelease": made.is_prerelease,
        "files": [
            {"name": one.name, "digest": one.digest, "size_bytes": one.size_bytes} for one in made.files
        ],
        "images": dict(made.images),
        "floating": list(made.floating),
        "notes": made.notes,
        "changelog": made.changelog,
    }


def _show(made: ReleasePlan, steps: Mapping[str, bool]) -> None:
    write(f"{made.name} {made.version}: {made.why}")
    rows = [
        ("tag", ", ".join([made.tag, *made.floating])),
        ("commit", f"{made.commit[:12]} on {made.branch}" if made.branch else made.commit[:12]),
        ("since", made.previous or "the beginning"),
        ("plan", made.digest),
        *(("file", f"{one.name}  {one.digest}") for one in made.files),
        *(("image", f"{name}  {digest}") for name, digest in made.images),
        *(("step", f"{name}{': done already' if is_done else ''}") for name, is_done in steps.items()),
    ]
    write(table(rows))
    write(f"\n{made.notes.rstrip()}")


def _tell(found: Verified, *, as_json: bool) -> None:
    if as_json:
        write_json(
            {
                "tag": found.tag,
                "result": found.result,
                "checks": [dataclasses.asdict(c) for c in found.checks],
            }
        )
        return
    styles = {"good": "passed", "bad": "failed", "unknown": "skipped"}
    rows = [(painted(one.result, styles[one.result]), one.name, one.what) for one in found.checks]
    write(table(rows))
    words = {"good": "is what it says", "bad": "is not what it says", "unknown": "is not fully known here"}
    write(f"{found.tag} {words[found.result]}")
