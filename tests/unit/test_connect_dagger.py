"""How a Dagger engine is found, and what is said of one that does not answer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipeline.connect import Target, dagger_environment, open_session
from pipeline.engine.events import EngineEvent, NoticeEvent
from pipeline.engine.settings import EngineSettings, NetworkSettings
from pipeline.session.started import EngineNotStarted

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


def test_an_address_goes_before_a_session_of_the_environment() -> None:
    """The SDK would take the session; so its variables are hidden."""
    target = Target(kind="dagger", address="unix:///run/x.sock")

    environ = dagger_environment(target)

    assert environ == {
        "_EXPERIMENTAL_DAGGER_RUNNER_HOST": "unix:///run/x.sock",
        "DAGGER_SESSION_PORT": None,
        "DAGGER_SESSION_TOKEN": None,
    }


def test_without_an_address_the_environment_stays() -> None:
    """The SDK finds the engine as it always does."""
    assert dagger_environment(Target(kind="dagger")) == {}


@pytest.mark.parametrize("address", ["unix://{}/no.sock", "tcp://127.0.0.1:1", "tcp://127.0.0.1:99999"])
async def test_an_address_where_nothing_listens_is_named_at_once(address: str, tmp_path: Path) -> None:
    """Dagger's own program would try for minutes; no variable is left changed."""
    place = address.format(tmp_path)
    before = dict(os.environ)

    with pytest.raises(EngineNotStarted, match=r"nothing answers at `(unix|tcp)://"):
        async with open_session(
            Target(kind="dagger", address=place),
            EngineSettings(),
            workdir=tmp_path,
            observer=lambda _event: None,
        ):
            pass

    assert dict(os.environ) == before


async def test_settings_a_dagger_engine_is_not_told_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that is set for nothing would otherwise only show as packages that are not found."""
    told: list[EngineEvent] = []
    network = NetworkSettings(env=(("PIP_INDEX_URL", "https://x"), ("PIP_DEFAULT_TIMEOUT", "9")))
    monkeypatch.delenv("DAGGER_SESSION_PORT", raising=False)
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_CLI_BIN", str(tmp_path / "none"))

    with pytest.raises(EngineNotStarted):
        async with open_session(
            Target(kind="dagger"), EngineSettings(network=network), workdir=tmp_path, observer=told.append
        ):
            pass

    assert told == [
        NoticeEvent(
            text="a Dagger engine has its own network set-up and is not told PIP_INDEX_URL; set an index "
            "in `env` of a stage, proxies and certificates at the engine"
        )
    ]
