"""The settings of test stages and of coverage, as they reach the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.cli.project import load_graph
from pipeline.config import ConfigInvalid, load_config
from pipeline.graph.settings import usable_cpus
from pipeline.stages.past_tests import PastTests
from pipeline.stages.testing_run import SHARD_S, shard_count

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.graph.stage import AnyStage


def stage_of(root: Path, name: str, settings: str) -> AnyStage:
    """A stage of a small project with these settings."""
    (root / "pyproject.toml").write_text(settings)
    (root / "test_a.py").write_text("def test_a(): pass\n")
    return load_graph(root, load_config(root)).stages[name]


@pytest.mark.parametrize(
    ("settings", "options", "weight"),
    [
        pytest.param("shards = 4", {"shards": "4"}, 4, id="as heavy as it has shards"),
        pytest.param('shards = "auto"', {"shards": "auto"}, usable_cpus(), id="as many as CPUs"),
        pytest.param("shards = 4\nweight = 1", {"shards": "4"}, 1, id="unless the settings say so"),
        pytest.param("rerun_failed = 2", {"rerun_failed": 2}, 1, id="retries"),
        pytest.param("rerun_failed = 0", {}, 1, id="none"),
    ],
)
def test_shards_and_retries_reach_the_stage(
    tmp_path: Path, settings: str, options: dict[str, object], weight: int
) -> None:
    unit = stage_of(tmp_path, "unit", f"[tool.pipeline.stages.unit]\n{settings}\n")

    found = {name: unit.options[name] for name in ("shards", "rerun_failed") if name in unit.options}
    assert (found, unit.weight) == (options, weight)


def test_limits_reach_the_coverage_stage_and_a_missing_base_is_its_error_alone(tmp_path: Path) -> None:
    """The graph is built all the same: other stages do not need git."""
    coverage = stage_of(tmp_path, "coverage", "[tool.pipeline.coverage]\ntotal = 80\nchanged = 90.5\n")

    options = dict(coverage.options)
    why = str(options.pop("no_base"))
    assert options == {"total": 80.0, "changed": 90.5}
    assert why.startswith("cannot find what changed since `origin/HEAD` or ")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param(
            "stages.unit]\nshards = 0", 'expected "auto" or a whole number of at least 1', id="none"
        ),
        pytest.param("stages.unit]\nshards = true", 'expected "auto" or a whole', id="no number"),
        pytest.param('stages.unit]\nshards = "4"', 'expected "auto" or a whole', id="text"),
        pytest.param("stages.unit]\nrerun_failed = -1", "a whole number of at least 0", id="negative"),
        pytest.param("coverage]\ntotal = 101", "expected a number from 0 to 100, got 101", id="too much"),
        pytest.param('coverage]\nchanged = "90%"', "expected a number from 0 to 100", id="a sign"),
        pytest.param("coverage]\nchangd = 1", 'unknown key; did you mean "changed"?', id="misspelt"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, settings: str, said: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.pipeline.{settings}\n")

    with pytest.raises(ConfigInvalid) as raised:
        load_config(tmp_path)

    assert said in str(raised.value)


def test_auto_makes_no_shard_for_each_cpu_where_the_tests_are_short() -> None:
    """Nothing is known at first: then it is one for each CPU."""
    short, long = PastTests(seconds={"a": 1.0}), PastTests(seconds={"a": SHARD_S * 1000})

    assert shard_count("auto", PastTests()) == shard_count("auto", long) == usable_cpus()
    assert (shard_count("auto", short), shard_count("3", short), shard_count(None, long)) == (1, 3, 1)
