"""Time loading host directories of several sizes: for the first time, unchanged, and with one file changed.

In the same run `cp -r` copies the same directory and `git status` looks it over, so that the ratios say
something on any machine. Nothing is deleted before the end, and each case is measured in a process of its
own: ext4 without a journal searches past every inode that was freed in the last minutes, so that what
follows a large deletion takes up to twenty times as long, for `cp` as for us.

    python benchmarks/host_directory.py [--rounds 3] [--only small|large|heavy] [--folder DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.actions import Filters
from pipeline.engine.sources.host import HostDirectories
from pipeline.engine.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

PER_FOLDER: Final = 100
SETTLE_S: Final = 2.2  # younger files are never trusted


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One kind of directory, and what its cases may take in seconds."""

    files: int
    file_bytes: int
    extra: int = 0  # files in `node_modules`, for the case without them
    budgets: dict[str, float]


TREES: Final = {
    "small": Tree(files=4000, file_bytes=3000, budgets={"first": 0.5, "unchanged": 0.1}),
    "heavy": Tree(files=426, file_bytes=18_100, budgets={"first": 0.15, "unchanged": 0.02}),
    "large": Tree(
        files=200,
        file_bytes=3960,
        extra=73_000,
        budgets={"first": 6.0, "unchanged": 0.8, "without node_modules": 0.05},
    ),
}


def make_tree(root: Path, tree: Tree) -> None:
    """Write the files and commit them."""
    names = [f"d{n // PER_FOLDER}/f{n}.py" for n in range(tree.files)]
    names += [f"node_modules/p{n // 5000}/d{n // PER_FOLDER}/f{n}.js" for n in range(tree.extra)]
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n".ljust(tree.file_bytes, "x"))
    who = ["-c", "user.name=b", "-c", "user.email=b@example.org", "-c", "gc.auto=0"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "files"]):
        subprocess.run(["git", *command], cwd=root, check=True)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def load(store: Store, root: Path, *exclude: str) -> float:
    """Return the seconds that a new session takes to load the directory."""
    host = HostDirectories(store, root)
    return timed(lambda: asyncio.run(host.load(".", Filters(exclude=(".git", *exclude)))))


def measure(root: Path, store_path: Path, *, has_extra: bool) -> dict[str, float]:
    """Measure each case once, with a new store."""
    store = Store.open(store_path)
    took = {}
    (store_path / "empty").mkdir()
    try:
        load(store, store_path / "empty")  # an engine at work has its modules loaded
        if has_extra:
            took["without node_modules"] = load(store, root, "node_modules")
        took["first"] = load(store, root)
        took["unchanged"] = load(store, root)
        (root / "d0" / "f0.py").write_text(str(time.time_ns()))
        took["one changed"] = load(store, root)
    finally:
        store.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**took, "peak MiB": peak / 1024}


def one_round(folder: Path, root: Path, number: int, tree: Tree) -> dict[str, float]:
    """Measure our cases and the peers' once."""
    argv: list[str | Path] = [sys.executable, __file__, "--measure", root, folder / f"store-{number}"]
    told = subprocess.run([*argv, *(["--extra"] if tree.extra else [])], check=True, stdout=subprocess.PIPE)
    took: dict[str, float] = json.loads(told.stdout)
    files = root.parent / "files"  # without `.git`
    took["cp -r"] = timed(lambda: subprocess.run(["cp", "-r", files, folder / f"copy-{number}"], check=True))
    status = ["git", "status", "--porcelain"]
    took["git status"] = timed(
        lambda: subprocess.run(status, cwd=root, check=True, stdout=subprocess.DEVNULL)
    )
    time.sleep(SETTLE_S)
    return took


def report(name: str, tree: Tree, rounds: list[dict[str, float]]) -> None:
    """Print the median and the best of each case, its budget, and the ratios."""
    count, size = tree.files + tree.extra, (tree.files + tree.extra) * tree.file_bytes
    print(f"{name}: {count:,} files, {size / 1e6:.1f} MB; median (best) of {len(rounds)}")
    median = {case: statistics.median(took[case] for took in rounds) for case in rounds[0]}
    for case, value in median.items():
        if case == "peak MiB":
            print(f"  {case:24} {value:8.0f}")
            continue
        best = min(took[case] for took in rounds)
        budget = f"  budget {tree.budgets[case] * 1000:.0f}" if case in tree.budgets else ""
        print(f"  {case:24} {value * 1000:8.1f} ms ({best * 1000:.1f}){budget}")
    for case, peer in (("first", "cp -r"), ("unchanged", "git status"), ("one changed", "cp -r")):
        print(f"  {case} / {peer:15} {median[case] / median[peer]:8.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=list(TREES))
    parser.add_argument("--folder", help="a directory of the file system to measure on")
    parser.add_argument("--measure", nargs=2, metavar=("ROOT", "STORE"), help=argparse.SUPPRESS)
    parser.add_argument("--extra", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        root, store = map(Path, options.measure)
        print(json.dumps(measure(root, store, has_extra=options.extra)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        for name, tree in TREES.items():
            if options.only not in (None, name):
                continue
            folder = Path(place, name)
            make_tree(folder / "tree", tree)
            shutil.copytree(folder / "tree", folder / "files", ignore=shutil.ignore_patterns(".git"))
            time.sleep(SETTLE_S)
            report(name, tree, [one_round(folder, folder / "tree", n, tree) for n in range(options.rounds)])


if __name__ == "__main__":
    main()
