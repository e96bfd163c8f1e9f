"""Whether the distribution an image is made of still gets security fixes, by a table with its sources."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import DataSource, Finding, InPackage, Rule, Severity, Witness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.scan.image.system import System

SCANNER: Final = "end of life"
TABLE: Final = "releases.json"  # written by scripts/make-releases
SOON_DAYS: Final = 90
ROLLING: Final = ("wolfi", "chainguard", "opensuse-tumbleweed", "arch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """When one release ends."""

    ended: datetime.date
    extended: datetime.date | None = None  # volunteers mend a part of it until then
    data: DataSource


def find_release(system: System) -> Release | None:
    """When a distribution's release ends; None where the table does not have it."""
    table = json.loads(files("pipeline.scan.image").joinpath(TABLE).read_text(encoding="utf-8"))
    told: Mapping[str, Any] | None = table.get(system.id)
    if told is None:
        return None
    row = told["releases"].get(_cycle(system))
    if row is None:
        return None
    extended = row.get("extended")
    return Release(
        ended=datetime.date.fromisoformat(row["ended"]),
        extended=datetime.date.fromisoformat(extended) if extended else None,
        data=DataSource(name=told["source"], as_of=told["as_of"], licence=told["licence"]),
    )


def can_ask_mirror(system: System, names: frozenset[str]) -> bool:
    """Whether an image has what is needed to ask its distribution's mirror, by the names of its packages."""
    return system.id in ("debian", "ubuntu") and {"apt", "dpkg", "tar", "dash"} <= names


def _cycle(system: System) -> str:
    """The release as the table calls it: "12", "22.04", "3.19"."""
    parts = system.version.split(".")
    return ".".join(parts[: 1 if system.id == "debian" and int_of(parts[0]) > 4 else 2])


def int_of(text: str) -> int:
    """A number, 0 for what is none."""
    return int(text) if text.isdigit() else 0


def why_no_date(system: System) -> str:
    """Why nothing is known of a release's end; "" where there is none: rolling ones, no system."""
    is_rolling = system.id in ROLLING or (system.id in ("debian", "alpine") and not system.version)
    is_edge = system.id == "alpine" and "_alpha" in system.version
    if not system.id or is_rolling or is_edge or find_release(system) is not None:
        return ""
    return f"the table has no end of life of {system.name or system.id}"


def judge_release(
    system: System, image: str, ecosystem: str, today: datetime.date, *, trivy: str = ""
) -> list[Finding]:
    """The finding about a release that has ended, or soon will.

    Args:
        trivy: Version of a Trivy server that says the release has ended; "" where none does.
    """
    release = find_release(system)
    name = system.name or f"{system.id} {system.version}"
    seen = [Witness(tool="trivy", version=trivy, rule="eosl")] if trivy else []
    if release is None and not trivy:
        return []
    last = (release.extended or release.ended) if release else None
    if release is None or last is None or last < today:
        when = f" since {last.isoformat()}" if last is not None and last < today else ""
        message = f"{name} gets no security fixes{when}: what is found in it later will stay"
        found = ("os-end-of-life", "high", "has ended", message)
    elif release.ended < today:
        message = (
            f"{name} left regular support on {release.ended.isoformat()}; volunteers mend a part of its "
            f"packages until {last.isoformat()}"
        )
        found = ("os-long-term-support", "low", "is only mended in part", message)
    elif release.ended <= today + datetime.timedelta(days=SOON_DAYS):
        message = f"{name} gets security fixes until {release.ended.isoformat()}"
        found = ("os-ends-soon", "low", "ends soon", message)
    else:
        return []
    rule, level, title, message = found
    witness = [Witness(tool=SCANNER, version="", rule=rule)] if release is not None else []
    return [
        Finding(
            id="",
            kind="end-of-life",
            rule=Rule(id=rule, name=rule),
            title=f"{name} {title}",
            message=message,
            severity=Severity(level=level, basis=f"the release {title}"),  # type: ignore[arg-type]
            place=_system_place(system, image, ecosystem),
            confidence="high",
            fix="build the image on a newer release",
            witnesses=(*witness, *seen),
            data=(release.data,) if release is not None else (),
        )
    ]


def _system_place(system: System, image: str, ecosystem: str) -> InPackage:
    return InPackage(
        purl="",
        name=system.id,
        version=system.version,
        ecosystem=ecosystem,
        path=f"{image}!/etc/os-release",
    )
