"""`pipeline cache`: the results of stages that need not run again."""

from __future__ import annotations

import dataclasses

import click

from pipeline.cli.options import directory_option, json_option, size_value
from pipeline.cli.output import write, write_json
from pipeline.cli.project import STATE, find_root
from pipeline.config import load_config
from pipeline.graph.cache import StageCache
from pipeline.report.words import size


def _open(directory: str | None) -> StageCache:
    root = find_root(directory)
    config = load_config(root)
    return StageCache(root / STATE / "cache", max_bytes=config.run.cache_max_bytes)


@click.group()
def command() -> None:
    """Show or prune the cache of stage results."""


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
