"""Uploading to one repository: what is there already, or can be mounted, is not sent."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.digest import Digest, digest_bytes
from pipeline.engine.oci.errors import ImagePushFailed, RegistryUnreachable
from pipeline.engine.oci.transport import Call, CallFailed, Place, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from pipeline.engine.oci.reference import Reference
    from pipeline.engine.store import Store

ORIGIN_NOTES: Final = "blob-origin"
"""Notes of which repository of a host has a blob: key `HOST DIGEST`, value the repository's name."""

_UPLOAD_ATTEMPTS: Final = 4
_UPLOAD_BYTES: Final = 1 << 18  # so many have to be taken within each limit of silence (`transport`)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploader:
    """Pushes blobs of `store` and documents."""

    transport: Transport
    store: Store

    async def push_blob(self, place: Place, digest: Digest) -> bool:
        """Bring a blob of the store to a repository; tell whether its bytes had to be sent.

        Raises:
            CallFailed, RegistryUnreachable: The registry refused or was not there.
        """
        if await self._has_blob(place, digest):
            return False
        path = self.store.blobs.path(digest)
        size_bytes = _size_of(path)
        attempt = 0
        while True:
            attempt += 1
            location = await self._begin_upload(place, digest, may_mount=attempt == 1)
            if location is None:
                return False
            try:
                await self._upload(place, location, digest, path, size_bytes)
            except (CallFailed, RegistryUnreachable) as error:
                status = error.status if isinstance(error, CallFailed) else 503
                # 404: the registry has forgotten the upload, as it does when it was restarted.
                if attempt >= _UPLOAD_ATTEMPTS or not (status >= 500 or status in {404, 408, 416, 429}):
                    raise
                await self.transport.pause(attempt)
            else:
                origin = f"{place.host} {digest}"
                self.store.index.save_note(ORIGIN_NOTES, origin, place.name)
                return True

    async def _has_blob(self, place: Place, digest: Digest) -> bool:
        try:
            await self._finished(
                Call(
                    host=place.host,
                    method="HEAD",
                    path=f"{place.name}/blobs/{digest}",
                    scopes=(place.push_scope,),
                    repository=place.name,
                )
            )
        except CallFailed as error:
            if error.status == 404:
                return False
            raise
        return True

    async def _begin_upload(self, place: Place, digest: Digest, *, may_mount: bool) -> str | None:
        """Return where to upload to; None when the registry could mount the blob from elsewhere."""
        import httpx

        origin = self.store.index.find_note(ORIGIN_NOTES, f"{place.host} {digest}") if may_mount else None
        scopes: tuple[str, ...] = (place.push_scope,)
        params: dict[str, str] = {}
        if origin is not None and origin != place.name:
            scopes = (place.push_scope, f"repository:{origin}:pull")
            params = {"mount": digest, "from": origin}
        call = Call(
            host=place.host,
            method="POST",
            path=f"{place.name}/blobs/uploads/",
            scopes=scopes,
            repository=place.name,
            params=params,
        )
        try:
            response = await self._finished(call)
        except CallFailed as error:
            if not params or error.status not in {400, 401, 403, 404, 405}:
                raise
            return await self._begin_upload(place, digest, may_mount=False)
        if response.status_code == 201:
            return None
        location = response.headers.get("Location", "")
        if not location:
            raise CallFailed("it did not tell where to upload to", response.status_code, place.host)
        try:
            return str(response.request.url.join(location))
        except httpx.InvalidURL as error:
            what = "it told no usable address to upload to"
            raise CallFailed(what, response.status_code, place.host) from error

    async def _upload(self, place: Place, location: str, digest: Digest, path: Path, size_bytes: int) -> None:
        await self._finished(
            Call(
                host=place.host,
                method="PUT",
                path=location,
                scopes=(place.push_scope,),
                repository=place.name,
                headers={
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(size_bytes),
                },
                params={"digest": digest},
                body=lambda: _file_chunks(path),
                may_repeat=False,
            )
        )

    async def _finished(self, call: Call) -> httpx.Response:
        response = await self.transport.send(call)
        await response.aclose()
        return response

    async def push_manifest(self, place: Place, target: str, media_type: str, data: bytes) -> Digest:
        """Store a manifest or an index under `target` (a tag or its digest); return its digest.

        Raises:
            CallFailed, RegistryUnreachable: The registry refused or was not there.
        """
        await self._finished(
            Call(
                host=place.host,
                method="PUT",
                path=f"{place.name}/manifests/{target}",
                scopes=(place.push_scope,),
                repository=place.name,
                headers={"Content-Type": media_type},
                body=data,
            )
        )
        return digest_bytes(data)


def push_failed(ref: Reference, error: CallFailed) -> ImagePushFailed:
    """Say what a registry's refusal means for a push."""
    hint = None
    if error.status == 401:
        hint = f"log in with `docker login {ref.host}`, or give the stage's container registry credentials"
    elif error.status == 403:
        hint = f"the user that is logged in may not write to `{ref.repository}`"
    return ImagePushFailed(str(ref), error.what, status=error.status, hint=hint)


def _size_of(path: Path) -> int:
    return os.path.getsize(path)


async def _file_chunks(path: Path) -> AsyncIterator[bytes]:
    with open(path, "rb") as stream:  # noqa: ASYNC230 (so little from the page cache takes less than a thread switch)
        while data := stream.read(_UPLOAD_BYTES):
            yield data
