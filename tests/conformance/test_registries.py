"""Registries: who may, what is sent, and where it goes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import dagger
import pytest

from tests.conformance.test_images import manifest
from tests.engine.oci.servers import (
    IDENTITY_TOKEN,
    PASSWORD,
    USER,
    Answer,
    RealRegistry,
    Request,
    Server,
    forward,
    make_certificate,
    real_registry,
    serve,
    token_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conformance.conftest import Engines

pytestmark = [pytest.mark.anyio, pytest.mark.root]


# ---- credentials -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that asks for a user name and a password."""
    with real_registry(tmp_path_factory.mktemp("locked") / "r", users=True) as running:
        yield running


async def test_credentials_of_the_session(engines: Engines, locked: RealRegistry, unique: str) -> None:
    """184. `with_registry_auth` counts from then on, `without_registry_auth` ends that; a refusal is told."""
    address = f"{locked.address}/{unique}:v1"
    async with engines.session() as dag:
        image = dag.container().with_new_file("/f", unique)
        with pytest.raises(dagger.QueryError, match=f"(?s){locked.address}.*401"):
            await image.publish(address)
        password = dag.set_secret("password", PASSWORD)
        await image.with_registry_auth(locked.address, USER, password).publish(address)
        assert await dag.container().from_(address).file("/f").contents() == unique
        await image.without_registry_auth(locked.address).sync()
        with pytest.raises(dagger.QueryError, match="401"):
            await image.publish(f"{locked.address}/{unique}:v2")


def docker_config(folder: Path, table: dict[str, Any]) -> dict[str, str]:
    """Write Docker's file; return the variable that names it."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(table))
    return {"DOCKER_CONFIG": str(folder)}


async def test_credentials_of_dockers_file(
    engines: Engines, locked: RealRegistry, tmp_path: Path, unique: str
) -> None:
    """184. What Docker's file says of a registry is used."""
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    environ = docker_config(tmp_path / "docker", {"auths": {locked.address: {"auth": pair}}})

    async with engines.session(**environ) as dag:
        image = dag.container().with_new_file("/f", unique)
        assert await image.publish(f"{locked.address}/{unique}")


