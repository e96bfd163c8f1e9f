"""Images to and from the host's own container engine, by its command line program.

That knows where the engine is and how to speak to it, be it Docker's, Podman's or containerd's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.keep import keep_file
from pipeline.engine.oci.reference import parse_reference
from pipeline.engine.threads import in_thread, settled
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from pipeline.engine.container import Container
    from pipeline.engine.images import Images
    from pipeline.engine.store import Store

PROGRAMS: Final = ("docker", "podman", "nerdctl", "finch")


class HostImageFailed(EngineError):
    """The host's container engine could not take or give an image."""


async def load_on_host(images: Images, container: Container, address: str, **form: Any) -> None:
    """Give a container as the image `address` to the container engine of this machine.

    `form` is what `Images.archive` takes.

    Raises:
        InvalidReference: `address` is no image name.
        HostImageFailed: There is no container engine, or it refused.
    """
    reference = parse_reference(address)
    name = f"{reference.repository}:{reference.tag or 'latest'}"
    archive = await images.archive(container, name=name, **form)
    try:
        await _run("load", name, "-i", os.fspath(archive))
    finally:
        archive.unlink()


async def take_from_host(images: Images, store: Store, container: Container, name: str) -> Container:
    """Return `container` on an image that the container engine of this machine has.

    Raises:
        HostImageFailed: There is no container engine, or it has no such image.
        ArchiveRejected: What it gave is no image for the platform.
    """
    descriptor, path = images.new_archive()
    os.close(descriptor)
    try:
        await _run("save", name, "-o", os.fspath(path), name)
        file = await in_thread(lambda: keep_file(store, path, "image.tar"))
    finally:
        path.unlink(missing_ok=True)
    return await images.import_image(container, file)


async def _run(command: str, name: str, *words: str) -> None:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        failed = HostImageFailed(
            f"cannot {command} the image `{name}`: none of {', '.join(PROGRAMS)} is on this machine"
        )
        failed.hint = "install one, or use a registry: `publish` and `from`"
        raise failed
    process = await asyncio.create_subprocess_exec(
        program,
        command,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await settled(asyncio.ensure_future(process.wait()))
    if process.returncode != 0:
        reason = said.decode("utf-8", "replace").strip() or f"exit status {process.returncode}"
        raise HostImageFailed(f"cannot {command} the image `{name}`: `{program} {command}`: {reason}")
