"""The settings of notifications: read as written, kept for the next command, and no secret is shown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipeline.config import ConfigInvalid, load_config
from pipeline.config.notify import ChannelSettings, Duration, NotifySettings, SecretPlace, Whole

if TYPE_CHECKING:
    from pathlib import Path

QUIET = {"PIP_CONFIG_FILE": os.devnull, "PIPELINE_CA_BUNDLE": "/ca.pem"}


def write(root: Path, text: str) -> None:
    (root / "pyproject.toml").write_text(f"[tool.pipeline.notify]\n{text}", encoding="utf-8")


def test_the_table_becomes_settings_and_is_remembered(tmp_path: Path) -> None:
    write(
        tmp_path,
        'critical = ["pager", "chat"]\ninfo = ["chat"]\nlimit = 5\nrepeat = "1h"\n'
        'channels.pager = { routing_key = "env:PD_KEY", api = "https://events.eu.pagerduty.com" }\n'
        'channels.chat.url = "file:secrets/chat"\n',
    )
    (tmp_path / ".pipeline").mkdir()

    first = load_config(tmp_path, QUIET)
    second = load_config(tmp_path, QUIET)

    assert first.notify == NotifySettings(
        critical=("pager", "chat"),
        info=("chat",),
        limit=Whole(5),
        repeat_s=Duration(3600.0),
        channels={
            "pager": ChannelSettings(
                routing_key=SecretPlace("env:PD_KEY"), api="https://events.eu.pagerduty.com"
            ),
            "chat": ChannelSettings(url=SecretPlace("file:secrets/chat")),
        },
    )
    assert second == first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('critcal = ["x"]', 'notify.critcal: unknown key; did you mean "critical"?'),
        ('critical = ["x"]', "notify.critical: there is no channel `x` in `notify.channels`"),
        ("channels.x = {}", "notify.channels.x: expected one of `url` and `routing_key`"),
        (
            'channels.x.url = "slack://T0KEN/s3cret"',
            'notify.channels.x.url: expected "env:NAME" or "file:PATH"; what is there is not shown: '
            "it may be a secret",
        ),
        ("limit = 0", "notify.limit: expected a whole number of at least 1, got 0"),
    ],
)
def test_a_mistake_is_told_and_no_secret(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)

    with pytest.raises(ConfigInvalid) as caught:
        load_config(tmp_path, QUIET)

    assert str(caught.value) == f"pyproject.toml: 1 problem\n  tool.pipeline.{said}"
