"""`pipeline engine`: the embedded engine's store, the engines at work on it, and a session for programs."""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import directory_option, json_option, size_value
from pipeline.cli.output import say, table, write, write_json
from pipeline.cli.project import find_root
from pipeline.config import Config, load_config
from pipeline.errors import EXIT_OK
from pipeline.report.words import size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.engine.store.prune import Pruned


@click.group()
def command() -> None:
    """Look after the embedded engine."""


def _config(directory: str | None) -> Config:
    return load_config(find_root(directory))


def _store_path(config: Config) -> Path:
    from pipeline.connect import engine_settings

    return engine_settings(config).store_path()


@command.command()
@json_option
@directory_option
def status(as_json: bool, directory: str | None) -> None:
    """Show the store, what it holds, and which engines are at work."""
    config = _config(directory)
    told = status_of(config, _store_path(config))
    if as_json:
        write_json(told)
        return
    write(f"kind    {told['kind']}{' at ' + told['address'] if told['address'] else ''}")
    write(f"store   {told['store']}{'' if told['usage'] is not None else ' (not made yet)'}")
    write(f"at work {', '.join(f'process {pid}' for pid in told['processes']) or 'no engine'}")
    for keeper in told["staying"]:
        write(f"stays   process {keeper['pid']}, since {moment(keeper['since'])}{_idle(keeper)}")
        for session in keeper["sessions"]:
            served = f"process {session['pid']} in {session['workdir']}, for {session['for_s']:.0f} s"
            write(f"        serves {served}")
    if told["limits"]:
        limits = told["limits"]
        bound = f"at most {size(limits['max_bytes'])}, {size(limits['min_free_bytes'])} of its disk free"
        write(f"limits  {bound} ({size(limits['free_bytes'])} are)")
    if told["usage"]:
        rows = [[one["kind"], str(one["count"]), size(one["size_bytes"])] for one in told["usage"]]
        rows.append(["all", "", size(sum(one["size_bytes"] for one in told["usage"]))])
        write(table(rows, header=["HOLDS", "COUNT", "SIZE"]))


def status_of(config: Config, store: Path) -> dict[str, Any]:
    """The engine's status as JSON; `usage` and `limits` are null while there is no store. Makes no store."""
    from pipeline.session.standing import find_keepers

    usage = limits = None
    if (store / "engine.db").is_file():
        from pipeline.engine.rootless.enter import enter_user_namespace
        from pipeline.engine.store.store import Store
        from pipeline.engine.store.usage import limits_of

        enter_user_namespace()
        bound = limits_of(
            store, max_bytes=config.engine.max_bytes, min_free_bytes=config.engine.min_free_bytes
        )
        limits = {
            "max_bytes": bound.max_bytes,
            "min_free_bytes": bound.min_free_bytes,
            "free_bytes": shutil.disk_usage(store).free,
        }
        opened = Store.open(store)
        try:
            usage = [
                {"kind": one.kind, "count": one.count, "size_bytes": one.size_bytes} for one in opened.usage()
            ]
        finally:
            opened.close()
    return {
        "kind": config.engine.kind,
        "address": config.engine.address,
        "store": str(store),
        "processes": [pid for pid in find_engines(store) if pid != os.getpid()],
        "staying": find_keepers(store),
        "limits": limits,
        "usage": usage,
    }


