"""Docker hosts for tests: real daemons in network namespaces of their own, SSH servers and a registry."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.deploy.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

START_LIMIT_S: Final = 30.0
NEEDED: Final = ("dockerd", "docker", "docker-registry", "sshd", "haproxy", "busybox", "ip", "nsenter")
SERVE: Final = "trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait"
SLOW: Final = "#!/bin/sh\nsleep 1\nprintf 'Content-Type: text/plain\\r\\n\\r\\nslow\\n'\n"
VARIABLES: Final = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nenv\n"


def missing() -> str:
    """Name what is not installed; "" when all is there."""
    return " ".join(
        name for name in NEEDED if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None
    )


@dataclass
class Bed:
    """Hosts, numbered from 1, in `folder`; each is started when it is first asked for."""

    folder: Path
    hosts: dict[int, BedHost] = field(default_factory=dict)
    serial: int = field(default_factory=itertools.count(1).__next__)  # several in a process have own names
    _registry: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return f"pd{os.getpid() % 10**6}{'abcdefgh'[self.serial % 8]}"

    @property
    def net(self) -> str:
        return f"10.{180 + (os.getpid() + self.serial) % 60}"

    def host(self, number: int = 1) -> BedHost:
        """Return a host that runs."""
        if number not in self.hosts:
            self.hosts[number] = BedHost(bed=self, number=number)
            self.hosts[number].start()
        return self.hosts[number]

    @property
    def registry(self) -> str:
        """Where the registry is; it runs in the namespace of the first host."""
        first = self.host(1)
        where = f"{first.address}:5000"
        if self._registry is None:
            settings = self.folder / "registry.yml"
            settings.write_text(
                f"version: 0.1\nlog: {{level: error}}\n"
                f"storage: {{filesystem: {{rootdirectory: {self.folder}/registry}}}}\n"
                f"http: {{addr: '{where}'}}\n"
            )
            self._registry = first.spawn("registry", "docker-registry", "serve", str(settings))
            wait_for(lambda: connects(first.address, 5000), "the registry")
        return where

    def image(self, name: str, tar: bytes, *options: str) -> str:
        """Push an image that is a file system, and return its reference with the digest; no host keeps it."""
        first = self.host(1)
        tag = f"{self.registry}/{name}"
        done = first.docker("import", *options, "-", tag, data=tar)
        first.docker("push", "-q", tag)
        found = json.loads(first.docker("image", "inspect", tag))[0]["RepoDigests"]
        first.docker("image", "rm", "-f", done.strip())
        return next(str(one) for one in found if one.startswith(tag.rpartition(":")[0]))

    def close(self) -> None:
        if self._registry is not None:
            stop(self._registry)
        for one in self.hosts.values():
            one.close()


@dataclass
class BedHost:
    """One host: `unix` and `ssh` are its addresses for a target."""

    bed: Bed
    number: int
    daemon: subprocess.Popen[bytes] | None = None
    sshd: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        return self.bed.folder / f"host{self.number}"

    @property
    def namespace(self) -> str:
        return f"{self.bed.name}-{self.number}"

    @property
    def address(self) -> str:
        return f"{self.bed.net}.0.{4 * self.number + 2}"

    @property
    def unix(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def ssh(self) -> str:
        return f"ssh://root@{self.address}:22"

    @property
    def ssh_options(self) -> tuple[str, ...]:
        """What a client needs to know this host, and to be known by it."""
        return (
            *("-F", "none", "-i", str(self.bed.folder / "user"), "-o", "StrictHostKeyChecking=no"),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
        )

    def shell(self, address: str) -> Shell:
        """Open this host by one of its addresses: what runs on this machine is in the host's namespace."""
        inside = ("nsenter", f"--net=/run/netns/{self.namespace}")
        return Shell(address, ssh_options=self.ssh_options, prefix=inside)

    def start(self) -> None:
        """Make the namespace with its link, and start daemon and SSH server."""
        self.folder.mkdir()
        gateway = f"{self.bed.net}.0.{4 * self.number + 1}"
        outer, inner = f"{self.bed.name}o{self.number}", f"{self.bed.name}i{self.number}"
        space = self.namespace
        for command in (
            f"ip netns add {space}",
            f"ip link add {outer} type veth peer name {inner} netns {space}",
            f"ip addr add {gateway}/30 dev {outer}",
            f"ip link set {outer} up",
            f"ip -n {space} addr add {self.address}/30 dev {inner}",
            f"ip -n {space} link set {inner} up",
            f"ip -n {space} link set lo up",
            f"ip -n {space} route add default via {gateway}",
            f"ip route add {self.bed.net}.{16 * self.number}.0/20 via {self.address}",
        ):
            subprocess.run(command.split(), check=True, capture_output=True)
        self.start_sshd()
        self.start_daemon()

    def start_daemon(self) -> None:
        """Start the daemon, and return when it answers."""
        (self.folder / "daemon.json").write_text("{}")
        self.daemon = self.spawn(
            "daemon", "unshare", "-m", "dockerd", "--config-file", f"{self.folder}/daemon.json",
            "-H", self.unix, "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec",
            "--pidfile", f"{self.folder}/pid", "--iptables=false", "--ip6tables=false", "--bridge=none",
            "--default-address-pool", f"base={self.bed.net}.{16 * self.number}.0/20,size=26",
            "--insecure-registry", f"{self.bed.net}.0.0/16", "--shutdown-timeout", "1",
        )  # fmt: skip
        wait_for(lambda: _connects_unix(self.folder / "docker.sock"), "the daemon")
        wait_for(lambda: self._docker("version").returncode == 0, "the daemon")

    def stop_daemon(self) -> None:
        """Stop the daemon, and its containers with it."""
        if self.daemon is not None:
            stop(self.daemon)
        self.daemon = None

    def start_sshd(self) -> None:
        for name in ("host", "user"):
            if not (self.bed.folder / name).exists():
                command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.bed.folder / name)]
                subprocess.run(command, check=True)
        os.makedirs("/run/sshd", exist_ok=True)  # where it locks itself in
        settings = self.folder / "sshd_config"
        # A shell that is not the first of its kind reads no start-up files of whoever runs the tests.
        settings.write_text(
            f"ListenAddress {self.address}\nPort 22\nHostKey {self.bed.folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.bed.folder}/user.pub\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nSetEnv DOCKER_HOST={self.unix} SHLVL=5\n"
        )
        program = shutil.which("sshd", path="/usr/sbin:/usr/bin") or "sshd"
        self.sshd = self.spawn("sshd", program, "-D", "-e", "-f", str(settings))
        wait_for(lambda: connects(self.address, 22), "sshd")

    def stop_sshd(self) -> None:
        """Stop the SSH server, and cut every connection."""
        if self.sshd is not None:
            children = subprocess.run(
                ["pgrep", "-P", str(self.sshd.pid)], capture_output=True, text=True, check=False
            )
            stop(self.sshd)
            for pid in children.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        self.sshd = None

    def spawn(self, name: str, *argv: str) -> subprocess.Popen[bytes]:
        """Start a program in the namespace."""
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        command = ["nsenter", f"--net=/run/netns/{self.namespace}", *argv]
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, "PATH": path}
            )

    def docker(self, *argv: str, data: bytes | None = None) -> str:
        """Run the daemon's client, and return what it printed."""
        done = self._docker(*argv, data=data)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def _docker(self, *argv: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        env = {**os.environ, "DOCKER_HOST": self.unix, "LC_ALL": "C"}
        return subprocess.run(["docker", *argv], input=data, capture_output=True, env=env, check=False)

    def clear(self) -> None:
        """Remove all containers, networks and volumes."""
        if ids := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", "-v", *ids)
        if names := self.docker("network", "ls", "-q", "--filter", "type=custom").split():
            self.docker("network", "rm", *names)

    def close(self) -> None:
        if self.daemon is not None:
            self.clear()
        self.stop_daemon()
        self.stop_sshd()
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, capture_output=True)
        wait_for(lambda: not _mounted_below(self.folder), "the unmounting")


