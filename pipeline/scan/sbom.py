"""CycloneDX: one bill of materials of an application and its images, the same bytes for the same content.

The model and the writing are `cyclonedx-python-lib`'s; what is a component, and what stands for the same
one, is decided here.
"""

from __future__ import annotations

import datetime
import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from packageurl import PackageURL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component

    from pipeline.scan.packages.package import Package

KEPT_QUALIFIERS: Final = frozenset(
    {"arch", "distro", "epoch"}
)  # others say where it came from, not what it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that is delivered and what is in it: the application, or an image."""

    name: str
    version: str
    kind: str  # "application" or "container"
    packages: tuple[Package, ...]
    digest: str = ""  # "sha256:..." of an image's manifest
    requires: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # names of packages by a package's name


def bill_of_materials(name: str, version: str, parts: Sequence[Part], *, epoch_s: int | None = None) -> str:
    """The bill of one product as JSON, CycloneDX 1.6.

    Packages that are the same by their package URL are one component, with every place it was seen. The
    serial number is made of the content; the time stands there only when `epoch_s` gives one.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    kind = ComponentType.APPLICATION
    root = Component(name=name, version=version or None, type=kind, bom_ref=f"product:{name}")
    bom = Bom()
    bom.metadata.component = root
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(epoch_s or 0, datetime.UTC)
    components = _components(parts)
    bom.components.update(components.values())
    nested = [_part(part) for part in parts]
    bom.components.update(nested)
    bom.register_dependency(root, nested)
    for part, component in zip(parts, nested, strict=True):
        bom.register_dependency(
            component, _unique(components[key_of(one)] for one in part.packages if one.purl)
        )
        _register_edges(bom, part, components)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    if epoch_s is None:
        del document["metadata"]["timestamp"]
    document.pop("serialNumber", None)
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}"
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def key_of(package: Package) -> str:
    """What stands for a package wherever it is seen: its URL without what says where it came from."""
    purl = PackageURL.from_string(package.purl)
    kept = {key: value for key, value in purl.qualifiers.items() if key in KEPT_QUALIFIERS}
    return str(PackageURL(purl.type, purl.namespace, purl.name, purl.version, kept, purl.subpath))


def _components(parts: Iterable[Part]) -> dict[str, Component]:
    """A component for each package that has a URL, by its key, sorted."""
    seen: dict[str, list[tuple[Part, Package]]] = {}
    for part in parts:
        for one in part.packages:
            if one.purl:
                seen.setdefault(key_of(one), []).append((part, one))
    return {key: _component(key, seen[key]) for key in sorted(seen)}


def _component(key: str, places: Sequence[tuple[Part, Package]]) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.component_evidence import ComponentEvidence, Occurrence

    first = places[0][1]
    where = sorted({f"{part.name}:{one.path}" if one.path else part.name for part, one in places})
    layers = sorted({one.layer for _, one in places if one.layer})
    return Component(
        name=first.name,
        version=first.version or None,
        type=ComponentType.LIBRARY,
        bom_ref=key,
        purl=PackageURL.from_string(key),
        licenses=_licences({one.licence for _, one in places if one.licence}),
        hashes=_hashes(places),
        evidence=ComponentEvidence(
            occurrences=[
                Occurrence(bom_ref=f"{key}#{index}", location=one) for index, one in enumerate(where)
            ]
        ),
        properties=[Property(name="pipeline:layer", value=layer) for layer in layers],
    )


def _hashes(places: Sequence[tuple[Part, Package]]) -> list[Any]:
    """The hash of a package: only where every place tells the same one."""
    from cyclonedx.model import HashAlgorithm, HashType

    told = {one.hashes for _, one in places if one.hashes}
    if len(told) != 1 or len(next(iter(told))) != 1:
        return []
    name, _, value = next(iter(told))[0].partition(":")
    return [HashType(alg=HashAlgorithm.SHA_256, content=value)] if name == "sha256" else []


def _licences(texts: Iterable[str]) -> list[Any]:
    from cyclonedx.contrib.license.factories import LicenseFactory

    made = LicenseFactory()
    found = sorted(texts)
    if len(found) > 1:  # an expression stands alone in a component
        found = [" AND ".join(f"({one})" if " " in one else one for one in found)]
    return [made.make_from_string(one) for one in found]


def _part(part: Part) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    purl = None
    hashes = []
    if part.digest:
        purl = PackageURL("oci", None, part.name.lower(), part.digest)
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=part.digest.removeprefix("sha256:"))]
    return Component(
        name=part.name,
        version=part.version or None,
        type=ComponentType(part.kind),
        bom_ref=f"{part.kind}:{part.name}",
        purl=purl,
        hashes=hashes,
    )


def _register_edges(bom: Bom, part: Part, components: Mapping[str, Component]) -> None:
    """Say which package of a part needs which other of it."""
    from pipeline.scan.advisories.names import normal_name

    by_name = {
        normal_name(one.ecosystem, one.name): components[key_of(one)] for one in part.packages if one.purl
    }
    for name, needs in sorted(part.requires.items()):
        here = by_name.get(normal_name("PyPI", name))
        if here is not None:
            bom.register_dependency(here, _unique(by_name[need] for need in needs if need in by_name))


def _unique(components: Iterable[Component]) -> list[Component]:
    return list({str(one.bom_ref): one for one in components}.values())
