"""`dependency_scan` in whole runs: locked and really installed packages, and a bundle."""

from __future__ import annotations

import datetime
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.pipelines.projects import new_repository
from tests.unit.scan.advisories.records import between, record

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pipelines.projects import Ran, Repository

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

ONLY = ("--only", "checkout,deps,dependency_scan")
SOURCE = """
[tool.pipeline.dependency_scan.sources.own]
kind = "osv-file"
address = "own.json"
"""
PROJECT = {
    "requirements.txt": "iniconfig==2.0.0\nidna\n",
    "app.py": "import iniconfig\n",
    "pyproject.toml": SOURCE,
    ".gitignore": ".pipeline\nown.json\n",
}
V3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


def advisories(*more: dict[str, Any]) -> str:
    """A canary with today's date, and more."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    canary = record("GHSA-canary", package="django", events=between("0 2.2.3"), modified=now)
    return json.dumps([canary, *more])


BAD = record(
    "GHSA-bad",
    package="iniconfig",
    events=between("0 2.0.1"),
    aliases=["CVE-2026-1"],
    severity=[{"type": "CVSS_V3", "score": V3}],
)


@pytest.fixture
def project(tmp_path: Path, store: Path) -> Repository:
    """A project with a pin, a name without a version, and advisories of its own."""
    made = new_repository(tmp_path / "project", store, PROJECT)
    made.write({"own.json": advisories()})
    return made


def packages(ran: Ran) -> dict[str, str]:
    """How each package ended."""
    rows = json.loads((ran.files("dependency_scan") / "packages.json").read_text())
    return {row["name"]: row["state"] for row in rows}


def test_locked_and_installed_packages_are_judged_and_a_vulnerable_one_blocks(
    project: Repository, tmp_path: Path
) -> None:
    """What has no version takes the installed one; the finding says that the code imports the package."""
    data = str(tmp_path / "data")

    clean = project.run(*ONLY, PIPELINE_SCAN_DATA=data)
    again = project.run(*ONLY, PIPELINE_SCAN_DATA=data)
    project.write({"own.json": advisories(BAD)})
    blocked = project.run(*ONLY, PIPELINE_SCAN_DATA=data)

    assert clean.code == 0, clean.stdout
    told = packages(clean)
    assert {"iniconfig", "idna", "pip"} <= told.keys()
    assert set(told.values()) == {"clean"}
    assert "classifiers" not in (clean.files("dependency_scan").parent / "log.txt").read_text()
    assert again.outcomes["dependency_scan"] == "cached"
    failure = blocked.result("dependency_scan")["failure"]
    assert (blocked.code, blocked.outcomes["dependency_scan"]) == (1, "failure")
    assert "iniconfig 2.0.0: CVE-2026-1 in iniconfig [CVE-2026-1]" in failure["tail"]
    found = json.loads((blocked.files("dependency_scan") / "findings.json").read_text())
    (finding,) = [one["finding"] for one in found["verdict"]["judged"]]
    place = finding["place"]
    assert (place["direct"], place["imported"], place["path"]) == (True, True, "requirements.txt")
    assert place["fixed"] == ["2.0.1"]


def test_advisories_carried_in_a_bundle_judge_an_offline_run(
    project: Repository, tmp_path: Path, store: Path
) -> None:
    """What the machine that imports has is what the other gathered; a changed byte is refused."""
    project.write({"own.json": advisories(BAD)})
    bundle, here, there = tmp_path / "data.bundle", str(tmp_path / "here"), str(tmp_path / "there")
    only = ("--section", "advisories")
    wrote = project.command("prefetch", "--bundle", str(bundle), *only, PIPELINE_SCAN_DATA=here)
    other = new_repository(tmp_path / "other", store, {**PROJECT, "pyproject.toml": ""})
    other.run("--only", "checkout,deps")
    damaged = tmp_path / "damaged.bundle"
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)

    refused = other.command("prefetch", "--import", str(damaged), PIPELINE_SCAN_DATA=there)
    imported = other.command("prefetch", "--import", str(bundle), PIPELINE_SCAN_DATA=there)
    ran = other.run(*ONLY, "--offline", PIPELINE_SCAN_DATA=there)

    assert (wrote.returncode, imported.returncode, refused.returncode) == (0, 0, 1)
    assert "advisories  own.idx  as of " in imported.stdout
    assert "cannot import" in refused.stderr
    assert ran.outcomes["dependency_scan"] == "failure", ran.stdout
    assert packages(ran)["iniconfig"] == "vulnerable"


def test_the_script_of_the_mirrors_evidence_is_a_script() -> None:
    """Read by a shell, without being run."""
    from pipeline.scan.advisories.sources.debian import SCRIPT

    subprocess.run(["sh", "-n", "-c", SCRIPT], check=True)
