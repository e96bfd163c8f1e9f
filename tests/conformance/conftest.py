"""A real session for the unmodified SDK: our engine on a throw-away store, or a Dagger engine.

    pytest tests/conformance                                # the embedded engine
    pytest tests/conformance --engine dagger[=ADDRESS]      # a Dagger engine, as the SDK finds it

Tests with the fixture `embedded` or `engines` look at this engine's own process or state. Those marked
`differs(reason)` state what this engine does otherwise on purpose: a Dagger engine is not asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import dagger

PASSWD = "root:x:0:0:root:/root:/bin/sh\nauser:x:1234:1234::/home/auser:/bin/sh\n"
GROUP = "root:x:0:\nauser:x:1234:\nagroup:x:4321:auser\n"
END_LIMIT_S = 30
COMMAND = (sys.executable, "-m", "pipeline.session", "session")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", default="embedded", help="embedded, dagger or dagger=ADDRESS")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "differs(reason): a deliberate difference from a Dagger engine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--engine", default="embedded") == "embedded":
        return
    for item in items:
        if (mark := item.get_closest_marker("differs")) is not None:
            item.add_marker(pytest.mark.skip(reason=f"differs on purpose: {mark.args[0]}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """Where a session is asked without the SDK."""

    url: str
    token: str


@dataclass(kw_only=True)
class EngineProcess:
    """One engine process with its session; `words` is the file of what it says on stderr."""

    process: subprocess.Popen[str]
    port: int
    token: str
    store: Path
    workdir: Path
    words: Path

    @property
    def wire(self) -> Wire:
        return Wire(url=f"http://127.0.0.1:{self.port}/query", token=self.token)

    @property
    def environ(self) -> dict[str, str]:
        return {"DAGGER_SESSION_PORT": str(self.port), "DAGGER_SESSION_TOKEN": self.token}

    def end(self) -> int:
        """Close its stdin and return its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            return self.process.wait(END_LIMIT_S)
        finally:
            self.process.stdout.close()

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.end()


