"""Packages of Rust: `Cargo.lock`."""

from __future__ import annotations

from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import parse_toml, reading


def read_cargo(path: str, text: str) -> list[Package]:
    """Every crate; those without a source are the project's own."""
    table = parse_toml(path, text)
    with reading(path):
        listed = table.get("package", [])
        own = [one for one in listed if "source" not in one]
        direct = {str(name).split()[0] for one in own for name in one.get("dependencies", [])}
        return [
            Package(
                name=str(one["name"]),
                version=str(one["version"]),
                ecosystem="crates.io",
                path=path,
                direct=str(one["name"]) in direct,
                private="a git repository" if str(one["source"]).startswith("git+") else "",
                hashes=(f"sha256:{one['checksum']}",) if "checksum" in one else (),
            )
            for one in listed
            if "source" in one
        ]
