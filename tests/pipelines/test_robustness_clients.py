"""Thirty clients of the SDK at once on one engine that stays: each has its own answers, files and secrets."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from pipeline.engine.settings import EngineSettings, settings_to_json
from pipeline.session.standing import find_keepers
from tests.pipelines.robust import LIMIT_S, problems_of_store
from tests.pipelines.test_robustness_output import peak_kb

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pipelines.robust import RobustProject

PROCESSES: Final = 6
EACH: Final = 5
SESSION_KB: Final = 120 << 10
"""What no session may ever have taken, in KiB."""

CLIENT: Final = '''
import asyncio, json, os, sys
from pathlib import Path

import dagger

rootfs, workdir, names = json.loads(sys.argv[1])


async def work(client, name):
    """Use a secret, a file of the host, a command and a cache volume; give back all that was seen."""
    secret = client.set_secret("word", f"hidden-{name}")
    container = (
        client.container()
        .with_rootfs(client.host().directory(rootfs))
        .with_env_variable("NAME", name)
        .with_secret_variable("WORD", secret)
        .with_mounted_file("/given", client.host().file(f"{name}.txt"))
        .with_mounted_cache("/cache", client.cache_volume(f"of-{name}"))
    )
    for number in range(4):
        script = f"echo {number} >> /count; cat /given >> /count; echo $NAME >> /cache/log"
        container = container.with_exec(["sh", "-c", script])
    look = "md5sum < /count; sort -u /cache/log; echo -n $WORD | md5sum; env"
    read = container.with_exec(["sh", "-c", look])
    count, lines, word, *env = (await read.stdout()).split("\\n")
    shown = sorted(line for line in env if line.startswith(("WORD", "NAME")))
    return [name, count, lines, word, shown, await secret.plaintext()]


async def main():
    os.chdir(workdir)
    os.environ["_EXPERIMENTAL_DAGGER_CLI_BIN"] = str(Path(sys.executable).parent / "pipeline-engine")

    async def one(name):
        async with dagger.Connection(dagger.Config(workdir=workdir)) as client:
            return await work(client, name)

    for answer in await asyncio.gather(*(one(name) for name in names)):
        print(json.dumps(answer))


asyncio.run(main())
'''


def start(project: RobustProject, names: list[str]) -> subprocess.Popen[str]:
    told = json.dumps([str(project.rootfs), str(project.root), names])
    process = subprocess.Popen(
        project.room.argv(sys.executable, "-c", CLIENT, told),
        env=project.environment(
            {"PIPELINE_ENGINE_IDLE": "60", "PIPELINE_ENGINE_SETTINGS": settings(project)}
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    project.started.add(process.pid)
    return process


def settings(project: RobustProject) -> str:
    return settings_to_json(EngineSettings(store=str(project.store), offline=True))


def watched(project: RobustProject, store: Path, processes: list[subprocess.Popen[str]]) -> dict[str, Any]:
    """Wait for the clients; return what was seen of the engine that stays and its sessions meanwhile."""
    seen: dict[str, Any] = {"keepers": set(), "peak_kb": 0, "at_once": 0}
    until = time.monotonic() + LIMIT_S
    while any(each.poll() is None for each in processes) and time.monotonic() < until:
        for keeper in find_keepers(store):
            seen["keepers"].add(keeper["pid"])
            seen["at_once"] = max(seen["at_once"], len(keeper["sessions"]))
            peaks = [peak_kb(session["pid"]) for session in keeper["sessions"]]
            seen["peak_kb"] = max([seen["peak_kb"], *peaks])
        time.sleep(0.1)
    return seen


@pytest.mark.root
def test_thirty_clients_at_once_have_their_own_answers_and_secrets(bare: RobustProject) -> None:
    """In six processes, five sessions each; all by one engine, in bounded time and memory."""
    names = [f"client{number}" for number in range(PROCESSES * EACH)]
    bare.write({f"{name}.txt": f"given to {name}\n" for name in names})
    store = bare.room.inside(bare.store)
    began = time.monotonic()

    processes = [start(bare, names[at::PROCESSES]) for at in range(PROCESSES)]
    seen = watched(bare, store, processes)
    ended = [each.communicate(timeout=LIMIT_S) for each in processes]
    took_s = time.monotonic() - began
    answers = [json.loads(line) for stdout, _ in ended for line in stdout.splitlines()]
    print(f"{took_s:.1f} s, at most {seen['at_once']} at once, {seen['peak_kb'] >> 10} MB each")  # noqa: T201

    assert [stderr for _, stderr in ended] == [""] * PROCESSES
    assert sorted(answers) == sorted(expected(name) for name in names)
    assert len(seen["keepers"]) == 1
    assert seen["at_once"] > PROCESSES
    assert seen["peak_kb"] < SESSION_KB
    os.kill(seen["keepers"].pop(), signal.SIGKILL)
    assert bare.wait_until_gone() == {}
    assert (bare.room.links(), bare.room.rules()) == (["lo"], [])
    assert problems_of_store(store) == []


def expected(name: str) -> list[Any]:
    """What a client sees that sees nothing of the others."""
    count = "".join(f"{number}\ngiven to {name}\n" for number in range(4))
    return [
        name,
        f"{md5(count)}  -",
        name,
        f"{md5(f'hidden-{name}')}  -",
        [f"NAME={name}", "WORD=***"],
        f"hidden-{name}",
    ]


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
