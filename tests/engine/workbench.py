"""A real engine on a throw-away store, with a busybox root file system, for tests of what it evaluates."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.engine.container import Container
from pipeline.engine.engine import Engine
from pipeline.engine.events import EngineEvent, ExecEvent, ImageEvent, NoticeEvent
from pipeline.engine.settings import EngineSettings
from tests.engine import busybox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pipeline.engine.files import Directory

PLATFORM = "linux/amd64"


@dataclass(kw_only=True)
class Workbench:
    """An open engine and what it has told."""

    engine: Engine
    folder: Path
    base: Container
    events: list[EngineEvent] = field(default_factory=list)

    def sh(self, script: str, on: Container | None = None, **more: Any) -> Container:
        return (on or self.base).with_exec(["sh", "-c", script], **more)

    async def stdout(self, container: Container) -> str:
        return await self.engine.output(container, "stdout")

    async def host(self, **files: str) -> Directory:
        """Load a new directory of the host with these files."""
        folder = self.folder / f"host-{os.urandom(4).hex()}"
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return await self.engine.host_directory(str(folder))

    def told(self, kind: str) -> list[ExecEvent]:
        return [e for e in self.events if isinstance(e, ExecEvent) and e.kind == kind]

    def count_runs(self) -> int:
        return len(self.told("started"))

    def images(self) -> list[ImageEvent]:
        return [e for e in self.events if isinstance(e, ImageEvent)]

    def notices(self) -> list[NoticeEvent]:
        return [e for e in self.events if isinstance(e, NoticeEvent)]

    async def until_output(self, text: str) -> None:
        """Wait until a running command has written `text`."""
        async with asyncio.timeout(20):
            while not any(text in event.text for event in self.told("output")):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def open_workbench(folder: Path, **settings: Any) -> AsyncIterator[Workbench]:
    """Open an engine on the store in `folder`; the same folder again is a later session."""
    busybox.require_launcher()
    rootfs = folder / "rootfs"
    if not rootfs.exists():
        busybox.fill(rootfs)
    events: list[EngineEvent] = []
    chosen = replace(EngineSettings(store=str(folder / "store"), offline=True), **settings)
    async with Engine.open(chosen, workdir=folder, observer=events.append) as engine:
        base = Container(platform=PLATFORM).with_rootfs(await engine.host_directory("rootfs"))
        base = base.with_env_variable("PATH", "/bin")
        yield Workbench(engine=engine, folder=folder, base=base, events=events)
