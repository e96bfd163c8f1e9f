"""Python packages that are installed, as a small program in the container tells them.

The program reads the metadata beside the packages and runs nothing of theirs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.scan.advisories.names import normal_name
from pipeline.scan.packages.licences import licence_of
from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import LockBroken, reading

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH: Final = "the environment"
PROGRAM: Final = """
import importlib.metadata as metadata, json
names = {}
owners_of = getattr(metadata, "packages_distributions", dict)()  # since Python 3.10
for module, owners in owners_of.items():
    for owner in owners:
        names.setdefault(owner, []).append(module)
found = []
for one in metadata.distributions():
    name = one.metadata["Name"]
    if not name:
        continue
    direct = one.read_text("direct_url.json")
    found.append({
        "name": name,
        "version": one.version,
        "modules": sorted(names.get(name, ())),
        "direct_url": json.loads(direct) if direct else None,
        "expression": one.metadata.get("License-Expression") or "",
        "licence": one.metadata.get("License") or "",
        "classifiers": [each for each in one.metadata.get_all("Classifier") or () if "License" in each],
        "requires": one.requires or [],
    })
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledRead:
    """What is installed, and what each package is imported as."""

    packages: tuple[Package, ...]
    modules: Mapping[str, tuple[str, ...]]  # by the package's name
    requires: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # normalised names, by the package's


def read_installed(text: str, *, path: str = PATH) -> InstalledRead:
    """Read what `PROGRAM` printed; editable installs are the project itself and left out.

    Raises:
        LockBroken: It is not what the program prints.
    """
    try:
        listed = json.loads(text)
    except ValueError as error:
        raise LockBroken(path, f"the list of packages is no JSON: {error}") from error
    packages: list[Package] = []
    modules: dict[str, tuple[str, ...]] = {}
    requires: dict[str, tuple[str, ...]] = {}
    with reading(path):
        for one in listed:
            origin = one["direct_url"] or {}
            if origin.get("dir_info", {}).get("editable"):
                continue
            private = (
                "a git repository" if "vcs_info" in origin else "a folder" if "dir_info" in origin else ""
            )
            packages.append(
                Package(
                    name=str(one["name"]),
                    version=str(one["version"]),
                    ecosystem="PyPI",
                    path=path,
                    private=private,
                    licence=licence_of(one["expression"], one["licence"], one["classifiers"]),
                    is_installed=True,
                )
            )
            modules[str(one["name"])] = tuple(str(module) for module in one["modules"])
            requires[str(one["name"])] = tuple(dict.fromkeys(map(_name_of, one["requires"])))
    return InstalledRead(packages=tuple(dict.fromkeys(packages)), modules=modules, requires=requires)


def _name_of(requirement: str) -> str:
    """The normalised name a requirement begins with."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return normal_name("PyPI", found[0]) if found else ""
