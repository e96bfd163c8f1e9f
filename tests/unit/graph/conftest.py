"""Real git repositories and run folders for the tests of the graph."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Repository:
    """A git repository in a folder."""

    root: Path

    def git(self, *argv: str) -> str:
        """Run git here, undisturbed by the user's configuration."""
        settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *settings, "-c", "protocol.file.allow=always", *argv],
            cwd=self.root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def write(self, path: str, text: str) -> Path:
        """Write a file, with the folders above it."""
        full = self.root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text)
        return full

    def commit(self, message: str = "change") -> str:
        """Commit everything; give the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """A repository with a few files, all committed."""
    root = tmp_path / "project"
    root.mkdir()
    made = Repository(root)
    made.git("init", "-q", "-b", "main")
    for path in ("src/app.py", "src/lib/a.py", "tests/test_a.py", "README.md", "Dockerfile"):
        made.write(path, f"content of {path}\n")
    made.commit("first")
    return made
