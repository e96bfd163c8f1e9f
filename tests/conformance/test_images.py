"""Images: registries, archives, builds."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING

import dagger
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.root]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry on this machine."""
    import shutil

    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"addr": address},
    }
    (folder / "config.yml").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [program, "serve", folder / "config.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            break
        time.sleep(0.05)
    yield address
    process.terminate()
    process.wait()


# 29, 30, 32, 178
async def test_publish_and_pull(
    dag: dagger.Client, base: dagger.Container, registry: str, unique: str
) -> None:
    image = (
        base.with_new_file("/hello", unique)
        .with_env_variable("A", "image")
        .with_label("l", "1")
        .with_entrypoint(["echo"])
        .with_workdir("/tmp")
        .with_exposed_port(80)
    )

    reference = await image.publish(f"{registry}/{unique}:v1")

    assert reference.startswith(f"{registry}/{unique}:v1@sha256:")
    parent = dag.container().with_env_variable("MINE", "1").with_workdir("/mine").with_entrypoint(["x"])
    pulled = parent.from_(f"{registry}/{unique}:v1")
    assert await pulled.image_ref() == reference
    assert await pulled.file("/hello").contents() == unique
    assert await pulled.env_variable("A") == "image"
    assert await pulled.env_variable("MINE") == "1"
    assert await pulled.workdir() == "/tmp"
    assert await pulled.entrypoint() == ["echo"]
    assert await pulled.label("l") == "1"
    assert [(await p.port(), await p.description()) for p in await pulled.exposed_ports()] == [(80, None)]
    assert await pulled.rootfs().digest() == await image.rootfs().digest()
    assert await pulled.with_exec(["hi"], use_entrypoint=True).stdout() == "hi\n"
    with pytest.raises(dagger.QueryError, match="Image reference can only be retrieved"):
        await pulled.with_env_variable("B", "1").image_ref()
    by_digest = dag.container().from_(reference)
    assert await by_digest.rootfs().digest() == await image.rootfs().digest()


# 31
async def test_a_tag_is_resolved_once_per_session(
    dag: dagger.Client, base: dagger.Container, registry: str, unique: str
) -> None:
    address = f"{registry}/{unique}:moving"
    await base.with_new_file("/v", "1").publish(address)
    assert await dag.container().from_(address).file("/v").contents() == "1"

    await base.with_new_file("/v", "2").publish(address)

    assert await dag.container().from_(address).file("/v").contents() == "1"


async def test_an_image_that_is_not_there(dag: dagger.Client, registry: str) -> None:
    with pytest.raises(dagger.QueryError, match="none"):
        await dag.container().from_(f"{registry}/none:latest").id()
    with pytest.raises(dagger.QueryError):
        await dag.container().from_("Not An Image").id()


# 183
async def test_archives(dag: dagger.Client, base: dagger.Container, workdir: Path, unique: str) -> None:
    image = base.with_new_file("/hello", unique).with_env_variable("A", "1")

    path = await image.export(f"{unique}.tar")

    assert path == str(workdir / f"{unique}.tar")
    with tarfile.open(path) as archive:
        assert {"oci-layout", "index.json", "manifest.json"} <= set(archive.getnames())
    told = json.loads(
        subprocess.run(
            ["skopeo", "inspect", f"oci-archive:{path}"], check=True, capture_output=True, text=True
        ).stdout
    )
    assert "A=1" in told["Env"]
    back = dag.container().import_(dag.host().file(path))
    assert await back.file("/hello").contents() == unique
    assert await back.env_variable("A") == "1"
    tarball = image.as_tarball()
    assert await tarball.name() == "container.tar"
    assert await tarball.size() == os.path.getsize(path)
    with pytest.raises(dagger.QueryError):
        await image.export(str(workdir))


# 167, 168, 169, 170, 174, 176
async def test_a_build_of_several_stages(
    dag: dagger.Client, base: dagger.Container, registry: str, unique: str
) -> None:
    await base.publish(f"{registry}/{unique}:base")
    dockerfile = f"""
ARG BASE={registry}/{unique}:base
FROM $BASE AS build
ARG GREETING=hello
COPY --chown=auser:agroup . /src/
RUN --mount=type=cache,target=/cache --mount=type=secret,id=token \
    sed "s/X/$GREETING/" /src/in > /out && wc -c < /run/secrets/token >> /out
RUN <<EOF
stat -c %u:%g /src/in >> /out
ls /src >> /out
EOF
FROM $BASE AS unused
RUN exit 1
FROM $BASE
ENV A=1 B=${{A:-2}}
COPY --from=build /out /result
LABEL l=v
EXPOSE 80
WORKDIR /w
ENTRYPOINT ["cat"]
CMD ["/result"]
"""
    context = (
        dag.directory()
        .with_new_file("in", "X\n")
        .with_new_file("ignored.log", "")
        .with_new_file(".dockerignore", "*.log\nci\n")
        .with_new_file("ci/Dockerfile", dockerfile)
    )
    secret = dag.set_secret("token", "12345")

    built = context.docker_build(
        dockerfile="ci/Dockerfile",
        build_args=[dagger.BuildArg(name="GREETING", value="bye")],
        secrets=[secret],
    )

    assert await built.file("/result").contents() == "bye\n5\n1234:4321\nin\n"
    assert await built.with_exec([], use_entrypoint=True).stdout() == "bye\n5\n1234:4321\nin\n"
    assert await built.workdir() == "/w"
    assert await built.env_variable("A") == "1"
    assert await built.label("l") == "v"
    stage = context.docker_build(dockerfile="ci/Dockerfile", target="build", secrets=[secret])
    assert await stage.file("/out").contents() == "hello\n5\n1234:4321\nin\n"
    with pytest.raises(dagger.QueryError):
        await dag.directory().with_new_file("Dockerfile", "FROM scratch\nNOPE x\n").docker_build().id()


# 161, 162, 163
async def test_git(dag: dagger.Client, tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *words]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q", "-b", "main")
    (tmp_path / "f").write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    git("tag", "v1.0.0")
    first = git("rev-parse", "HEAD")
    (tmp_path / "f").write_text("2")
    git("commit", "-q", "-am", "two")
    git("tag", "-a", "v1.10.0", "-m", "annotated")
    second = git("rev-parse", "HEAD")
    (tmp_path / "f").write_text("3")

    repository = dag.host().directory(str(tmp_path)).as_git()

    assert await repository.head().commit() == second
    assert await repository.branch("main").ref() == "refs/heads/main"
    assert await repository.tag("v1.10.0").commit() == second
    assert await repository.latest_version().commit() == second
    assert await repository.tags() == ["v1.0.0", "v1.10.0"]
    assert await repository.branches(patterns=["ma*"]) == ["main"]
    assert await repository.commit(first).tree(discard_git_dir=True).entries() == ["f"]
    tree = repository.tag("v1.0.0").tree()
    assert await tree.entries() == [".git/", "f"]
    assert await tree.file("f").contents() == "1"
    assert await repository.uncommitted().after().file("f").contents() == "3"
    with pytest.raises(dagger.QueryError, match="invalid commit SHA"):
        await repository.commit(first[:8]).commit()
    with pytest.raises(dagger.QueryError, match='does not contain ref "refs/heads/none"'):
        await repository.branch("none").commit()


# 166
async def test_http(dag: dagger.Client, base: dagger.Container, unique: str) -> None:
    service = (
        base.with_new_file("/www/file.txt", unique)
        .with_exposed_port(8080)
        .with_default_args(["httpd", "-f", "-p", "8080", "-h", "/www"])
        .as_service()
    )
    tunnel = await dag.host().tunnel(service).start()
    url = await tunnel.endpoint(scheme="http")
    try:
        file = dag.http(f"{url}/file.txt")
        assert await file.contents() == unique
        assert await file.name() == "file.txt"
        assert await file.stat().permissions() == 0o600
        assert await dag.http(f"{url}/file.txt", name="n", permissions=0o644).name() == "n"
        with pytest.raises(dagger.QueryError, match="404"):
            await dag.http(f"{url}/none").id()
        with pytest.raises(dagger.QueryError, match="http checksum mismatch"):
            await dag.http(f"{url}/file.txt", checksum="sha256:" + "0" * 64).id()
        with pytest.raises(dagger.QueryError, match="invalid checksum"):
            await dag.http(f"{url}/file.txt", checksum="nonsense").id()
    finally:
        await tunnel.stop()
    name = await service.hostname()
    hosted = dag.http(f"http://{name}:8080/file.txt", experimental_service_host=service)
    assert await hosted.contents() == unique
