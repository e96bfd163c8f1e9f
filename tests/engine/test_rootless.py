"""The engine of an ordinary user: what it can do, whose the results are, and what forbids it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pipeline.engine.rootless.enter import mapping_argv
from pipeline.engine.rootless.problems import Problem, find_problems
from pipeline.engine.rootless.subids import Range, parse_ranges
from pipeline.engine.runtime.tunnel import loopback_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parent.parent.parent
NEEDED = ("useradd", "userdel", "newuidmap", "setpriv", "busybox")
LIMIT_S = 60


@dataclass(frozen=True, kw_only=True)
class User:
    """An ordinary user with sub-ids and a home, and a Python that they can run this project with."""

    name: str
    uid: int
    home: Path
    python: str

    def argv(self, *command: str) -> list[str]:
        """Return what runs a command as the user, with nothing of root's left."""
        become = (f"--reuid={self.uid}", f"--regid={self.uid}", "--init-groups", "--inh-caps=-all")
        return [shutil.which("setpriv") or "setpriv", *become, "--", *command]

    @property
    def environ(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if p.endswith("site-packages"))]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CI": "1",  # where no engine stays after its session
        }

    def run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*command),
            env=self.environ,
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S * 3,
        )


@pytest.fixture(scope="session")
def user() -> Iterator[User]:
    """A user made for these tests; gone after them."""
    with made_user() as user:
        yield user


@contextmanager
def made_user(*, is_lent_ids: bool = True) -> Iterator[User]:
    """Lend a new user with a home."""
    if os.geteuid() != 0 or any(shutil.which(program) is None for program in NEEDED):
        pytest.skip(f"needs root to make a user, and {', '.join(NEEDED)}")
    name = f"pipeline-{os.urandom(3).hex()}"
    folder = Path(tempfile.mkdtemp(prefix="pipeline-user-"))
    folder.chmod(0o711)
    home = folder / "home"
    subprocess.run(["useradd", "--create-home", "--home-dir", home, "--password", "*", name], check=True)
    if not is_lent_ids:
        every = "1-4294967294"
        subprocess.run(["usermod", "--del-subuids", every, "--del-subgids", every, name], check=True)
    try:
        uid = home.stat().st_uid
        for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
            made = User(name=name, uid=uid, home=home, python=python)
            look = "import pipeline, dagger, os, sys; os.execv(sys.executable, [sys.executable, '-V'])"
            if made.run(python, "-c", look).returncode == 0:
                break
        else:
            pytest.skip("an ordinary user can run no Python that has what this project needs")
        yield made
    finally:
        for pid in processes_of(uid):  # of tests that failed
            os.kill(pid, signal.SIGKILL)
        subprocess.run(["userdel", name], check=True)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def rootfs(user: User) -> Path:
    """A root file system with busybox and its commands, which belongs to the user."""
    return busybox_of(user)


