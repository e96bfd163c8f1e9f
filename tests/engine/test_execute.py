"""Execs from end to end: an `ops.Exec` over a store, run for real, to output and trees."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.digest import Digest, digest_text
from pipeline.engine import ops
from pipeline.engine.events import EngineEvent, ExecEvent
from pipeline.engine.mounts import enter_private_mount_namespace, unmount
from pipeline.engine.runtime.errors import ExecFailed
from pipeline.engine.runtime.execute import ExecOutcome, Surroundings, execute, is_accepted
from pipeline.engine.runtime.network import Network
from pipeline.engine.runtime.runner import find_runner
from pipeline.engine.runtime.services import Services
from pipeline.engine.store import Draft, Snapshot, Store
from pipeline.errors import EngineError
from tests.engine import busybox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from pipeline.engine.runtime.spec import Runner

SCRATCH = ops.Scratch()


@dataclass(kw_only=True)
class Lab:
    """A store with a busybox image, and everything an exec needs."""

    store: Store
    runner: Runner
    network: Network
    trees: dict[Digest, Snapshot]
    base: ops.Tree
    events: list[ExecEvent] = field(default_factory=list)
    surroundings: Surroundings | None = None

    def tree(self, fill: Callable[[Path], Any], *, over: Snapshot | None = None) -> ops.Pinned:
        """Make a tree; its identity is a number."""
        draft = self.store.snapshots.prepare(over or self.store.snapshots.empty)
        fill(draft.upper)
        node = ops.Pinned(content=digest_text(f"tree {len(self.trees)} {draft.id}"))
        self.trees[node.digest] = self.store.snapshots.commit(draft, identity=node.content)
        return node

    def exec(self, *argv: str, **more: Any) -> ops.Exec:
        return ops.Exec(base=more.pop("base", self.base), argv=argv, **more)

    def sh(self, script: str, **more: Any) -> ops.Exec:
        return self.exec("sh", "-c", script, **more)

    def observe(self, event: EngineEvent) -> None:
        assert isinstance(event, ExecEvent)
        self.events.append(event)

    async def evaluate(self, exec_: ops.Exec) -> Mapping[Digest, Snapshot]:
        return self.trees

    async def run(self, exec_: ops.Exec) -> ExecOutcome:
        services = Services(self.store, self.runner, self.network, self.evaluate)
        try:
            return await execute(
                self.store, self.runner, self.network, exec_, self.trees,
                observer=self.observe, services=services, surroundings=self.surroundings,
            )  # fmt: skip
        finally:
            await services.close()

    async def stdout(self, exec_: ops.Exec) -> str:
        return self.read((await self.run(exec_)).stdout)

    def read(self, digest: Digest) -> str:
        return self.store.blobs.read(digest).decode()

    def commit(self, draft: Draft) -> Snapshot:
        return self.store.snapshots.commit(draft, identity=digest_text(f"commit {draft.id}"))


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    busybox.require_launcher()
    store = Store.open(tmp_path / "store")
    network = await Network.open(store.root, offline=True)
    lab = Lab(store=store, runner=find_runner(), network=network, trees={}, base=SCRATCH)
    lab.trees[SCRATCH.digest] = store.snapshots.empty
    lab.base = lab.tree(busybox.fill)
    yield lab
    await network.close()
    store.close()


pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.mark.parametrize(
    ("expect", "accepted"),
    [
        ("SUCCESS", {0}),
        ("FAILURE", {*range(1, 128), *range(192, 256)}),
        ("ANY", {*range(128), *range(192, 256)}),
    ],
)
async def test_the_codes_that_are_accepted(expect: Any, accepted: set[int]) -> None:
    """Death by a signal never is."""
    assert {code for code in range(-1, 256) if is_accepted(expect, code)} == accepted


async def test_output_and_changes_of_an_exec(lab: Lab) -> None:
    """Both streams, what they wrote in order, and the layer are kept."""
    outcome = await lab.run(lab.sh("echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three; touch /new"))

    assert outcome.exit_code == 0
    assert lab.read(outcome.stdout) == "one\nthree\n"
    assert lab.read(outcome.stderr) == "two\n"
    assert lab.read(outcome.combined) == "one\ntwo\nthree\n"
    assert [path.name for path in outcome.rootfs.upper.iterdir()] == ["new"]


async def test_an_exec_that_changes_nothing_commits_to_its_parent(lab: Lab) -> None:
    """Neither the mounts' places nor the name files appear in the layer."""
    mounts = (
        ops.TempMount(path="/scratch/deep/here"),
        ops.TreeMount(path="/src", tree=SCRATCH),
        ops.SecretMount(path="/run/secrets/one", secret=_secret("one", "value")),
    )

    outcome = await lab.run(lab.sh("cat /etc/hosts /etc/resolv.conf /run/secrets/one", mounts=mounts))

    assert lab.commit(outcome.rootfs) == lab.trees[lab.base.digest]
    assert lab.commit(outcome.mounts["/src"]) == lab.store.snapshots.empty


