"""Pull and push of an image of 500 MB (compressed) by our client, against `skopeo copy`, in one run.

    .venv/bin/python benchmarks/registry.py [--rounds N] [--megabytes N]

A real `docker-registry` on loopback serves both. Each measurement begins cold: pulls into an empty store or
folder, pushes to an empty registry. What each side does:

* pull, ours: fetch every blob into the store, compare it with its digest, flush it to the disk.
* pull, skopeo: `skopeo copy docker://… dir:…`, which fetches and compares, and flushes nothing.
* push, ours: publish the image, whose layers are blobs of the store; sent as they are.
* push, skopeo: `skopeo copy dir:… docker://…`, which sends them as they are, too.
* unpack, ours: every layer over the others into overlay directories, digests of the content compared.
* unpack, umoci: `umoci unpack` of the same image. Both need root.

Ours is timed in a process that runs already, as the engine does; theirs includes a start of about 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine.oci.compress import LayerSink
from pipeline.engine.oci.config import ImageConfig
from pipeline.engine.oci.credentials import Credentials
from pipeline.engine.oci.image import add_layer, publish
from pipeline.engine.oci.model import ImageToWrite
from pipeline.engine.oci.registry import Registry, RegistryLayers
from pipeline.engine.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.engine.oci.model import LayerBlob, ResolvedImage

PLATFORM = "linux/amd64"
LAYERS = 6
INSECURE = {"from": "--src-tls-verify=false", "to": "--dest-tls-verify=false"}


@contextmanager
def registry_at(root: Path) -> Iterator[str]:
    """Run an empty docker-registry and lend its address."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(root / "data")}},
        "http": {"addr": address, "secret": "benchmark"},
    }
    (root / "config.yml").write_text(json.dumps(config))
    with open(root / "log", "wb") as log:
        argv = ["docker-registry", "serve", str(root / "config.yml")]
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        host, _, port = address.partition(":")
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise
                time.sleep(0.02)
        yield address
    finally:
        process.terminate()
        process.wait()


def make_layer(store: Store, number: int, size_bytes: int) -> LayerBlob:
    """Keep a gzip layer of about `size_bytes` (compressed): binaries that hardly compress, texts that do."""
    chance = random.Random(number)  # noqa: S311
    words = [chance.randbytes(chance.randint(2, 9)).hex().encode() for _ in range(2000)]
    with store.blobs.writer() as writer:
        sink = LayerSink(writer, "Gzip")
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
            count = 0
            while writer.size_bytes < size_bytes:
                data = chance.randbytes(chance.choice([3_000, 40_000, 2_000_000]))
                data += b" ".join(chance.choices(words, k=len(data) // 60))
                info = tarfile.TarInfo(f"layer-{number}/{count // 50}/{count}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
                count += 1
        return sink.finish()


def client(store: Store) -> Registry:
    """Return our client, without this machine's credentials."""
    return Registry(store, credentials=Credentials({"XDG_RUNTIME_DIR": "/nowhere"}))


async def push(store: Store, address: str, image: ImageToWrite) -> float:
    """Return the seconds our push takes."""
    registry = client(store)
    began = time.perf_counter()
    await publish(registry, store, f"{address}/app:1", [image])
    taken = time.perf_counter() - began
    await registry.aclose()
    return taken


async def pull(store: Store, address: str) -> tuple[float, ResolvedImage]:
    """Return the seconds our pull takes, and what was pulled."""
    registry = client(store)
    began = time.perf_counter()
    image = await registry.resolve(f"{address}/app:1", PLATFORM)
    source = RegistryLayers(registry, image)
    await asyncio.gather(*(source.fetch(diff_id) for diff_id in image.image.diff_ids))
    taken = time.perf_counter() - began
    await registry.aclose()
    return taken, image


def unpack(store: Store, image: ResolvedImage) -> float:
    """Return the seconds it takes to unpack what was pulled."""
    began = time.perf_counter()
    snapshot = store.snapshots.empty
    for layer, diff_id in zip(image.layers, image.image.diff_ids, strict=True):
        snapshot = add_layer(store, snapshot, store.blobs.path(layer.digest), diff_id, diff_id)
    return time.perf_counter() - began


def timed(*argv: str) -> float:
    """Return the seconds a command takes."""
    began = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True)
    return time.perf_counter() - began


def settle() -> None:
    """Let the disk finish what came before, so that nobody pays for another's writes."""
    os.sync()
    time.sleep(0.5)


def measure_pulls(folder: Path, address: str, taken: dict[str, list[float]]) -> None:
    """Pull once with each side."""
    for name in ("dir", "pulled", "oci", "bundle"):
        shutil.rmtree(folder / name, ignore_errors=True)
    settle()
    source = f"docker://{address}/app:1"
    taken["pull, skopeo"].append(timed("skopeo", "copy", INSECURE["from"], source, f"dir:{folder / 'dir'}"))
    settle()
    store = Store.open(folder / "pulled")
    try:
        seconds, image = asyncio.run(pull(store, address))
        taken["pull, ours"].append(seconds)
        if os.geteuid() == 0:
            settle()
            taken["unpack, ours"].append(unpack(store, image))
            oci = f"{folder / 'oci'}:1"
            timed("skopeo", "copy", f"dir:{folder / 'dir'}", f"oci:{oci}")
            settle()
            taken["unpack, umoci"].append(timed("umoci", "unpack", "--image", oci, str(folder / "bundle")))
    finally:
        store.close()


def measure_pushes(folder: Path, store: Store, image: ImageToWrite, taken: dict[str, list[float]]) -> None:
    """Push once with each side, each to an empty registry."""
    settle()
    with registry_at(folder / "registry") as address:
        to = f"docker://{address}/app:1"
        taken["push, skopeo"].append(timed("skopeo", "copy", INSECURE["to"], f"dir:{folder / 'dir'}", to))
    settle()
    with registry_at(folder / "registry") as address:
        taken["push, ours"].append(asyncio.run(push(store, address, image)))


def show(name: str, taken: dict[str, list[float]], peer: str, megabytes: float) -> None:
    """Print a row: both sides' least seconds and the ratio."""
    if not taken[f"{name}, ours"]:
        return
    ours, theirs = min(taken[f"{name}, ours"]), min(taken[f"{name}, {peer}"])
    print(
        f"{name:8} ours {ours:6.2f} s ({megabytes / ours:4.0f} MB/s)   {peer} {theirs:6.2f} s   "
        f"ratio {ours / theirs:.2f}"
    )


def main() -> None:
    """Make the image, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=500, help="of all layers together, compressed")
    options = parser.parse_args()
    kinds = ("pull, ours", "pull, skopeo", "push, ours", "push, skopeo", "unpack, ours", "unpack, umoci")
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store.open(folder / "store")
        size_bytes = options.megabytes * 1_000_000 // LAYERS
        layers = tuple(make_layer(store, number, size_bytes) for number in range(LAYERS))
        image = ImageToWrite(config=ImageConfig(cmd=("sh",)), platform=PLATFORM, layers=layers)
        megabytes = sum(layer.size_bytes for layer in layers) / 1e6
        print(f"{LAYERS} layers, {megabytes:.0f} MB compressed")
        with registry_at(folder / "source") as address:
            asyncio.run(push(store, address, image))
            for _ in range(options.rounds):
                measure_pulls(folder, address, taken)
                measure_pushes(folder, store, image, taken)
        store.close()
    show("pull", taken, "skopeo", megabytes)
    show("push", taken, "skopeo", megabytes)
    show("unpack", taken, "umoci", megabytes)


if __name__ == "__main__":
    main()
