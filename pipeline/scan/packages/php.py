"""Packages of PHP: `composer.lock`."""

from __future__ import annotations

from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import parse_json, reading


def read_composer(path: str, text: str) -> list[Package]:
    """Every package; branches keep their name as version, which no order knows."""
    table = parse_json(path, text)
    with reading(path):
        return [
            Package(
                name=str(one["name"]),
                version=str(one["version"]),
                ecosystem="Packagist",
                path=path,
                dev=section == "packages-dev",
                private="a folder" if (one.get("dist") or {}).get("type") == "path" else "",
                released=str(one.get("time") or ""),
                licence=" OR ".join(map(str, one.get("license") or ())),
            )
            for section in ("packages", "packages-dev")
            for one in table.get(section) or ()
        ]
