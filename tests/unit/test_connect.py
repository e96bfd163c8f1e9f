"""Sessions on an engine process of our own: how they begin, break and end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.connect import Target, dagger_environment, open_session, parse_target
from pipeline.engine.events import ExecEvent, ImageEvent, NoticeEvent
from pipeline.engine.settings import EngineSettings
from pipeline.errors import UsageError
from pipeline.session.started import EngineNotStarted, EngineProcess, engine_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pipeline.engine.events import EngineEvent

EMBEDDED = Target(kind="embedded")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("embedded", Target(kind="embedded")),
        ("dagger", Target(kind="dagger")),
        ("dagger=tcp://host:1", Target(kind="dagger", address="tcp://host:1")),
    ],
)
def test_engines_are_named(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "docker", "embedded=x", "embedded="])
def test_other_engines_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected embedded, dagger or dagger=ADDRESS"):
        parse_target(text)


def test_an_address_goes_before_a_session_in_the_environment() -> None:
    assert dagger_environment(Target(kind="dagger")) == {}
    assert dagger_environment(Target(kind="dagger", address="tcp://host:1")) == {
        "_EXPERIMENTAL_DAGGER_RUNNER_HOST": "tcp://host:1",
        "DAGGER_SESSION_PORT": None,
        "DAGGER_SESSION_TOKEN": None,
    }


# ---- an engine that does what a test says --------------------------------------------------

PLAYED = """#!{python}
import json, os, signal, sys, time
events = int(sys.argv[sys.argv.index("--events") + 1])
def tell(**event):
    os.write(events, json.dumps(event).encode() + b"\\n")
def ready():
    print(json.dumps({{"port": 1, "session_token": "t"}}), flush=True)
def until_closed():
    sys.stdin.buffer.read()
{script}
"""


@asynccontextmanager
async def played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, events: list[EngineEvent]
) -> AsyncIterator[EngineProcess]:
    """Run an engine process whose program is `script`."""
    program = tmp_path / "engine"
    program.write_text(PLAYED.format(python=sys.executable, script=script))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    async with engine_process(EngineSettings(), tmp_path, events.append, stop_limit_s=1.0) as engine:
        yield engine


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.anyio
async def test_all_events_are_told_before_the_session_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, however long a line is, also what is told after the session's end was asked for."""
    script = """
ready()
tell(event="NoticeEvent", text="x" * 300000, span_id="")
until_closed()
for number in range(500):
    tell(event="NoticeEvent", text=str(number), span_id="")
tell(event="ExecEvent", kind="output", exec_digest="d", span_id="s", argv=["a"], stream="stdout",
     text="t", exit_code=None, duration_s=0.5)
tell(event="ImageEvent", reference="r", digest="d", source="recipe", span_id="", note="n")
"""
    events: list[EngineEvent] = []
    before = open_files()

    async with played(tmp_path, monkeypatch, script, events) as engine:
        told = await engine.ready()

    assert told == {"DAGGER_SESSION_PORT": "1", "DAGGER_SESSION_TOKEN": "t"}
    assert events[0] == NoticeEvent(text="x" * 300000)
    assert events[1:501] == [NoticeEvent(text=str(number)) for number in range(500)]
    assert isinstance(events[501], ExecEvent)
    assert (events[501].argv, events[501].duration_s) == (("a",), 0.5)
    assert isinstance(events[502], ImageEvent)
    assert engine.process.returncode == 0
    assert open_files() == before


@pytest.mark.parametrize(
    ("script", "message", "hint"),
    [
        pytest.param("sys.exit(3)", "exit code 3", None, id="silent"),
        pytest.param("os.kill(os.getpid(), 9)", "signal 9", None, id="killed"),
        pytest.param(
            'sys.exit("warning\\npipeline-engine: cannot use it: no\\nhint: do that")',
            "cannot use it: no",
            "do that",
            id="with advice",
        ),
        pytest.param('print("hello", flush=True); until_closed()', "it said `hello`", None, id="other words"),
    ],
)
@pytest.mark.anyio
async def test_an_engine_that_does_not_start_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str, hint: str | None
) -> None:
    with pytest.raises(EngineNotStarted) as caught:
        async with played(tmp_path, monkeypatch, script, []) as engine:
            await engine.ready()

    assert message in str(caught.value)
    assert caught.value.hint == hint
    assert engine.process.returncode is not None


