"""Image archives are read in both formats and written so that other tools take them."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.digest import Digest, digest_bytes
from pipeline.engine.oci.archive import read_archive, write_archive
from pipeline.engine.oci.errors import (
    ArchiveRejected,
    DuplicatePlatform,
    FormatRefused,
    PlatformNotOffered,
)
from pipeline.engine.oci.model import OCI_INDEX
from tests.engine.oci.samples import directory, entry, image, put_layer, sha256, tar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.engine.oci.model import ImageToWrite
    from pipeline.engine.store import Store

AMD64 = "linux/amd64"


def write(path: Path, store: Store, *images: ImageToWrite, **options: Any) -> Digest:
    """Write an archive to a file."""
    with open(path, "wb") as out:
        return write_archive(out, store, images, **options)


def run(*argv: object) -> str:
    """Run a tool, which must succeed, and return what it prints."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def docker_archive(store: Store, *tags: str) -> bytes:
    """Return what `docker save` of old writes: plain layers and a manifest.json."""
    layer = tar(entry("a", b"1"))
    files = []
    manifest = []
    for number, tag in enumerate(tags):
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": [tag]},
            "rootfs": {"type": "layers", "diff_ids": [digest_bytes(layer)]},
        }
        files += [entry(f"{number}.json", json.dumps(config).encode()), entry(f"{number}/layer.tar", layer)]
        manifest.append({"Config": f"{number}.json", "RepoTags": [tag], "Layers": [f"{number}/layer.tar"]})
    return tar(*files, entry("manifest.json", json.dumps(manifest).encode()))


@pytest.mark.parametrize("media_types", ["OCIMediaTypes", "DockerMediaTypes"])
@pytest.mark.anyio
async def test_what_was_written_is_read_back(
    tmp_path: Path, store: Store, other_store: Store, media_types: Any
) -> None:
    """All platforms, with their configurations and layers."""
    images = [
        image(put_layer(store, entry("a", each.encode())), platform=each, cmd=each)
        for each in (AMD64, "linux/arm/v7")
    ]
    write(tmp_path / "image.tar", store, *images, media_types=media_types)

    found = read_archive(tmp_path / "image.tar", other_store)

    assert list(found) == [AMD64, "linux/arm/v7"]
    for written in images:
        read = found[written.platform]
        assert read.image.config == written.config
        path = await read.layers.fetch(written.layers[0].diff_id)
        assert sha256(path) == written.layers[0].digest


def test_the_archive_has_fixed_bytes(tmp_path: Path, store: Store, other_store: Store) -> None:
    """Two stores, one content: one archive; its parts have no time and come in one order."""
    for each, name in ((store, "one"), (other_store, "two")):
        write(tmp_path / name, each, image(put_layer(each, directory("d"), entry("d/f", b"x"))))

    with tarfile.open(tmp_path / "one") as archive:
        members = [(info.name, info.mtime, info.mode) for info in archive]

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert members[:5] == [
        ("oci-layout", 0, 0o644),
        ("index.json", 0, 0o644),
        ("manifest.json", 0, 0o644),
        ("blobs", 0, 0o755),
        ("blobs/sha256", 0, 0o755),
    ]
    assert [name for name, _, _ in members[5:]] == sorted(name for name, _, _ in members[5:])
    assert len(members) == 8


@pytest.mark.parametrize("compression", [None, "Gzip", "Zstd", "Uncompressed"])
def test_skopeo_reads_the_archive(tmp_path: Path, store: Store, compression: Any) -> None:
    """Another implementation agrees about digests and configuration, and can copy every layer."""
    written = image(put_layer(store, directory("d"), entry("d/f", b"x")))
    digest = write(tmp_path / "image.tar", store, written, compression=compression)

    shown = json.loads(run("skopeo", "inspect", f"oci-archive:{tmp_path}/image.tar"))
    run("skopeo", "copy", f"oci-archive:{tmp_path}/image.tar", f"dir:{tmp_path}/copy")

    assert shown["Digest"] == digest
    assert shown["Labels"] == {"made-by": "tests"}
    assert shown["Architecture"] == "amd64"
    assert shown["Env"] == ["PATH=/bin"]


