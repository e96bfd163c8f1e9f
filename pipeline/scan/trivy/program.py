"""The program trivy, where it is installed: what to run, and its report, read strictly.

It uses the database it has, and goes nowhere. Its exit code is not believed: a run over known vulnerable
packages shows what its database knows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import PipelineError
from pipeline.scan.advisories.answer import SourceInfo
from pipeline.scan.advisories.sources.local import unavailable
from pipeline.scan.advisories.times import write_time
from pipeline.scan.packages.package import Package
from pipeline.scan.trivy.answer import (
    OS_PACKAGES,
    ScanAnswer,
    TrivyPackage,
    TrivyResult,
    TrivyVulnerability,
)
from pipeline.scan.trivy.blobs import FAMILIES, system_package
from pipeline.scan.trivy.canary import LAYER, canaries_for, ecosystem_in, is_canary, kind_of
from pipeline.scan.trivy.judging import ecosystems_of, judge_packages, place_of
from pipeline.scan.trivy.source import Told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pipeline.scan.image.system import System
    from pipeline.scan.trivy.canary import Canaries
    from pipeline.scan.trivy.source import Asked

NAME: Final = "trivy program"
LIMIT_S: Final = 600.0
MOST_BYTES: Final = 256 * 1024**2
SCHEMA: Final = 2
THIRD_PARTY: Final = "third-party"
QUIET: Final = (
    *("--format", "json", "--scanners", "vuln", "--list-all-pkgs", "--quiet", "--exit-code", "0"),
    *("--skip-db-update", "--skip-java-db-update", "--offline-scan"),
    *("--skip-version-check", "--disable-telemetry"),
)
STATUSES: Final[Mapping[str, int]] = {
    name: number
    for number, name in enumerate(
        (
            *("unknown", "not_affected", "affected", "fixed", "under_investigation"),
            *("will_not_fix", "fix_deferred", "end_of_life"),
        )
    )
}


class ProgramBroken(PipelineError):
    """Trivy did not say what it always says."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot use trivy: {why}")
        self.why = why


def find_trivy() -> str | None:
    """Where trivy is installed; None where it is not."""
    return shutil.which("trivy")


def image_command(program: str, archive: Path) -> list[str]:
    """Look at an image in a file."""
    return [program, "image", *QUIET, "--input", str(archive)]


def canary_command(program: str, document: Path) -> list[str]:
    """Look at a list of packages."""
    return [program, "sbom", *QUIET, str(document)]


def version_command(program: str) -> list[str]:
    """Say the version, and how old the database is."""
    return [program, "version", "--format", "json"]


