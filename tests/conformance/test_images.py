"""Images: to and from registries, archives and the host's container engine."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import dagger
import pytest

from tests.conformance.conftest import busybox

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.conftest import Engines

pytestmark = [pytest.mark.anyio, pytest.mark.root]


def skopeo(*words: str | Path) -> Any:
    """Return what skopeo tells as JSON."""
    done = subprocess.run(["skopeo", *words], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def manifest(reference: str) -> Any:
    """Return the manifest, or index, that a registry has under a reference `…:tag@digest`."""
    name, _, digest = reference.partition("@")
    repository = name.rpartition(":")[0]
    return skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{repository}@{digest}")


# ---- from ------------------------------------------------------------------------------------


async def test_names_are_completed(
    dag: dagger.Client, base: dagger.Container, registry: str, unique: str
) -> None:
    """29. Without a tag an image is its `latest`."""
    await base.with_new_file("/f", unique).publish(f"{registry}/{unique}")

    short, full = (dag.container().from_(f"{registry}/{unique}{tag}") for tag in ("", ":latest"))

    assert await short.rootfs().digest() == await full.rootfs().digest()
    assert await short.image_ref() == await full.image_ref()


async def test_the_reference_of_an_image(
    dag: dagger.Client, base: dagger.Container, registry: str, unique: str
) -> None:
    """30. Right after `from` the reference has the digest; after other configuration it is an error."""
    reference = await base.publish(f"{registry}/{unique}:v1")

    pulled = dag.container().from_(f"{registry}/{unique}:v1")

    assert await pulled.image_ref() == reference
    with pytest.raises(dagger.QueryError, match="Image reference can only be retrieved"):
        await pulled.with_env_variable("B", "1").image_ref()


async def test_a_tag_is_resolved_once_per_session(
    dag: dagger.Client, base: dagger.Container, registry: str, unique: str
) -> None:
    """31. What a tag leads to stays the same as long as the session."""
    address = f"{registry}/{unique}:moving"
    await base.with_new_file("/v", "1").publish(address)
    assert await dag.container().from_(address).file("/v").contents() == "1"

    await base.with_new_file("/v", "2").publish(address)

    assert await dag.container().from_(address).file("/v").contents() == "1"


async def test_a_tag_is_resolved_again_in_the_next_session(
    engines: Engines, rootfs: Path, registry: str, unique: str
) -> None:
    """31. Another session asks the registry again."""
    address = f"{registry}/{unique}:moving"
    for content in ("1", "2"):
        async with engines.session() as dag:
            await busybox(dag, rootfs).with_new_file("/v", content).publish(address)
        async with engines.session() as dag:
            assert await dag.container().from_(address).file("/v").contents() == content


async def test_what_an_image_replaces(
    dag: dagger.Client, base: dagger.Container, registry: str, unique: str
) -> None:
    """32. An image's variables are added to the container's; entrypoint and workdir are the image's."""
    image = base.with_env_variable("A", "image").with_entrypoint(["echo"]).with_workdir("/tmp")
    reference = await image.with_exposed_port(80).with_label("l", "1").publish(f"{registry}/{unique}:v1")

    parent = dag.container().with_env_variable("MINE", "1").with_workdir("/mine").with_entrypoint(["x"])
    pulled = parent.with_env_variable("A", "mine").from_(reference)

    assert (await pulled.env_variable("A"), await pulled.env_variable("MINE")) == ("image", "1")
    assert (await pulled.workdir(), await pulled.entrypoint()) == ("/tmp", ["echo"])
    assert await pulled.label("l") == "1"
    assert [(await p.port(), await p.description()) for p in await pulled.exposed_ports()] == [(80, None)]
    assert await pulled.with_exec(["hi"], use_entrypoint=True).stdout() == "hi\n"


async def test_an_image_that_is_not_there(dag: dagger.Client, registry: str) -> None:
    """An image that no registry has, and a text that names none, are errors when the query runs."""
    with pytest.raises(dagger.QueryError, match="none"):
        await dag.container().from_(f"{registry}/none:latest").id()
    with pytest.raises(dagger.QueryError):
        await dag.container().from_("Not An Image").id()


# ---- publish ---------------------------------------------------------------------------------


async def test_publish_and_pull(
    dag: dagger.Client, base: dagger.Container, registry: str, unique: str
) -> None:
    """178. Publishing tells the whole reference; what is pulled by it has the same root and configuration."""
    image = base.with_new_file("/hello", unique).with_user("auser").with_default_args(["x"])

    reference = await image.publish(f"{registry}/{unique}:v1")

    assert reference.startswith(f"{registry}/{unique}:v1@sha256:")
    pulled = dag.container().from_(reference)
    assert await pulled.file("/hello").contents() == unique
    assert (await pulled.user(), await pulled.default_args()) == ("auser", ["x"])
    assert await pulled.rootfs().digest() == await image.rootfs().digest()


