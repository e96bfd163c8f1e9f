"""Time the ways to bring 73,200 small files into a store: threads, processes, C, and `cp -r` beside them.

Every way copies the same tree into a new directory, in a process of its own. Nothing is deleted before the
end (`host_directory.py` says why).

    python benchmarks/import_ways.py [--files 73200] [--rounds 2] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from pipeline.engine.sources.copying import Reader
from pipeline.engine.sources.readers import read_files

FILE_BYTES: Final = 3960
PER_FOLDER: Final = 100
BATCH: Final = 64

# Flag 1 keeps modes and times and looks twice at each file, as an import has to; no digest is computed.
C_COPY: Final = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static const char *target; static size_t skip; static int careful;
static int one(const char *path, const struct stat *seen, int kind, struct FTW *at) {
    static char out[4096], data[1 << 16]; struct stat info; (void)seen; (void)at;
    snprintf(out, sizeof out, "%s%s", target, path + skip);
    if (kind == FTW_D) return mkdir(out, 0755) && strcmp(out, target);
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int to = open(out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ssize_t size = read(from, data, sizeof data);
    if (fstat(from, &info) || write(to, data, size) != size) return 1;
    if (careful) {
        struct timespec times[2] = {info.st_mtim, info.st_mtim};
        if (fstat(from, &info) || fchmod(to, info.st_mode) || futimens(to, times)) return 1;
    }
    return close(from) | close(to);
}
int main(int count, char **words) {
    target = words[2]; skip = strlen(words[1]); careful = count > 3;
    return nftw(words[1], one, 64, FTW_PHYS);
}
"""


def make_tree(root: Path, files: int) -> None:
    """Write the files."""
    for number in range(files):
        path = root / f"p{number // 5000}/d{number // PER_FOLDER}/f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n".ljust(FILE_BYTES, b"x") % number)


def copy(way: str, source: str, target: str) -> None:
    """Copy by our own code: with `one thread`, `two threads` or `processes`."""
    paths = []
    for folder, names, files in os.walk(source):
        below = os.path.relpath(folder, source)
        for name in names:
            os.makedirs(os.path.join(target, below, name))
        paths += [os.path.join(below, name) for name in files]
    if way == "processes":
        read_files(source, target, paths)
        return
    batches = [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]
    with ThreadPoolExecutor(1 if way == "one thread" else 2) as pool:
        list(pool.map(Reader(source, target).read_batch, batches))


def ways(folder: Path) -> dict[str, list[str]]:
    """Return each way as a command that wants source and target."""
    program = folder / "copy"
    subprocess.run(["cc", "-O2", "-o", program, "-x", "c", "-"], input=C_COPY.encode(), check=True)
    ours = [sys.executable, __file__, "--copy"]
    return {
        "cp -r": ["cp", "-r"],
        "C, create and write": [os.fspath(program)],
        "C, modes and times too": [os.fspath(program), "careful"],
        "Python, one thread": [*ours, "one thread"],
        "Python, two threads": [*ours, "two threads"],
        "Python, processes": [*ours, "processes"],
    }


def timed(way: list[str], source: Path, target: Path) -> float:
    """Return the seconds that a way takes."""
    rest = [word for word in way if word == "careful"]
    argv = [word for word in way if word != "careful"]
    if "--copy" in argv:
        target.mkdir()
    began = time.perf_counter()
    subprocess.run([*argv, source, target, *rest], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print the best of each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=73_200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", help="a directory of the file system to measure on")
    parser.add_argument("--copy", nargs=3, metavar=("WAY", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.copy:
        copy(*options.copy)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make_tree(folder / "tree", options.files)
        commands = ways(folder)
        rounds = [
            {
                way: timed(command, folder / "tree", folder / f"{number}-{index}")
                for index, (way, command) in enumerate(commands.items())
            }
            for number in range(options.rounds)
        ]
    print(
        f"{options.files:,} files of {FILE_BYTES} bytes, best of {options.rounds}, start of Python included"
    )
    for way in commands:
        best = min(took[way] for took in rounds)
        ratio = best / min(took["cp -r"] for took in rounds)
        print(f"  {way:24} {best:6.2f} s  {best / options.files * 1e6:6.1f} us a file  {ratio:5.2f} of cp -r")


if __name__ == "__main__":
    main()