async def test_credentials_of_a_helper(
    engines: Engines, locked: RealRegistry, tmp_path: Path, unique: str
) -> None:
    """184. A credential helper that Docker's file names is asked."""
    environ = docker_config(tmp_path / "docker", {"credHelpers": {locked.address: "tests"}})
    told = json.dumps({"ServerURL": locked.address, "Username": USER, "Secret": PASSWORD})
    (tmp_path / "bin").mkdir()
    helper = tmp_path / "bin" / "docker-credential-tests"
    helper.write_text(f"#!/bin/sh\ncat > /dev/null\necho '{told}'\n")
    helper.chmod(0o755)

    async with engines.session(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", **environ) as dag:
        image = dag.container().with_new_file("/f", unique)
        assert await image.publish(f"{locked.address}/{unique}")


async def test_an_identity_token(engines: Engines, tmp_path: Path, unique: str) -> None:
    """184. An identity token is exchanged for a registry's own tokens."""
    with (
        token_server(tmp_path / "tokens", {USER: PASSWORD}) as tokens,
        real_registry(tmp_path / "registry", tokens=tokens) as running,
    ):
        table = {"auths": {running.address: {"identitytoken": IDENTITY_TOKEN}}}
        async with engines.session(**docker_config(tmp_path / "docker", table)) as dag:
            image = dag.container().with_new_file("/f", unique)
            assert await image.publish(f"{running.address}/{unique}")

    assert tokens.posts > 0


async def test_a_registry_with_tls(engines: Engines, tmp_path: Path, unique: str) -> None:
    """184. A registry with TLS and a password works, by the certificates that the engine is told of."""
    certificate, key = make_certificate(tmp_path)
    settings = json.dumps({"network": {"ca_bundle": str(certificate)}})
    with real_registry(tmp_path / "tls", users=True, certificate=(certificate, key)) as running:
        async with engines.session(PIPELINE_ENGINE_SETTINGS=settings) as dag:
            password = dag.set_secret("password", PASSWORD)
            image = dag.container().with_registry_auth(running.address, USER, password)
            reference = await image.with_new_file("/f", unique).publish(f"{running.address}/{unique}")
            assert await dag.container().from_(reference).file("/f").contents() == unique


# ---- what is sent ----------------------------------------------------------------------------


@contextlib.contextmanager
def watched(registry: str, spoil: Callable[[Request], Answer | None] = lambda _: None) -> Iterator[Server]:
    """Stand before a registry: see what is asked, and answer something else where `spoil` says so."""

    def script(request: Request) -> Answer:
        if (spoiled := spoil(request)) is not None:
            return spoiled
        answer = forward(registry, request)
        headers = {name: value.replace(registry, server.address) for name, value in answer.headers.items()}
        return Answer(status=answer.status, headers=headers, body=answer.body)

    with serve(script) as server:
        yield server


def uploads(server: Server) -> list[Request]:
    """Return the requests that sent blobs."""
    return [r for r in server.requests if r.method in ("PATCH", "PUT") and "/blobs/uploads/" in r.path]


async def test_what_is_there_is_not_sent_again(engines: Engines, registry: str, unique: str) -> None:
    """185. A blob that the repository has is not uploaded; another repository of the registry lends it."""
    with watched(registry) as server:
        async with engines.session() as dag:
            image = dag.container().with_new_file("/f", unique)
            await image.publish(f"{server.address}/{unique}/a:1")
            first = len(uploads(server))
            await image.publish(f"{server.address}/{unique}/a:2")
            again = len(uploads(server))
            await image.publish(f"{server.address}/{unique}/b:1")
            elsewhere = len(uploads(server))

    mounts = [r.query for r in server.requests if r.method == "POST" and "mount" in r.query]
    assert first > 0
    assert (again, elsewhere) == (first, first)
    assert {query["from"][0] for query in mounts} == {f"{unique}/a"}


async def test_a_broken_upload_is_begun_again(engines: Engines, registry: str, unique: str) -> None:
    """185. An upload that the registry drops is tried once more."""
    troubles = [Answer(status=503), Answer(drop=True)]

    def spoil(request: Request) -> Answer | None:
        return troubles.pop() if request.method == "PUT" and troubles else None

    with watched(registry, spoil) as server:
        async with engines.session() as dag:
            image = dag.container().with_new_file("/f", unique)
            reference = await image.publish(f"{server.address}/{unique}")

    assert troubles == []
    assert manifest(reference.replace(server.address, registry))["layers"]


async def test_the_authorization_stays_with_the_registry(
    engines: Engines, locked: RealRegistry, unique: str
) -> None:
    """186. Where a registry sends on to a storage server, that one is not told who asks."""
    pair = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def store(request: Request) -> Answer:
        known = Request(**{**vars(request), "headers": {**request.headers, "authorization": pair}})
        return forward(locked.address, known)

    with serve(store, host="localhost") as storage:

        def spoil(request: Request) -> Answer | None:
            if request.method != "GET" or "/blobs/" not in request.path:
                return None
            return Answer(status=307, headers={"Location": f"http://{storage.address}{request.path}"})

        with watched(locked.address, spoil) as server:
            for name in ("one", "two"):
                async with engines.session(name) as dag:
                    password = dag.set_secret("password", PASSWORD)
                    empty = dag.container().with_registry_auth(server.address, USER, password)
                    if name == "one":
                        await empty.with_new_file("/f", unique).publish(f"{server.address}/{unique}")
                    pulled = empty.from_(f"{server.address}/{unique}")
                    assert await pulled.file("/f").contents() == unique

    assert storage.requests
    assert all("authorization" not in request.headers for request in storage.requests)
    assert any("authorization" in request.headers for request in server.requests)


@pytest.mark.differs("there a registry that is a service has to speak TLS")
async def test_a_registry_that_is_a_service(dag: dagger.Client, registry: str, unique: str) -> None:
    """A registry that runs as a service is reached by the service's name, for push and pull."""
    host, _, port = registry.partition(":")
    service = dag.host().service([dagger.PortForward(backend=int(port), frontend=5000)], host=host)
    name = await service.hostname()
    image = dag.container().with_new_file("/f", unique)

    reference = await image.publish(f"{name}:5000/{unique}", registry_service=service)

    assert reference.startswith(f"{name}:5000/{unique}:latest@sha256:")
    pulled = dag.container().from_(reference, registry_service=service)
    assert await pulled.file("/f").contents() == unique