def busybox_of(user: User) -> Path:
    """Make that of any user."""
    root = user.home / "rootfs"
    script = f"mkdir -p {root}/bin {root}/etc {root}/tmp && cp $(command -v busybox) {root}/bin/busybox && "
    script += f"for n in $(busybox --list); do [ $n = busybox ] || ln -s busybox {root}/bin/$n; done"
    done = user.run("sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return root


class Session:
    """A session of the user's engine, asked in plain GraphQL."""

    def __init__(self, user: User, rootfs: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            user.argv(user.python, "-m", "pipeline.session", "session", *options),
            env=user.environ,
            cwd=user.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.told = json.loads(self.process.stdout.readline())
        found = self.ask(f'{{ host {{ directory(path: "{rootfs}") {{ id }} }} }}')
        self.root = found["host"]["directory"]["id"]

    def ask(self, query: str) -> dict[str, Any]:
        """Return the data of the answer."""
        answer = httpx.post(
            f"http://127.0.0.1:{self.told['port']}/query",
            json={"query": query},
            auth=(self.told["session_token"], ""),
            timeout=LIMIT_S,
            trust_env=False,
        )
        told = answer.json()
        assert "errors" not in told, told["errors"]
        data: dict[str, Any] = told["data"]
        return data

    def container(self, calls: str) -> dict[str, Any]:
        """Return what `calls` on a busybox container answer."""
        path = 'withEnvVariable(name: "PATH", value: "/bin")'
        data = self.ask(
            f'{{ container {{ withRootfs(directory: "{self.root}") {{ {path} {{ {calls} }} }} }} }}'
        )
        found: dict[str, Any] = data["container"]["withRootfs"]["withEnvVariable"]
        return found

    def refusal(self, calls: str) -> str:
        """Return what `calls` on a busybox container are refused with."""
        with pytest.raises(AssertionError) as caught:
            self.container(calls)
        return str(caught.value)

    def shell(self, script: str) -> str:
        """Return what a script in a container writes."""
        found = self.container(f'withExec(args: ["sh", "-c", {json.dumps(script)}]) {{ stdout }}')
        return str(found["withExec"]["stdout"])

    def end(self) -> int:
        """Close its stdin and return its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(LIMIT_S)
        self.process.stdout.close()
        return code


@pytest.fixture
def session(user: User, rootfs: Path) -> Iterator[Session]:
    """A session on the user's own store."""
    made = Session(user, rootfs)
    yield made
    if made.process.poll() is None:
        assert made.end() == 0


def processes_of(uid: int) -> list[int]:
    """The processes of a user, which are those of their namespaces' root as well."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid in (uid, *sub_ids(uid)):
                    found.append(int(entry.name))
            except FileNotFoundError:
                continue
    return found


def sub_ids(uid: int) -> range:
    """The ids that were lent to a user."""
    import pwd

    lent = parse_ranges(Path("/etc/subuid").read_text(), {pwd.getpwuid(uid).pw_name})
    return range(lent[0].first, lent[0].first + lent[0].count) if lent else range(0)


@pytest.mark.root
def test_a_container_has_a_root_of_its_own(session: Session) -> None:
    """It may change owners, and its ids are not those of the machine."""
    script = "id -u; touch /tmp/f; chown 1234:4321 /tmp/f; stat -c %u:%g /tmp/f; head -1 /proc/self/uid_map"

    told = session.shell(script).split()

    assert told[:2] == ["0", "1234:4321"]
    assert told[2:] == ["0", str(os.stat(f"/proc/{session.process.pid}").st_uid), "1"]


@pytest.mark.root
def test_what_is_exported_belongs_to_the_user(session: Session, user: User) -> None:
    """Root inside is the user outside."""
    target = user.home / "exported"

    session.container(
        f'withNewFile(path: "/f", contents: "x") {{ file(path: "/f") {{ export(path: "{target}") }} }}'
    )

    assert (target.stat().st_uid, target.read_text()) == (user.uid, "x")


@pytest.mark.root
def test_removed_files_and_replaced_directories_stay_so(session: Session) -> None:
    """Whiteouts and opaque directories are of the kind that a user namespace allows."""
    remove = 'withExec(args: ["sh", "-c", "rm -r /d; mkdir /d"])'
    look = 'withExec(args: ["ls", "-a", "/d"]) { stdout }'

    found = session.container(f'withNewFile(path: "/d/old", contents: "") {{ {remove} {{ {look} }} }}')

    assert found["withNewFile"]["withExec"]["withExec"]["stdout"] == ".\n..\n"


@pytest.mark.root
def test_containers_reach_the_outside_but_not_the_loopback_of_the_host(session: Session) -> None:
    """There is a way out by a program of the user's, which does not lead to what listens on 127.0.0.1."""
    if all(shutil.which(program) is None for program in ("pasta", "slirp4netns")):
        pytest.skip("neither pasta nor slirp4netns is installed")
    port = session.told["port"]
    script = (
        "ip route | cut -d' ' -f1-2; gateway=$(ip route | sed -n 's/default via //p' | cut -d' ' -f1);"
        f"for host in 127.0.0.1 $gateway; do nc -w 2 $host {port} </dev/null && echo open; done; true"
    )

    told = session.shell(script)

    assert "default via" in told
    assert "open" not in told


WEB = (
    'withNewFile(path: "/www/f", contents: "found") { withExposedPort(port: 80) {'
    ' asService(args: ["httpd", "-f", "-p", "80", "-h", "/www"]) { id } } }'
)


@pytest.mark.root
def test_low_ports_are_free_inside_and_roots_outside(session: Session) -> None:
    """A service listens on port 80 of its own network; a tunnel to it takes a port that users may have."""
    service = session.container(WEB)["withNewFile"]["withExposedPort"]["asService"]["id"]
    forward = f'host {{ tunnel(service: "{service}", ports: [{{backend: 80, frontend: %d}}]) {{ %s }} }}'

    started = session.ask("{ " + forward % (0, "start") + " }")["host"]["tunnel"]["start"]
    address = session.ask(f'{{ node(id: "{started}") {{ ... on Service {{ endpoint }} }} }}')["node"][
        "endpoint"
    ]
    found = httpx.get(f"http://{address}/f", timeout=LIMIT_S, trust_env=False).text
    with pytest.raises(AssertionError, match="cannot listen on port 807") as caught:
        session.ask("{ " + forward % (807, "start") + " }")

    assert found == "found"
    assert "net.ipv4.ip_unprivileged_port_start=807" in str(caught.value)


@pytest.mark.root
def test_a_user_who_was_lent_no_ids_can_run_what_belongs_to_root() -> None:
    """And is told why other users and owners cannot be had."""
    with made_user(is_lent_ids=False) as alone:
        session = Session(alone, busybox_of(alone))
        told = session.shell("id -u; cat /proc/self/uid_map; touch /f; stat -c %u:%g /f").split()
        as_other = session.refusal('withUser(name: "1000") { withExec(args: ["id"]) { stdout } }')
        owned = session.refusal('withNewFile(path: "/x", contents: "", owner: "1000") { id sync }')
        assert session.end() == 0

    assert told == ["0", "0", str(alone.uid), "1", "0:0"]
    assert "become user 1000, which is not mapped here (`pipeline doctor` says how it can be)" in as_other
    assert "cannot write `/x`: invalid argument" in owned
    assert "files of other owners need ids that are lent to you" in owned


@pytest.mark.root
def test_the_second_session_finds_the_work_of_the_first(user: User, rootfs: Path) -> None:
    """Also what was written by other ids than the user's."""
    times = []
    for _ in range(2):
        session = Session(user, rootfs)
        times.append(session.shell("touch /kept; chown 77 /kept; cat /proc/uptime"))
        assert session.end() == 0

    assert times[0] == times[1]


@pytest.mark.root
def test_a_killed_engine_leaves_nothing(user: User, rootfs: Path) -> None:
    """No process, be it of the container or of the way out; and the next session works."""
    session = Session(user, rootfs)
    session.shell("true")
    assert processes_of(user.uid)

    session.process.send_signal(signal.SIGKILL)
    session.end()

    deadline = time.monotonic() + 10
    while processes_of(user.uid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(user.uid) == []
    after = Session(user, rootfs)
    assert after.shell("echo works") == "works\n"
    assert after.end() == 0


@pytest.mark.root
def test_the_user_can_prune_what_other_ids_wrote(user: User, rootfs: Path) -> None:
    """Such files can be removed inside only, which is where `engine prune` works."""
    session = Session(user, rootfs)
    session.shell("mkdir -p /a/b; touch /a/b/c; chown -R 5:5 /a; chmod 700 /a")
    assert session.end() == 0
    store = user.home / ".local/share/pipeline"
    assert any(path.lstat().st_uid != user.uid for path in store.rglob("*"))

    done = user.run(user.python, "-m", "pipeline", "engine", "prune", "--all")

    assert done.returncode == 0, done.stderr
    assert all(path.lstat().st_uid == user.uid for path in store.rglob("*"))


@pytest.mark.root
def test_a_command_with_a_session_stays_the_user(user: User) -> None:
    """`shell` runs it outside the engine's namespace."""
    done = user.run(user.python, "-m", "pipeline.session", "shell", "--", "sh", "-c", "id -u; exit 3")

    assert (done.stdout, done.returncode) == (f"{user.uid}\n", 3), done.stderr


@pytest.mark.root
@pytest.mark.slow
def test_the_conformance_suite_runs_without_root(user: User) -> None:
    """Services, tunnels, files, builds and registries, tested by the user as root tests them."""
    suites = ("services", "build", "images", "host", "exec", "git")
    files = [str(ROOT / f"tests/conformance/test_{suite}.py") for suite in suites]
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT))

    done = user.run(user.python, "-m", "pytest", *options, *files, cwd=ROOT)

    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada:100000:65536\n", (Range(first=100000, count=65536),)),
        ("1000:5:1\nbob:9:9\nada:7:2\n", (Range(first=5, count=1), Range(first=7, count=2))),
        ("# ada:1:1\nada:x:1\nada:1\nada:1:0\n", ()),
    ],
    ids=["by-name", "by-number-too", "damaged"],
)
def test_ids_that_are_lent(text: str, expected: Sequence[Range]) -> None:
    """Lines of others and lines that say nothing are passed over."""
    assert parse_ranges(text, {"ada", "1000"}) == expected


