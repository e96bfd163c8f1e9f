"""Small real projects, run by the real command on stores of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LIMIT_S = 600
ENVIRON = {"PIPELINE_IMAGE_FALLBACK": "recipe"}  # stand-ins where no registry answers

SHOP = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "shop"
version = "1.4.2"
description = "Sells things"
license = "MIT"
requires-python = ">=3.11"
dependencies = ["iniconfig"]
""",
    "src/shop/__init__.py": "def price(count: int) -> int:\n    return 7 * count\n",
    "tests/test_shop.py": "from shop import price\n\n\ndef test_price():\n    assert price(2) == 14\n",
    "Dockerfile": """
FROM python:3.13-slim
WORKDIR /app
COPY src src
RUN python -m compileall -q --invalidation-mode unchecked-hash src
USER nobody
CMD ["python", "-c", "import shop"]
""",
    ".gitignore": ".pipeline\n__pycache__\n",
}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One run: what the command said and what its run folder holds."""

    code: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """Each stage as `run.json` has it."""
        stages: dict[str, dict[str, Any]] = json.loads((self.folder / "run.json").read_text())["stages"]
        return stages

    @property
    def outcomes(self) -> dict[str, str]:
        """Each stage's outcome, or "cached"."""
        return {name: "cached" if one["cached"] else one["outcome"] for name, one in self.stages.items()}

    def result(self, stage: str) -> dict[str, Any]:
        """What is written about one stage."""
        found: dict[str, Any] = json.loads((self.folder / "stages" / stage / "result.json").read_text())
        return found

    def log(self, stage: str) -> str:
        """The log of one stage."""
        return (self.folder / "stages" / stage / "log.txt").read_text()

    def files(self, stage: str) -> Path:
        """The folder of the files a stage kept."""
        return self.folder / "stages" / stage / "files"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A project in a git repository, and the engine's store its runs use."""

    root: Path
    store: Path

    def write(self, files: Mapping[str, str]) -> None:
        """Write files by their path."""
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def git(self, *argv: str) -> None:
        """Run git here, undisturbed by the user's configuration."""
        settings = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always")
        subprocess.run(["git", *settings, *argv], cwd=self.root, check=True, capture_output=True)

    def commit(self) -> None:
        """Commit everything."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")

    def command(self, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `pipeline` here."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline", "-C", str(self.root), *argv],
            env={**os.environ, **ENVIRON, "PIPELINE_STORE": str(self.store), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def run(self, *argv: str, **environ: str) -> Ran:
        """Run the pipeline."""
        done = self.command("run", *argv, **environ)
        runs = sorted((self.root / ".pipeline" / "runs").iterdir()) if done.returncode != 2 else []
        assert runs, done.stderr
        return Ran(code=done.returncode, stdout=done.stdout, stderr=done.stderr, folder=runs[-1])

    def copy(self, root: Path, store: Path | None = None) -> Repository:
        """A copy of the project with its runs and its stage cache."""
        shutil.copytree(self.root, root, symlinks=True)
        return replace(self, root=root, store=store or self.store)


def new_repository(root: Path, store: Path, files: Mapping[str, str]) -> Repository:
    """Make a repository with these files, all committed."""
    root.mkdir(parents=True)
    made = Repository(root=root, store=store)
    made.git("init", "-q", "-b", "main")
    made.write(files)
    made.commit()
    return made
