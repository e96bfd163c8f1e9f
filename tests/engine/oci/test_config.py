"""Image configurations are read from and written to JSON without loss."""

from __future__ import annotations

import json

import pytest

from pipeline.digest import Digest
from pipeline.engine import ops
from pipeline.engine.oci.config import (
    History,
    ImageConfig,
    InvalidImage,
    ParsedImage,
    image_json,
    parse_image,
)

DIFF_ID = Digest("sha256:" + "1" * 64)
FULL = ImageConfig(  # noqa: S604 (a SHELL instruction, no subprocess)
    env=(("PATH", "/bin"), ("A", "b=c"), ("EMPTY", "")),
    entrypoint=("/entry",),
    cmd=(),
    user="1000:1000",
    workdir="/app",
    labels=(("a", "1"), ("b", "2")),
    exposed_ports=("53/udp", "80/tcp"),
    volumes=("/data", "/log"),
    stop_signal="SIGINT",
    healthcheck=ops.Healthcheck(  # noqa: S604
        args=("curl -f /",),
        shell=True,
        interval_s=30,
        timeout_s=1.5,
        retries=3,
    ),
    shell=("/bin/bash", "-c"),
    on_build=("RUN x",),
)


def test_a_full_configuration_comes_back_as_it_was() -> None:
    """Each field survives; nothing is invented."""
    data = image_json(FULL, "linux/arm64", [DIFF_ID], "2024-01-02T03:04:05Z", [History(created_by="RUN x")])

    assert parse_image(data) == ParsedImage(
        config=FULL,
        platform="linux/arm64",
        diff_ids=(DIFF_ID,),
        created="2024-01-02T03:04:05Z",
        history=(History(created_by="RUN x"),),
    )


def test_an_empty_configuration_is_short_and_canonical() -> None:
    """What is not set does not appear, nor does a time that would differ from build to build."""
    data = image_json(ImageConfig(), "linux/arm/v7", [DIFF_ID])

    assert data.decode() == (
        '{"architecture":"arm","config":{},"os":"linux","rootfs":{"diff_ids":["' + DIFF_ID + '"],'
        '"type":"layers"},"variant":"v7"}'
    )


def test_a_configuration_as_docker_writes_it_is_read() -> None:
    """Nulls count as not set, a repeated variable keeps its place and its last value, ports a protocol."""
    document = {
        "architecture": "arm64",
        "os": "linux",
        "variant": "v8",
        "container": "ignored",
        "config": {
            "Env": ["A=1", "B=2", "A=3"],
            "Cmd": None,
            "Entrypoint": None,
            "Labels": None,
            "ExposedPorts": {"8080": {}},
            "Healthcheck": {"Test": ["NONE"]},
            "OnBuild": None,
        },
        "rootfs": {"type": "layers", "diff_ids": None},
    }

    parsed = parse_image(json.dumps(document).encode())

    assert parsed == ParsedImage(
        config=ImageConfig(env=(("A", "3"), ("B", "2")), exposed_ports=("8080/tcp",)),
        platform="linux/arm64",
        diff_ids=(),
    )


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff", id="no-json"),
        pytest.param(b"[]", id="no-object"),
        pytest.param(b'{"config": {"Env": "A=1"}}', id="text-for-list"),
        pytest.param(b'{"config": {"Env": [1]}}', id="number-for-text"),
        pytest.param(b'{"config": []  , "rootfs": 3}', id="number-for-object"),
    ],
)
def test_what_is_no_configuration_is_refused(data: bytes) -> None:
    """A wrong shape is an error of ours, never a crash or a guess."""
    with pytest.raises(InvalidImage, match="cannot read an image's configuration: "):
        parse_image(data)
