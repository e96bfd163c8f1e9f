"""A store, real registries (Debian's docker-registry) on free loopback ports, and images to move about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.engine.store import Store
from tests.engine.oci.servers import PASSWORD, USER, RealRegistry, TokenServer, real_registry, token_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    store = Store.open(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
def other_store(tmp_path: Path) -> Iterator[Store]:
    """A second empty store, for what another machine would see."""
    store = Store.open(tmp_path / "other-store")
    yield store
    store.close()


@pytest.fixture
def open_registry(tmp_path: Path) -> Iterator[RealRegistry]:
    """A registry that lets everybody in."""
    with real_registry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def locked_registry(tmp_path: Path) -> Iterator[RealRegistry]:
    """A registry that asks for a user name and a password (Basic)."""
    with real_registry(tmp_path / "locked", users=True) as registry:
        yield registry


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    """A token server that knows one user; everybody else may only pull."""
    with token_server(tmp_path / "tokens", {USER: PASSWORD}) as server:
        yield server


@pytest.fixture
def token_registry(tmp_path: Path, tokens: TokenServer) -> Iterator[RealRegistry]:
    """A registry that asks for a bearer token from `tokens`."""
    with real_registry(tmp_path / "token-registry", tokens=tokens) as registry:
        yield registry
