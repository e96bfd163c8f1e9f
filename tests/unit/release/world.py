"""A real repository with a bare remote, keys that sign, and packages, for the tests of releases."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.release import ReleaseSettings
from pipeline.release.plan import ReleasePlan, Request, make_plan
from pipeline.release.publish import Places
from pipeline.release.repository import Repository
from pipeline.release.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Mapping

SOMEBODY = {
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
}
DAY_S = 86_400
BEGAN_S = 1_767_225_600  # 2026-01-01
ISOLATED = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


@dataclass
class World:
    """A work tree and its bare remote `origin`."""

    root: Path
    remote: Path
    commits: int = 0

    @property
    def repository(self) -> Repository:
        return Repository(root=self.root)

    def git(self, *argv: str, given: bytes = b"", **environ: str) -> str:
        """Run git in the work tree and return what it writes."""
        done = subprocess.run(
            ["git", *argv],
            cwd=self.root,
            env={**os.environ, **ISOLATED, **SOMEBODY, **environ},
            input=given,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (argv, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace").strip()

    def commit(self, message: str | bytes, *, author: str = "Ann", file: str | None = None) -> str:
        """Commit a change, a day after the last one, and return its id."""
        self.commits += 1
        (self.root / (file or f"{self.commits}.txt")).write_text(f"{self.commits}\n", encoding="utf-8")
        self.git("add", "-A")
        date = f"{BEGAN_S + self.commits * DAY_S} +0000"
        data = message if isinstance(message, bytes) else message.encode()
        self.git(
            *("commit", "--allow-empty-message", "--cleanup=verbatim", "-F", "-"),
            given=data,
            GIT_AUTHOR_NAME=author,
            GIT_AUTHOR_EMAIL=f"{author.lower()}@example.org",
            GIT_AUTHOR_DATE=date,
            GIT_COMMITTER_DATE=date,
        )
        return self.git("rev-parse", "HEAD")

    def tag(self, name: str, commit: str = "HEAD") -> None:
        """Make a tag, here alone."""
        self.git("tag", name, commit)

    def push(self) -> None:
        self.git("push", "-q", "--tags", "origin", "HEAD")

    def remote_tags(self) -> dict[str, str]:
        """The remote's tags and the commits they lead to."""
        said = subprocess.run(
            ["git", "for-each-ref", "--format=%(refname:strip=2) %(*objectname) %(objectname)", "refs/tags"],
            cwd=self.remote,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        found = {}
        for line in said.splitlines():
            name, *rest = line.split()
            found[name] = rest[0]
        return found

    def local_tags(self) -> list[str]:
        return self.git("tag", "--list").splitlines()

    def hook(self, name: str, script: str, *, remote: bool = True) -> None:
        """Give the remote, or the work tree, a hook."""
        folder = self.remote / "hooks" if remote else self.root / ".git" / "hooks"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def plan(self, settings: ReleaseSettings | None = None, **asked: object) -> ReleasePlan:
        """The plan, which has to be one."""
        request = Request(name="app", **asked)  # type: ignore[arg-type]  # as the test says
        made = make_plan(self.repository, settings or ReleaseSettings(), request)
        assert isinstance(made, ReleasePlan), made
        return made

    def places(self, **more: object) -> Places:
        """Where releases go: the remote, and what the test adds."""
        folder = self.root.parent / "kept"
        given = {"repository": self.repository, "folder": folder, "remote": "origin", **more}
        return Places(**given)  # type: ignore[arg-type]  # as the test says


def make_world(tmp_path: Path) -> World:
    """Make an empty repository on `main` with an empty remote."""
    root, remote = tmp_path / "work", tmp_path / "remote.git"
    for argv in (
        ["git", "init", "-q", "-b", "main", str(root)],
        ["git", "init", "-q", "--bare", "-b", "main", str(remote)],
    ):
        subprocess.run(argv, check=True, env={**os.environ, **ISOLATED})
    world = World(root=root, remote=remote)
    world.git("remote", "add", "origin", str(remote))
    return world


def ssh_key(folder: Path, name: str = "key", kind: str = "ed25519") -> Signer:
    """Make a key of ssh; the file of allowed signers is `folder/allowed`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", str(path)]
    subprocess.run(argv, check=True)
    return Signer(kind="ssh", key=str(path))


def allow(folder: Path, signer: Signer, who: str = "releaser@example.org") -> Path:
    """Say that this key's signatures count; return the file that says it."""
    public = Path(f"{signer.key}.pub").read_text(encoding="utf-8")
    path = folder / "allowed"
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(f"{who} {public}")
    return path


def wheel(
    folder: Path, version: str, name: str = "app", requires: tuple[str, ...] = (), content: str = ""
) -> Path:
    """Make a wheel, the same bytes for the same arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": content,
        f"{info}/METADATA": metadata(version, name, requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    _zip(path, files)
    return path


def _zip(path: Path, files: Mapping[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in files.items():
            archive.writestr(zipfile.ZipInfo(member, date_time=(2026, 1, 1, 0, 0, 0)), text)


def metadata(version: str, name: str = "app", requires: tuple[str, ...] = ()) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    return "\n".join([*lines, *(f"Requires-Dist: {each}" for each in requires)]) + "\n"


def sdist(folder: Path, version: str, name: str = "app") -> Path:
    """Make a source distribution."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}.tar.gz"
    text = metadata(version, name).encode()
    member = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
    member.size = len(text)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        archive.addfile(member, io.BytesIO(text))
    path.write_bytes(gzip.compress(plain.getvalue(), mtime=0))
    return path