def app(number: int, files: Mapping[str, str] | None = None) -> bytes:
    """Return the file system of a server that says that it is version 1.0.`number`."""
    www = {"index.html": f"1.0.{number}\n", "health": json.dumps({"version": f"1.0.{number}"}) + "\n"}
    scripts = {"cgi-bin/slow": SLOW, "cgi-bin/env": VARIABLES}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        _add(tar, "bin/busybox", Path(str(shutil.which("busybox"))).read_bytes(), 0o755)
        for name in ("sh", "httpd", "sleep", "env", "cat", "echo", "true", "false"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name, text in {**www, **(files or {})}.items():
            _add(tar, f"www/{name}", text.encode(), 0o644)
        for name, text in scripts.items():
            _add(tar, f"www/{name}", text.encode(), 0o755)
    return packed.getvalue()


def proxy() -> bytes:
    """Return the file system of this machine's HAProxy with its libraries."""
    program = str(shutil.which("haproxy", path="/usr/sbin:/usr/bin"))
    needs = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted({program, *re.findall(r"/\S+", needs)}):
            _add(tar, path.lstrip("/"), Path(path).read_bytes(), 0o755)
    return packed.getvalue()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(check: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + START_LIMIT_S
    while not check():
        assert time.monotonic() < until, f"{what} is late"
        time.sleep(0.05)


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def connects(address: str, port: int) -> bool:
    import socket

    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def _connects_unix(path: Path) -> bool:
    return path.exists()


def _mounted_below(folder: Path) -> bool:
    return str(folder) in Path("/proc/self/mounts").read_text()
