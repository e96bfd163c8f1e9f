"""Ports of localhost that lead to a service: tried with the real pytest and a real server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.config import ServiceSettings
from pipeline.stages.localhost import PLUGIN, PLUGIN_FILE, local_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

TEST = """
import os, socket, subprocess

def test_the_service_answers_at_localhost():
    for size in (1, 1_000_000):
        with socket.create_connection(("localhost", PORT), 5) as one:
            one.sendall(b"x" * size)
            one.shutdown(socket.SHUT_WR)
            got = b"".join(iter(lambda: one.recv(65536), b""))
        assert got == b"X" * size

def test_no_child_of_the_tests_does_it():
    told = subprocess.run(["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    assert len(told.stdout.split()) == 1  # ps itself
"""


@pytest.fixture
def shouting() -> Iterator[int]:
    """A server at 127.0.0.2 that answers in upper case; its port."""
    with socket.create_server(("127.0.0.2", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                one, _ = server.accept()
                with one:
                    data = b"".join(iter(lambda one=one: one.recv(65536), b""))  # type: ignore[misc]
                    one.sendall(data.upper())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


ASK = """
import socket
for size in (1, 1_000_000):
    with socket.create_connection(("localhost", PORT), 5) as one:
        one.sendall(b"x" * size)
        one.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: one.recv(65536), b"")) == b"X" * size
"""
SETTINGS = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests():
    import ask
"""
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "settings", "-p", "no:cacheprovider"]
COMMAND = ["sh", "-c", '"$0" -m "$1" && "$0" ask.py', sys.executable, PLUGIN]


@pytest.mark.parametrize("argv", [PYTEST, COMMAND], ids=["settings-that-pytest-reads", "another-command"])
def test_what_asks_before_the_first_test_reaches_the_service_too(
    tmp_path: Path, shouting: int, argv: list[str]
) -> None:
    """As settings of Django do that count the databases of a server when they are imported."""
    shutil.copy(PLUGIN_FILE, tmp_path / f"{PLUGIN}.py")
    (tmp_path / "ask.py").write_text(ASK.replace("PORT", str(shouting)))
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "test_it.py").write_text("def test_nothing():\n    pass\n")
    env = {**os.environ, "PIPELINE_LOCALHOST": f"{shouting}=127.0.0.2", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    _end_relays(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_tests_reach_a_service_at_localhost_by_a_process_that_is_not_theirs(
    tmp_path: Path, shouting: int
) -> None:
    """In a session of its own, which this test ends afterwards."""
    shutil.copy(PLUGIN_FILE, tmp_path / f"{PLUGIN}.py")
    (tmp_path / "test_it.py").write_text(TEST.replace("PORT", str(shouting)))
    env = {**os.environ, "PIPELINE_LOCALHOST": f"{shouting}=127.0.0.2", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider"]

    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    relays = _end_relays(tmp_path)
    assert (done.returncode, relays) == (0, 1), done.stdout + done.stderr


def _end_relays(folder: Path) -> int:
    """End the processes that pass bytes on; how many there were."""
    relays = [one for one in Path("/proc").glob("[0-9]*") if _is_relay(one, folder)]
    for one in relays:
        os.kill(int(one.name), 9)
    return len(relays)


def _is_relay(process: Path, folder: Path) -> bool:
    try:
        return str(folder / f"{PLUGIN}.py").encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


def test_of_services_with_one_port_the_first_has_it() -> None:
    services = {
        "db": ServiceSettings(image="a", ports=(5432, 80)),  # type: ignore[arg-type]
        "other": ServiceSettings(image="b", ports=(5432, 81)),  # type: ignore[arg-type]
    }

    assert local_ports(services) == {5432: "db", 80: "db", 81: "other"}
