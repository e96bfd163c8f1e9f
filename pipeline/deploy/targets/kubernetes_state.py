"""Records of an environment in its cluster: documents as ConfigMaps, secrets as Secrets, logs in pieces.

The server's own version of an object is that of a document: the server refuses who has not read it last.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio

from pipeline.deploy.state import StateChanged
from pipeline.deploy.targets.kubernetes_calls import CallFailed
from pipeline.deploy.targets.kubernetes_manifests import ENVIRONMENT

if TYPE_CHECKING:
    from pipeline.deploy.targets.kubernetes_calls import Kubectl

RECORD: Final = "dagger-pipeline/record"  # a short hash of its name as a label, the name as an annotation
PIECE_BYTES: Final = 256 << 10  # an object may have 1 MiB, and is written whole for each line
CONTENT: Final = "content"
SECRETS: Final = "secrets/"


@dataclass
class Piece:
    """The last object of a log, as we have written or read it."""

    number: int
    data: bytes
    version: str


@dataclass(kw_only=True)
class KubernetesState:
    """The records of one environment, beside what runs there."""

    kubectl: Kubectl
    environment: str
    piece_bytes: int = PIECE_BYTES
    _last: dict[str, Piece] = field(default_factory=dict, init=False)
    _alone: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    async def read(self, name: str) -> tuple[bytes, str]:
        if name.endswith(".jsonl"):
            pieces = await self._pieces(name)
            return b"".join(one.data for one in pieces), "/".join(one.version for one in pieces)
        found = await self.kubectl.read(f"read the record `{name}`", _kind(name), self._object(name))
        return (_data(found), str(found["metadata"]["resourceVersion"])) if found else (b"", "")

    async def write(self, name: str, data: bytes, *, version: str) -> str:
        return await self._put(name, self._object(name), data, version)

    async def append(self, name: str, line: bytes) -> None:
        async with self._alone:
            while True:
                last = self._last.get(name) or await self._find_last(name)
                try:
                    self._last[name] = await self._add(name, last, line)
                except StateChanged:
                    self._last.pop(name, None)  # somebody else has added a line: look again
                    continue
                return

    async def names(self, prefix: str) -> tuple[str, ...]:
        where = f"--selector={ENVIRONMENT}={self.environment},{RECORD}"
        path = "{range .items[*]}{.metadata.annotations['dagger-pipeline/record']}{'\\n'}{end}"
        said = await self.kubectl.call(
            "list the records", "get", "configmaps,secrets", where, f"--output=jsonpath={path}"
        )
        found = {line.strip() for line in said.decode().splitlines() if line.strip()}
        return tuple(sorted(name for name in found if name.startswith(prefix)))

    def _object(self, name: str, number: int = 0) -> str:
        piece = f"-{number:06d}" if number else ""
        return f"pipeline-{self.environment}-{_hash(name)}{piece}"

    async def _find_last(self, name: str) -> Piece:
        return ([Piece(0, b"", ""), *await self._pieces(name)])[-1]

    async def _pieces(self, name: str) -> list[Piece]:
        where = f"--selector={ENVIRONMENT}={self.environment},{RECORD}={_hash(name)}"
        found = await self.kubectl.read(f"read the log `{name}`", "configmaps", where)
        named = sorted(found.get("items", ()), key=lambda one: str(one["metadata"]["name"]))
        return [
            Piece(int(one["metadata"]["name"][-6:]), _data(one), one["metadata"]["resourceVersion"])
            for one in named
        ]

    async def _add(self, name: str, last: Piece, line: bytes) -> Piece:
        if last.number == 0 or len(last.data) + len(line) > self.piece_bytes:
            last = Piece(last.number + 1, b"", "")
        data = last.data + line
        version = await self._put(name, self._object(name, last.number), data, last.version)
        return Piece(last.number, data, version)

    async def _put(self, name: str, what: str, data: bytes, version: str) -> str:
        """Create an object, or replace that of a version; return its new version."""
        if version and not version.isdecimal():
            raise StateChanged(name)  # no server has ever given that one
        kind = _kind(name)
        text = base64.b64encode(data).decode()
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret" if kind == "secrets" else "ConfigMap",
            "metadata": {
                "name": what,
                "labels": {ENVIRONMENT: self.environment, RECORD: _hash(name)},
                "annotations": {RECORD: name},
                **({"resourceVersion": version} if version else {}),
            },
            ("data" if kind == "secrets" else "binaryData"): {CONTENT: text},
        }
        words = ("replace" if version else "create", "--filename=-")
        path = "--output=jsonpath={.metadata.resourceVersion}"
        try:
            said = await self.kubectl.call(
                f"write the record `{name}`", *words, path, stdin=json.dumps(body).encode()
            )
        except CallFailed as error:
            if error.why in ("conflict", "exists") or (error.why == "missing" and what in error.logs):
                raise StateChanged(name) from error
            raise
        return said.decode().strip()


def _kind(name: str) -> str:
    return "secrets" if name.startswith(SECRETS) else "configmaps"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _data(found: dict[str, Any]) -> bytes:
    held = found.get("binaryData") or found.get("data") or {}
    return base64.b64decode(held.get(CONTENT, ""))