def test_ids_are_mapped_in_order() -> None:
    """The user is 0, the ranges follow without a gap."""
    ranges = (Range(first=5000, count=10), Range(first=9000, count=5))

    argv = mapping_argv("newuidmap", 42, 1000, ranges)

    assert argv == ["newuidmap", "42", "0", "1000", "1", "1", "5000", "10", "11", "9000", "5"]


def test_a_service_apart_is_shown_on_loopback() -> None:
    """At an address that only its own has."""
    assert loopback_of("10.87.3.4") == "127.87.3.4"


def system(folder: Path, **files: str) -> Path:
    """Make a system that allows all; `files` says what is otherwise, "" for what is missing."""
    usual = {
        "proc/sys/kernel/unprivileged_userns_clone": "1",
        "proc/sys/user/max_user_namespaces": "1000",
        "proc/self/mountinfo": "22 27 0:21 / /proc rw - proc proc rw\n",
        "etc/subuid": "ada:100000:65536\n",
        "etc/subgid": "ada:100000:65536\n",
        "usr/bin/newuidmap": "setuid",
        "usr/bin/newgidmap": "setuid",
        "usr/bin/pasta": "plain",
        "dev/net/tun": "plain",
    }
    for name, text in (usual | files).items():
        if text:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o4755 if text == "setuid" else 0o666)
    return folder


