"""A Trivy server as a source of advisories: stores what it lacks, asks, and proves that it could know."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.scan.advisories.answer import SourceAnswer, SourceInfo
from pipeline.scan.advisories.sources.local import ONLINE_AGE_S, unavailable
from pipeline.scan.advisories.times import write_time
from pipeline.scan.probe import Network
from pipeline.scan.trivy.blobs import artifact_id, artifact_info, blob_id, blob_info
from pipeline.scan.trivy.canary import canaries_for
from pipeline.scan.trivy.client import TrivyAddress, TrivyClient
from pipeline.scan.trivy.errors import BlobsMissing, TrivyFailed, TrivyUnreachable
from pipeline.scan.trivy.judging import ecosystems_of, judge_packages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pipeline.scan.packages.package import Package
    from pipeline.scan.trivy.answer import ScanAnswer
    from pipeline.scan.trivy.blobs import Blob

NAME = "trivy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An image, as the server is told of it."""

    name: str
    blobs: tuple[Blob, ...]  # of its layers, base first
    packages: tuple[Package, ...]  # what the layers show together
    architecture: str = ""
    os: str = "linux"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the server said."""

    answer: SourceAnswer
    is_end_of_life: bool = False
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivySource:
    """Judges the packages of images."""

    address: TrivyAddress
    network: Network = field(default_factory=Network)
    canaries: Mapping[str, str] = field(default_factory=dict)  # ecosystem to "name version"
    max_age_s: float = ONLINE_AGE_S

    async def ask(self, asked: Asked, now: datetime) -> Told:
        """Say what the server knows of an image's packages; what goes wrong is an answer too."""
        source = SourceInfo(
            name=NAME,
            ecosystems=ecosystems_of(asked.packages),
            fetched_at=write_time(now),
            address=self.address.shown,
        )
        try:
            async with TrivyClient(self.address, self.network) as client:
                return await self.ask_client(client, asked, source, now)
        except TrivyFailed as error:
            answer = unavailable(source, asked.packages, str(error), hint=error.hint or "")
            is_away = isinstance(error, TrivyUnreachable)
            return Told(answer=answer if is_away else replace(answer, state="error"))

    async def ask_client(self, client: TrivyClient, asked: Asked, source: SourceInfo, now: datetime) -> Told:
        """As `ask`, over a client that is open.

        Raises:
            TrivyFailed: The server cannot be asked.
        """
        version = await client.version()
        known = replace(source, as_of=version.updated_at)
        canaries = canaries_for(asked.packages, self.canaries)
        infos = [blob_info(one) for one in (*asked.blobs, canaries.blob)]
        answer = await _scan(client, asked, infos)
        judged = judge_packages(asked.packages, answer, canaries, known, now=now, max_age_s=self.max_age_s)
        return Told(answer=judged, is_end_of_life=answer.is_end_of_life, version=version.version)


async def _scan(client: TrivyClient, asked: Asked, infos: Sequence[Mapping[str, Any]]) -> ScanAnswer:
    """Store what the server lacks and scan; all of it again where the server lost a blob meanwhile."""
    by_id = {blob_id(info): info for info in infos}
    ids = [blob_id(info) for info in infos]
    name = artifact_id(ids)
    is_missing, missing = await client.missing_blobs(name, list(by_id))
    if is_missing:
        await client.put_artifact(name, artifact_info(architecture=asked.architecture, os=asked.os))
    for one in missing:
        await client.put_blob(one, by_id[one])
    try:
        return await client.scan(asked.name, name, ids)
    except BlobsMissing:
        for one, info in by_id.items():
            await client.put_blob(one, info)
        return await client.scan(asked.name, name, ids)
