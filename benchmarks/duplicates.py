"""What looking for code in two places costs: jscpd as its lock pins it, as the stage `quality` runs it.

    python benchmarks/duplicates.py [FOLDER]

Without FOLDER: this repository. The tool is installed from the package index into a folder of its own; the
run is repeated, and the least is told. CPU is that of the tool and all its threads.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.scan.lint.duplicates import REPORT, Duplicates
from pipeline.scan.scanner import Ran, Target
from pipeline.stages.tools import locked_version, tool_lock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.scan.scanner import Scan

TIMES: Final = 5


def main() -> None:
    """Install, run, tell."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z"], check=True, capture_output=True, text=True)
    names = [name for name in listed.stdout.split("\0") if name and (root / name).is_file()]
    files = {name: (root / name).read_bytes() for name in Duplicates().wants(names)}
    with tempfile.TemporaryDirectory() as folder:
        tool = install(Path(folder) / "tool")
        times, scan = measure(tool, Path(folder), files)
    wall_s, cpu_s = (min(one[place] for one in times) for place in (0, 1))
    lines = sum(data.count(b"\n") for data in files.values())
    levels = Counter(one.severity.level for one in scan.findings)
    print(f"{len(files)} files, {lines} lines: {cpu_s:.2f} s of CPU, {wall_s:.2f} s")
    print(f"{scan.state}, findings: {dict(levels)}")


def install(folder: Path) -> Path:
    """Install the tool by its lock; return its program."""
    venv.create(folder, with_pip=True)
    lock = folder / "lock.txt"
    lock.write_text(tool_lock("jscpd"))
    pip = ("-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", str(lock))
    subprocess.run([str(folder / "bin/python"), *pip], check=True)
    return folder / "bin/jscpd"


def measure(tool: Path, folder: Path, files: Mapping[str, bytes]) -> tuple[list[tuple[float, float]], Scan]:
    """Run it several times over a copy of the files; wall and CPU seconds of each, and what it says."""
    place = folder / "project"
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    target = Target(root=str(place), files=files, version=locked_version("jscpd"))
    scanner = Duplicates()
    [command] = scanner.commands(target)
    moved = {path: f"{folder}{path}" for path in command.files} | {
        str(Path(REPORT).parent): f"{folder}/report"
    }
    for path, text in command.files.items():
        Path(moved[path]).parent.mkdir(parents=True, exist_ok=True)
        Path(moved[path]).write_text(text)
    argv = [str(tool), *(moved.get(one, one) for one in command.argv[1:])]
    times = []
    for _ in range(TIMES):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(argv, check=False, capture_output=True, cwd=place)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        times.append((time.perf_counter() - began, cpu_s))
    report = (
        (folder / "report" / Path(REPORT).name).read_bytes().replace(f"{folder}/canary".encode(), b"/canary")
    )
    ran = Ran(exit_code=0, stdout=b"", files={REPORT: report})
    return times, replace(scanner.read(target, [ran]), version=target.version)


if __name__ == "__main__":
    main()
