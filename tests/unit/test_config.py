"""The configuration: every problem in one pass, and where each value comes from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipeline.cli.init_command import SETTINGS
from pipeline.config import (
    Config,
    ConfigInvalid,
    ConfigUnreadable,
    NetworkSettings,
    RunSettings,
    StageSettings,
    load_config,
    redact_url,
    settings_of,
)
from pipeline.config.check import parse_duration, parse_size
from pipeline.config.values import Command, Seconds, Times

if TYPE_CHECKING:
    from pathlib import Path

QUIET = {"PIP_CONFIG_FILE": os.devnull, "PIPELINE_CA_BUNDLE": "/ca.pem"}
ORIGIN = {"network.ca_bundle": "PIPELINE_CA_BUNDLE (environment)"}
NETWORK = NetworkSettings(ca_bundle="/ca.pem")


def write(root: Path, text: str) -> None:
    (root / "pyproject.toml").write_text(text, encoding="utf-8")


def test_a_project_without_settings_has_the_defaults(tmp_path: Path) -> None:
    """No file is needed."""
    assert load_config(tmp_path, QUIET) == Config(network=NETWORK, origins=ORIGIN)


def test_values_are_read_from_the_table(tmp_path: Path) -> None:
    """Durations become seconds, a string becomes a shell's command."""
    write(
        tmp_path,
        '[tool.pipeline.run]\ntimeout = "1h30m"\n'
        '[tool.pipeline.stages.unit]\ncommand = "make test"\nretry = 2\n',
    )

    config = load_config(tmp_path, QUIET)

    assert config.run == RunSettings(timeout_s=Seconds(5400.0))
    assert config.stages == {
        "unit": StageSettings(command=Command(("sh", "-c", "make test")), retry=Times(2))
    }
    assert config.origins["run.timeout"] == "pyproject.toml"


def test_every_problem_is_found_in_one_pass(tmp_path: Path) -> None:
    """Each has source, path, what was expected and what is there; misspelt keys get a suggestion."""
    write(
        tmp_path,
        """
[tool.pipeline]
rnu = 3
[tool.pipeline.run]
jobs = 0
timout = "3s"
timeout = 30
[tool.pipeline.images]
fallback = "recipes"
mirrors = { "docker.io" = 3 }
[tool.pipeline.stages.unit]
retry = -1
args = "x"
env = 3
""",
    )

    with pytest.raises(ConfigInvalid) as raised:
        load_config(tmp_path, {**QUIET, "PIPELINE_JOBS": "many"}, {"images.python": "3"})

    assert str(raised.value) == (
        "pyproject.toml: 9 problems\n"
        "  tool.pipeline.run.jobs: expected a whole number of at least 1, got 0\n"
        '  tool.pipeline.run.timeout: expected a duration such as "30s" or "5m", got 30\n'
        '  tool.pipeline.run.timout: unknown key; did you mean "timeout"?\n'
        '  tool.pipeline.images.fallback: expected "none" or "recipe", got "recipes"; '
        'did you mean "recipe"?\n'
        "  tool.pipeline.images.mirrors.docker.io: expected an array of strings, got 3\n"
        "  tool.pipeline.stages.unit.retry: expected a whole number of at least 0, got -1\n"
        '  tool.pipeline.stages.unit.args: expected an array of strings, got "x"\n'
        "  tool.pipeline.stages.unit.env: expected a table, got 3\n"
        '  tool.pipeline.rnu: unknown key; did you mean "run"?\n'
        "environment: 1 problem\n"
        '  PIPELINE_JOBS: expected a whole number of at least 1, got "many"\n'
        "command line: 1 problem\n"
        '  images.python: expected a Python version such as "3.12", got "3"'
    )


