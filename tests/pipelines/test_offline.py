"""Scans without a network, from a bundle; what scanners try on a network; how long a dead one costs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.pipelines.projects import new_repository
from tests.pipelines.robust import make_project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.pipelines.robust import Done, RobustProject, Room

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS: Final = """
[tool.pipeline.images]
fallback = "recipe"

[tool.pipeline.stages.deps]
enabled = false

[tool.pipeline.sast]
scanners = ["ruff", "bandit"]
"""
FILES: Final = {
    "pyproject.toml": SETTINGS,
    "app.py": "def f(text):\n    return eval(text)\n",
    "run.sh": "#!/bin/sh\necho $1\n",
    ".gitignore": ".pipeline\n",
}
SLACK_S: Final = 5.0  # what a busy machine adds; each further wait for an answer would add six seconds
TOOLS: Final = ("ruff", "bandit", "vulture", "jscpd", "shellcheck")
# Answers every question, and writes down what was asked.
NAME_SERVER: Final = """
import socket, sys

def name_of(data):
    at, parts = 12, []
    while data[at]:
        parts.append(data[at + 1 : at + 1 + data[at]].decode("latin-1"))
        at += 1 + data[at]
    return ".".join(parts), at + 5

is_silent = sys.argv[2] == "silent"
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
log = open(sys.argv[1], "a", buffering=1)
while True:
    data, who = server.recvfrom(4096)
    name, end = name_of(data)
    print(name, file=log)
    if is_silent:
        continue
    if "docker" in name:  # so that the engine soon turns to stand-ins
        server.sendto(data[:2] + b"\\x81\\x83" + data[4:6] + b"\\0" * 6 + data[12:end], who)
        continue
    record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\xcb\\0\\x71\\7"
    is_ipv4 = data[end - 4 : end - 2] == b"\\0\\1"
    head = data[:2] + b"\\x81\\x80" + data[4:6] + (b"\\0\\1" if is_ipv4 else b"\\0\\0") + b"\\0" * 4
    server.sendto(head + data[12:end] + record * is_ipv4, who)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """A bundle with rules, four tools and their image."""
    folder = tmp_path_factory.mktemp("bundle")
    project = new_repository(folder / "project", store, FILES)
    sections = [word for name in ("tools", "rules", "images") for word in ("--section", name)]
    tools = [word for name in TOOLS for word in ("--tool", name)]

    done = project.command("prefetch", "--bundle", str(folder / "data.bundle"), *sections, *tools)

    assert done.returncode == 0, done.stderr
    return folder / "data.bundle"


def in_room(folder: Path, rootfs: Path, room: Room, *, store: Path | None = None) -> RobustProject:
    """The project, in a room without a network."""
    made = make_project(folder, rootfs, room, store=store)
    made.write(FILES)
    for argv in (("init", "-q"), ("add", "-A")):
        subprocess.run(["git", *argv], cwd=made.root, check=True, capture_output=True)
    return replace(made, environ={"PIPELINE_SCAN_DATA": str(folder / "data"), "PIPELINE_CA_BUNDLE": ""})


def states(project: RobustProject, stage: str) -> dict[str, str]:
    """The state of each scanner of a stage."""
    path = project.runs()[-1] / "stages" / stage / "files/findings.json"
    return {one["scanner"]: one["state"] for one in json.loads(path.read_text())["scans"]}


def test_after_an_import_scans_work_in_a_fresh_store_without_a_network(
    tmp_path: Path, bundle: Path, rootfs: Path, room: Room
) -> None:
    """Before it, nothing could be looked at and that is said; a damaged bundle brings nothing."""
    project = in_room(tmp_path, rootfs, room)
    damaged = tmp_path / "damaged.bundle"
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    argv = ("run", "--offline", "--only", "checkout,sast,quality")

    refused = project("prefetch", "--import", str(damaged))
    before = project(*argv)
    states_before = states(project, "sast")
    imported = project("prefetch", "--import", str(bundle))
    again = project("prefetch", "--import", str(bundle))
    after = project(*argv)

    log = (project.runs()[-1] / "stages/sast/log.txt").read_text()
    assert (refused.code, imported.code, again.code) == (1, 0, 0), (refused, imported)
    assert "cannot import" in refused.stderr
    assert states_before == {"ruff": "unavailable", "bandit": "unavailable"}, before
    assert "`ruff` could not be installed" in before.stderr
    assert after.code == 0, after
    assert states(project, "sast") == {"ruff": "complete", "bandit": "complete"}
    assert states(project, "quality") == dict.fromkeys(
        ("complexity", "vulture", "duplicates", "shellcheck"), "complete"
    )
    assert "app.py:2" in after.stdout
    assert log.count("\nimage ") + log.startswith("image ") == 1, log


def test_the_manifest_tells_where_all_comes_from(
    bundle: Path, tmp_path: Path, rootfs: Path, room: Room
) -> None:
    """Each wheel by its package and licence, the image by its digest, the rules by their own."""
    project = in_room(tmp_path, rootfs, room)

    told = json.loads(project("prefetch", "--import", str(bundle), "--json").stdout)

    wheels = {one["address"].partition("@")[0]: one["licence"] for one in told["tools"]}
    assert {f"pkg:pypi/{name}": wheels[f"pkg:pypi/{name}"] for name in ("bandit", "ruff", "vulture")} == {
        "pkg:pypi/bandit": "Apache-2.0",
        "pkg:pypi/ruff": "MIT",
        "pkg:pypi/vulture": "MIT License",
    }
    [image] = told["images"]
    assert image["address"].startswith("docker.io/library/python:3.11-slim@sha256:")
    assert [one["name"] for one in told["rules"]] == ["rules.json"]
    assert all(
        one["digest"].startswith("sha256:") and one["as_of"] for items in told.values() for one in items
    )