def test_a_system_that_allows_all_has_no_problem(tmp_path: Path) -> None:
    """Neither setting nor program is in the way."""
    assert find_problems("ada", 1000, root=system(tmp_path)) == ()


@pytest.mark.parametrize(
    ("file", "text", "topic", "is_fatal", "fix"),
    [
        (
            "proc/sys/kernel/unprivileged_userns_clone", "0", "rights", True,
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "rights", True,
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "proc/sys/user/max_user_namespaces", "0", "rights", True,
            "sudo sysctl -w user.max_user_namespaces=28633",
        ),
        (
            "proc/self/mountinfo", "30 22 0:5 / /proc/kcore rw - tmpfs tmpfs rw\n", "rights", True,
            "start the outer container with --security-opt systempaths=unconfined",
        ),
        (
            "etc/subuid", "", "ids", False,
            "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ada",
        ),
        ("usr/bin/newuidmap", "", "ids", True, "sudo apt-get install uidmap"),
        ("usr/bin/newgidmap", "plain", "ids", True, "sudo chmod u+s /usr/bin/newgidmap"),
        ("dev/net/tun", "", "uplink", False, "sudo modprobe tun"),
        ("usr/bin/pasta", "", "uplink", False, "sudo apt-get install slirp4netns"),
    ],
    ids=["debian", "apparmor", "limit", "container", "no-ids", "no-newuidmap", "no-setuid", "no-tun",
         "no-pasta"],
)  # fmt: skip
def test_what_is_in_the_way_is_told_with_the_command_that_allows_it(
    tmp_path: Path, file: str, text: str, topic: str, is_fatal: bool, fix: str
) -> None:
    """One sentence and one command for each."""
    (problem,) = find_problems("ada", 1000, root=system(tmp_path, **{file: text}))

    assert (problem.topic, problem.is_fatal, problem.fix) == (topic, is_fatal, fix)
    assert isinstance(problem, Problem)
    assert problem.what
