"""The settings of releases: read as written, kept for the next command, and every mistake told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipeline.config import ConfigInvalid, load_config
from pipeline.config.release import ReleaseSettings, TagPrefix

if TYPE_CHECKING:
    from pathlib import Path

QUIET = {"PIP_CONFIG_FILE": os.devnull, "PIPELINE_CA_BUNDLE": "/ca.pem"}


def write(root: Path, text: str) -> None:
    (root / "pyproject.toml").write_text(f"[tool.pipeline.release]\n{text}", encoding="utf-8")


def test_the_table_becomes_settings_and_is_remembered(tmp_path: Path) -> None:
    """What is read the second time, from what was kept, is the same."""
    write(
        tmp_path,
        'when = "before_deploy"\nsign = "ssh"\nkey = "~/.ssh/release"\ntag_prefix = "api/v"\n'
        'floating = ["major", "minor"]\nforge = "github"\n[tool.pipeline.release.prerelease]\nnext = "rc"\n',
    )
    (tmp_path / ".pipeline").mkdir()

    first = load_config(tmp_path, QUIET)
    second = load_config(tmp_path, QUIET)

    assert first.release == ReleaseSettings(
        when="before_deploy",
        sign="ssh",
        key="~/.ssh/release",
        tag_prefix=TagPrefix("api/v"),
        floating=("major", "minor"),
        forge="github",
        prerelease={"next": "rc"},
    )
    assert second == first


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('sing = "ssh"', 'sing: unknown key; did you mean "sign"?'),
        ('when = "after"', 'when: expected "after_health" or "before_deploy", got "after"'),
        (
            'prerelease = { next = "pre" }',
            'prerelease.next: expected "alpha" or "beta" or "rc" or "dev", got "pre"',
        ),
        ('floating = ["patch"]', 'floating.0: expected "major" or "minor", got "patch"'),
        ('tag_prefix = "-v"', 'tag_prefix: expected what tags begin with, such as "v", got "-v"'),
        ('tag_prefix = "a..b"', 'tag_prefix: expected what tags begin with, such as "v", got "a..b"'),
        ('tag_prefix = "a/.b"', 'tag_prefix: expected what tags begin with, such as "v", got "a/.b"'),
        ("files = 3", "files: expected an array of strings, got 3"),
    ],
    ids=["unknown key", "word", "kind of pre-release", "floating", "option", "dots", "hidden", "globs"],
)
def test_what_does_not_fit_is_told(tmp_path: Path, line: str, said: str) -> None:
    write(tmp_path, line + "\n")

    with pytest.raises(ConfigInvalid) as raised:
        load_config(tmp_path, QUIET)

    assert str(raised.value) == f"pyproject.toml: 1 problem\n  tool.pipeline.release.{said}"