def run_trivy(argv: Sequence[str], *, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """What a run prints, with nothing of the user's settings but where the database is.

    Raises:
        ProgramBroken: It could not be run, took too long, or printed no JSON table.
    """
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile() as out:
        cache = os.environ.get("TRIVY_CACHE_DIR") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "trivy"
        )
        env = {"HOME": home, "TRIVY_CACHE_DIR": cache, "PATH": os.environ.get("PATH", os.defpath)}
        try:
            done = subprocess.run(
                argv, cwd=home, env=env, stdout=out, stderr=subprocess.PIPE, timeout=limit_s, check=False
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise ProgramBroken(str(error)) from error
        if out.tell() > MOST_BYTES:
            raise ProgramBroken(f"it printed more than {MOST_BYTES // 1024**2} MiB")
        out.seek(0)
        try:
            table = json.load(out)
        except (ValueError, RecursionError) as error:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            why = f"exit code {done.returncode}, {said[0][:300] if said else 'no report'}"
            raise ProgramBroken(why) from error
    if not isinstance(table, dict):
        raise ProgramBroken("its report is no table")
    return table


def ask_program(
    program: str,
    archive: Path,
    asked: Asked,
    system: System,
    now: datetime,
    *,
    max_age_s: float,
    canaries: Mapping[str, str],
) -> tuple[Told, list[Package]]:
    """What trivy says of an image, and packages that only it found; what goes wrong is an answer too."""
    source = SourceInfo(name=NAME, ecosystems=ecosystems_of(asked.packages), fetched_at=write_time(now))
    try:
        version = run_trivy(version_command(program))
        answer = read_report(run_trivy(image_command(program, archive)))
        extra = only_in(answer, asked.packages)
        planted = canaries_for([*asked.packages, *extra], canaries)
        with tempfile.TemporaryDirectory() as folder:
            document = Path(folder) / "canary.cdx.json"
            document.write_text(json.dumps(canary_document(planted, system)), encoding="utf-8")
            answer = joined(answer, read_report(run_trivy(canary_command(program, document))))
    except ProgramBroken as error:
        return Told(answer=unavailable(source, asked.packages, str(error))), []
    database = version.get("VulnerabilityDB")
    updated = str(database.get("UpdatedAt") or "") if isinstance(database, dict) else ""
    known = replace(source, as_of=updated)
    packages = [*asked.packages, *extra]
    judged = judge_packages(packages, answer, planted, known, now=now, max_age_s=max_age_s)
    name = str(version.get("Version") or "")
    told = Told(answer=judged, is_end_of_life=answer.is_end_of_life, version=name)
    return told, extra


def read_report(table: Mapping[str, Any]) -> ScanAnswer:
    """Read a report.

    Raises:
        ProgramBroken: It is none of the version that is known.
    """
    if table.get("SchemaVersion") != SCHEMA or not isinstance(table.get("ArtifactName"), str):
        raise ProgramBroken(f"its report is none of version {SCHEMA}")
    try:
        system = (table.get("Metadata") or {}).get("OS") or {}
        return ScanAnswer(
            family=str(system.get("Family") or ""),
            release=str(system.get("Name") or ""),
            is_end_of_life=bool(system.get("EOSL")),
            results=tuple(_result(one) for one in table.get("Results") or ()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProgramBroken(f"its report cannot be read: {type(error).__name__}: {error}") from error


def _result(table: Mapping[str, Any]) -> TrivyResult:
    return TrivyResult(
        target=str(table["Target"]),
        kind=str(table["Class"]),
        type=str(table.get("Type") or ""),
        packages=tuple(_package(one) for one in table.get("Packages") or () if not _is_of_others(one)),
        vulnerabilities=tuple(_vulnerability(one) for one in table.get("Vulnerabilities") or ()),
    )


def _is_of_others(table: Mapping[str, Any]) -> bool:
    """Whether trivy takes a package for none of the distribution's: from 0.74 on it lists and skips these."""
    return (table.get("Repository") or {}).get("Class") == THIRD_PARTY


def _package(table: Mapping[str, Any]) -> TrivyPackage:
    epoch, release = int(table.get("Epoch") or 0), str(table.get("Release") or "")
    version = str(table["Version"]) + (f"-{release}" if release else "")
    return TrivyPackage(
        name=str(table["Name"]),
        version=f"{epoch}:{version}" if epoch else version,
        path=str(table.get("FilePath") or ""),
        layer=str((table.get("Layer") or {}).get("DiffID") or ""),
    )


def _vulnerability(table: Mapping[str, Any]) -> TrivyVulnerability:
    fixed = str(table.get("FixedVersion") or "")
    weaknesses = [str(one).removeprefix("CWE-") for one in table.get("CweIDs") or ()]
    return TrivyVulnerability(
        id=str(table["VulnerabilityID"]),
        package=TrivyPackage(
            name=str(table["PkgName"]),
            version=str(table["InstalledVersion"]),
            path=str(table.get("PkgPath") or ""),
            layer=str((table.get("Layer") or {}).get("DiffID") or ""),
        ),
        fixed=tuple(part.strip() for part in fixed.split(",") if part.strip()),
        severity=str(table["Severity"]),
        status=STATUSES.get(str(table.get("Status") or "unknown"), 0),
        title=str(table.get("Title") or ""),
        url=str(table.get("PrimaryURL") or ""),
        cwe=tuple(sorted(int(one) for one in weaknesses if one.isdigit())),
    )


def joined(answer: ScanAnswer, control: ScanAnswer) -> ScanAnswer:
    """The answer with what the canaries gave, told apart from the image's own."""
    marked = tuple(
        replace(
            result,
            packages=tuple(replace(one, layer=LAYER) for one in result.packages),
            vulnerabilities=tuple(
                replace(one, package=replace(one.package, layer=LAYER)) for one in result.vulnerabilities
            ),
        )
        for result in control.results
    )
    return replace(answer, results=(*answer.results, *marked))


def only_in(answer: ScanAnswer, packages: Sequence[Package]) -> list[Package]:
    """Language packages that trivy lists and we did not find, to be told as packages of the image."""
    ours = {place_of(kind_of(one), one.name, one.version) for one in packages}
    found = []
    for result in answer.results:
        ecosystem = ecosystem_in(result)
        for one in result.packages:
            is_ours = place_of(ecosystem, one.name, one.version) in ours
            if result.kind != OS_PACKAGES and not is_ours and not is_canary(one):
                found.append(
                    Package(
                        name=one.name,
                        version=one.version,
                        ecosystem=ecosystem,
                        path=one.path or result.target,
                        layer=one.layer,
                        is_installed=True,
                    )
                )
    return found


def canary_document(canaries: Canaries, system: System) -> dict[str, Any]:
    """The canaries as a CycloneDX document of the image's distribution, which trivy reads."""
    family = FAMILIES.get(system.id, system.id)
    components: list[dict[str, Any]] = []
    if system.id:
        components.append(
            {
                "bom-ref": "system",
                "type": "operating-system",
                "name": family,
                "version": system.version,
                "properties": _properties({"Class": OS_PACKAGES, "Type": family}),
            }
        )
    for packages in canaries.by_ecosystem.values():
        for one in packages:
            row: dict[str, Any] = {
                "bom-ref": one.purl,
                "type": "library",
                "name": one.name,
                "version": one.version,
            }
            if kind_of(one) == "":
                told = system_package(one)
                names = {"src_name": "SrcName", "src_version": "SrcVersion", "src_release": "SrcRelease"}
                pairs = {name: str(told[key]) for key, name in names.items() if key in told}
                row["properties"] = _properties({"PkgID": told["id"], "PkgType": family, **pairs})
            components.append({**row, "purl": one.purl})
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}


def _properties(told: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": f"aquasecurity:trivy:{name}", "value": value} for name, value in told.items()]