def start_engine(store: Path, workdir: Path, *options: str, **environ: str) -> EngineProcess:
    """Start an engine process on `store` and wait for its port."""
    store.mkdir(parents=True, exist_ok=True)
    words = store / f"words-{os.urandom(4).hex()}.txt"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DAGGER_", "OTEL_", "PIPELINE_"))}
    with open(words, "w") as stderr:
        process = subprocess.Popen(
            [*COMMAND, "--workdir", workdir, "--store", store, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={"PIPELINE_ENGINE_IDLE": "0", **clean, **environ},
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        assert process.stdin is not None
        process.stdin.close()
        process.stdout.close()
        process.wait(END_LIMIT_S)
        pytest.fail(words.read_text())
    told = json.loads(line)
    return EngineProcess(
        process=process,
        port=told["port"],
        token=told["session_token"],
        store=store,
        workdir=workdir,
        words=words,
    )


@pytest.fixture(scope="session")
def kind(request: pytest.FixtureRequest) -> str:
    """Which engine is tested: `embedded`, `dagger` or `dagger=ADDRESS`."""
    return str(request.config.getoption("--engine", default="embedded"))


@pytest.fixture(scope="session")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory the shared session was started in."""
    return tmp_path_factory.mktemp("workdir")


@pytest.fixture(scope="session")
def shared(
    kind: str, tmp_path_factory: pytest.TempPathFactory, workdir: Path
) -> Iterator[EngineProcess | None]:
    """The session most tests share; None for a Dagger engine, where the SDK starts one."""
    if kind != "embedded":
        yield None
        return
    engine = start_engine(tmp_path_factory.mktemp("store"), workdir)
    yield engine
    engine.end()


@pytest.fixture
def embedded(shared: EngineProcess | None) -> EngineProcess:
    """The shared engine process, for tests that look at it; skipped on a Dagger engine."""
    if shared is None:
        pytest.skip("looks at the embedded engine itself")
    return shared


@contextlib.asynccontextmanager
async def connected(engine: EngineProcess | None, kind: str, workdir: Path) -> AsyncIterator[dagger.Client]:
    """Connect the SDK to an engine process of ours, or to a Dagger engine."""
    import dagger

    if engine is not None:
        environ, config = engine.environ, dagger.Config(retry=None)
    else:
        address = kind.partition("=")[2]
        environ = {"_EXPERIMENTAL_DAGGER_RUNNER_HOST": address} if address else {}
        config = dagger.Config(retry=None, workdir=workdir)
    before = {name: os.environ.get(name) for name in environ}
    os.environ.update(environ)
    try:
        async with dagger.Connection(config) as client:
            yield client
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@pytest.fixture
async def dag(shared: EngineProcess | None, kind: str, workdir: Path) -> AsyncIterator[dagger.Client]:
    """The SDK's client in the shared session."""
    async with connected(shared, kind, workdir) as client:
        yield client


@pytest.fixture
def wire(dag: dagger.Client) -> Wire:
    """The shared session as it is spoken to, whichever engine it is of."""
    client: Any = dag._ctx.conn.session.client
    transport = client.transport
    return Wire(url=str(transport.url), token=transport.kwargs["auth"][0])


@dataclass(kw_only=True)
class Engines:
    """Starts sessions of a test's own; all are ended with it."""

    folder: Path
    started: list[EngineProcess] = field(default_factory=list)

    def start(self, store: str = "store", *options: str, **environ: str) -> EngineProcess:
        workdir = self.folder / "work"
        workdir.mkdir(exist_ok=True)
        engine = start_engine(self.folder / store, workdir, *options, **environ)
        self.started.append(engine)
        return engine

    @contextlib.asynccontextmanager
    async def session(
        self, store: str = "store", *options: str, **environ: str
    ) -> AsyncIterator[dagger.Client]:
        """Run one whole session on a store of this test."""
        engine = self.start(store, *options, **environ)
        async with connected(engine, "embedded", engine.workdir) as client:
            yield client
        assert engine.end() == 0, engine.words.read_text()


@pytest.fixture
def engines(kind: str, tmp_path: Path) -> Iterator[Engines]:
    """Sessions on a store of this test's own."""
    if kind != "embedded":
        pytest.skip("starts sessions of the embedded engine")
    made = Engines(folder=tmp_path)
    yield made
    for engine in made.started:
        if engine.process.poll() is None:
            engine.end()


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with busybox and its commands, two users and a group."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox-static is not installed")
    root = tmp_path_factory.mktemp("rootfs")
    for folder in ("bin", "etc", "root", "home/auser"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").mkdir(mode=0o777)
    (root / "tmp").chmod(0o1777)
    shutil.copy(busybox, root / "bin" / "busybox")
    listed = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout
    for name in listed.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    (root / "etc" / "passwd").write_text(PASSWD)
    (root / "etc" / "group").write_text(GROUP)
    return root


SOCKET_CLIENT = r"""
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char b[256];
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(a.sun_path, argv[1], sizeof a.sun_path - 1);
    if (connect(s, (struct sockaddr *)&a, sizeof a)) { perror("connect"); return 1; }
    dprintf(s, "%s\n", argv[2]);
    for (ssize_t n; (n = read(s, b, sizeof b)) > 0 && write(1, b, n) == n && b[n - 1] != '\n';);
    return 0;
}
"""


@pytest.fixture(scope="session")
def socket_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program: `ask PATH LINE` sends a line to a socket and prints the line that comes back."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("ask")
    (folder / "ask.c").write_text(SOCKET_CLIENT)
    subprocess.run(["cc", "-static", "-O1", "-w", "-o", folder / "ask", folder / "ask.c"], check=True)
    return folder / "ask"


@pytest.fixture
def base(dag: dagger.Client, rootfs: Path) -> dagger.Container:
    """A container with busybox."""
    return busybox(dag, rootfs)


def busybox(dag: dagger.Client, rootfs: Path) -> dagger.Container:
    """Return a container with busybox in any session."""
    root = dag.host().directory(str(rootfs))
    return dag.container().with_rootfs(root).with_env_variable("PATH", "/bin")


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry on this machine that lets everybody in."""
    from tests.engine.oci.servers import real_registry

    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    with real_registry(tmp_path_factory.mktemp("registry") / "r") as running:
        yield running.address


@pytest.fixture
async def image(base: dagger.Container, registry: str) -> str:
    """The address of an image with busybox in a registry."""
    address = f"{registry}/build-base:v1"
    await base.publish(address)
    return address


@pytest.fixture
def unique() -> str:
    """A text no other test uses, so that nothing is found in the cache."""
    return os.urandom(8).hex()