def test_docker_loads_the_archive(tmp_path: Path, store: Store) -> None:
    """The same file is a docker-archive, too: skopeo reads it as `docker load` would."""
    written = image(put_layer(store, entry("a", b"1")))
    write(tmp_path / "image.tar", store, written)

    shown = json.loads(run("skopeo", "inspect", f"docker-archive:{tmp_path}/image.tar"))
    config = json.loads(run("skopeo", "inspect", "--config", f"docker-archive:{tmp_path}/image.tar"))

    assert shown["Labels"] == {"made-by": "tests"}
    assert config["rootfs"]["diff_ids"] == [written.layers[0].diff_id]


@pytest.mark.root
def test_umoci_unpacks_the_archive(tmp_path: Path, store: Store) -> None:
    """The layers give the tree that they were made of, removals included."""
    lower = put_layer(store, directory("d"), entry("d/old", b"1"), entry("gone", b"1"))
    upper = put_layer(store, entry("d/new", b"2", mode=0o4755), entry(".wh.gone"))
    write(tmp_path / "image.tar", store, image(lower, upper))
    (tmp_path / "layout").mkdir()
    run("skopeo", "copy", f"oci-archive:{tmp_path}/image.tar", f"oci:{tmp_path}/layout:tag")

    run("umoci", "unpack", "--image", f"{tmp_path}/layout:tag", tmp_path / "bundle")

    root = tmp_path / "bundle/rootfs"
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["d", "d/new", "d/old"]
    assert (root / "d/new").stat().st_mode & 0o7777 == 0o4755


def test_what_skopeo_wrote_is_read(tmp_path: Path, store: Store, other_store: Store) -> None:
    """OCI layouts as directories and docker-archives from another tool, compressed or not."""
    written = image(put_layer(store, entry("a", b"1")))
    write(tmp_path / "image.tar", store, written)
    source = f"oci-archive:{tmp_path}/image.tar"
    run("skopeo", "copy", source, f"oci:{tmp_path}/layout:v1")
    run("skopeo", "copy", source, f"docker-archive:{tmp_path}/docker.tar:r.example/app:v1")
    (tmp_path / "docker.tar.gz").write_bytes(gzip.compress((tmp_path / "docker.tar").read_bytes()))

    found = [
        read_archive(tmp_path / "layout", other_store, tag="v1"),
        read_archive(tmp_path / "docker.tar", other_store, tag="r.example/app:v1"),
        read_archive(tmp_path / "docker.tar.gz", other_store, tag="v1"),
    ]

    for each in found:
        assert each[AMD64].image.config == written.config
        assert each[AMD64].image.diff_ids == (written.layers[0].diff_id,)


def test_one_of_several_images_is_taken_by_its_tag(tmp_path: Path, store: Store) -> None:
    """Without a tag the choice is not ours; with an unknown one the names are told."""
    path = tmp_path / "docker.tar"
    path.write_bytes(docker_archive(store, "a:1", "b:2"))

    found = read_archive(path, store, tag="b:2")
    with pytest.raises(ArchiveRejected) as unclear:
        read_archive(path, store)
    with pytest.raises(ArchiveRejected) as unknown:
        read_archive(path, store, tag="c:3")

    assert found[AMD64].image.config.cmd == ("b:2",)
    assert str(unclear.value) == (
        f"cannot read image archive `{path}`: it holds several images for one platform (a:1, b:2)"
    )
    assert unclear.value.hint == "name the tag to take"
    assert str(unknown.value) == f"cannot read image archive `{path}`: it has no image `c:3`, but a:1, b:2"


def test_the_platform_asked_for_is_taken_alone(tmp_path: Path, store: Store, other_store: Store) -> None:
    """Other platforms' layers do not come into the store."""
    layers = [put_layer(store, entry("a", each.encode())) for each in ("1", "2")]
    images = [image(layers[0]), image(layers[1], platform="linux/arm64")]
    write(tmp_path / "image.tar", store, *images)

    found = read_archive(tmp_path / "image.tar", other_store, platform="linux/aarch64")
    with pytest.raises(PlatformNotOffered, match="it is made for linux/amd64, linux/arm64"):
        read_archive(tmp_path / "image.tar", other_store, platform="linux/s390x")

    assert list(found) == ["linux/arm64"]
    assert [other_store.blobs.has(layer.digest) for layer in layers] == [False, True]