@pytest.mark.anyio
async def test_an_engine_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And killed, for it does not end when it is asked to."""

    with pytest.raises(EngineNotStarted, match="no answer within"):
        async with played(tmp_path, monkeypatch, "time.sleep(600)", []) as engine:
            await engine.ready(limit_s=0.5)

    assert engine.process.returncode == -signal.SIGKILL


@pytest.mark.anyio
async def test_a_flood_of_words_stops_nothing_and_is_not_all_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither many lines nor one that is longer than any buffer."""
    script = """
sys.stderr.write("y" * 20_000_000 + "\\n")
for number in range(50_000):
    print(number, file=sys.stderr)
ready()
until_closed()
"""

    async with played(tmp_path, monkeypatch, script, []) as engine:
        await engine.ready()

    assert list(engine.words) == [str(number) for number in range(49_800, 50_000)]


@pytest.mark.anyio
async def test_an_engine_that_dies_in_the_middle_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, with its last words; the end of the session then is an ordinary one."""
    script = """
ready()
time.sleep(0.2)
print("out of luck", file=sys.stderr)
os.write(events, b'{"event": "Not')
os.kill(os.getpid(), 9)
"""
    events: list[EngineEvent] = []

    async with played(tmp_path, monkeypatch, script, events) as engine:
        await engine.ready()
        async with asyncio.timeout(10):
            while not events:
                await asyncio.sleep(0.02)

    assert events == [NoticeEvent(text="the engine did not end in order: out of luck")]


@pytest.mark.anyio
async def test_an_engine_that_is_stuck_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when whoever leaves is cancelled again and again; no zombie stays."""

    async def session() -> None:
        async with played(tmp_path, monkeypatch, "ready(); time.sleep(600)", []) as engine:
            engines.append(engine)
            await engine.ready()
            await asyncio.sleep(600)

    engines: list[EngineProcess] = []
    task = asyncio.ensure_future(session())
    async with asyncio.timeout(10):
        while not engines:
            await asyncio.sleep(0.02)
    began = time.monotonic()
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0.05)
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    assert engines[0].process.returncode == -signal.SIGKILL
    assert isinstance(engines[0].process, subprocess.Popen)
    assert not Path(f"/proc/{engines[0].process.pid}").exists()
    assert time.monotonic() - began < 8


# ---- the real engine -----------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.anyio
async def test_a_session_lends_the_client_and_leaves_the_environment_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGGER_SESSION_PORT", "7")
    monkeypatch.delenv("DAGGER_SESSION_TOKEN", raising=False)
    settings = EngineSettings(store=str(tmp_path / "store"), offline=True)

    async with open_session(EMBEDDED, settings, workdir=tmp_path, observer=lambda _e: None) as client:
        inside = os.environ["DAGGER_SESSION_PORT"]
        found = await client.container().with_new_file("/a", "text").file("/a").contents()

    assert found == "text"
    assert inside != "7"
    assert os.environ["DAGGER_SESSION_PORT"] == "7"
    assert "DAGGER_SESSION_TOKEN" not in os.environ


@pytest.mark.root
@pytest.mark.anyio
async def test_a_store_that_cannot_be_used_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    settings = EngineSettings(store=str(tmp_path / "store"))

    with pytest.raises(EngineNotStarted, match="cannot start the engine: cannot use the store"):
        async with open_session(EMBEDDED, settings, workdir=tmp_path, observer=lambda _e: None):
            pass


@pytest.mark.root
@pytest.mark.anyio
async def test_a_call_to_an_engine_that_died_fails_and_does_not_hang(tmp_path: Path) -> None:
    import dagger

    settings = EngineSettings(store=str(tmp_path / "store"), offline=True)
    events: list[EngineEvent] = []

    async with open_session(EMBEDDED, settings, workdir=tmp_path, observer=events.append) as client:
        os.kill(engine_pid(tmp_path), signal.SIGKILL)
        with pytest.raises((dagger.ClientError, OSError)):
            async with asyncio.timeout(10):
                await client.container().with_new_file("/a", "x").file("/a").contents()

    assert events == [NoticeEvent(text="the engine did not end in order: signal 9")]


def engine_pid(workdir: Path) -> int:
    """Return the engine process of the session in `workdir`."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"pipeline.session" in words and os.fsencode(workdir) in words:
            return int(name)
    raise LookupError("no engine")
