"""`pipeline prefetch`: what a run would fetch is there afterwards, or one sentence says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pipeline.cli.prefetch_command import base_images
from pipeline.cli.project import open_project

if TYPE_CHECKING:
    from pathlib import Path


def prefetch(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PIPELINE_STORE": str(root.parent / "store")}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "prefetch", *argv],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    text = "ARG V=1\nFROM debian:bookworm-slim AS one\nFROM one\nFROM scratch\nFROM x:$V\n"
    (root / "Dockerfile").write_text(text)
    return root


def test_the_images_dockerfiles_begin_with_are_wanted(project: Path) -> None:
    """Stages of the file, scratch, and names with variables are no images to fetch."""
    found = list(base_images(open_project(str(project))))

    assert found == ["docker.io/library/debian:bookworm-slim"]


@pytest.mark.root
def test_an_image_that_cannot_be_had_is_one_sentence_with_its_hint(project: Path) -> None:
    """No registry listens there: the reason and what to do, no traceback, exit code 1."""
    done = prefetch(project, "localhost:1/nothing:1")

    assert done.returncode == 1
    assert done.stdout == ""
    first, error, hint = done.stderr.splitlines()
    assert first == "fetching localhost:1/nothing:1"
    assert error.startswith("error: cannot prefetch `localhost:1/nothing:1`: cannot get the image")
    assert hint.startswith("hint: ")
