"""Compile the launcher when the wheel is built or the project is installed for editing.

Without a C compiler the wheel is built without it, and the engine uses `runc`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDER: Final = "pipeline/engine/runtime"
_FLAGS: Final = (
    "-O2",
    "-static",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Wformat=2",
    "-Wshadow",
    "-fstack-protector-strong",
    "-D_FORTIFY_SOURCE=2",
)


class LauncherHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the compiled launcher to the wheel, which is then one for this platform."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless what is there is newer than its sources."""
        if self.target_name != "wheel":
            return
        folder = Path(self.root, _FOLDER)
        if compile_launcher(folder):
            build_data["artifacts"].append(f"{_FOLDER}/launcher")
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"
        else:
            self.app.display_warning("no C compiler works here: the launcher is left out")


def compile_launcher(folder: Path) -> bool:
    """Make `folder/launcher` from the sources beside it; False when no compiler can."""
    program = folder / "launcher"
    sources = sorted(folder.glob("launcher*.c"))
    newest = max(path.stat().st_mtime for path in folder.glob("launcher*.[ch]"))
    if program.exists() and program.stat().st_mtime >= newest:
        return True
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        return False
    # Beside the target and renamed: an engine may be starting the old one at this moment.
    fresh = program.with_name(f".launcher-{os.getpid()}")
    done = subprocess.run([compiler, *_FLAGS, "-o", str(fresh), *map(str, sources)], check=False)
    if done.returncode != 0:
        return False
    fresh.replace(program)
    return True


if __name__ == "__main__":
    raise SystemExit(0 if compile_launcher(Path(__file__).parent / _FOLDER) else 1)
