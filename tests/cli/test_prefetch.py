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


def prefetch(root: Path, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PIPELINE_STORE": str(root.parent / "store"), **environ}
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


def test_only_bundles_of_trusted_keys_are_imported_where_the_settings_name_some(project: Path) -> None:
    """What is unsigned is refused in one sentence with exit code 3; the key signs with `--sign`."""
    key = project.parent / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=60)
    data = {"PIPELINE_SCAN_DATA": str(project.parent / "data"), "PIPELINE_BUNDLE_SIGNERS": f"{key}.pub"}
    made = [
        prefetch(project, "--bundle", "signed.bundle", "--section", "rules", "--sign", str(key)),
        prefetch(project, "--bundle", "plain.bundle", "--section", "rules"),
    ]

    plain = prefetch(project, "--import", "plain.bundle", **data)
    signed = prefetch(project, "--import", "signed.bundle", **data)

    assert [one.returncode for one in (*made, plain, signed)] == [0, 0, 3, 0]
    assert plain.stderr.splitlines() == [
        f"error: cannot import `plain.bundle`: it is not signed, and only keys of `{key}.pub` are trusted",
        "hint: make it with `pipeline prefetch --bundle FILE --sign KEY`",
    ]
    assert signed.stdout.startswith("rules  rules.json  as of ")
