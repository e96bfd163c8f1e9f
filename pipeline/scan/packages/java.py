"""Packages of Java: the dependencies a `pom.xml` names itself. What they need in turn only Maven resolves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import LockBroken

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

_PROPERTY: Final = re.compile(r"\$\{([^}]+)\}")
DEV_SCOPES: Final = frozenset({"test", "provided"})


def read_pom(path: str, text: str) -> list[Package]:
    """The direct dependencies; a version that is a property of this file is filled in, others stay empty.

    Raises:
        LockBroken: It is no XML, or not to be trusted.
    """
    try:
        root: Element = fromstring(text)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise LockBroken(path, f"it is not valid XML: {error}") from error
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]
    properties = {one.tag: (one.text or "").strip() for part in root.findall("properties") for one in part}
    properties |= {"project.version": _text(root, "version") or _text(root, "parent/version")}
    properties |= {"project.groupId": _text(root, "groupId") or _text(root, "parent/groupId")}
    managed = {
        _coordinates(one, properties): _filled(_text(one, "version"), properties)
        for one in root.findall("dependencyManagement/dependencies/dependency")
    }
    found: list[Package] = []
    for one in root.findall("dependencies/dependency"):
        name = _coordinates(one, properties)
        found.append(
            Package(
                name=name,
                version=_filled(_text(one, "version"), properties) or managed.get(name, ""),
                ecosystem="Maven",
                path=path,
                direct=True,
                dev=_text(one, "scope") in DEV_SCOPES,
            )
        )
    return found


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _coordinates(element: Element, properties: Mapping[str, str]) -> str:
    parts = [_PROPERTY.sub(lambda one: properties.get(one[1], one[0]), _text(element, key)) for key in KEYS]
    return ":".join(parts)


KEYS: Final = ("groupId", "artifactId")


def _filled(text: str, properties: Mapping[str, str]) -> str:
    """A version with its properties, or "" where one is not known here."""
    filled = _PROPERTY.sub(lambda one: properties.get(one[1], one[0]), text)
    return "" if "${" in filled else filled
