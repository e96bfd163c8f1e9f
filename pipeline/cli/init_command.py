"""`pipeline init`: a commented starting configuration; nothing that is there is overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pipeline.cli.options import directory_option
from pipeline.cli.output import say, write
from pipeline.cli.project import OWN_STAGES, find_root
from pipeline.config import read_toml

if TYPE_CHECKING:
    from pathlib import Path

# A test takes the comment marks away and lets the configuration be checked.
SETTINGS: Final = """
[tool.pipeline]
# Everything here is optional: what is commented out is what holds without it, or an example.
# The reference is in docs/reference/configuration.md; `pipeline explain --config` shows what holds, and why.

# [tool.pipeline.run]
# jobs = 2                  # stages at work at once; without it, by the number of CPUs
# keep_going = false        # run what can still run after a failure
# timeout = "1h"            # of the whole run
# quiet_after = "1m"        # warn when a stage gives no output for this long
# cache_max_bytes = "2GiB"  # of the cache of stage results

# [tool.pipeline.images]
# fallback = "none"         # "recipe": build stand-ins from Debian packages where no registry answers
# python = "3.12"           # without it, chosen from `requires-python`
# mirrors = { "docker.io" = "mirror.example.com" }

# [tool.pipeline.engine]
# kind = "embedded"         # "dagger": a Dagger engine, at `address` or in the environment

# [tool.pipeline.network]
# inherit = true            # CA bundle, proxies and package index of this machine reach the containers
# index_url = "https://pypi.example.com/simple"

# [tool.pipeline.registry]
# address = "registry.example.com/team"

# [tool.pipeline.stages.unit]
# timeout = "10m"
# retry = 1                 # how often it is tried again
# args = ["-x"]             # added to the stage's command
# env = { LOG_LEVEL = "debug" }
"""

STAGES: Final = '''"""This project's own stages, one function each; one named like a default one replaces it.

A parameter named like a stage gets that stage's result. `pipeline list` shows all stages, `pipeline graph`
draws them. See docs/reference/cli.md.
"""

from pipeline import Context, stage

# Default stages this project does without, by name:
drop: list[str] = []


@stage(inputs=["**/*.py"], timeout_s=60)
async def count_lines(ctx: Context) -> int:
    """Count the lines of the project's Python files (an example: replace it by your own)."""
    lines = sum((ctx.root / name).read_bytes().count(b"\\n") for name in ctx.input_files())
    ctx.log(f"{lines} lines of Python")
    return lines
'''


@click.command()
@directory_option
def command(directory: str | None) -> None:
    """Write a commented starting configuration.

    Adds [tool.pipeline] to pyproject.toml and makes ci/stages.py; what is there already is left alone.
    """
    root = find_root(directory)
    for done in (_add_settings(root), _add_stages(root)):
        if done:
            write(done)


def _add_settings(root: Path) -> str:
    """Append the table to `pyproject.toml`; returns what was written, "" for nothing."""
    path = root / "pyproject.toml"
    if not path.exists():
        say("pyproject.toml: there is none, so no settings were written")
        return ""
    tool = read_toml(path, "pyproject.toml").get("tool", {})
    if isinstance(tool, dict) and "pipeline" in tool:
        say("pyproject.toml: [tool.pipeline] is there already")
        return ""
    text = path.read_bytes()
    with open(path, "ab") as stream:
        stream.write((b"" if text.endswith(b"\n") or not text else b"\n") + SETTINGS.encode())
    return "pyproject.toml: added [tool.pipeline]"


def _add_stages(root: Path) -> str:
    """Make `ci/stages.py`; returns what was written, "" for nothing."""
    path = root / OWN_STAGES
    path.parent.mkdir(exist_ok=True)
    try:
        with open(path, "x", encoding="utf-8") as stream:
            stream.write(STAGES)
    except FileExistsError:
        say(f"{OWN_STAGES}: it is there already")
        return ""
    return f"{OWN_STAGES}: made, with one stage to replace"
