"""Secrets and where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagger
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.conftest import EngineProcess

pytestmark = [pytest.mark.anyio, pytest.mark.root]


async def test_secrets_by_name_and_by_address(dag: dagger.Client, embedded: EngineProcess) -> None:
    """130. A secret has the name or address it was made with; of a missing variable three letters show."""
    named = dag.set_secret("conformance-130", "one")

    assert (await named.name(), await named.plaintext(), await named.uri()) == ("conformance-130", "one", "")
    assert await dag.secret("env://PATH").plaintext()
    assert await dag.secret("env://PATH").uri() == "env://PATH"
    with pytest.raises(dagger.QueryError, match=r'secret env var not found: "NOT\.\.\."'):
        await dag.secret("env://NOT_SET_ANYWHERE").plaintext()


async def test_secrets_of_files_and_commands(dag: dagger.Client, tmp_path: Path) -> None:
    """131. A secret is what a file holds or a command prints; another scheme is refused at once."""
    (tmp_path / "s").write_text("from a file\n")

    assert await dag.secret(f"file://{tmp_path}/s").plaintext() == "from a file\n"
    assert await dag.secret("cmd://echo hi").plaintext() == "hi\n"
    with pytest.raises(dagger.QueryError, match="unsupported secret provider"):
        await dag.secret("nope://x").id()


async def test_a_secret_is_read_each_time(dag: dagger.Client, tmp_path: Path) -> None:
    """135. The value is the one of now, never one that was kept."""
    (tmp_path / "s").write_text("old")
    secret = dag.secret(f"file://{tmp_path}/s")
    assert await secret.plaintext() == "old"

    (tmp_path / "s").write_text("new")

    assert await secret.plaintext() == "new"
