"""`pipeline lock`: write down what image names stand for, so that a run of tomorrow uses the same images."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import directory_option, image_fallback_option, json_option
from pipeline.cli.output import say, write, write_json
from pipeline.cli.prefetch_command import NotFetched, known_images
from pipeline.cli.project import Project, open_project
from pipeline.config.lock import LOCK_FILE, Lock, load_lock, lock_text
from pipeline.errors import EXIT_FAILED, EXIT_OK, RefusedByPolicy, UsageError
from pipeline.graph.files import write_atomically
from pipeline.text import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.engine.events import EngineEvent, ImageEvent


class LockIncomplete(RefusedByPolicy):
    """Only pinned images may be used, and the project is known to use others."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(f"cannot run with --locked: pipeline.lock does not pin {', '.join(missing)}")
        self.hint = "`pipeline lock` adds what is missing"


class NotHeldToLock(UsageError):
    """Dagger's engine looks names up by itself."""

    def __init__(self) -> None:
        super().__init__("cannot run with --locked on a Dagger engine: it does not know of pipeline.lock")
        self.hint = "leave out --locked, or use the embedded engine"


def check_locked(project: Project) -> None:
    """Refuse a run that would use images nobody pinned; what only a stage knows is refused when it asks.

    Raises:
        LockIncomplete: An image that is known to be used has no pin.
        NotHeldToLock: The engine is Dagger's.
    """
    if project.config.engine.kind != "embedded":
        raise NotHeldToLock
    pinned = load_lock(project.root).names
    missing = [name for name in known_images(project) if name not in pinned]
    if missing:
        raise LockIncomplete(missing)


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option("--update", is_flag=True, help="Look again for what is pinned already, and show what changed.")
@click.option("--check", is_flag=True, help="Change nothing; end with 1 when something is not pinned.")
@image_fallback_option
@json_option
@directory_option
def command(
    images: Sequence[str],
    update: bool,
    check: bool,
    image_fallback: str | None,
    as_json: bool,
    directory: str | None,
) -> int:
    """Pin the project's images in pipeline.lock.

    Without IMAGE: the images that stages used when they last ran, and those that Dockerfiles begin with. What
    is pinned already stays as it is, unless --update is given.
    """
    if check and update:
        raise click.UsageError("--check changes nothing: leave out --update")
    project = open_project(directory, {"images.fallback": image_fallback})
    old = load_lock(project.root)
    names = canonical(images) or known_images(project)
    missing = [name for name in names if name not in old.names]
    if check:
        return _tell_missing(missing, as_json=as_json)
    new = _merged(old, _found(project, names if update else missing))
    if new != old:
        write_atomically(project.root / LOCK_FILE, lock_text(new).encode())
    if as_json:
        write_json(
            {"file": LOCK_FILE, "changes": [list(each) for each in changes(old, new)], **as_table(new)}
        )
    else:
        for name, before, after in changes(old, new):
            write(f"{name}  {_short(before)} -> {_short(after)}")
        write(f"{LOCK_FILE}: {some(len(new.images), 'image')}, {some(len(new.stand_ins), 'stand-in')}")
    return EXIT_OK


def canonical(images: Sequence[str]) -> list[str]:
    """Return image names in the form the lock file has them.

    Raises:
        InvalidReference: One is no image name.
    """
    from pipeline.engine.oci.reference import canonical_reference

    return sorted({canonical_reference(image) for image in images})


def changes(old: Lock, new: Lock) -> list[tuple[str, str, str]]:
    """Return each name whose pin changed, with the pin before ("" for none) and after."""
    before, after = old.names, new.names
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [(name, before.get(name, ""), after.get(name, "")) for name in names]


def as_table(lock: Lock) -> dict[str, Any]:
    """The pins as JSON."""
    return {"images": dict(lock.images), "stand_ins": dict(lock.stand_ins)}


def _merged(old: Lock, found: Mapping[str, ImageEvent]) -> Lock:
    """Lay what was found over the old pins; a name has one pin, of an image or of a stand-in."""
    images = {name: digest for name, digest in old.images.items() if name not in found}
    stand_ins = {name: digest for name, digest in old.stand_ins.items() if name not in found}
    for name, event in found.items():
        (stand_ins if event.source == "recipe" else images)[name] = event.digest
    return Lock(images=dict(sorted(images.items())), stand_ins=dict(sorted(stand_ins.items())))


def _found(project: Project, names: Sequence[str]) -> dict[str, ImageEvent]:
    import asyncio

    return asyncio.run(_look_up(project, names)) if names else {}


async def _look_up(project: Project, names: Sequence[str]) -> dict[str, ImageEvent]:
    """Ask for each name what it stands for now, whatever is pinned."""
    import dagger

    from pipeline.cli.sessions import say_notice
    from pipeline.connect import Target, engine_settings, open_session
    from pipeline.engine.events import ImageEvent

    found: dict[str, ImageEvent] = {}

    def observe(event: EngineEvent) -> None:
        say_notice(event)
        if isinstance(event, ImageEvent):
            found[event.reference] = event

    settings = dataclasses.replace(engine_settings(project.config), is_locked=False)
    async with open_session(
        Target(kind="embedded"), settings, workdir=project.root, observer=observe
    ) as client:
        for name in names:
            say(f"looking up {name}")
            try:
                await client.container().from_(name).image_ref()
            except dagger.QueryError as error:
                raise NotFetched(name, str(error), act="lock") from error
    return {name: found[name] for name in names}


def _tell_missing(missing: Sequence[str], *, as_json: bool) -> int:
    if as_json:
        write_json({"missing": list(missing)})
    else:
        for name in missing:
            write(f"{name} is not pinned")
        write("all images are pinned" if not missing else "pin them: pipeline lock")
    return EXIT_FAILED if missing else EXIT_OK


def _short(digest: str) -> str:
    return digest[:19] if digest else "nothing"
