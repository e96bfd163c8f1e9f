"""What a new runner gains from a carried cache: cold, warm by directory, warm by registry.

    .venv/bin/python benchmarks/cache_travel.py [--project DIR]

Runs the pipeline of a project (this one) on stores that are new each time, without stage results: once with
nothing, once after `cache import` from a directory, once after `cache import` from a registry on loopback
(Debian's `docker-registry`). Export and import are timed too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = Path(sys.executable).parent / "pipeline"
ROOT = Path(__file__).parent.parent
CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Lend the address of a registry on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "registry.yml").write_text(CONFIG.format(root=folder / "registry", port=port))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(folder / "registry.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def timed(store: Path, project: Path, *argv: str) -> float:
    """Run `pipeline` on a store and return the seconds it took."""
    began = time.perf_counter()
    environ = {**os.environ, "PIPELINE_STORE": str(store), "PIPELINE_ENGINE_IDLE": "0"}
    done = subprocess.run(
        [str(COMMAND), *argv], cwd=project, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began


def runner(folder: Path, name: str, project: Path, source: str | None) -> tuple[float, float]:
    """Return the seconds of the import and of the run on a new machine."""
    checkout, store = folder / f"checkout-{name}", folder / f"store-{name}"
    subprocess.run(["git", "clone", "-q", str(project), str(checkout)], check=True)
    imported = timed(store, checkout, "cache", "import", source) if source else 0.0
    return imported, timed(store, checkout, "run", "-q", "--image-fallback", "recipe")


def main() -> None:
    """Measure, and print one line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", type=Path, default=ROOT)
    project = parser.parse_args().project.resolve()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, registry(Path(name)) as address:
        folder = Path(name)
        directory, image = str(folder / "cache"), f"oci://{address}/cache:main"
        _, cold = runner(folder, "cold", project, None)
        first = folder / "store-cold"
        written = timed(first, folder / "checkout-cold", "cache", "export", directory)
        again = timed(first, folder / "checkout-cold", "cache", "export", directory)
        pushed = timed(first, folder / "checkout-cold", "cache", "export", image)
        size = sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())
        rows = [("cold", 0.0, cold)]
        rows.append(("warm by directory", *runner(folder, "directory", project, directory)))
        rows.append(("warm by registry", *runner(folder, "registry", project, image)))
        print(f"export to a directory {written:.1f} s ({size / 1e6:.0f} MB), again {again:.1f} s")
        print(f"export to a registry {pushed:.1f} s")
        print(f"{'':20}{'import':>9}{'run':>9}{'together':>10}{'of cold':>9}")
        for label, imported, run in rows:
            total = imported + run
            print(f"{label:20}{imported:>8.1f}s{run:>8.1f}s{total:>9.1f}s{total / cold:>9.2f}")
        shutil.rmtree(folder / "registry", ignore_errors=True)


if __name__ == "__main__":
    main()
