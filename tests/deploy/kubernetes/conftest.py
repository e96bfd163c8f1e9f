"""A cluster: the one that PIPELINE_TEST_KUBECONFIG names, or what such a one has answered before.

With PIPELINE_TEST_RECORD the answers of a real one are recorded into `tapes/`, one tape for each test.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.deploy.kubernetes.kubelet import Kubelet

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).parent
KUBECONFIG: Final = os.environ.get("PIPELINE_TEST_KUBECONFIG", "")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A namespace of its own. `is_real`: somebody answers who was never asked before."""

    namespace: str
    is_real: bool
    program: str = field(default="")

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Arrange something in a real cluster, unrecorded; nothing in a recorded one."""
        if not self.is_real:
            return ""
        argv = [self.program, "--kubeconfig", KUBECONFIG, "--namespace", self.namespace, *words]
        return subprocess.run(argv, input=stdin, text=True, check=True, capture_output=True).stdout


@pytest.fixture(scope="session")
def kubelet() -> Iterator[None]:
    """The node of a real cluster."""
    if not KUBECONFIG:
        yield
        return
    with Kubelet(Path(KUBECONFIG)):
        yield


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, kubelet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """An empty namespace, called like the test."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))[-50:].strip("-")
    tape = HERE / "tapes" / f"{name}.jsonl"
    real = shutil.which("kubectl") or ""
    found = Cluster(namespace=name, is_real=bool(KUBECONFIG), program=real)
    if KUBECONFIG:
        found.kubectl("delete", "namespace", name, "--ignore-not-found")
        found.kubectl("create", "namespace", name)
        monkeypatch.setenv("KUBECONFIG", KUBECONFIG)
    if not KUBECONFIG or os.environ.get("PIPELINE_TEST_RECORD"):
        _put_in_front(tmp_path, monkeypatch)
        monkeypatch.setenv("TAPE", str(tape))
        monkeypatch.setenv("TAPE_PLACE", str(tmp_path / "place"))
    if KUBECONFIG and os.environ.get("PIPELINE_TEST_RECORD"):
        tape.unlink(missing_ok=True)
        monkeypatch.setenv("TAPE_PROGRAM", real)
    yield found
    if KUBECONFIG:
        found.kubectl("delete", "namespace", name, "--wait=false")


def _put_in_front(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `kubectl` be the tape."""
    script = folder / "bin" / "kubectl"
    script.parent.mkdir()
    python, tape = shlex.quote(sys.executable), shlex.quote(str(HERE / "tape.py"))
    script.write_text(f'#!/bin/sh\nexec {python} -S -E {tape} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
