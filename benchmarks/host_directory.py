"""Time loading a host directory of 4,000 files: for the first time, unchanged, and with one file changed.

In the same run `cp -r` copies the same directory and `git status` looks it over, so that the ratios say
something on any machine. Budgets: first 0.5 s, unchanged 0.1 s.

    python benchmarks/host_directory.py [--files 4000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine.ops import Filters
from pipeline.engine.sources.host import HostDirectories
from pipeline.engine.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

PER_FOLDER = 40
FILE_BYTES = 3000
SETTLE_S = 2.2  # younger files are never trusted


def make_tree(root: Path, files: int) -> None:
    """Write `files` small files and commit them."""
    for index in range(files):
        path = root / f"d{index // PER_FOLDER}" / f"f{index}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{index}\n".ljust(FILE_BYTES, "x"))
    who = ["-c", "user.name=b", "-c", "user.email=b@example.org", "-c", "gc.auto=0"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "files"]):
        subprocess.run(["git", *command], cwd=root, check=True)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def load(store: Store, root: Path) -> float:
    """Return the seconds that a new session takes to load the directory."""
    host = HostDirectories(store, root)
    return timed(lambda: asyncio.run(host.load(".", Filters(exclude=(".git",)))))


def one_round(folder: Path, root: Path) -> dict[str, float]:
    """Measure each case once, with a new store."""
    changed = root / "d0" / "f0.py"
    copy = folder / "copy"
    store = Store.open(folder / "store")
    try:
        took = {"first": load(store, root), "unchanged": load(store, root)}
        changed.write_text(str(time.time_ns()))
        took["one changed"] = load(store, root)
    finally:
        store.close()
    took["cp -r"] = timed(lambda: subprocess.run(["cp", "-r", root, copy], check=True))
    took["git status"] = timed(
        lambda: subprocess.run(
            ["git", "status", "--porcelain"], cwd=root, check=True, stdout=subprocess.DEVNULL
        )
    )
    for made in (copy, folder / "store"):
        shutil.rmtree(made)
    time.sleep(SETTLE_S)
    return took


def main() -> None:
    """Measure and print medians and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_tree(folder / "tree", options.files)
        time.sleep(SETTLE_S)
        rounds = [one_round(folder, folder / "tree") for _ in range(options.rounds)]
    median = {case: statistics.median(took[case] for took in rounds) for case in rounds[0]}
    print(f"{options.files} files of {FILE_BYTES} bytes, median of {options.rounds} rounds")
    for case, seconds in median.items():
        print(f"  {case:12} {seconds * 1000:8.1f} ms")
    print(f"  first / cp -r            {median['first'] / median['cp -r']:5.2f}")
    print(f"  unchanged / git status   {median['unchanged'] / median['git status']:5.2f}")
    print(f"  one changed / cp -r      {median['one changed'] / median['cp -r']:5.2f}")


if __name__ == "__main__":
    main()
