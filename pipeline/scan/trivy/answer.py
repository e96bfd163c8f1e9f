"""What a Trivy server answers to a scan, read strictly: a field that is missing is an error, not nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

OS_PACKAGES: Final = "os-pkgs"
NO_FAMILY: Final = ("", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyPackage:
    """A package as the server lists it."""

    name: str
    version: str  # whole: with epoch and release
    path: str = ""
    layer: str = ""  # diff id of its blob


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyVulnerability:
    """One vulnerability of one package."""

    id: str
    package: TrivyPackage
    fixed: tuple[str, ...] = ()
    severity: str = ""  # "HIGH"
    status: int = 0  # 1 is "not affected", 5 "will not fix"
    title: str = ""
    url: str = ""
    cwe: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyResult:
    """What is said of one kind of packages."""

    target: str
    kind: str  # "os-pkgs", "lang-pkgs"
    type: str  # "debian", "python-pkg"
    packages: tuple[TrivyPackage, ...] = ()
    vulnerabilities: tuple[TrivyVulnerability, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanAnswer:
    """The whole answer."""

    family: str  # of the distribution; "none" where the server was not told
    release: str
    is_end_of_life: bool
    results: tuple[TrivyResult, ...]


def read_scan(table: Mapping[str, Any]) -> ScanAnswer:
    """Read the answer to a scan.

    Raises:
        KeyError: A field is missing.
        TypeError: A field holds something else.
        ValueError: Likewise.
        AttributeError: Likewise.
    """
    system = table["os"] or {}
    return ScanAnswer(
        family=str(system.get("family") or ""),
        release=str(system.get("name") or ""),
        is_end_of_life=bool(system.get("eosl")),
        results=tuple(_result(one) for one in table["results"]),
    )


def _result(table: Mapping[str, Any]) -> TrivyResult:
    return TrivyResult(
        target=str(table["target"]),
        kind=str(table["class"]),
        type=str(table["type"]),
        packages=tuple(_package(one) for one in table["packages"]),
        vulnerabilities=tuple(_vulnerability(one) for one in table["vulnerabilities"]),
    )


def _package(table: Mapping[str, Any]) -> TrivyPackage:
    epoch = int(table.get("epoch") or 0)
    release = str(table.get("release") or "")
    version = str(table["version"]) + (f"-{release}" if release else "")
    return TrivyPackage(
        name=str(table["name"]),
        version=f"{epoch}:{version}" if epoch else version,
        path=str(table.get("file_path") or ""),
        layer=_layer(table),
    )


def _vulnerability(table: Mapping[str, Any]) -> TrivyVulnerability:
    fixed = str(table.get("fixed_version") or "")
    weaknesses = [str(one).removeprefix("CWE-") for one in table.get("cwe_ids") or ()]
    return TrivyVulnerability(
        id=str(table["vulnerability_id"]),
        package=TrivyPackage(
            name=str(table["pkg_name"]),
            version=str(table["installed_version"]),
            path=str(table.get("pkg_path") or ""),
            layer=_layer(table),
        ),
        fixed=tuple(part.strip() for part in fixed.split(",") if part.strip()),
        severity=str(table["severity"]),
        status=int(table.get("status") or 0),
        title=str(table.get("title") or ""),
        url=str(table.get("primary_url") or ""),
        cwe=tuple(sorted(int(one) for one in weaknesses if one.isdigit())),
    )


def _layer(table: Mapping[str, Any]) -> str:
    return str((table.get("layer") or {}).get("diff_id") or "")
