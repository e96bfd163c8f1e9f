"""Secrets of releases: kept by version, told apart by nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.deploy.secrets import SecretGone, find_versions, keep_secrets, read_secrets
from pipeline.deploy.state import LocalState

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_a_value_comes_back_by_its_version(tmp_path: Path) -> None:
    """Also after it has changed."""
    state = LocalState(tmp_path)

    first = await keep_secrets(state, {"TOKEN": "one", "OTHER": "x"})
    second = await keep_secrets(state, {"TOKEN": "two", "OTHER": "x"})

    assert first["TOKEN"] != second["TOKEN"]
    assert first["OTHER"] == second["OTHER"]
    assert await read_secrets(state, first) == {"TOKEN": "one", "OTHER": "x"}
    assert await read_secrets(state, second) == {"TOKEN": "two", "OTHER": "x"}


async def test_a_version_means_nothing_elsewhere(tmp_path: Path) -> None:
    """Two environments name the same value differently, and nobody else may read the files."""
    one, other = LocalState(tmp_path / "one"), LocalState(tmp_path / "other")

    versions = [(await keep_secrets(state, {"TOKEN": "hunter2"}))["TOKEN"] for state in (one, other)]

    assert versions[0] != versions[1]
    assert one.folder.stat().st_mode & 0o077 == 0


async def test_a_version_that_is_gone_is_told(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(SecretGone, match="cannot read secret `TOKEN`: its version v-1 is not kept any more"):
        await read_secrets(LocalState(tmp_path), {"TOKEN": "v-1"})


async def test_no_secrets_need_no_key(tmp_path: Path) -> None:
    """Nothing is written."""
    state = LocalState(tmp_path)

    assert (await keep_secrets(state, {}), await state.names("")) == ({}, ())


async def test_a_plan_names_versions_and_keeps_no_value(tmp_path: Path) -> None:
    """What a plan shows is what is deployed afterwards."""
    state = LocalState(tmp_path)

    planned = await find_versions(state, {"TOKEN": "one"})

    assert await state.names("secrets/TOKEN/") == ()
    assert await keep_secrets(state, {"TOKEN": "one"}) == planned