async def test_a_place_that_an_earlier_layer_removed_is_not_left_behind(lab: Lab) -> None:
    """A whiteout hides the bottom layer, so the place has to be made and taken away again."""
    below = lab.trees[lab.base.digest]
    first = lab.commit((await lab.run(lab.sh("mkdir -p /data/x && touch /data/x/f"))).rootfs)
    base = ops.Pinned(content=digest_text("first"))
    lab.trees[base.digest] = first
    second = lab.commit((await lab.run(lab.sh("rm -r /data", base=base))).rootfs)
    removed = ops.Pinned(content=digest_text("second"))
    lab.trees[removed.digest] = second
    assert below.id not in (first.id, second.id)

    outcome = await lab.run(lab.sh("ls /data/x", base=removed, mounts=(ops.TempMount(path="/data/x"),)))

    assert list(outcome.rootfs.upper.iterdir()) == []
    assert lab.commit(outcome.rootfs) == second


async def test_a_failure_carries_its_output(lab: Lab) -> None:
    """Trimmed; the blobs are not kept, and the drafts are gone."""
    with pytest.raises(ExecFailed) as caught:
        await lab.run(lab.sh("echo '  out '; echo err >&2; exit 9", label="Dockerfile:3"))

    error = caught.value
    assert (str(error), error.argv, error.exit_code, error.stdout_tail, error.stderr_tail) == (
        "Dockerfile:3: exit code: 9",
        ("sh", "-c", "echo '  out '; echo err >&2; exit 9"),
        9, "out", "err",
    )  # fmt: skip
    assert _drafts(lab) == 1


async def test_a_long_output_is_cut_in_the_error_only(lab: Lab) -> None:
    """The last 100 KiB are told, and how much is missing."""
    with pytest.raises(ExecFailed) as caught:
        await lab.run(lab.sh("yes 123456789 | head -n 20000; exit 1"))

    tail = caught.value.stdout_tail
    assert tail.startswith("[omitting 97600 bytes]...")
    assert len(tail) == 100 * 1024 - 1
    assert tail.endswith("\n123456789\n123456789")


async def test_a_signal_is_a_failure_even_when_anything_is_expected(lab: Lab) -> None:
    """128 and above is not a command's own choice."""
    with pytest.raises(ExecFailed, match="exit code: 137"):
        await lab.run(lab.sh("kill -9 $$", expect="ANY"))


async def test_an_unknown_user_never_starts(lab: Lab) -> None:
    """The code is -1, the name is told."""
    with pytest.raises(ExecFailed) as caught:
        await lab.run(lab.exec("true", user="nobody-here"))

    assert caught.value.exit_code == -1
    assert str(caught.value) == "unable to find user nobody-here: no matching entries in user file"
    assert _drafts(lab) == 1


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "0 0 0,10 /root"),
        ("bob", "1000 1000 1000,10 /home/bob"),
        ("1000", "1000 1000 1000,10 /home/bob"),
        ("bob:wheel", "1000 10 10 /home/bob"),
        ("77", "77 0 0 /"),
        ("77:88", "77 88 88 /"),
    ],
)
async def test_users_are_looked_up_in_the_image(lab: Lab, user: str, expected: str) -> None:
    """With the groups that list them, and their home."""
    script = "echo $(id -u) $(id -g) $(id -G | tr ' ' ,) $HOME"

    assert await lab.stdout(lab.sh(script, user=user)) == expected + "\n"


