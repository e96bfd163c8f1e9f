"""`pipeline cache`: what need not be made again: results of stages, and the engine's cache on its way."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import directory_option, json_option, size_value
from pipeline.cli.output import write, write_json
from pipeline.cli.project import STATE, find_root
from pipeline.config import load_config
from pipeline.graph.cache import StageCache
from pipeline.report.words import size
from pipeline.text import some

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine.settings import EngineSettings


def _open(directory: str | None) -> StageCache:
    root = find_root(directory)
    config = load_config(root)
    return StageCache(root / STATE / "cache", max_bytes=config.run.cache_max_bytes)


@click.group()
def command() -> None:
    """Show or prune the cache of stage results; carry the engine's to other machines."""


@command.command()
@json_option
@directory_option
def show(as_json: bool, directory: str | None) -> None:
    """Show what the cache holds."""
    cache = _open(directory)
    state = cache.state()
    if as_json:
        write_json({"folder": str(cache.folder), **dataclasses.asdict(state)})
    else:
        write(f"{state.entries} results, {size(state.size_bytes)} of at most {size(state.max_bytes)}")
        write(f"in {cache.folder}")


@command.command()
@click.option(
    "--max-size", callback=size_value, metavar="SIZE", help="Keep so much; without it, the configured bound."
)
@click.option("--all", "everything", is_flag=True, help="Keep nothing.")
@json_option
@directory_option
def prune(max_size: int | None, everything: bool, as_json: bool, directory: str | None) -> None:
    """Remove results, least recently used first, until the rest fits."""
    freed = _open(directory).prune(0 if everything else max_size)
    if as_json:
        write_json({"freed_bytes": freed})
    else:
        write(f"freed {size(freed)}")


@command.command(name="export")
@click.argument("target")
@click.option(
    "--max-size",
    callback=size_value,
    default="2GB",
    show_default=True,
    metavar="SIZE",
    help="Carry so much, what was used last first.",
)
@click.option("--no-volumes", is_flag=True, help="Leave cache volumes out.")
@json_option
@directory_option
def export_(target: str, max_size: int, no_volumes: bool, as_json: bool, directory: str | None) -> None:
    """Write the engine's results and cache volumes to TARGET, for another machine to import.

    TARGET is a directory, or oci://HOST/NAME:TAG for a registry. Written again, only what is new is sent.
    """
    from pipeline.cli.travel import export_cache

    told = export_cache(_settings(directory), target, max_bytes=max_size, with_volumes=not no_volumes)
    if as_json:
        write_json(told)
        return
    left_out = f"; {told['left_out']} did not fit" if told["left_out"] else ""
    write(f"{_carried(told)}, {size(told['size_bytes'])}{left_out}")
    write(f"in {told['target']}")


@command.command(name="import")
@click.argument("source")
@json_option
@directory_option
def import_(source: str, as_json: bool, directory: str | None) -> None:
    """Take what was exported to SOURCE into the engine's store; what is there already stays.

    Import only what was exported by somebody whose programs you would run.
    """
    from pipeline.cli.travel import import_cache

    told = import_cache(_settings(directory), source)
    if as_json:
        write_json(told)
    else:
        write(f"new: {_carried(told)}")


def _settings(directory: str | None) -> EngineSettings:
    from pipeline.connect import engine_settings

    return engine_settings(load_config(find_root(directory)))


def _carried(told: Mapping[str, Any]) -> str:
    return ", ".join(
        (
            some(told["results"], "result"),
            some(told["snapshots"], "layer"),
            some(told["volumes"], "cache volume"),
        )
    )
