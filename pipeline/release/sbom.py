"""Bills of materials: one of a release's own files where none was made, and what differs from the last one.

The model and the writing are `cyclonedx-python-lib`'s.
"""

from __future__ import annotations

import datetime
import email.parser
import json
import tarfile
import uuid
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from email.message import Message
    from pathlib import Path

    from cyclonedx.model.component import Component

    from pipeline.digest import Digest

FILE: Final = "sbom.cdx.json"
LARGEST_METADATA: Final = 10_000_000


class BillUnreadable(UsageError):
    """A bill of materials, or a package's description of itself, cannot be read."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"cannot read `{name}`: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What packages came, went and changed between two bills, by name."""

    added: Mapping[str, str]  # name to version
    removed: Mapping[str, str]
    changed: Mapping[str, tuple[str, str]]  # before and after

    def lines(self) -> list[str]:
        """One line for each, sorted."""
        return [
            *(f"`{name}` {before} → {after}" for name, (before, after) in sorted(self.changed.items())),
            *(f"{_called(name, version)} is new" for name, version in sorted(self.added.items())),
            *(f"{_called(name, version)} is gone" for name, version in sorted(self.removed.items())),
        ]


def _called(name: str, version: str) -> str:
    return f"`{name}` {version}" if version else f"`{name}`"


def difference(before: bytes, after: bytes) -> Difference:
    """Compare two bills in CycloneDX's JSON; a package in several versions counts by all of them.

    Raises:
        BillUnreadable: One is no such document.
    """
    old, new = (
        packages_of(before, "the bill of the last release"),
        packages_of(after, "the bill of materials"),
    )
    return Difference(
        added={name: new[name] for name in new.keys() - old.keys()},
        removed={name: old[name] for name in old.keys() - new.keys()},
        changed={name: (old[name], new[name]) for name in old.keys() & new.keys() if old[name] != new[name]},
    )


def packages_of(text: bytes, name: str) -> dict[str, str]:
    """Return the packages of a bill with their versions.

    Raises:
        BillUnreadable: It is no CycloneDX document in JSON.
    """
    try:
        document = json.loads(text)
        components = [one for one in document.get("components", []) if one.get("type") == "library"]
        found: dict[str, set[str]] = {}
        for one in components:
            found.setdefault(str(one["name"]), set()).add(str(one.get("version", "")))
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise BillUnreadable(name, "it is no CycloneDX document in JSON") from error
    return {key: ", ".join(sorted(versions)) for key, versions in found.items()}


def bill_of_release(
    name: str, version: str, files: Mapping[Path, Digest], images: Mapping[str, str], *, epoch_s: int
) -> bytes:
    """Write a bill of the delivered files and images, with what packages say they need; CycloneDX 1.6.

    The same release makes the same bytes: the time is that of its commit.

    Raises:
        BillUnreadable: A package is damaged.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    root = Component(name=name, version=version, type=ComponentType.APPLICATION, bom_ref=f"product:{name}")
    bom = Bom()
    bom.metadata.component = root
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(epoch_s, datetime.UTC)
    needed: dict[str, Component] = {}
    delivered = []
    for path, digest in sorted(files.items()):
        part = _file(path.name, version, digest)
        wants = [needed.setdefault(each, _needed(each)) for each in sorted(set(requirements_of(path)))]
        delivered.append((part, wants))
    delivered += [(_image(each, digest), []) for each, digest in sorted(images.items())]
    bom.components.update([*(part for part, _ in delivered), *needed.values()])
    bom.register_dependency(root, [part for part, _ in delivered])
    for part, wants in delivered:
        bom.register_dependency(part, wants)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    document.pop("serialNumber", None)
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}"
    return (json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _file(name: str, version: str, digest: str) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))]
    return Component(
        name=name, version=version, type=ComponentType.FILE, bom_ref=f"file:{name}", hashes=hashes
    )


def _image(name: str, digest: str) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return Component(
        name=name,
        type=ComponentType.CONTAINER,
        bom_ref=f"container:{name}",
        purl=PackageURL("oci", None, name.rpartition("/")[2].lower(), digest),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))],
    )


def _needed(name: str) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    purl = PackageURL("pypi", None, name)
    return Component(name=name, type=ComponentType.LIBRARY, bom_ref=str(purl), purl=purl)


def requirements_of(path: Path) -> list[str]:
    """Return the names of what a wheel or source distribution needs without extras; [] of other files.

    Raises:
        BillUnreadable: It is damaged, or describes itself wrongly.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    described = metadata_of(path)
    try:
        wanted = (
            [Requirement(each) for each in (described.get_all("Requires-Dist") or [])] if described else []
        )
    except InvalidRequirement as error:
        raise BillUnreadable(path.name, f"it asks for what is no requirement: {error}") from error
    return [
        str(canonicalize_name(each.name))
        for each in wanted
        if each.marker is None or "extra" not in str(each.marker)
    ]


def metadata_of(path: Path) -> Message | None:
    """Return what a wheel or source distribution says of itself; None for other files.

    Raises:
        BillUnreadable: It is damaged, or says nothing.
    """
    try:
        text = _metadata_text(path)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise BillUnreadable(path.name, f"it is damaged: {error}") from error
    if text is None:
        return None
    if not text:
        raise BillUnreadable(path.name, "it says nothing of itself")
    return email.parser.Parser().parsestr(text.decode("utf-8", "replace"))


def _metadata_text(path: Path) -> bytes | None:
    if path.name.endswith(".whl"):
        with zipfile.ZipFile(path) as archive:
            names = [
                each
                for each in archive.namelist()
                if each.endswith(".dist-info/METADATA") and each.count("/") == 1
            ]
            with archive.open(_only(names)) as stream:
                return stream.read(LARGEST_METADATA)
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if member.isfile() and member.name.count("/") == 1 and member.name.endswith("/PKG-INFO"):
                    inside = archive.extractfile(member)
                    return inside.read(LARGEST_METADATA) if inside is not None else b""
        return None  # some other archive
    return None


def _only(names: Sequence[str]) -> str:
    if len(names) != 1:
        raise ValueError("it describes itself not once")
    return names[0]