def _with_changed_layer(data: bytes) -> bytes:
    return data.replace(b"CONTENT-OF-THE-LAYER", b"CONTENT-OF-A-CHANGE!")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        pytest.param(lambda _: b"", "empty file", id="empty"),
        pytest.param(lambda _: b"text " * 300, "", id="no-tar"),
        pytest.param(lambda _: tar(entry("x")), "it holds neither index.json nor manifest.json", id="other"),
        pytest.param(lambda _: tar(entry("index.json", b"{")), "its `index.json` is not JSON", id="no-json"),
        pytest.param(lambda _: tar(entry("index.json", b"{}")), "it holds no image", id="no-image"),
        pytest.param(
            lambda _: tar(entry("index.json", b'{"manifests": [{"digest": "sha256:../../x", "size": 1}]}')),
            "is no sha256 digest",
            id="path-as-digest",
        ),
        pytest.param(_with_changed_layer, "its content has the digest", id="changed-layer"),
        pytest.param(lambda data: gzip.compress(data)[:-400], "", id="cut"),
        pytest.param(
            lambda _: tar(entry("manifest.json", b'[{"Config": "../../etc/passwd", "Layers": []}]')),
            "is not in it",
            id="climbs",
        ),
    ],
)
def test_what_is_no_archive_or_damaged_is_refused(
    tmp_path: Path, store: Store, other_store: Store, change: Callable[[bytes], bytes], what: str
) -> None:
    """The file is named, and nothing with a wrong digest is kept."""
    plain = tar(entry("a", b"CONTENT-OF-THE-LAYER"))
    from pipeline.engine.oci.image import describe_blob

    digest = store.blobs.put_bytes(plain)
    layer = describe_blob(store.blobs.path(digest), digest)
    out = io.BytesIO()
    write_archive(out, store, [image(layer)])
    path = tmp_path / "image.tar"
    path.write_bytes(change(out.getvalue()))

    with pytest.raises(ArchiveRejected) as caught:
        read_archive(path, other_store)

    assert str(caught.value).startswith(f"cannot read image archive `{path}`: ")
    assert what in str(caught.value)
    assert not other_store.blobs.has(digest)


def test_a_link_in_a_layout_directory_leads_nowhere(tmp_path: Path, store: Store) -> None:
    """Files outside of the directory are not read."""
    (tmp_path / "secret.json").write_text('{"manifests": []}')
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout/index.json").symlink_to("../secret.json")

    with pytest.raises(ArchiveRejected, match="it holds neither"):
        read_archive(tmp_path / "layout", store)


def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path: Path, store: Store) -> None:
    """No image, two for one platform, eStargz, and zstd with Docker's media types."""
    written = image(put_layer(store, entry("a", b"1")))
    refused: list[str] = []
    for images, options in [
        ([], {}),
        ([written, written], {}),
        ([written], {"compression": "EStarGZ"}),
        ([written], {"compression": "Zstd", "media_types": "DockerMediaTypes"}),
    ]:
        out = io.BytesIO()
        with pytest.raises((FormatRefused, DuplicatePlatform)) as caught:
            write_archive(out, store, images, **options)  # type: ignore[arg-type]
        assert out.getvalue() == b""
        refused.append(str(caught.value))

    assert refused == [
        "cannot write the image: there is no image to write",
        "cannot combine images into one index: two of them are for linux/amd64",
        "cannot write the image: eStargz layers are not supported",
        "cannot write the image: Docker media types have no name for zstd layers",
    ]


def test_indexes_that_list_each_other_often_are_read_once(tmp_path: Path, store: Store) -> None:
    """Four levels of a thousand entries each are four documents, not a million million."""
    blobs = tmp_path / "layout/blobs/sha256"
    blobs.mkdir(parents=True)
    (tmp_path / "layout/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    for _ in range(4):
        data = json.dumps(document).encode()
        digest = digest_bytes(data)
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        entries = [{"mediaType": OCI_INDEX, "digest": digest, "size": len(data)}] * 1000
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    (tmp_path / "layout/index.json").write_text(json.dumps(document))

    with pytest.raises(ArchiveRejected, match="it holds no image"):
        read_archive(tmp_path / "layout", store)
