"""Which of a project's tests a stage runs: each runs in one stage, and none in two."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.stages.containers import SOURCE, VENV, stage_env, with_env

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import dagger

    from pipeline.graph.context import Context

PLUGIN: Final = "pipeline_suites"
PLUGIN_FILE: Final = Path(__file__).parent / "suite_plugin.py"


def with_suite(ctx: Context, python: str, container: dagger.Container) -> dagger.Container:
    """Leave the stage in whose container this is the tests that are its own; nothing where all are.

    Args:
        python: The version in the container, such as "3.11.2".
    """
    suites = [dict(one) for one in ctx.options.get("suites", ())]
    if not suites:
        return container
    version = ".".join(python.split(".")[:2])
    place = f"{VENV}/lib/python{version}/site-packages/{PLUGIN}.py"
    container = container.with_new_file(place, PLUGIN_FILE.read_text(encoding="utf-8"))
    return with_env(container, suite_env(ctx.stage, suites, own=stage_env(ctx).get("PYTEST_ADDOPTS", "")))


def suite_env(
    stage: str, suites: Sequence[Mapping[str, Any]], *, root: str = SOURCE, own: str = ""
) -> dict[str, str]:
    """Return what makes pytest run the tests of one stage; the plugin has to be importable.

    Folders of other stages are not even collected, lest their conftest.py need what is not there.

    Args:
        own: Options the project itself adds by `PYTEST_ADDOPTS`.
    """
    others = [folder for one in suites if one["stage"] != stage for folder in one["folders"]]
    words = ["-p", PLUGIN, *(f"--ignore={folder}" for folder in others)]
    if any(one["stage"] == stage and one["is_left_out"] for one in suites):
        words += ["-m", ""]
    known = {"root": root, "stage": stage, "suites": [dict(one) for one in suites]}
    return {
        "PIPELINE_SUITES": json.dumps(known, sort_keys=True),
        "PYTEST_ADDOPTS": f"{shlex.join(words)} {own}".rstrip(),
    }
