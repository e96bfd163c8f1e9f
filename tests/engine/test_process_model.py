"""The engine that stays: sessions that share it and nothing else, how they end, and how it does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pipeline.connect import Target, open_session
from pipeline.engine.events import NoticeEvent
from pipeline.engine.settings import SETTINGS_VARIABLE, EngineSettings, settings_to_json
from pipeline.session import attach, keeper
from pipeline.session.requests import REQUEST_LIMIT_S
from pipeline.session.standing import find_keepers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.engine.events import EngineEvent

pytestmark = [pytest.mark.root]
EMBEDDED = Target(kind="embedded")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """Lend a place for a store, and end the engines that stay with it."""
    folder = tmp_path / "store"
    yield folder
    for pid in keeper_pids(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def keeper_pids(store: Path) -> list[int]:
    return [each["pid"] for each in find_keepers(store)]


def wait_until(question: Callable[[], bool], within_s: float = 10) -> None:
    until = time.monotonic() + within_s
    while not question():
        assert time.monotonic() < until, "it does not come true"
        time.sleep(0.01)


@dataclass(kw_only=True)
class Program:
    """A session opened as Dagger's SDKs open one: by the command, with its words on stdout."""

    process: subprocess.Popen[bytes]
    port: int
    token: str

    def ask(self, query: str) -> Any:
        address = f"http://127.0.0.1:{self.port}/query"
        return httpx.post(address, json={"query": query}, auth=(self.token, ""), timeout=30).json()

    def is_open(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(30)


@contextlib.contextmanager
def program(store: Path, workdir: Path, **environ: str) -> Iterator[Program]:
    """Open a session by the command, with variables of its own."""
    settings = settings_to_json(EngineSettings(store=str(store), offline=True))
    env = {**os.environ, "PIPELINE_ENGINE_IDLE": "60", SETTINGS_VARIABLE: settings, **environ}
    env.pop("CI", None)
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.session", "session", "--workdir", str(workdir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield Program(process=process, port=told["port"], token=told["session_token"])


@pytest.mark.anyio
async def test_the_next_session_finds_the_engine_of_the_last(store: Path, tmp_path: Path) -> None:
    """And what it asks is answered; when the time is over the engine has gone."""
    settings = EngineSettings(store=str(store), offline=True, idle_s=1.0)
    pids = []

    for _ in range(2):
        async with open_session(EMBEDDED, settings, workdir=tmp_path, observer=lambda _e: None) as client:
            assert await client.container().with_new_file("/a", "text").file("/a").contents() == "text"
        pids.append(keeper_pids(store))

    assert pids[0] == pids[1]
    assert len(pids[0]) == 1
    wait_until(lambda: keeper_pids(store) == [])


@pytest.mark.anyio
async def test_a_session_that_wants_no_engine_to_stay_leaves_none(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the environment says: its process is the engine, and ends with it."""
    for name in ("CI", "PIPELINE_ENGINE_IDLE"):
        monkeypatch.delenv(name, raising=False)
    settings = EngineSettings(store=str(store), offline=True)

    async with open_session(
        Target(kind="embedded"), settings, workdir=tmp_path, observer=lambda _event: None
    ) as client:
        assert await client.container().with_new_file("/a", "b").file("/a").contents() == "b"

    assert (find_keepers(store), (store / "warm").exists()) == ([], False)


def test_sessions_at_once_share_no_variable_folder_or_token(store: Path, tmp_path: Path) -> None:
    """Each has the variables, the directory and the token of its own client."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    read = '{ secret(uri: "env://WORD") { plaintext } host { file(path: "file") { contents } } }'

    with (
        program(store, tmp_path / "one", WORD="first") as one,
        program(store, tmp_path / "two", WORD="second") as two,
    ):
        answers = [each.ask(read)["data"] for each in (one, two)]
        crossed = httpx.post(f"http://127.0.0.1:{one.port}/query", json={}, auth=(two.token, ""))
        pids = keeper_pids(store)
        codes = [one.end(), two.end()]

    assert answers == [
        {"secret": {"plaintext": "first"}, "host": {"file": {"contents": "one"}}},
        {"secret": {"plaintext": "second"}, "host": {"file": {"contents": "two"}}},
    ]
    assert crossed.status_code == 401
    assert len(pids) == 1
    assert codes == [0, 0]


def test_a_secret_that_another_session_has_set_cannot_be_read_by_its_id(store: Path, tmp_path: Path) -> None:
    """Its id is known to the store; its value to the session alone."""
    with program(store, tmp_path) as one, program(store, tmp_path) as two:
        told = one.ask('{ setSecret(name: "key", plaintext: "hidden-value") { id } }')
        identifier = told["data"]["setSecret"]["id"]
        query = f'{{ loadSecretFromID(id: "{identifier}") {{ plaintext }} }}'
        own, other = one.ask(query), two.ask(query)
        one.end()
        two.end()

    assert own == {"data": {"loadSecretFromID": {"plaintext": "hidden-value"}}}
    assert other["data"] is None
    assert "hidden-value" not in json.dumps(other)


def test_a_client_that_is_killed_ends_its_session_and_no_other(store: Path, tmp_path: Path) -> None:
    with program(store, tmp_path) as one, program(store, tmp_path) as two:
        before = keeper_pids(store)
        one.process.kill()

        wait_until(lambda: not one.is_open(), within_s=3)
        answer = two.ask("{ version }")
        after = keeper_pids(store)
        two.end()

    assert set(answer) == {"data"}
    assert before == after


def test_sessions_go_on_when_the_engine_that_stays_is_killed(store: Path, tmp_path: Path) -> None:
    """The next session starts another one."""
    with program(store, tmp_path) as one:
        [first] = keeper_pids(store)
        os.kill(first, signal.SIGKILL)
        answer = one.ask("{ version }")
        with program(store, tmp_path) as two:
            [second] = keeper_pids(store)
            codes = [two.end(), one.end()]

    assert set(answer) == {"data"}
    assert first != second
    assert codes == [0, 0]


@pytest.mark.anyio
async def test_a_session_that_is_killed_is_told_and_the_next_works(store: Path, tmp_path: Path) -> None:
    import dagger

    settings = EngineSettings(store=str(store), offline=True, idle_s=60)
    events: list[EngineEvent] = []

    async with open_session(EMBEDDED, settings, workdir=tmp_path, observer=events.append) as client:
        [staying] = keeper_pids(store)
        [session] = Path(f"/proc/{staying}/task/{staying}/children").read_text().split()
        os.kill(int(session), signal.SIGKILL)
        with pytest.raises((dagger.ClientError, OSError)):
            await client.container().with_new_file("/a", "x").file("/a").contents()
    async with open_session(EMBEDDED, settings, workdir=tmp_path, observer=events.append) as client:
        found = await client.container().with_new_file("/a", "x").file("/a").contents()

    assert found == "x"
    assert events == [NoticeEvent(text="the engine did not end in order: signal 9")]
    assert keeper_pids(store) == [staying]


def test_another_version_takes_over_and_lets_running_sessions_end(store: Path, tmp_path: Path) -> None:
    """The older engine serves the session it has, and goes with it."""
    with program(store, tmp_path) as old:
        [before] = keeper_pids(store)
        with program(store, tmp_path, PYTHONPATH=str(tmp_path)) as new:
            both = keeper_pids(store)
            answers = [set(each.ask("{ version }")) for each in (old, new)]
            old.end()
            wait_until(lambda: before not in keeper_pids(store))
            left = keeper_pids(store)
            new.end()

    assert answers == [{"data"}, {"data"}]
    assert len(both) == 2
    assert left == [pid for pid in both if pid != before]


def test_the_socket_is_the_users_alone_and_survives_nonsense(store: Path, tmp_path: Path) -> None:
    """Neither a wrong request nor a client that leaves at once disturbs the next one."""
    with program(store, tmp_path) as one:
        one.end()
    [path] = (store / "warm").glob("*.sock")
    modes = [oct(each.stat().st_mode & 0o777) for each in (path.parent, path)]

    for words in (b"", b"\xff" * 100, b"\0" * 7 + b"\5" + b"[1,2]", b"\0" * 8):
        with socket.socket(socket.AF_UNIX) as stranger, attach._short(path.parent, path.stem) as name:
            stranger.connect(name)
            stranger.sendall(words)
    with program(store, tmp_path) as two:
        answer = two.ask("{ version }")
        two.end()

    assert modes == ["0o700", "0o600"]
    assert set(answer) == {"data"}


def test_in_ci_no_engine_stays(store: Path, tmp_path: Path) -> None:
    settings = settings_to_json(EngineSettings(store=str(store), offline=True))
    env = {**os.environ, "CI": "true", "PIPELINE_ENGINE_IDLE": "60", SETTINGS_VARIABLE: settings}

    done = subprocess.run(
        [sys.executable, "-m", "pipeline.session", "session", "--workdir", str(tmp_path)],
        input=b"",
        capture_output=True,
        env=env,
        check=True,
    )

    assert b"session_token" in done.stdout
    assert find_keepers(store) == []
    assert not (store / "warm").exists()


def test_what_the_settings_say_goes_before_the_environment(store: Path, tmp_path: Path) -> None:
    """Also in the command: an engine that is not to stay does not."""
    settings = settings_to_json(EngineSettings(store=str(store), offline=True, idle_s=0.0))

    with program(store, tmp_path, **{SETTINGS_VARIABLE: settings}) as one:
        during = find_keepers(store)
        code = one.end()

    assert (during, code, (store / "warm").exists()) == ([], 0, False)


def test_a_session_tells_how_it_ended_though_the_engine_that_stays_was_killed(
    store: Path, tmp_path: Path
) -> None:
    """Its client waits for the session's own end, not for that of the keeper."""
    with program(store, tmp_path) as one:
        kill_keeper(store)
        answer = one.ask("{ version }")
        still_there = one.process.poll()
        code = one.end()

    assert set(answer) == {"data"}
    assert still_there is None
    assert code == 0


def test_how_a_session_ended_is_not_known_when_nobody_is_left_to_tell(store: Path, tmp_path: Path) -> None:
    """Neither a good end nor a signal is made up."""
    attached = attached_session(store, tmp_path)
    [session] = find_keepers(store)[0]["sessions"]

    kill_keeper(store)
    os.kill(session["pid"], signal.SIGKILL)
    code = attached.wait(10)

    assert (code, attached.is_known) == (1, False)
    close_streams(attached)


def test_a_session_without_its_keeper_can_be_killed_by_its_client(store: Path, tmp_path: Path) -> None:
    attached = attached_session(store, tmp_path)

    kill_keeper(store)
    attached.send_signal(signal.SIGKILL)
    code = attached.wait(10)

    assert (code, attached.is_known) == (1, False)
    close_streams(attached)


def test_clients_that_stall_hold_nobody_up(store: Path, tmp_path: Path) -> None:
    """Ten of them have said half of what they want; each is let go when its time is over."""
    with program(store, tmp_path) as one:
        one.end()
    [path] = (store / "warm").glob("*.sock")
    stalled = []
    for _ in range(10):
        with attach._short(path.parent, path.stem) as name:
            stalled.append(socket.socket(socket.AF_UNIX))
            stalled[-1].connect(name)
        stalled[-1].sendall(b"\0" * 6)

    began = time.monotonic()
    with program(store, tmp_path) as two:
        answer = two.ask("{ version }")
        two.end()
    took_s = time.monotonic() - began
    for each in stalled:
        each.settimeout(3 * REQUEST_LIMIT_S)
    ends = [each.recv(1) for each in stalled]

    for each in stalled:
        each.close()
    assert set(answer) == {"data"}
    assert took_s < REQUEST_LIMIT_S
    assert ends == [b""] * 10


def test_status_tells_of_sessions_and_for_how_long_there_was_none(store: Path, tmp_path: Path) -> None:
    with program(store, tmp_path) as one:
        [during] = find_keepers(store)
        one.end()
    wait_until(lambda: find_keepers(store)[0]["sessions"] == [])
    [after] = find_keepers(store)

    [session] = during["sessions"]
    assert (during["idle_s"], during["stays_s"], session["workdir"]) == (None, 60, os.getcwd())
    assert 0 <= session["for_s"] < 60
    assert 0 <= after["idle_s"] < 60


def test_no_cgroup_is_left_by_a_session_that_ends_in_order(store: Path, tmp_path: Path) -> None:
    """The process is forked, so that what Python does at an exit is the engine's own to do."""
    with program(store, tmp_path) as one:
        [session] = find_keepers(store)[0]["sessions"]
        pattern = f"**/pipeline-{session['pid']}-*"
        one.ask(f'{{ host {{ directory(path: "{tmp_path}") {{ entries }} }} }}')
        one.end()

    assert list(Path("/sys/fs/cgroup").glob(pattern)) == []


def test_the_log_of_an_engine_that_stays_begins_anew_when_it_is_too_long(tmp_path: Path) -> None:
    with (tmp_path / "engine.log").open("ab") as log:
        log.write(b"x" * attach.LOG_BYTES)
        log.flush()
        keeper.bound_log(log.fileno())
        whole = (tmp_path / "engine.log").stat().st_size
        log.write(b"x")
        log.flush()

        keeper.bound_log(log.fileno())

    assert whole == attach.LOG_BYTES
    words = "what was here before was removed: it had grown too long\n"
    assert (tmp_path / "engine.log").read_text() == words


def kill_keeper(store: Path) -> None:
    [keeper_pid] = keeper_pids(store)
    os.kill(keeper_pid, signal.SIGKILL)


def attached_session(store: Path, workdir: Path) -> attach.Attached:
    """A session of the engine that stays, which is ready."""
    settings = settings_to_json(EngineSettings(store=str(store), offline=True))
    argv = ["session", "--workdir", str(workdir)]
    environ = {**os.environ, SETTINGS_VARIABLE: settings}
    read_end, write_end = os.pipe()
    attached = attach.open_attached(argv, store=store, idle_s=60, environ=environ, events=write_end)
    os.close(read_end)
    os.close(write_end)
    assert attached is not None
    assert b"session_token" in attached.stdout.readline()
    return attached


def close_streams(attached: attach.Attached) -> None:
    for stream in (attached.stdin, attached.stdout, attached.stderr):
        stream.close()
