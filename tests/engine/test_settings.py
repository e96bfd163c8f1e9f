"""Engine settings on their way from one process to the other."""

from __future__ import annotations

import pytest

from pipeline.engine.settings import EngineSettings, NetworkSettings, settings_from_json, settings_to_json
from pipeline.errors import UsageError

FULL = EngineSettings(
    store="/somewhere",
    runner="runc",
    offline=True,
    image_fallback="recipe",
    mirrors=(("docker.io", "one"), ("docker.io", "two")),
    plain_http=("registry.test:80",),
    max_execs=3,
    network=NetworkSettings(ca_bundle="/ca.pem", env=(("A", "b"),), secrets=("s",)),
)


@pytest.mark.parametrize("settings", [EngineSettings(), FULL], ids=["defaults", "all"])
def test_settings_are_read_as_they_were_written(settings: EngineSettings) -> None:
    assert settings_from_json(settings_to_json(settings)) == settings


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"unknown": 1}', '{"mirrors": 5}', '{"mirrors": ["a"]}', '{"network": 3}'],
)
def test_what_are_no_settings_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read the engine settings"):
        settings_from_json(text)


def test_the_default_store_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of our own goes first, then the desktop's rule; a setting goes before both."""
    monkeypatch.setenv("PIPELINE_STORE", "/chosen")
    chosen = str(EngineSettings().store_path())
    monkeypatch.delenv("PIPELINE_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")

    assert chosen == "/chosen"
    assert str(EngineSettings().store_path()) == "/data/pipeline"
    assert str(EngineSettings(store="/set").store_path()) == "/set"
