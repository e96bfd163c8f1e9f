"""The real tools, installed from the locks of the package, run without a container.

A scanner names `/src`, `/canary` and `/rules`. Here these folders lie in a temporary one, whose name is
put before them in the command and taken away again from what the tool says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from pipeline.scan.scanner import Ran, Scan, Target
from pipeline.stages.tools import locked_version, tool_lock

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.scan.scanner import Command, CommandScanner

LIMIT_S = 300
PLACES = ("/src", "/canary", "/rules", "/home/scan")


def install(tool: str, folder: Path) -> Path:
    """Install a tool into an environment of its own; return the folder of its programs."""
    lock, venv = folder / f"{tool}.txt", folder / tool
    lock.write_text(tool_lock(tool))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    wanted = ["--no-deps", "--require-hashes", "--python", str(venv / "bin" / "python"), "-r", str(lock)]
    subprocess.run([sys.executable, "-m", "uv", "pip", "install", "-q", *wanted], check=True)
    return venv / "bin"


def place(folder: Path, name: str) -> Path:
    """Where a path of a command lies here."""
    return folder / name.lstrip("/")


def run_here(command: Command, folder: Path, programs: Path) -> Ran:
    """Run a command, its absolute paths inside a folder."""

    def moved(word: str) -> str:
        bare = word.removeprefix("@")
        return word.replace(bare, f"{folder}{bare}") if bare.startswith(PLACES) else word

    for name, text in command.files.items():
        place(folder, name).parent.mkdir(parents=True, exist_ok=True)
        place(folder, name).write_text("".join(moved(line) for line in text.splitlines(keepends=True)))
    place(folder, "/home/scan").mkdir(parents=True, exist_ok=True)
    environ = {name: moved(value) for name, value in command.env.items()}
    home = {"HOME": moved("/home/scan"), "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(
        [moved(word) for word in command.argv],
        env={**environ, **home},
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=LIMIT_S,
    )
    told = [out.replace(str(folder).encode(), b"") for out in (done.stdout, done.stderr)]
    return Ran(exit_code=done.returncode, stdout=told[0], stderr=told[1])


def read_tree(root: Path) -> dict[str, bytes]:
    """The files of a tree by path, without links."""
    found = {str(one.relative_to(root)): one for one in sorted(root.rglob("*"))}
    return {path: one.read_bytes() for path, one in found.items() if one.is_file() and not one.is_symlink()}


def scan_here(scanner: CommandScanner, folder: Path, programs: Path) -> Scan:
    """Scan the tree at `src` in a folder by the real tool, as the stage would."""
    files = read_tree(place(folder, "/src"))
    wanted = {path: files[path] for path in scanner.wants(sorted(files))}
    target = Target(root="/src", files=wanted, version=locked_version(scanner.name))
    return scanner.read(target, [run_here(command, folder, programs) for command in scanner.commands(target)])
