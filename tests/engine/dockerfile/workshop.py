"""An engine with a store of its own, and a directory to build in, for builds that are carried out."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.engine import read
from pipeline.engine.dockerfile.build import build
from pipeline.engine.engine import Engine
from pipeline.engine.events import EngineEvent, ExecEvent
from pipeline.engine.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pipeline.engine.container import Container
    from tests.engine.dockerfile.helpers import Files

BASE = "FROM scratch AS base\nADD base.tar /\nENV PATH=/bin\n"


@dataclass(kw_only=True)
class Workshop:
    """An open engine, a directory to build in, and the commands it started."""

    engine: Engine
    folder: Path
    base_tar: bytes
    started: list[str] = field(default_factory=list)

    async def build(self, text: str, files: Files | None = None, **options: object) -> Container:
        """Build `text`, after the stage `base`, in a context of `files`."""
        self.write(files or {})
        self.write({"Dockerfile": BASE + text, "base.tar": self.base_tar})
        context = await self.engine.host_directory(str(self.folder), no_cache=True)
        return await build(self.engine, context, **options)  # type: ignore[arg-type]

    def write(self, files: Files) -> None:
        """Write files into the context."""
        for name, content in files.items():
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())

    async def text(self, container: Container, path: str) -> str:
        """Return the text of a file in a container."""
        file = container.file(path)
        return await self.engine.look(file.tree, lambda root: read.contents(root, file.path))

    async def texts(self, container: Container, *paths: str) -> list[str]:
        """Return the texts of several files."""
        return [await self.text(container, path) for path in paths]

    async def sh(self, container: Container, script: str) -> str:
        """Return what a script prints in a container."""
        return await self.engine.output(container.with_exec(["/bin/sh", "-ec", script]), "stdout")


@asynccontextmanager
async def open_workshop(tmp_path: Path, base_tar: bytes) -> AsyncIterator[Workshop]:
    """Lend a workshop with a store of its own below `tmp_path`."""
    started: list[str] = []

    def observe(event: EngineEvent) -> None:
        if isinstance(event, ExecEvent) and event.kind == "started":
            started.append(event.argv[-1])

    folder = tmp_path / "context"
    folder.mkdir()
    settings = EngineSettings(store=str(tmp_path / "store"))
    async with Engine.open(settings, workdir=tmp_path, observer=observe) as engine:
        yield Workshop(engine=engine, folder=folder, base_tar=base_tar, started=started)
