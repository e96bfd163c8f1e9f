"""Settings are checked once; what is read back is the same, and never what no longer holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.config import ConfigInvalid, load_config

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
[tool.pipeline.run]
jobs = 3
timeout = "5m"
[tool.pipeline.images.mirrors]
"docker.io" = ["mirror.example.com"]
[tool.pipeline.stages.unit]
args = ["tests/unit"]
env = { MODE = "test" }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(TEXT)
    (tmp_path / ".pipeline").mkdir()
    return tmp_path


def test_settings_read_back_equal_those_that_were_checked(project: Path) -> None:
    checked = load_config(project, environ={})

    assert (project / ".pipeline/config.json").stat().st_mode & 0o777 == 0o600
    assert load_config(project, environ={}) == checked


def test_another_value_in_any_layer_is_checked_again(project: Path) -> None:
    load_config(project, environ={})

    assert load_config(project, environ={"PIPELINE_JOBS": "5"}).run.jobs == 5
    assert load_config(project, environ={}, flags={"run.jobs": 7}).run.jobs == 7
    (project / "pyproject.toml").write_text(TEXT.replace("jobs = 3", 'jobs = "three"'))
    with pytest.raises(ConfigInvalid, match="expected a whole number"):
        load_config(project, environ={})


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"made_of": 1}'])
def test_a_damaged_memory_is_made_anew(project: Path, damage: str) -> None:
    checked = load_config(project, environ={})
    (project / ".pipeline/config.json").write_text(damage)

    assert load_config(project, environ={}) == checked


def test_nothing_is_written_where_there_is_no_state_folder(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(TEXT)

    load_config(tmp_path, environ={})

    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]
