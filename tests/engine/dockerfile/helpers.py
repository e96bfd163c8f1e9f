"""A session that evaluates trees by plain copying and pretends that every command changed nothing."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.digest import Digest, digest_text
from pipeline.engine import actions, edit, ops
from pipeline.engine.dockerfile.build import build
from pipeline.engine.files import Directory, File
from pipeline.engine.oci.config import ImageConfig
from pipeline.engine.treehash import content_digest
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.engine.container import Container
    from pipeline.engine.dockerfile.remote import GitSource

R = TypeVar("R")
Files = dict[str, "str | bytes"]
PLATFORM = "linux/amd64"


class ImageUnknown(EngineError):
    """The session has no such image."""


@dataclass(kw_only=True)
class CopyingSession:
    """Keeps what it made in `folder`; images, downloads and repositories are given in advance."""

    folder: Path
    images: dict[str, tuple[ImageConfig, ops.Tree]] = field(default_factory=dict)
    downloads: dict[str, bytes] = field(default_factory=dict)
    repositories: dict[str, Directory] = field(default_factory=dict)
    pulled: list[tuple[str, str]] = field(default_factory=list)  # address and platform
    fetched: list[tuple[str, str]] = field(default_factory=list)  # address and checksum
    cloned: list[GitSource] = field(default_factory=list)
    ran: list[ops.Exec] = field(default_factory=list)
    _made: dict[Digest, Path] = field(default_factory=dict)

    def tree(self, files: Files) -> ops.Tree:
        """Return a tree of files; a name that ends in a slash is a directory."""
        root = Path(tempfile.mkdtemp(dir=self.folder))
        for name, content in files.items():
            target = root / name.rstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                target.mkdir(exist_ok=True)
            else:
                target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.keep(root)

    def keep(self, root: Path) -> ops.Tree:
        """Return the tree of a directory made by the test."""
        node = ops.Pinned(content=content_digest(root))
        self._made[node.digest] = root
        return node

    def image(self, address: str, config: ImageConfig | None = None, files: Files | None = None) -> None:
        """Let `address` be an image."""
        self.images[address] = (config or ImageConfig(), self.tree(files or {}))

    async def from_image(self, container: Container, address: str) -> Container:
        """Return the image, and note who asked."""
        self.pulled.append((address, container.platform))
        if address not in self.images:
            raise ImageUnknown(f"cannot pull `{address}`: not found")
        config, tree = self.images[address]
        return container.from_image(
            config=config, rootfs=tree, platform=container.platform, reference=address
        )

    async def look(self, tree: ops.Tree, reader: Callable[[Path], R]) -> R:
        """Evaluate a tree and read it."""
        await asyncio.sleep(0)
        return reader(self.evaluate(tree))

    async def http_file(self, url: str, *, checksum: str = "") -> File:
        """Return a download given in advance."""
        self.fetched.append((url, checksum))
        return File(tree=self.tree({"download": self.downloads[url]}), path="/download")

    async def git_directory(self, source: GitSource) -> Directory:
        """Return a repository given in advance."""
        self.cloned.append(source)
        return self.repositories[source.url]

    def evaluate(self, node: ops.Tree) -> Path:
        """Return the directory that a tree is; a command is noted and changes nothing."""
        if node.digest in self._made:
            return self._made[node.digest]
        if isinstance(node, ops.ExecTree):
            self.ran.append(node.exec)
            root = self.evaluate(node.exec.base)
        else:
            root = Path(tempfile.mkdtemp(dir=self.folder))
            root.chmod(0o755)
            if isinstance(node, ops.Edit):
                whole = actions.Copy(source=node.base)
                edit.apply(whole, root, self.evaluate)
                edit.apply(node.action, root, self.evaluate)
        self._made[node.digest] = root
        return root

    def files(self, container: Container) -> dict[str, str]:
        """Return the text of every file in a container by its path; a link's is `-> target`."""
        root = self.evaluate(container.rootfs)
        return {
            "/" + str(path.relative_to(root)): f"-> {path.readlink()}"
            if path.is_symlink()
            else path.read_text()
            for path in sorted(root.rglob("*"))
            if path.is_symlink() or not path.is_dir()
        }

    async def build(
        self,
        text: str,
        files: Files | None = None,
        *,
        dockerfile: str = "Dockerfile",
        target: str = "",
        platform: str = PLATFORM,
        build_args: Mapping[str, str] | None = None,
        secrets: Sequence[tuple[str, ops.SecretHandle]] = (),
        ssh: str | None = None,
        no_init: bool = False,
    ) -> Container:
        """Build `text` in a context of `files`."""
        context = Directory(tree=self.tree({**(files or {}), dockerfile: text}))
        return await build(
            self,
            context,
            dockerfile=dockerfile,
            target=target,
            platform=platform,
            build_args=list((build_args or {}).items()),
            secrets=secrets,
            ssh=ssh,
            no_init=no_init,
        )


def execs(container: Container) -> list[ops.Exec]:
    """Return the commands that made a container's root file system, the first one first."""
    found: list[ops.Exec] = []
    node: ops.Tree = container.rootfs
    while True:
        if isinstance(node, ops.ExecTree):
            found.append(node.exec)
            node = node.exec.base
        elif isinstance(node, ops.Edit):
            node = node.base
        else:
            return found[::-1]


def secret(name: str, value: bytes = b"value") -> tuple[str, ops.SecretHandle]:
    """Return a build secret."""
    return name, ops.SecretHandle(handle=digest_text(name), read=lambda: value)