@contextmanager
def name_server(room: Room, folder: Path, how: str) -> Iterator[Path]:
    """Make a name server the one of the room; gives the file of what was asked."""
    asked, settings = folder / "asked.txt", folder / "resolv.conf"
    asked.write_text("")
    settings.write_text("nameserver 127.0.0.1\n")
    room.do("mount", "--bind", str(settings), str(Path("/etc/resolv.conf").resolve()))
    argv = room.argv(sys.executable, "-c", NAME_SERVER, str(asked), how)
    with subprocess.Popen(argv) as server:
        try:
            time.sleep(0.5)
            yield asked
        finally:
            server.kill()


CALLER: Final = '''
from pipeline import Context, stage

@stage(inputs=["app.py"])
async def caller(ctx: Context) -> str:
    """Tries the network from a container."""
    client = await ctx.dagger()
    container = client.container().with_rootfs(client.host().directory("ROOTFS"))
    script = "nslookup phone.home.example; nc -w 1 192.0.2.9 80; echo tried"
    return await container.with_exec(["sh", "-c", script]).stdout()
'''


def sent(room: Room) -> int:
    """How many packets containers have sent to the outside."""
    rule = next(
        line
        for line in room.do("iptables", "-t", "mangle", "-vnxL", "FORWARD").splitlines()
        if "phone" in line
    )
    return int(rule.split()[0])


def test_no_scanner_tries_the_network(
    tmp_path: Path, bundle: Path, rootfs: Path, store: Path, room: Room
) -> None:
    """With a network that would answer: what a container tries is seen, and scanners try nothing."""
    project = in_room(tmp_path, rootfs, room, store=store)
    project.write({"ci/stages.py": CALLER})
    room.do("ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1")
    room.do("ip", "link", "set", "out1", "up")
    room.do("ip", "address", "add", "198.51.100.2/24", "dev", "out0")
    room.do("ip", "link", "set", "out0", "up")
    room.do("ip", "route", "add", "default", "via", "198.51.100.1", "dev", "out0")
    room.do("iptables", "-t", "mangle", "-I", "FORWARD", "-o", "out0", "-m", "comment", "--comment", "phone")
    imported = project("prefetch", "--import", str(bundle))

    with name_server(room, tmp_path, "answering") as asked:
        scans = project("run", "--only", "checkout,sast,quality,secret_scan")
        names, packets = asked.read_text().split(), sent(room)
        control = project("run", "--only", "caller")
        names_then, packets_then = asked.read_text().split(), sent(room)

    assert (imported.code, scans.code, control.code) == (0, 0, 0), (imported, scans, control)
    assert [name for name in names if "docker" not in name] == []
    assert packets == 0
    assert any("phone.home.example" in name for name in names_then)
    assert packets_then > 0


ASKERS: Final = '''
from pipeline import Context, stage
from pipeline.scan.probe import probe_of
from pipeline.stages.advisory_sources import network_of

async def ask(ctx, host):
    found = await probe_of(ctx.run_id, network_of(ctx)).reach([f"https://{host}.example/"])
    return [one.is_reached for one in found.values()]

@stage(inputs=["app.py"])
async def first(ctx: Context) -> list[bool]:
    """Asks a service."""
    return await ask(ctx, "first")

@stage(inputs=["app.py"])
async def second(ctx: Context, first: list[bool]) -> list[bool]:
    """Asks another, when the first has given up."""
    return await ask(ctx, "second")
'''
SOURCES: Final = """
[tool.pipeline.dependency_scan.sources.one]
kind = "osv-api"

[tool.pipeline.dependency_scan.sources.two]
kind = "pypi"

[tool.pipeline.dependency_scan.sources.three]
kind = "osv-api"
address = "https://three.example/"
"""


def test_a_name_server_that_never_answers_costs_a_run_six_seconds_in_all(
    tmp_path: Path, rootfs: Path, room: Room
) -> None:
    """Whatever number of stages and services wait for it."""
    project = in_room(tmp_path, rootfs, room)
    files = {
        "ci/stages.py": ASKERS,
        "requirements.txt": "iniconfig==2.0.0\n",
        "pyproject.toml": SETTINGS + SOURCES,
    }
    project.write(files)
    argv = ("run", "--only", "checkout,dependency_scan,first,second")

    with name_server(room, tmp_path, "silent") as asked:
        began = time.monotonic()
        done: Done = project(*argv)
        took_s = time.monotonic() - began
        names = set(asked.read_text().split())

    stages: dict[str, Any] = project.record()["stages"]
    waited_s = sum(stages[name]["duration_s"] for name in ("first", "second"))
    assert done.code == 0, done
    assert project.result("first") == [False]
    assert project.result("second") == [False]
    assert "first.example" in names
    assert waited_s < 6 + SLACK_S
    assert stages["dependency_scan"]["duration_s"] < 6 + SLACK_S
    assert took_s < 6 + 2 * SLACK_S