async def test_the_environment_of_an_exec(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later sources win over earlier ones; what the engine adds wins over nothing."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:1")
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    monkeypatch.setenv("NO_PROXY", "host.invalid")
    lab.surroundings = Surroundings(env={"PIP_CERT": "/ca", "A": "surroundings"})
    exec_ = lab.sh(
        "env | sort",
        env=(("A", "env"), ("B", "env"), ("no_proxy", "mine")),
        volatile_env=(("B", "volatile"),),
        secret_env=(("C", _secret("c", "hidden")),),
    )

    outcome = await lab.run(exec_)

    assert lab.read(outcome.stdout).splitlines() == [
        "A=env", "B=volatile", "C=***", "HOME=/root", "HTTPS_PROXY=http://proxy.invalid:1",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PIP_CERT=/ca",
        "PWD=/", "SHLVL=1",
        "https_proxy=http://proxy.invalid:1", "no_proxy=mine",
    ]  # fmt: skip


async def test_the_name_files_of_an_exec(lab: Lab) -> None:
    """What the image has there is neither seen nor changed."""
    outcome = await lab.run(lab.sh("cat /etc/hosts; echo x > /etc/hosts || hostname"))

    assert lab.read(outcome.stdout) == (
        "127.0.0.1\tlocalhost dagger\n::1\tlocalhost ip6-localhost ip6-loopback\ndagger\n"
    )


async def test_the_working_directory_is_made_for_the_user(lab: Lab) -> None:
    """It stays in the layer, as it does in an image."""
    outcome = await lab.run(lab.sh("touch here", user="bob", workdir="/work/dir"))

    made = (outcome.rootfs.upper / "work/dir/here").stat()
    assert (made.st_uid, made.st_gid) == (1000, 1000)


async def test_standard_input_is_text_or_a_file(lab: Lab) -> None:
    """Neither gives an end at once."""
    assert await lab.stdout(lab.exec("cat", stdin="line\n" * 50_000)) == "line\n" * 50_000
    assert await lab.stdout(lab.exec("cat", redirect_stdin="/etc/group")) == busybox.GROUP
    assert await lab.stdout(lab.exec("cat")) == ""


async def test_redirected_output_is_kept_and_returned(lab: Lab) -> None:
    """The file is scrubbed like the stream."""
    exec_ = lab.sh(
        "echo $S; echo err >&2", secret_env=(("S", _secret("s", "hidden")),),
        redirect_stdout="out.txt", redirect_stderr="/tmp/err.txt", workdir="/home/bob", user="bob",
    )  # fmt: skip

    outcome = await lab.run(exec_)

    file = outcome.rootfs.upper / "home/bob/out.txt"
    assert (file.read_text(), lab.read(outcome.stdout)) == ("***\n", "***\n")
    assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, 1000)
    assert (outcome.rootfs.upper / "tmp/err.txt").read_text() == "err\n"


@pytest.mark.parametrize(
    ("what", "redirect"),
    [("stdin", {"redirect_stdin": "/no/file"}), ("stdout", {"redirect_stdout": "/no/file"})],
    ids=["stdin", "stdout"],
)
async def test_a_redirect_that_cannot_be_opened(lab: Lab, what: str, redirect: dict[str, str]) -> None:
    """The command never starts: code -1."""
    with pytest.raises(ExecFailed) as caught:
        await lab.run(lab.exec("true", **redirect))

    assert str(caught.value) == f"open redirect {what} file: open /no/file: no such file or directory"
    assert caught.value.exit_code == -1


async def test_secrets_are_scrubbed_before_anything_is_told(lab: Lab) -> None:
    """From a variable and from a file, trimmed too, over any cut; the longest form counts."""
    exec_ = lab.sh(
        'printf %s "$LONG" | dd bs=3 2>/dev/null; echo; cat /s; echo; echo to-ken; echo token',
        secret_env=(("LONG", _secret("long", "abcdefghij")), ("SHORT", _secret("short", "abcdef"))),
        mounts=(ops.SecretMount(path="/s", secret=_secret("file", " to-ken \n"), owner="bob", mode=0o440),),
    )

    outcome = await lab.run(exec_)

    shown = "***\n***\n***\ntoken\n"
    assert lab.read(outcome.stdout) == shown
    assert "".join(event.text for event in lab.events) == shown