@command.command()
@click.option(
    "--max-size", callback=size_value, metavar="SIZE", help="Keep so much; without it, the configured bound."
)
@click.option(
    "--free", "min_free", callback=size_value, metavar="SIZE", help="Leave so much free on the store's disk."
)
@click.option("--all", "everything", is_flag=True, help="Keep nothing but what engines at work use.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
@directory_option
def prune(
    max_size: int | None,
    min_free: int | None,
    everything: bool,
    dry_run: bool,
    as_json: bool,
    directory: str | None,
) -> None:
    """Remove what was not used for longest until the store fits."""
    config = _config(directory)
    store = _store_path(config)
    told = {"dry_run": dry_run, "freed_bytes": 0, "snapshots": 0, "blobs": 0, "volumes": 0}
    if (store / "engine.db").is_file():
        max_bytes = 0 if everything else max_size if max_size is not None else config.engine.max_bytes
        min_free = min_free if min_free is not None else config.engine.min_free_bytes
        gone, more_bytes = _prune(
            store, max_bytes=max_bytes, min_free_bytes=min_free, everything=everything, dry_run=dry_run
        )
        told |= {
            "freed_bytes": gone.size_bytes + more_bytes,
            "snapshots": len(gone.snapshots),
            "blobs": len(gone.blobs),
            "volumes": len(gone.volumes),
        }
    if as_json:
        write_json(told)
        return
    counts = f"{told['snapshots']} snapshots, {told['blobs']} blobs, {told['volumes']} cache volumes"
    write(f"{'would free' if dry_run else 'freed'} {size(told['freed_bytes'])}: {counts}")


def _prune(
    store: Path, *, max_bytes: int | None, min_free_bytes: int | None, everything: bool, dry_run: bool
) -> tuple[Pruned, int]:
    """Return what went, and the bytes of the mirrors and packages that went with everything."""
    from pipeline.engine.rootless.enter import enter_user_namespace
    from pipeline.engine.store.store import Store
    from pipeline.engine.store.usage import limits_of

    enter_user_namespace()  # what the store holds belongs to ids that only exist inside
    limits = limits_of(store, max_bytes=max_bytes, min_free_bytes=min_free_bytes)
    opened = Store.open(store)
    try:
        gone = opened.prune(max_bytes=limits.max_bytes, min_free_bytes=limits.min_free_bytes, dry_run=dry_run)
        return gone, opened.drop_sources(dry_run=dry_run) if everything else 0
    finally:
        opened.close()


@command.command()
@json_option
@directory_option
def stop(as_json: bool, directory: str | None) -> None:
    """Ask the engines of this store to end, at work or waiting for work; the runs that use them fail."""
    from pipeline.session.standing import find_keepers

    store = _store_path(_config(directory))
    pids = sorted({*(keeper["pid"] for keeper in find_keepers(store)), *find_engines(store)})
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    if as_json:
        write_json({"stopped": pids})
    else:
        write("\n".join(f"asked process {pid} to end" for pid in pids) or "no engine is at work")


def _idle(keeper: dict[str, Any]) -> str:
    """For how long an engine that stays has had no session; "" while it has one."""
    idle_s = keeper["idle_s"]
    return "" if idle_s is None else f", idle for {idle_s:.0f} s of {keeper['stays_s']:.0f} s"


def moment(seconds: float) -> str:
    """A time of the clock, such as "2025-01-31 12:00:00"."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def find_engines(store: Path) -> list[int]:
    """The processes that hold a lock of an engine in `store`; those of other users are seen too."""
    owners = store / "owners"
    held = set()
    for lock in sorted(owners.glob("*/lock")) if owners.is_dir() else ():
        found = lock.stat()
        held.add(f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}")
    pids = set()
    with open("/proc/locks", encoding="ascii") as locks:
        # Lines such as `1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`; a waiting one has `->` second.
        for line in locks:
            words = line.split()
            if len(words) >= 6 and words[1] == "FLOCK" and words[5] in held:
                pids.add(int(words[4]))
    return sorted(pids)


@command.command(context_settings={"ignore_unknown_options": True})
@directory_option
@click.argument("argv", nargs=-1, required=True, metavar="-- CMD...")
def shell(argv: Sequence[str], directory: str | None) -> int:
    """Run CMD with a session of the engine in its environment, as any Dagger SDK finds it.

    For example: pipeline engine shell -- python my_module.py
    """
    import asyncio

    root = find_root(directory)
    config = load_config(root)
    return asyncio.run(_shell(root, config, argv))


async def _shell(root: Path, config: Config, argv: Sequence[str]) -> int:
    """Open a session, run the command in it, and return its exit code."""
    import asyncio

    from pipeline.cli.sessions import NoSuchProgram, say_notice
    from pipeline.connect import Target, engine_settings, open_session

    target = Target(kind=config.engine.kind, address=config.engine.address or "")
    async with open_session(target, engine_settings(config), workdir=root, observer=say_notice):
        try:
            process = await asyncio.create_subprocess_exec(*argv)
        except OSError as error:
            raise NoSuchProgram(argv[0], error) from error
        code = await process.wait()
    if code != EXIT_OK:
        say(f"`{argv[0]}` ended with exit code {code}")
    return code