async def test_variants_become_an_index(
    dag: dagger.Client, base: dagger.Container, registry: str, unique: str
) -> None:
    """178. With variants an index is published, one image for each platform; an empty receiver is none."""
    arm, power = (
        dag.container(platform=dagger.Platform(f"linux/{name}")).with_new_file(f"/{name}", unique)
        for name in ("arm64", "ppc64le")
    )
    empty = dag.container()

    both = manifest(await base.publish(f"{registry}/{unique}:both", platform_variants=[arm]))
    only = manifest(await empty.publish(f"{registry}/{unique}:only", platform_variants=[arm, power]))

    assert both["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert sorted(m["platform"]["architecture"] for m in both["manifests"]) == ["amd64", "arm64"]
    assert sorted(m["platform"]["architecture"] for m in only["manifests"]) == ["arm64", "ppc64le"]
    pulled = dag.container(platform=dagger.Platform("linux/arm64")).from_(f"{registry}/{unique}:both")
    assert await pulled.file("/arm64").contents() == unique


@pytest.mark.differs("there it is published without a tag in the reference")
async def test_a_published_reference_has_a_tag(base: dagger.Container, registry: str, unique: str) -> None:
    """178. An image that is published without a tag is the `latest`."""
    reference = await base.publish(f"{registry}/{unique}")

    assert reference.startswith(f"{registry}/{unique}:latest@sha256:")


@pytest.mark.differs("there one of the two is published")
async def test_a_platform_is_published_once(base: dagger.Container, registry: str, unique: str) -> None:
    """178. Two images for one platform are refused."""
    with pytest.raises(dagger.QueryError):
        await base.publish(f"{registry}/{unique}:twice", platform_variants=[base])


async def test_annotations(base: dagger.Container, registry: str, unique: str) -> None:
    """179. Annotations stand in the manifest, those that were taken back do not."""
    image = base.with_annotation("org.example.a", "1").with_annotation("b", "2").without_annotation("b")

    found = manifest(await image.publish(f"{registry}/{unique}:v1"))

    assert found["annotations"] == {"org.example.a": "1"}


@pytest.mark.parametrize(
    ("compression", "media_types", "expected"),
    [
        ("GZIP", "OCI", "oci.image.layer.v1.tar+gzip"),
        ("ZSTD", "OCI", "oci.image.layer.v1.tar+zstd"),
        ("UNCOMPRESSED", "OCI", "oci.image.layer.v1.tar"),
        ("GZIP", "DOCKER", "docker.image.rootfs.diff.tar.gzip"),
    ],
    ids=["gzip", "zstd", "plain", "docker"],
)
async def test_media_types(
    dag: dagger.Client,
    registry: str,
    unique: str,
    compression: str,
    media_types: str,
    expected: str,
) -> None:
    """179. Layers are compressed, and manifests written, as asked for."""
    image = dag.container().with_new_file("/f", unique)

    reference = await image.publish(
        f"{registry}/{unique}:v1",
        forced_compression=dagger.ImageLayerCompression[compression],
        media_types=dagger.ImageMediaTypes[media_types],
    )

    found = manifest(reference)
    assert [layer["mediaType"] for layer in found["layers"]] == [f"application/vnd.{expected}"]
    assert found["mediaType"].startswith(f"application/vnd.{media_types.lower()}")
    assert await dag.container().from_(reference).file("/f").contents() == unique


@pytest.mark.differs("there nothing cannot be published")
async def test_nothing_has_no_layers(dag: dagger.Client, registry: str, unique: str) -> None:
    """179. A container without files is an image without layers."""
    found = manifest(await dag.container().with_label("l", unique).publish(f"{registry}/{unique}"))

    assert found["layers"] == []


async def test_layers_of_the_base_stay(
    dag: dagger.Client, base: dagger.Container, registry: str, unique: str
) -> None:
    """180. What is added becomes one layer; those below keep their digests."""
    below = await base.with_new_file("/a", unique).publish(f"{registry}/{unique}:a")
    above = await dag.container().from_(below).with_new_file("/b", unique).publish(f"{registry}/{unique}:b")

    lower, upper = (
        [layer["digest"] for layer in manifest(reference)["layers"]] for reference in (below, above)
    )

    assert upper[:-1] == lower


@pytest.mark.differs("there the times of the build are in the layers")
async def test_equal_content_is_an_equal_image(
    engines: Engines, rootfs: Path, registry: str, unique: str
) -> None:
    """180. The same recipe in another store, at another time, gives the same digest."""
    references = []
    for store in ("one", "two"):
        async with engines.session(store) as dag:
            made = busybox(dag, rootfs).with_exec(["sh", "-c", f"mkdir /d; echo {unique} > /d/f"])
            references.append(await made.publish(f"{registry}/{unique}:{store}"))

    digests = {reference.partition("@")[2] for reference in references}
    assert len(digests) == 1


def unpacked(reference: str, folder: Path) -> Path:
    """Return the root that umoci makes of a published image."""
    name, _, digest = reference.partition("@")
    source = f"docker://{name.rpartition(':')[0]}@{digest}"
    subprocess.run(
        ["skopeo", "copy", "-q", "--src-tls-verify=false", source, f"oci:{folder}/layout:it"], check=True
    )
    subprocess.run(
        ["umoci", "unpack", "--image", f"{folder}/layout:it", folder / "bundle"],
        check=True,
        capture_output=True,
    )
    return folder / "bundle" / "rootfs"


@pytest.mark.skipif(os.geteuid() != 0, reason="umoci changes owners on the host")
async def test_removals_across_layers(
    engines: Engines, rootfs: Path, registry: str, unique: str, tmp_path: Path
) -> None:
    """181. What a later layer removes or replaces stays gone after push and pull, for umoci too."""
    async with engines.session() as dag:
        make = "mkdir -p /x/gone /x/new /x/stay; cd /x; touch gone/a new/old f stay/a stay/b"
        low = busybox(dag, rootfs).with_exec(["sh", "-c", make])
        await low.publish(f"{registry}/{unique}:low")
        mid = dag.container().from_(f"{registry}/{unique}:low").without_file("/x/f")
        high = mid.with_exec(
            ["/bin/sh", "-c", "rm -r /x/gone /x/stay/a; rm -r /x/new; mkdir /x/new; touch /x/new/young"]
        )
        expected = ["new/", "new/young", "stay/", "stay/b"]
        assert await high.directory("/x").glob("**") == expected
        reference = await high.publish(f"{registry}/{unique}:high")

    async with engines.session("other") as dag:
        assert await dag.container().from_(reference).directory("/x").glob("**") == expected
    root = unpacked(reference, tmp_path) / "x"
    assert sorted(os.path.relpath(path, root) for path in root.rglob("*")) == [
        "new", "new/young", "stay", "stay/b",
    ]  # fmt: skip


XATTR = r"""
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
/* xattr FILE sets a capability and an attribute of the user's; xattr FILE NAME prints one in hexadecimal. */
int main(int argc, char **argv) {
    unsigned char cap[20] = {1, 0, 0, 2, 0, 4}, value[64];
    if (argc == 2)
        return setxattr(argv[1], "security.capability", cap, sizeof cap, 0) != 0;
    long n = getxattr(argv[1], argv[2], value, sizeof value);
    for (long i = 0; i < n; i++) printf("%02x", value[i]);
    puts(n < 0 ? "none" : "");
    return 0;
}
"""

ODD_FILES = r"""
set -e
mkdir /x; cd /x
echo text > a; ln a hard; ln -s nowhere dangling
mkfifo pipe; cp /bin/busybox suid; chmod 4755 suid; chown 5:6 a
echo c > cap; /bin/xattr cap
touch "$(printf 'raw-\377')"
long=$(printf 'n%.0s' $(seq 150)); mkdir -p $long/$long; touch $long/$long/end
mkdir -m 1777 sticky
"""

ODD_LOOK = r"""
cd /x
[ a -ef hard ] && echo linked
stat -c '%n %a %u:%g %F' a pipe suid sticky dangling
readlink dangling; /bin/xattr cap security.capability
echo raw* | od -An -tx1; find . -name end | wc -c
"""


@pytest.fixture(scope="session")
def xattr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that sets and reads extended attributes."""
    folder = tmp_path_factory.mktemp("xattr")
    (folder / "xattr.c").write_text(XATTR)
    subprocess.run(["cc", "-static", "-O1", "-w", "-o", folder / "xattr", folder / "xattr.c"], check=True)
    return folder / "xattr"


async def test_odd_files_survive(
    engines: Engines, rootfs: Path, xattr: Path, registry: str, unique: str
) -> None:
    """182. Hard links, capabilities, pipes, set-id bits, long paths and raw names survive a round trip."""
    async with engines.session() as dag:
        made = busybox(dag, rootfs).with_file("/bin/xattr", dag.host().file(str(xattr)))
        made = made.with_new_file("/unique", unique).with_exec(["sh", "-c", ODD_FILES])
        before = await made.with_exec(["sh", "-c", ODD_LOOK]).stdout()
        reference = await made.publish(f"{registry}/{unique}")
        archive = await made.export(f"{unique}.tar")

    async with engines.session("other") as dag:
        pulled = await dag.container().from_(reference).with_exec(["sh", "-c", ODD_LOOK]).stdout()
        imported = dag.container().import_(dag.host().file(archive))
        read = await imported.with_exec(["sh", "-c", ODD_LOOK]).stdout()

    assert before.splitlines() == [
        "linked",
        "a 644 5:6 regular file",
        "pipe 644 0:0 fifo",
        "suid 4755 0:0 regular file",
        "sticky 1777 0:0 directory",
        "dangling 777 0:0 symbolic link",
        "nowhere",
        "0100000200040000000000000000000000000000",
        " 72 61 77 2d ff 0a",
        "308",
    ]
    assert pulled == read == before


# ---- archives --------------------------------------------------------------------------------


async def test_archives(dag: dagger.Client, base: dagger.Container, workdir: Path, unique: str) -> None:
    """183. An archive is an OCI layout and a Docker archive, and can be taken back."""
    image = base.with_new_file("/hello", unique).with_env_variable("A", "1")

    path = await image.export(f"{unique}.tar")

    assert path == str(workdir / f"{unique}.tar")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with tarfile.open(path) as archive:
        assert {"oci-layout", "index.json", "manifest.json"} <= set(archive.getnames())
    assert "A=1" in skopeo("inspect", f"oci-archive:{path}")["Env"]
    back = dag.container().import_(dag.host().file(path))
    assert await back.file("/hello").contents() == unique
    assert await back.env_variable("A") == "1"
    assert await back.rootfs().digest() == await image.rootfs().digest()
    with pytest.raises(dagger.QueryError):
        await image.export(str(workdir))


async def test_archives_as_files(base: dagger.Container, workdir: Path, unique: str) -> None:
    """183. An archive can be had as a file of the engine, named `container.tar`."""
    image = base.with_new_file("/hello", unique)

    tarball = image.as_tarball()

    assert await tarball.name() == "container.tar"
    path = await tarball.export(str(workdir / f"{unique}.tar"))
    assert skopeo("inspect", f"oci-archive:{path}")["Architecture"] == "amd64"


async def test_one_of_several_images_is_imported_by_its_tag(
    dag: dagger.Client, tmp_path: Path, unique: str
) -> None:
    """183. Where an archive holds several images, the tag picks; without one the choice is not clear."""
    for name in ("one", "two"):
        path = await dag.container().with_new_file("/f", f"{unique} {name}").export(str(tmp_path / name))
        source, target = f"oci-archive:{path}", f"oci:{tmp_path}/layout:{name}"
        subprocess.run(["skopeo", "copy", "-q", source, target], check=True)
    with tarfile.open(tmp_path / "both.tar", "w") as archive:
        archive.add(tmp_path / "layout", ".")
    both = dag.host().file(str(tmp_path / "both.tar"))

    assert await dag.container().import_(both, tag="two").file("/f").contents() == f"{unique} two"
    with pytest.raises(dagger.QueryError):
        await dag.container().import_(both, tag="three").sync()


STAND_IN = r"""#!/bin/sh
# A container engine's command line, as far as images go, kept in an OCI layout.
set -e
case $1 in
    load)
        tar -xOf "$3" manifest.json > "$IMAGES.json"
        exec skopeo copy -q "docker-archive:$3" "oci:$IMAGES:loaded" ;;
    save) exec skopeo copy -q "oci:$IMAGES:$4" "docker-archive:$3:$4:latest" ;;
