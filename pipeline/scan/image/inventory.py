"""The packages of an image: what its databases and files name, and the layer each came with."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pipeline.scan.image.interest import COPYRIGHT
from pipeline.scan.image.system import NO_SYSTEM, System, ecosystem_of, read_system
from pipeline.scan.packages.apk import read_apk, read_apk_files
from pipeline.scan.packages.dpkg import read_dpkg, read_file_list
from pipeline.scan.packages.installed_files import read_node, read_python
from pipeline.scan.packages.package import distinct
from pipeline.scan.packages.reading import LockBroken
from pipeline.scan.packages.rpm import read_rpm, read_rpm_files
from pipeline.scan.scanner import Missed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pipeline.scan.image.layers import Held, ImageRead
    from pipeline.scan.packages.package import Package

DATABASES: Final = ("dpkg", "apk", "rpm")
OWNING: Final = ("dpkg-files", "apk", "rpm")
LONGEST: Final = 2000  # characters of names and versions of one package
OLD_RPM: Final = "this form of rpm's database (Berkeley DB, NDB) cannot be read"
MERGED: Final = ("usr/bin/", "usr/sbin/", "usr/lib")  # folders that older lists name without `usr/`


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What is in an image, and what of it could not be read."""

    system: System
    ecosystem: str  # of the distribution's packages
    packages: tuple[Package, ...]
    missed: tuple[Missed, ...] = ()
    has_database: bool = True  # of packages of a distribution; without one nobody knows what else is in it
    owned: frozenset[str] = frozenset()  # of the paths that were asked about: those of the distribution


def take_inventory(image: ImageRead) -> Inventory:
    """Name the packages of an image.

    What the distribution's own packages brought of Python, Node and Java counts as these packages only: its
    security team mends it without a new version.
    """
    files = image.files
    missed = list(image.missed)
    system = _system(files)
    ecosystem = ecosystem_of(system)
    licences = copyright_licences(files)
    owned = owned_paths(files, {path for path, held in files.items() if _may_be_owned(held)}, missed)
    packages: list[Package] = []
    for path, held in files.items():
        layer = image.layers[held.layer].diff_id
        if held.interest in DATABASES:
            found = with_licences(_tolerant(held, ecosystem, missed), licences)
            packages += in_layers(image, path, found)
        elif held.interest == "rpm-old":
            missed.append(Missed(what=path, why=OLD_RPM))
        elif path not in owned:
            private = origin_of(files, path)
            found = _tolerant(held, ecosystem, missed)
            packages += [replace(one, layer=layer, private=private or one.private) for one in found]
    return Inventory(
        system=system,
        ecosystem=ecosystem,
        packages=tuple(distinct(packages)),
        missed=tuple(missed),
        has_database=any(held.interest in (*DATABASES, "rpm-old") for held in files.values()),
        owned=owned,
    )


def copyright_licences(files: Mapping[str, Held]) -> dict[str, str]:
    """The licences that copyright files name, by Debian package; those that name none are left out."""
    found = {}
    for path, held in files.items():
        named = COPYRIGHT.fullmatch(path) if held.interest == "copyright" else None
        if named is not None and held.data:
            found[named["package"]] = held.data.decode()
    return found


def with_licences(packages: list[Package], licences: Mapping[str, str]) -> list[Package]:
    """Give packages their licences; one whose folder is a link to another's has that of the same source."""
    by_source = {
        (one.judged_name, one.judged_version): licences[one.name] for one in packages if one.name in licences
    }
    return [
        replace(
            one,
            licence=one.licence
            or licences.get(one.name)
            or by_source.get((one.judged_name, one.judged_version), ""),
        )
        for one in packages
    ]


def origin_of(files: Mapping[str, Held], path: str) -> str:
    """Where a Python package is from, if from no index: no public data can know it."""
    origin = files.get(path.rpartition("/")[0] + "/direct_url.json")
    if origin is None:
        return ""
    try:
        told = json.loads(origin.data)
        return "a git repository" if "vcs_info" in told else "a folder" if "dir_info" in told else ""
    except (ValueError, TypeError, RecursionError):
        return ""  # damaged: it counts as any other package


