"""The sections `tools` and `rules` of a bundle: wheels by the hashes of our locks, and the rules' digests.

A wheel is only used for a lock that names its hash: whoever made the bundle need not be trusted for that.
"""

from __future__ import annotations

import json
import platform
import re
import zipfile
from email.parser import HeaderParser
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import pipeline
from pipeline.digest import digest_bytes
from pipeline.scan.data import DataBroken, Item, digest_and_size, load_items

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TOOLS: Final = "tools"
RULES: Final = "rules"
RULES_FILE: Final = "rules.json"
LARGEST_METADATA: Final = 4 * 1024**2
_REQUIREMENT: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)((?:.*\\\n)*.*)$", re.MULTILINE)
_HASH: Final = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


def packaged_locks() -> dict[str, str]:
    """The lock of each tool, by the tool's name."""
    folder = files("pipeline.scan").joinpath(TOOLS)
    return {
        one.name.removesuffix(".txt"): one.read_text(encoding="utf-8")
        for one in sorted(folder.iterdir(), key=lambda one: one.name)
        if one.name.endswith(".txt")
    }


def locked_hashes(lock: str) -> dict[str, frozenset[str]]:
    """The hashes a lock allows for each package, by `name==version`."""
    return {
        f"{found[1]}=={found[2]}": frozenset(_HASH.findall(found[3])) for found in _REQUIREMENT.finditer(lock)
    }


def wheels_for(lock: str, items: Sequence[Item], machine: str = "") -> tuple[str, ...]:
    """The names of the wheels that install a lock on this kind of machine; () where one is missing."""
    here = {one.digest: one.name for one in items if _is_for(one.name, machine or platform.machine())}
    chosen = []
    for hashes in locked_hashes(lock).values():
        names = sorted(here[one] for one in hashes & here.keys())
        if not names:
            return ()
        chosen += names
    return tuple(sorted(set(chosen)))


def _is_for(name: str, machine: str) -> bool:
    tag = name.removesuffix(".whl").rpartition("-")[2]
    return tag == "any" or machine in tag


def imported_wheels(data: Path, lock: str) -> tuple[Path, tuple[str, ...]] | None:
    """The folder with the wheels that an import brought for a lock, and their names; None without them.

    Raises:
        DataBroken: What was imported is damaged.
    """
    folder = data / TOOLS
    names = wheels_for(lock, load_items(folder))
    if not names:
        return None
    here = folder.resolve()
    if gone := next((name for name in names if not (here / name).is_file()), ""):
        raise DataBroken(folder, f"`{gone}` is not there")
    return here, names


def wheel_items(folder: Path, made_at: str) -> dict[Path, Item]:
    """What a bundle says of the wheels in a folder.

    Raises:
        DataBroken: One is no wheel.
    """
    found = {}
    for path in sorted(folder.glob("*.whl")):
        digest, size_bytes = digest_and_size(path)
        told = _metadata(path)
        found[path] = Item(
            name=path.name,
            digest=digest,
            size_bytes=size_bytes,
            as_of=made_at,
            fetched_at=made_at,
            licence=licence_of(told),
            address=f"pkg:pypi/{told.get('Name', '').lower()}@{told.get('Version', '')}",
        )
    return found


def _metadata(wheel: Path) -> Mapping[str, str]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(one for one in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one))
            with archive.open(name) as file:
                text = file.read(LARGEST_METADATA).decode("utf-8", "replace")
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise DataBroken(wheel, "it is no wheel") from error
    told = HeaderParser().parsestr(text, headersonly=True)
    licences = [one for one in told.get_all("Classifier", []) if one.startswith("License :: ")]
    return {**{name: str(value) for name, value in told.items()}, "Classifier": "; ".join(licences)}


def licence_of(metadata: Mapping[str, str]) -> str:
    """The licence a package tells: an expression, else its classifiers, else the first line of the field."""
    if expression := metadata.get("License-Expression", "").strip():
        return expression
    told = [one.rpartition(" :: ")[2] for one in metadata.get("Classifier", "").split("; ") if one]
    lines = metadata.get("License", "").strip().splitlines()
    return ", ".join(told) or (lines[0][:100] if lines else "unknown")


def rules_text() -> str:
    """Which rules this version has: the digest of each file with rules and of each lock, as JSON."""
    here = files("pipeline.scan")
    rules = here.joinpath("sast", "rules")
    digests = {
        f"sast/rules/{one.name}": digest_bytes(one.read_bytes())
        for one in rules.iterdir()
        if one.name.endswith((".yml", ".yaml"))
    }
    digests |= {f"{TOOLS}/{name}.txt": digest_bytes(lock.encode()) for name, lock in packaged_locks().items()}
    return json.dumps({"version": pipeline.__version__, "digests": digests}, indent=1, sort_keys=True) + "\n"


def other_rules(path: Path) -> list[str]:
    """The rules and locks that differ between a bundle's record and this version, by name."""
    try:
        theirs = json.loads(path.read_bytes())["digests"]
        ours = json.loads(rules_text())["digests"]
        return sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataBroken(path, f"it is no record of rules: {error}") from error
