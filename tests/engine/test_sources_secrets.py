"""Secrets: where values come from, when they are read, and what their handles depend on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.sources.secrets import Secrets, SecretUnreadable, UnknownSecretProvider

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return make(tmp_path)


def make(tmp_path: Path, **environ: str) -> Secrets:
    return Secrets(tmp_path, tmp_path, {"PATH": os.environ["PATH"], **environ})


async def test_a_secret_that_was_set_has_the_value_set_last(secrets: Secrets) -> None:
    """Also through the object that was made first."""
    first = secrets.set_secret("token", b"one")
    second = secrets.set_secret("token", b"two")

    assert (first.name, first.uri, await first.plaintext()) == ("token", "", b"two")
    assert second.handle == first.handle


async def test_the_handle_of_a_name_is_the_same_in_every_session_of_a_store(tmp_path: Path) -> None:
    one = make(tmp_path).set_secret("token", b"one")
    other = make(tmp_path).set_secret("token", b"other value")
    different = make(tmp_path).set_secret("another", b"one")

    assert one.handle == other.handle
    assert different.handle != one.handle
    assert make_elsewhere(tmp_path).set_secret("token", b"one").handle != one.handle


def make_elsewhere(tmp_path: Path) -> Secrets:
    (tmp_path / "elsewhere").mkdir()
    return make(tmp_path / "elsewhere")


async def test_values_come_from_variables_files_and_commands(tmp_path: Path) -> None:
    secrets = make(tmp_path, TOKEN="from env")
    (tmp_path / "file").write_bytes(b"from file\n")
    uris = ["env://TOKEN", "file://file", f"file://{tmp_path}/file", "cmd://printf 'from %s\\n' cmd"]

    values = [await (await secrets.find(uri)).plaintext() for uri in uris]

    assert values == [b"from env", b"from file\n", b"from file\n", b"from cmd\n"]


async def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    (tmp_path / "key").write_bytes(b"k")

    secret = await make(tmp_path).find("file://~/key")

    assert await secret.plaintext() == b"k"


async def test_equal_values_have_equal_handles_whatever_the_address(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"value")
    secrets = make(tmp_path, TOKEN="value", OTHER="changed")

    handles = [(await secrets.find(uri)).handle for uri in ("env://TOKEN", "file://file", "env://OTHER")]
    again = (await make(tmp_path, X="value").find("env://X")).handle

    assert handles[0] == handles[1] == again
    assert handles[2] != handles[0]
    assert "value" not in handles[0].removeprefix("value:")


async def test_with_a_cache_key_the_value_does_not_matter(tmp_path: Path) -> None:
    one = await make(tmp_path, T="one").find("env://T", cache_key="k")
    two = await make(tmp_path, T="two").find("env://T", cache_key="k")
    other = await make(tmp_path, T="one").find("env://T", cache_key="other")

    assert one.handle == two.handle
    assert other.handle != one.handle


async def test_a_value_is_read_at_each_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"first")
    secret = await make(tmp_path).find("file://file")
    (tmp_path / "file").write_bytes(b"second")

    assert await secret.plaintext() == b"second"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("env://GITHUB_TOKEN", 'secret env var not found: "GIT..."'),
        ("env://AB", 'secret env var not found: "AB"'),
        ("file://absent", 'failed to read secret file "absent": no such file or directory'),
        ("cmd://echo leaked; exit 3", "failed to run secret command: exit status 3"),
    ],
)
async def test_a_value_that_cannot_be_had_is_an_error_when_it_is_used(
    secrets: Secrets, uri: str, message: str
) -> None:
    """Until then it is only a handle that matches nothing."""
    secret = await secrets.find(uri)
    other = await secrets.find(uri)

    with pytest.raises(SecretUnreadable) as caught:
        await secret.plaintext()

    assert str(caught.value) == message
    assert secret.handle != other.handle


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("x://y", 'unsupported secret provider: "x"'),
        ("abc", 'parse "abc": malformed id'),
        ("ghp_secretvalue", 'parse "ghp...": malformed id'),
        ("vault://path", 'secret provider "vault" is not supported by the embedded engine'),
    ],
)
async def test_an_unknown_provider_is_an_error_at_once(secrets: Secrets, uri: str, message: str) -> None:
    with pytest.raises(UnknownSecretProvider) as caught:
        await secrets.find(uri)

    assert str(caught.value) == message


async def test_nothing_of_a_value_shows_in_the_object_or_on_disk(tmp_path: Path) -> None:
    secrets = make(tmp_path, T="hunter2-hunter2")
    found = [secrets.set_secret("name", b"hunter2-hunter2"), await secrets.find("env://T")]

    assert "hunter2" not in repr(found)
    assert "hunter2" not in repr([secret.in_key() for secret in found])
    salt = tmp_path / "secret-salt"
    assert os.listdir(tmp_path) == ["secret-salt"]
    assert (len(salt.read_bytes()), salt.stat().st_mode & 0o777) == (32, 0o600)


async def test_a_damaged_salt_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "secret-salt").write_bytes(b"short")

    one = make(tmp_path).set_secret("a", b"")
    two = make(tmp_path).set_secret("a", b"")

    assert one.handle == two.handle
    assert len((tmp_path / "secret-salt").read_bytes()) == 32
