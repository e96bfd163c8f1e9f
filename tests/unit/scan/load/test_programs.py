"""What runs inside containers: it needs a plain Python and nothing else."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pipeline.scan.load.probe import get, own_python, read_state, wait_ready
from pipeline.scan.load.programs import PACKAGE, program_files
from tests.unit.scan.load.loopback import OK, plan_for, serving

if TYPE_CHECKING:
    from pathlib import Path

SERVER = """
import http.server, sys

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

print("up", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Quiet).serve_forever()
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The programs as a container has them."""
    for name, text in program_files().items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_programs_import_the_standard_library_and_each_other() -> None:
    modules: set[str] = set()
    for text in program_files().values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(str(node.module))

    foreign = {name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name.partition(".")[0] for name in foreign} == {PACKAGE}


def test_the_generator_runs_where_nothing_is_installed(programs: Path) -> None:
    async def answer(_number: int, _line: str) -> bytes:
        return OK

    with serving(answer) as port:
        (programs / "plan.json").write_text(json.dumps(plan_for(port, duration_s=0.5)))
        argv = [sys.executable, "-S", "-m", f"{PACKAGE}.generator", "plan.json", "result.json"]
        subprocess.run(argv, cwd=programs, env={"PYTHONPATH": str(programs)}, check=True, timeout=30)

    assert json.loads((programs / "result.json").read_text())["due"] == 50


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_sampler_tells_what_a_service_takes_and_writes_and_ends_with_it(programs: Path) -> None:
    port, state = free_port(), free_port()
    service = [sys.executable, "-c", SERVER, str(port)]
    log, sampler_py = programs / "service.log", str(programs / PACKAGE / "sampler.py")
    sampler = subprocess.Popen(
        [sys.executable, "-I", "-S", sampler_py, str(state), str(log), *service],
        stdout=subprocess.PIPE,
    )
    try:
        ready = wait_ready(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{state}", 20, ["/"])
        with_two = time.monotonic() + 20
        while len((told := read_state(f"http://127.0.0.1:{state}"))["samples"]) < 2:
            assert time.monotonic() < with_two
            time.sleep(0.1)
    finally:
        sampler.send_signal(signal.SIGTERM)
        said = sampler.communicate(timeout=10)[0]

    assert (ready["ready"], told["exit_code"], told["log"], said) == (True, None, "up\n", b"up\n")
    assert log.read_text() == "up\n"
    assert len(told["samples"]) >= 2
    assert all(memory > 1_000_000 for _, _, memory in told["samples"])
    with pytest.raises(OSError, match="refused"):
        get(f"http://127.0.0.1:{port}", "/")


def test_the_sampler_goes_on_telling_of_a_service_that_ended(programs: Path) -> None:
    """Its exit code and its last words are what explains everything else."""
    state = free_port()
    service = [sys.executable, "-c", "print('no database'); raise SystemExit(3)"]
    sampler = subprocess.Popen(
        [sys.executable, "-I", "-S", str(programs / PACKAGE / "sampler.py"), str(state), "-", *service],
        stdout=subprocess.DEVNULL,
    )
    try:
        base = f"http://127.0.0.1:{state}"
        ready = wait_ready(f"http://127.0.0.1:{free_port()}", base, 20, ["/health", "/"])
        while (told := read_state(base)).get("exit_code") is None:
            time.sleep(0.05)
    finally:
        sampler.send_signal(signal.SIGTERM)
        sampler.wait(10)

    assert ready["ready"] is False
    assert (told["exit_code"], told["log"]) == (3, "no database\n")


def test_the_sampler_says_what_it_cannot_start(programs: Path) -> None:
    argv = [sys.executable, str(programs / PACKAGE / "sampler.py"), str(free_port()), "-", "/no/such/program"]

    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)

    assert (done.returncode, done.stderr) == (
        127,
        "cannot start `/no/such/program`: No such file or directory\n",
    )


def test_a_python_can_be_started_by_its_own_loader_from_elsewhere() -> None:
    """What is told of it is enough: no variable, no search path of the place it is used in."""
    told = own_python()
    argv = [told["loader"], "--library-path", ":".join(told["folders"]), told["program"], "-I", "-S", "-c"]

    done = subprocess.run(
        [*argv, "import json, socket, subprocess, threading; print(1)"],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )

    assert done.stdout == "1\n"
    assert told["machine"].endswith(f", {len(os.sched_getaffinity(0))} CPUs")