def test_a_later_layer_wins_and_is_named(tmp_path: Path) -> None:
    """File, then environment, then flag."""
    write(
        tmp_path, '[tool.pipeline.run]\njobs = 1\ntimeout = "1m"\n[tool.pipeline.engine]\nkind = "dagger"\n'
    )
    environ = {**QUIET, "PIPELINE_JOBS": "2", "PIPELINE_ENGINE": "dagger=tcp://host:1"}

    config = load_config(tmp_path, environ, {"run.jobs": 3, "run.keep_going": None})

    assert (config.run.jobs, config.run.timeout_s, config.engine.address) == (3, 60.0, "tcp://host:1")
    assert config.origins == {
        **ORIGIN,
        "run.jobs": "command line",
        "run.timeout": "pyproject.toml",
        "engine.kind": "PIPELINE_ENGINE (environment)",
        "engine.address": "PIPELINE_ENGINE (environment)",
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"[tool", "it is not valid TOML: expected ']' at the end of a table", id="bad TOML"),
        pytest.param(b"a = '\xff'", "it is not UTF-8 (byte 0xff at offset 5)", id="not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "pyproject.toml").write_bytes(data)

    with pytest.raises(ConfigUnreadable) as raised:
        load_config(tmp_path, QUIET)

    assert str(raised.value).startswith(f"cannot read `pyproject.toml`: {said}")


def test_a_table_that_is_no_table(tmp_path: Path) -> None:
    write(tmp_path, "tool.pipeline = 3\n")

    with pytest.raises(ConfigInvalid) as raised:
        load_config(tmp_path, QUIET)

    assert str(raised.value) == "pyproject.toml: 1 problem\n  tool.pipeline: expected a table, got 3"


def test_network_settings_are_inherited_from_the_environment_and_pips_file(tmp_path: Path) -> None:
    """What the project sets itself is not taken from the host."""
    pip = tmp_path / "pip.conf"
    pip.write_text("[global]\nindex-url = https://index.example.com/\ntimeout = 20\n", encoding="utf-8")
    write(tmp_path, '[tool.pipeline.network]\nhttps_proxy = "http://own:1"\n')
    environ = {
        "PIPELINE_CA_BUNDLE": "/ca.pem",
        "PIP_CONFIG_FILE": str(pip),
        "HTTPS_PROXY": "http://host:1",
        "NO_PROXY": "localhost",
        "PIP_FIND_LINKS": "/a /b",
    }

    config = load_config(tmp_path, environ)

    assert config.network == NetworkSettings(
        ca_bundle="/ca.pem",
        https_proxy="http://own:1",
        no_proxy="localhost",
        index_url="https://index.example.com/",
        find_links=("/a", "/b"),
        pip_timeout_s=Seconds(20.0),
    )
    assert config.origins["network.index_url"] == str(pip)


def test_inheriting_can_be_switched_off(tmp_path: Path) -> None:
    write(tmp_path, "[tool.pipeline.network]\ninherit = false\n")

    config = load_config(tmp_path, {"PIP_CONFIG_FILE": os.devnull, "HTTPS_PROXY": "http://host:1"})

    assert config.network == NetworkSettings(inherit=False)


def test_passwords_in_addresses_are_hidden(tmp_path: Path) -> None:
    """In the listing and in the value's own text."""
    config = load_config(tmp_path, {**QUIET, "PIP_INDEX_URL": "https://me:word@index.example.com/"})

    listed = {path: value for path, value, _ in settings_of(config)}

    assert listed["network.index_url"] == "https://***@index.example.com/"
    assert "word" not in repr(config)
    assert redact_url("no address") == "no address"


def test_the_starting_configuration_is_valid(tmp_path: Path) -> None:
    """Every example in it is what the check accepts."""
    uncommented = [
        line.removeprefix("# ")
        if line.startswith(("# [", "# ")) and ("=" in line or "[tool" in line)
        else line
        for line in SETTINGS.splitlines()
    ]
    write(tmp_path, "\n".join(line for line in uncommented if not line.startswith("# ")))

    config = load_config(tmp_path, QUIET)

    assert config.run.jobs == 2
    assert config.stages["unit"].env == {"LOG_LEVEL": "debug"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("1h30m", 5400.0), ("250ms", 0.25), ("0s", None), ("5", None), ("", None), ("-1s", None)],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000", 1000), ("500MB", 500 * 10**6), ("2GiB", 2 << 30), ("1.5k", 1500), ("x", None), ("1i", None)],
)
def test_sizes(text: str, size: int | None) -> None:
    assert parse_size(text) == size
