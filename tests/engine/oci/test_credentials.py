"""Credentials come from the session first, then from the files of Docker and Podman."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.oci.credentials import Credential, Credentials
from pipeline.engine.oci.errors import CredentialsUnreadable

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


def pair(username: str, password: str) -> dict[str, str]:
    """Return an entry as `docker login` writes it."""
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def configured(tmp_path: Path, table: object, **environ: str) -> Credentials:
    """Return what reads a Docker configuration with this content, and nothing of this machine."""
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text(json.dumps(table))
    return Credentials(
        {"DOCKER_CONFIG": str(tmp_path / "docker"), "XDG_RUNTIME_DIR": str(tmp_path), **environ}
    )


def helper(tmp_path: Path, script: str) -> str:
    """Install a credential helper named `test`; return the PATH to find it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker-credential-test").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "docker-credential-test").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("r.example:5000", "r.example:5000"),
        ("https://r.example/v2/", "r.example"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
    ],
)
async def test_entries_of_docker_login_are_found(tmp_path: Path, key: str, host: str) -> None:
    """The key may be a host or an address, as versions of Docker differ."""
    credentials = configured(tmp_path, {"auths": {key: pair("ali", "se:cret")}})

    assert await credentials.find(host, "a/b") == Credential(username="ali", password="se:cret")
    assert await credentials.find("other.example", "a/b") is None


async def test_identity_tokens_are_found(tmp_path: Path) -> None:
    """An identity token comes before a password that is beside it."""
    entry = {**pair("ali", "x"), "identitytoken": "tok"}
    credentials = configured(tmp_path, {"auths": {"r.example": entry}})

    assert await credentials.find("r.example", "a") == Credential(identity_token="tok")


async def test_the_most_specific_entry_is_taken(tmp_path: Path) -> None:
    """Podman's files may have one entry for each repository."""
    auths = {"r.example": pair("all", "1"), "r.example/team": pair("team", "2")}
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": auths}))
    credentials = Credentials({"REGISTRY_AUTH_FILE": str(path)})

    assert await credentials.find("r.example", "team/app") == Credential(username="team", password="2")
    assert await credentials.find("r.example", "teams/app") == Credential(username="all", password="1")


async def test_the_session_comes_before_files_until_it_is_removed(tmp_path: Path) -> None:
    """An address may be a host, a repository or a whole reference."""
    credentials = configured(tmp_path, {"auths": {"r.example": pair("file", "1")}})

    credentials.add("r.example/team/app:latest", Credential(username="session", password="2"))
    inside = await credentials.find("r.example", "team/app")
    outside = await credentials.find("r.example", "other")
    credentials.remove("r.example/team/app:latest")
    after = await credentials.find("r.example", "team/app")

    assert inside == Credential(username="session", password="2")
    assert outside == after == Credential(username="file", password="1")


async def test_a_helper_is_asked_for_its_host_only(tmp_path: Path) -> None:
    """`credHelpers` names a program for each host; it gets the host on its standard input."""
    path = helper(tmp_path, """read host; echo "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"s\\"}" """)
    credentials = configured(tmp_path, {"credHelpers": {"r.example": "test"}}, PATH=path)

    assert await credentials.find("r.example", "a") == Credential(username="r.example", password="s")
    assert await credentials.find("other.example", "a") is None


async def test_a_store_that_knows_nothing_leaves_the_word_to_the_entries(tmp_path: Path) -> None:
    """`credsStore` ends with a failure and a known text when it has no entry."""
    path = helper(tmp_path, "echo 'credentials not found in native keychain'; exit 1")
    table = {"credsStore": "test", "auths": {"r.example": pair("ali", "x"), "empty.example": {}}}
    credentials = configured(tmp_path, table, PATH=path)

    assert await credentials.find("r.example", "a") == Credential(username="ali", password="x")
    assert await credentials.find("empty.example", "a") is None


async def test_a_helper_may_give_an_identity_token(tmp_path: Path) -> None:
    """The user name `<token>` says that the secret is one."""
    path = helper(tmp_path, """echo '{"Username": "<token>", "Secret": "tok"}'""")
    credentials = configured(tmp_path, {"credsStore": "test"}, PATH=path)

    assert await credentials.find("r.example", "a") == Credential(identity_token="tok")


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ('echo \'{"Secret": "hidden"\'', "its answer is not what helpers give"),
        ("echo hidden >&2; exit 3", "it ended with exit code 3"),
        (None, "no such file or directory"),
    ],
    ids=["nonsense", "fails", "missing"],
)
async def test_a_helper_that_does_not_work_is_an_error_without_its_words(
    tmp_path: Path, script: str | None, what: str
) -> None:
    """Its output could hold a secret, so it is never shown."""
    path = "/nowhere" if script is None else helper(tmp_path, script)
    credentials = configured(tmp_path, {"credsStore": "test"}, PATH=path)

    with pytest.raises(CredentialsUnreadable) as caught:
        await credentials.find("r.example", "a")

    assert str(caught.value) == f"cannot read registry credentials from `docker-credential-test`: {what}"


async def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    """Going on as nobody would hide the reason of the refusal that follows."""
    (tmp_path / "config.json").write_text("{")

    with pytest.raises(CredentialsUnreadable, match="it is no JSON object"):
        await Credentials({"DOCKER_CONFIG": str(tmp_path)}).find("r.example", "a")


def test_values_are_not_shown() -> None:
    """A credential in a log or a traceback shows its user only."""
    shown = repr(Credential(username="ali", password="secret", identity_token="token"))

    assert shown == "Credential(username='ali')"