esac
"""


async def test_images_of_the_hosts_container_engine(
    engines: Engines, rootfs: Path, tmp_path: Path, unique: str
) -> None:
    """An image is given to the host's container engine, and taken from it, by its command line."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(STAND_IN)
    (tmp_path / "bin" / "docker").chmod(0o755)
    environ = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "IMAGES": str(tmp_path / "images")}

    async with engines.session(**environ) as dag:
        image = busybox(dag, rootfs).with_new_file("/hello", unique)
        with pytest.raises(Exception, match="Void"):  # what the SDK makes of success
            await image.export_image("app:v1")
        (told,) = json.loads((tmp_path / "images.json").read_text())
        assert told["RepoTags"] == ["docker.io/library/app:v1"]
        taken = dag.host().container_image("loaded")
        assert await taken.file("/hello").contents() == unique
        assert await taken.rootfs().digest() == await image.rootfs().digest()
        with pytest.raises(dagger.QueryError, match="cannot save the image `none`"):
            await dag.host().container_image("none").id()


async def test_a_host_without_a_container_engine(engines: Engines, tmp_path: Path) -> None:
    """Without one the error says what was looked for."""
    (tmp_path / "bin").mkdir()
    for name in ("git", "runc", "iptables", "ip"):
        if path := shutil.which(name):
            (tmp_path / "bin" / name).symlink_to(path)

    async with engines.session(PATH=str(tmp_path / "bin")) as dag:
        with pytest.raises(dagger.QueryError, match="none of docker, podman, nerdctl, finch is"):
            await dag.host().container_image("x").id()