async def test_a_secret_file_has_its_owner_and_mode(lab: Lab) -> None:
    """It cannot be changed, and it is on no disk."""
    mount = ops.SecretMount(path="/s", secret=_secret("file", "word"), owner="bob:wheel", mode=0o440)

    shown = await lab.stdout(
        lab.sh(
            "stat -c '%u %g %a' /s; echo x > /s || echo ro; grep ' /s ' /proc/mounts | cut -d' ' -f3",
            mounts=(mount,),
        )
    )

    assert shown == "1000 10 440\nro\ntmpfs\n"


async def test_events_tell_lines_as_they_come(lab: Lab) -> None:
    """A line that is not complete waits; the end is told with the code."""
    exec_ = lab.sh("printf 'a\\nb'; sleep 0.1; printf 'c\\n'; echo e >&2")

    await lab.run(exec_)

    told = [(event.kind, event.stream, event.text, event.exit_code) for event in lab.events]
    assert told == [
        ("started", "", "", None),
        ("output", "stdout", "a\n", None),
        ("output", "stdout", "bc\n", None),
        ("output", "stderr", "e\n", None),
        ("finished", "", "", 0),
    ]
    assert {event.exec_digest for event in lab.events} == {exec_.digest}


async def test_trees_are_mounted_copy_on_write(lab: Lab) -> None:
    """A directory, a part of one, a file, a read-only one; each writable one has a draft."""

    def fill(root: Path) -> None:
        (root / "sub").mkdir()
        (root / "sub/f").write_text("old\n")

    tree = lab.tree(fill)
    mounts = (
        ops.TreeMount(path="/whole", tree=tree),
        ops.TreeMount(path="/part", tree=tree, source_path="/sub"),
        ops.TreeMount(path="/file", tree=tree, source_path="/sub/f", is_file=True),
        ops.TreeMount(path="/ro", tree=tree, read_only=True),
        ops.TreeMount(path="/whole/nested/deep", tree=tree, source_path="/sub"),
    )

    outcome = await lab.run(
        lab.sh(
            "echo 1 > /whole/new; echo 2 > /part/f; echo 3 > /file; "
            "echo 4 > /ro/x || cat /ro/sub/f /whole/nested/deep/f",
            mounts=mounts,
        )
    )

    assert lab.read(outcome.stdout) == "old\nold\n"
    assert sorted(outcome.mounts) == ["/file", "/part", "/whole", "/whole/nested/deep"]
    assert (outcome.mounts["/whole"].upper / "new").read_text() == "1\n"
    assert [p.name for p in outcome.mounts["/whole"].upper.iterdir()] == ["new"]
    assert (outcome.mounts["/part"].upper / "sub/f").read_text() == "2\n"
    assert (outcome.mounts["/file"].upper / "sub/f").read_text() == "3\n"


async def test_a_cache_volume_outlives_execs(lab: Lab) -> None:
    """It is filled from its source once, with its owner and mode."""
    source = lab.tree(lambda root: (root / "seed").write_text("seed\n"))
    volume = ops.CacheVolume(key="k", source=source, owner="bob", mode=0o700)
    mounts = (ops.CacheMount(path="/cache", volume=volume),)
    first = lab.sh(
        "cat /cache/seed; stat -c '%u %a' /cache; rm /cache/seed; echo kept > /cache/f", mounts=mounts
    )

    assert await lab.stdout(first) == "seed\n1000 700\n"
    assert await lab.stdout(lab.sh("ls /cache; cat /cache/f", mounts=mounts)) == "f\nkept\n"


@pytest.mark.parametrize(("sharing", "together"), [("SHARED", True), ("LOCKED", False), ("PRIVATE", False)])
async def test_a_locked_volume_is_used_by_one_exec_at_a_time(lab: Lab, sharing: Any, together: bool) -> None:
    """A shared one by as many as want it."""
    mounts = (ops.CacheMount(path="/c", volume=ops.CacheVolume(key=sharing, sharing=sharing)),)
    script = "echo in >> /c/log; sleep 0.3; echo out >> /c/log; cat /c/log"

    shown = await asyncio.gather(*(lab.stdout(lab.sh(script + f" # {n}", mounts=mounts)) for n in (1, 2)))

    whole = max(shown, key=len).split()
    assert whole == (["in", "in", "out", "out"] if together else ["in", "out", "in", "out"])


