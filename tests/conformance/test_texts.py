"""Values that are texts with a meaning: environment files, JSON, addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagger
import pytest

from tests.gitservers import daemon, new_repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.conftest import EngineProcess

pytestmark = [pytest.mark.anyio, pytest.mark.root]


async def test_env_files(dag: dagger.Client) -> None:
    """Variables are read in order, with what stands before put in, unless the raw text is wanted."""
    file = dag.env_file().with_variable("A", "1").with_variable("B", "${A}2")

    assert await file.get("B") == "12"
    assert await file.get("B", raw=True) == "${A}2"
    assert (await file.exists("A"), await file.exists("C")) == (True, False)
    assert [(await v.name(), await v.value()) for v in await file.variables()] == [("A", "1"), ("B", "12")]
    assert await file.without_variable("A").exists("A") is False
    assert await dag.container().with_env_file_variables(file).env_variable("B") == "12"


@pytest.mark.differs("there it is an empty text")
async def test_a_variable_that_is_not_in_a_file(dag: dagger.Client) -> None:
    """What is not there is an error, not an empty text."""
    with pytest.raises(dagger.QueryError):
        await dag.env_file().with_variable("A", "1").get("C")


async def test_env_files_from_files(dag: dagger.Client) -> None:
    """Comments are passed over, quotes removed; single ones keep a dollar sign."""
    file = dag.file(".env", "# note\nX='$A'\nY=\"b c\"\n").as_env_file()

    assert (await file.get("X"), await file.get("Y")) == ("$A", "b c")
    assert await file.as_file().as_env_file().get("Y") == "b c"


async def test_namespaces_of_env_files(dag: dagger.Client) -> None:
    """A prefix selects variables, which are then known by the rest of their names."""
    file = dag.env_file().with_variable("P_X", "y").with_variable("Q", "z")

    assert [(await v.name(), await v.value()) for v in await file.namespace("P").variables()] in (
        [("X", "y")],
        [("x", "y")],
    )


async def test_json_values(dag: dagger.Client) -> None:
    """JSON is read by path, changed without touching the original, and written again."""
    value = dag.file("j", '{"a": {"b": [1, "x", true]}}').as_json()

    items = await value.field(["a", "b"]).as_array()

    assert await items[0].as_integer() == 1
    assert await items[1].as_string() == "x"
    assert await items[2].as_boolean() is True
    assert await value.fields() == ["a"]
    changed = value.with_field(["a", "c"], dag.json().new_string("new"))
    assert await changed.field(["a", "c"]).contents() == '"new"'
    assert await value.field(["a"]).fields() == ["b"]
    with pytest.raises(dagger.QueryError):
        await value.field(["a", "none"]).contents()
    with pytest.raises(dagger.QueryError):
        await items[0].as_string()


async def test_addresses_of_files(dag: dagger.Client, workdir: Path, unique: str) -> None:
    """A path of the host names a directory or a file there."""
    (workdir / unique / "d").mkdir(parents=True)
    (workdir / unique / "d" / "f").write_text("text")

    address = dag.address(f"{unique}/d")

    assert await address.value() == f"{unique}/d"
    assert await address.directory().entries() == ["f"]
    assert await address.directory(exclude=["f"]).entries() == []
    assert await dag.address(f"file://{workdir}/{unique}/d/f").file().contents() == "text"
    with pytest.raises(dagger.QueryError, match="empty address"):
        await dag.address("").value()


async def test_addresses_of_repositories(dag: dagger.Client, workdir: Path, unique: str) -> None:
    """A repository of the host is named by its path, a ref of it after a hash sign."""
    git = new_repository(workdir / unique)
    git.commit(f="1")
    git("tag", "v1")
    second = git.commit(f="2")

    assert await dag.address(unique).git_repository().tags() == ["v1"]
    assert await dag.address(unique).git_ref().commit() == second
    assert await dag.address(f"{unique}#v1").git_ref().tree().file("f").contents() == "1"


@pytest.mark.differs("there the filters count for directories of the host alone")
async def test_filters_of_a_repositorys_address(
    dag: dagger.Client, embedded: EngineProcess, tmp_path: Path
) -> None:
    """A repository on a server is named by its URL; a ref and a path follow, and filters count."""
    git = new_repository(tmp_path / "repo")
    (git.path / "d").mkdir()
    git.commit(**{"d/f": "1", "d/g": "1"})
    git("tag", "v1")
    git.commit(**{"d/f": "2"})

    with daemon(tmp_path) as server:
        assert await dag.address(f"{server}/repo#v1:d").directory(exclude=["g"]).entries() == ["f"]
        assert await dag.address(f"{server}/repo#v1:d/f").file().contents() == "1"
        assert await dag.address(f"{server}/repo").directory().file("d/f").contents() == "2"
        assert await dag.address(f"{server}/repo#v1").git_ref().ref() == "refs/tags/v1"
        with pytest.raises(dagger.QueryError, match="cannot contain ref"):
            await dag.address(f"{server}/repo#v1").git_repository().id()


async def test_addresses_of_images(
    dag: dagger.Client, base: dagger.Container, registry: str, unique: str
) -> None:
    """An image is named by its reference."""
    reference = await base.with_new_file("/f", unique).publish(f"{registry}/{unique}")

    assert await dag.address(reference).container().file("/f").contents() == unique


async def test_addresses_of_secrets(dag: dagger.Client) -> None:
    """A secret is named by its URI, or an environment variable by its name alone."""
    path = await dag.address("env://PATH").secret().plaintext()

    assert (
        path
        == await dag.address("PATH").secret().plaintext()
        == await dag.address("env:PATH").secret().plaintext()
    )
    with pytest.raises(dagger.QueryError, match="unsupported secret provider"):
        await dag.address("nope://x").secret().id()


@pytest.mark.differs("there the ports are known when the service runs")
async def test_addresses_of_services(dag: dagger.Client) -> None:
    """A port of the host is named by a URL."""
    service = dag.address("tcp://localhost:4321").service()

    assert [await port.port() for port in await service.ports()] == [4321]
    with pytest.raises(dagger.QueryError, match="tcp:// or udp://"):
        await dag.address("http://localhost:1").service().id()
