"""How long images take to be read: a hostile one of a million entries, and archives of one's own.

    python benchmarks/images.py [--check] [ARCHIVE...]

Prints CPU seconds and the largest memory of the process so far. With `--check` it ends in 1 when the million
entries take more than 60 s of CPU or reading them more than 100 MB.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.scan.image.inventory import take_inventory
from pipeline.scan.image.layers import read_image
from tests.unit.scan.image.making import archive

if TYPE_CHECKING:
    from typing import BinaryIO

ENTRIES = 1_000_000
LIMIT_S = 60.0
LIMIT_MB = 100.0


def million() -> bytes:
    """An image whose one layer has a million empty files."""
    header = bytearray(tarfile.TarInfo("usr/share/xxxxxxxx").tobuf(tarfile.USTAR_FORMAT)[:512])
    bare = sum(header) - sum(header[10:18]) - sum(header[148:156]) + 8 * 32
    layer = bytearray()
    for number in range(ENTRIES):
        name = b"%08d" % number
        header[10:18] = name
        header[148:156] = b"%06o\0 " % (bare + sum(name))
        layer += header
    return archive([bytes(layer)])


def megabytes() -> float:
    """The most memory this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, file: BinaryIO) -> tuple[float, float]:
    """CPU seconds of one image, and by how much it raised the most memory, in MB."""
    before, began = megabytes(), time.process_time()
    inventory = take_inventory(read_image(file))
    took, more = time.process_time() - began, megabytes() - before
    print(f"{name}: {took:.2f} s CPU, {len(inventory.packages)} packages, {more:.0f} MB more")
    return took, more


def main() -> int:
    """Measure everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("archives", nargs="*", type=Path)
    args = parser.parse_args()
    for path in args.archives:
        with path.open("rb") as file:
            measure(path.name, file)
    took, more = measure("a million entries", io.BytesIO(million()))
    return int(args.check and (took > LIMIT_S or more > LIMIT_MB))


if __name__ == "__main__":
    sys.exit(main())