CLIENT = r"""
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un at = {AF_UNIX, "/run/s"};
    char text[64];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0) return 1;
    if (write(fd, "ping\n", 5) != 5) return 2;
    ssize_t size = read(fd, text, sizeof text);
    return write(1, text, size) == size ? 0 : 3;
}
"""


def _compile(source: str, program: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    subprocess.run(["cc", "-static", "-x", "c", "-", "-o", program], input=source, text=True, check=True)


async def test_a_socket_of_the_host_can_be_used_by_its_owner(lab: Lab, tmp_path: Path) -> None:
    """What is sent arrives at the host's socket, and the answer comes back."""
    path = tmp_path / "host.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.readline())
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    client = lab.tree(lambda root: _compile(CLIENT, root / "client"))
    mounts = (
        ops.SocketMount(path="/run/s", host_path=str(path), owner="bob"),
        ops.TreeMount(path="/client", tree=client, source_path="/client", is_file=True),
    )

    shown = await lab.stdout(lab.sh("/client; stat -c '%u %a' /run/s", user="bob", mounts=mounts))

    server.close()
    assert shown == "got ping\n1000 600\n"


async def test_a_tmpfs_is_fresh_and_bounded(lab: Lab) -> None:
    """More than its size does not fit."""
    exec_ = lab.sh(
        "ls /t | wc -l; head -c 2000000 /dev/zero > /t/f 2>/dev/null || echo full",
        mounts=(ops.TempMount(path="/t", size_bytes=1 << 20),),
    )

    assert await lab.stdout(exec_) == "0\nfull\n"


@pytest.mark.parametrize(
    "size", [100_000_000, pytest.param(1_000_000_000, marks=pytest.mark.slow)], ids=["100 MB", "1 GB"]
)
async def test_much_output_goes_to_the_disk(lab: Lab, size: int) -> None:
    """It passes without the engine's memory growing by 10 MB, scrubbed."""
    exec_ = lab.sh(
        f"head -c {size} /dev/zero | tr '\\0' 'x'", secret_env=(("S", _secret("s", "token-0123")),)
    )
    before = _resident_bytes()
    lab.events = _Forgetful()

    outcome = await lab.run(exec_)

    assert lab.store.blobs.path(outcome.stdout).stat().st_size == size
    assert _resident_bytes() - before < 10_000_000


async def test_a_cancelled_exec_leaves_no_draft(lab: Lab) -> None:
    """Nor does it leave its network namespace's address in use."""
    task = asyncio.ensure_future(lab.run(lab.exec("sleep", "100")))
    while not lab.events:
        await asyncio.sleep(0.01)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    assert _drafts(lab) == 1


async def test_an_exec_without_network_has_loopback_only(lab: Lab) -> None:
    """By default it has a way out as well."""
    script = "ip -o -4 address | wc -l"

    assert await lab.stdout(lab.sh(script)) == "2\n"
    assert await lab.stdout(lab.sh(script, network="none")) == "1\n"


async def test_the_engine_s_files_are_there_without_being_in_the_layer(lab: Lab, tmp_path: Path) -> None:
    """As certificates are."""
    (tmp_path / "ca.pem").write_text("certificate\n")
    lab.surroundings = Surroundings(binds={"/run/pipeline/ca.crt": tmp_path / "ca.pem"})

    outcome = await lab.run(lab.exec("cat", "/run/pipeline/ca.crt"))

    assert lab.read(outcome.stdout) == "certificate\n"
    assert lab.commit(outcome.rootfs) == lab.trees[lab.base.digest]


class _Forgetful(list[ExecEvent]):
    def append(self, event: ExecEvent, /) -> None:
        """Keep nothing."""


def _secret(handle: str, value: str) -> ops.SecretHandle:
    return ops.SecretHandle(handle=handle, read=value.encode)


def _drafts(lab: Lab) -> int:
    """Count the snapshot directories that are not the empty tree's."""
    return len([path for path in (lab.store.root / "snapshots").iterdir() if path.name != "0"])


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_output_that_the_disk_does_not_take_stops_the_command(lab: Lab) -> None:
    """A full disk is told as such; the endless command is gone."""
    folder = lab.store.root / "blobs/new"
    enter_private_mount_namespace()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=True)

    with pytest.raises(EngineError, match="no space left on device"):
        await lab.run(lab.exec("yes"))

    unmount(folder)
    assert _drafts(lab) == 1