def _may_be_owned(held: Held) -> bool:
    return held.interest in READERS or bool(held.packages) or held.is_setuid


def _system(files: Mapping[str, Held]) -> System:
    held = files.get("etc/os-release") or files.get("usr/lib/os-release")
    return read_system(held.data.decode("utf-8", "replace")) if held is not None else NO_SYSTEM


def _text(reader: Callable[[str, str], list[Package]]) -> Callable[[Held], list[Package]]:
    return lambda held: reader(held.path, held.data.decode("utf-8", "replace"))


READERS: Final[Mapping[str, Callable[[Held], list[Package]]]] = {
    "python": _text(read_python),
    "node": _text(read_node),
}


def packages_of(held: Held, ecosystem: str) -> list[Package]:
    """The packages that one file names; without a layer.

    Raises:
        LockBroken: It is not in its format.
    """
    text = held.data.decode("utf-8", "replace") if held.interest in ("dpkg", "apk") else ""
    match held.interest:
        case "dpkg":
            return read_dpkg(held.path, text, ecosystem)
        case "apk":
            return read_apk(held.path, text, ecosystem)
        case "rpm":
            return read_rpm(held.path, held.data, ecosystem)
        case "python" | "node":
            return READERS[held.interest](held)
    return [replace(one, path=held.path) for one in held.packages]


def _tolerant(held: Held, ecosystem: str, missed: list[Missed]) -> list[Package]:
    try:
        found = packages_of(held, ecosystem)
    except LockBroken as error:
        missed.append(Missed(what=held.path, why=error.why))
        return []
    if held.interest in DATABASES and held.size and not found:
        missed.append(Missed(what=held.path, why="it names no package"))
    fit = [one for one in found if is_fit(one)]
    if len(fit) < len(found):
        missed.append(Missed(what=held.path, why="it names packages by what is no name or version"))
    return fit


def is_fit(package: Package) -> bool:
    """Whether a name and a version can be ones, and be told to people."""
    text = package.name + package.version + package.source + package.source_version
    return len(text) <= LONGEST and text.isprintable()


def in_layers(image: ImageRead, path: str, packages: list[Package]) -> Iterator[Package]:
    """Give the packages of a database the layers since which they are in it, at this version."""
    since: dict[tuple[str, str, str], str] = {}
    for layer in image.layers:
        held = layer.held.get(path)
        if held is None:
            since = {} if layer.hides(path) else since
            continue
        try:
            listed = packages_of(held, "")
        except LockBroken:
            listed = []  # damaged in a lower layer: its packages count from the next one
        keys = [(one.name, one.version, one.architecture) for one in listed]
        since = {key: since.get(key, layer.diff_id) for key in keys}
    for one in packages:
        yield replace(one, layer=since.get((one.name, one.version, one.architecture), ""))


def owned_paths(files: Mapping[str, Held], asked: set[str], missed: list[Missed]) -> frozenset[str]:
    """Which of these paths belong to packages of the distribution."""
    wanted = {_merged(path): path for path in asked}
    found: set[str] = set()
    for held in files.values():
        if held.interest not in OWNING:
            continue
        try:
            found.update(wanted[name] for path in _files_of(held) if (name := _merged(path)) in wanted)
        except LockBroken as error:
            missed.append(Missed(what=held.path, why=error.why))
    return frozenset(found)


def _files_of(held: Held) -> Iterator[str]:
    if held.interest == "dpkg-files":
        return read_file_list(held.data)
    return read_apk_files(held.data) if held.interest == "apk" else read_rpm_files(held.path, held.data)


def _merged(path: str) -> str:
    """A path as it was before `/usr` took up the other folders."""
    return path.removeprefix("usr/") if path.startswith(MERGED) else path
