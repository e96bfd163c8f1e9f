"""`pip install` of a real requirements file in a container, against the same in a plain virtual environment.

    .venv/bin/python benchmarks/pip_install.py [--requirements FILE] [--rounds N]

Both use Debian bookworm's Python 3.11: the container the stand-in for `python:3.11-slim`, the plain one this
machine's `/usr/bin/python3`, so this is for Debian bookworm. Wheels are downloaded before anything is timed;
each round makes a new environment in each, in turn. Bytecode is compiled, as pip does it by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dagger  # noqa: TC002 - imported here, so that it is not part of what is timed

from pipeline.connect import open_session, parse_target
from pipeline.engine.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parent.parent
PYTHON = "/usr/bin/python3"
IMAGE = "python:3.11-slim"


def install_argv(environment: str, wheels: str, requirements: str) -> list[str]:
    """Return the command that is timed."""
    quiet = ["-q", "--disable-pip-version-check", "--no-cache-dir", "--root-user-action=ignore"]
    return [
        *(f"{environment}/bin/pip", "install", *quiet, "--no-index", "--find-links", wheels),
        *("-r", requirements),
    ]


def plain(folder: Path, wheels: Path, requirements: Path) -> float:
    """Return the seconds it takes in a plain virtual environment."""
    subprocess.run([PYTHON, "-m", "venv", str(folder)], check=True)
    began = time.perf_counter()
    subprocess.run(install_argv(str(folder), str(wheels), str(requirements)), check=True)
    return time.perf_counter() - began


async def contained(client: dagger.Client, wheels: Path, requirements: Path, number: int) -> float:
    """Return the seconds it takes in a container."""
    container = client.container().from_(IMAGE)
    container = container.with_mounted_directory("/wheels", client.host().directory(str(wheels)))
    container = container.with_mounted_file("/requirements.txt", client.host().file(str(requirements)))
    container = container.with_env_variable("ROUND", str(number))
    container = await container.with_exec(["python3", "-m", "venv", "/venv"]).sync()
    began = time.perf_counter()
    await container.with_exec(install_argv("/venv", "/wheels", "/requirements.txt")).sync()
    return time.perf_counter() - began


async def measure(requirements: Path, rounds: int, folder: Path) -> tuple[list[float], list[float]]:
    """Return the seconds of all rounds in containers and in plain environments."""
    wheels = folder / "wheels"
    download = ["download", "-q", "--disable-pip-version-check", "-d", str(wheels), "-r", str(requirements)]
    subprocess.run([PYTHON, "-m", "venv", str(folder / "pip")], check=True)
    subprocess.run([str(folder / "pip/bin/pip"), *download], check=True)
    inside, outside = [], []
    settings = EngineSettings(image_fallback="recipe")
    async with open_session(
        parse_target("embedded"), settings, workdir=folder, observer=lambda _event: None
    ) as client:
        for number in range(rounds):
            inside.append(await contained(client, wheels, requirements, time.time_ns()))
            outside.append(plain(folder / f"venv-{number}", wheels, requirements))
    return inside, outside


def show(name: str, seconds: Sequence[float]) -> None:
    """Print one line."""
    print(f"{name:40}{min(seconds):>8.2f} s{statistics.median(seconds):>8.2f} s")


def main() -> None:
    """Measure, and print minima, medians and the ratio of the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requirements", type=Path, default=ROOT / "requirements.lock")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        inside, outside = asyncio.run(measure(options.requirements.resolve(), options.rounds, Path(name)))
    print(f"{'pip install of ' + options.requirements.name:40}{'min':>10}{'median':>10}")
    show("in a container of the embedded engine", inside)
    show("in a plain virtual environment", outside)
    print(f"ratio of the medians: {statistics.median(inside) / statistics.median(outside):.2f}")


if __name__ == "__main__":
    main()
