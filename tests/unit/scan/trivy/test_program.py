"""The program trivy, as a script that answers in its words: what is believed of it and what is not."""

from __future__ import annotations

import datetime
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.image.system import System
from pipeline.scan.packages.package import Package
from pipeline.scan.trivy.blobs import Blob
from pipeline.scan.trivy.canary import canaries_for
from pipeline.scan.trivy.program import (
    ProgramBroken,
    ask_program,
    canary_document,
    image_command,
    read_report,
    run_trivy,
)
from pipeline.scan.trivy.source import Asked

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.scan.trivy.source import Told

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
DEBIAN = System(id="debian", version="12")
BASH = Package(name="bash", version="5.2-1", ecosystem="Debian:12", path="var/lib/dpkg/status")
VERSION = {"Version": "0.70.0", "VulnerabilityDB": {"UpdatedAt": "2026-11-24T00:00:00Z"}}
SYSTEM = {"Family": "debian", "Name": "12.5"}


def problem(name: str, version: str, cve: str, **more: Any) -> dict[str, Any]:
    """A vulnerability as a report has it."""
    row = {"VulnerabilityID": cve, "PkgName": name, "InstalledVersion": version, "Severity": "HIGH"}
    return {**row, "FixedVersion": "9-1", "Status": "fixed", "Title": "bad", "CweIDs": ["CWE-79"], **more}


def report(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A report of an image of Debian 12."""
    told = {"SchemaVersion": 2, "ArtifactName": "app", "Metadata": {"OS": SYSTEM}, "Results": list(results)}
    return {**told, **more}


def system_result(*problems: dict[str, Any]) -> dict[str, Any]:
    """What is said of the distribution's packages."""
    packages = [{"Name": "bash", "Version": "5.2", "Release": "1", "Layer": {"DiffID": "sha256:a"}}]
    return {
        "Target": "app (debian 12.5)",
        "Class": "os-pkgs",
        "Type": "debian",
        "Packages": packages,
        "Vulnerabilities": list(problems),
    }


SUNG = report(system_result(problem("openssl", "0", "CVE-2014-0160")))


def trivy(folder: Path, answers: dict[str, Any], *, code: int = 0) -> str:
    """A program that answers each subcommand with what it is given; text is printed as it is."""
    lines = {key: one if isinstance(one, str) else json.dumps(one) for key, one in answers.items()}
    program = folder / "trivy"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nprint({lines!r}.get(sys.argv[1], ''))\n"
        f"print('a line\\nFATAL no database', file=sys.stderr)\nsys.exit({code})\n"
    )
    program.chmod(0o755)
    return str(program)


def ask(program: str, folder: Path, *packages: Package) -> tuple[Told, list[Package]]:
    """Ask about an image with these packages."""
    asked = Asked(name="app", blobs=(Blob(diff_id="sha256:a"),), packages=packages)
    return ask_program(program, folder / "app.tar", asked, DEBIAN, NOW, max_age_s=3 * 86400.0, canaries={})


def test_what_it_finds_is_told_when_its_database_knows_a_canary(tmp_path: Path) -> None:
    image = report(system_result(problem("bash", "5.2-1", "CVE-2099-1")))
    program = trivy(tmp_path, {"version": VERSION, "image": image, "sbom": SUNG})

    told, extra = ask(program, tmp_path, BASH)

    (match,) = told.answer.matches[BASH.key]
    assert (told.answer.state, told.version, extra) == ("complete", "0.70.0", [])
    assert told.answer.source.as_of == "2026-11-24T00:00:00Z"
    assert (match.advisory.id, match.advisory.severity, match.fixed) == (
        "CVE-2099-1",
        (("Trivy", "HIGH"),),
        ("9-1",),
    )


def test_a_package_that_it_lists_and_skips_is_not_called_clean(tmp_path: Path) -> None:
    """From 0.74 on it judges none that is of somebody else's repository; its report says so and no more."""
    others = {"Name": "docker-ce", "Version": "27.0", "Release": "1", "Repository": {"Class": "third-party"}}
    result = system_result()
    image = report({**result, "Packages": [*result["Packages"], others]})
    program = trivy(tmp_path, {"version": VERSION, "image": image, "sbom": SUNG})
    docker = replace(BASH, name="docker-ce", version="27.0-1")

    told, _ = ask(program, tmp_path, BASH, docker)

    assert told.answer.judged == {BASH.key}
    assert told.answer.unknown == {docker.key: "Trivy did not list it"}


def test_silence_without_a_canary_says_nothing(tmp_path: Path) -> None:
    """A database without data for the release lists the packages and ends with 0."""
    empty = report(system_result())
    program = trivy(tmp_path, {"version": VERSION, "image": empty, "sbom": empty})

    told, _ = ask(program, tmp_path, BASH)

    assert (told.answer.state, set(told.answer.judged)) == ("unavailable", set())


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"version": VERSION},
        {"version": VERSION, "image": "hello"},
        {"version": VERSION, "image": "[]"},
        {"version": VERSION, "image": "{}"},
        {"version": VERSION, "image": {"SchemaVersion": 3, "ArtifactName": "app"}},
        {"version": VERSION, "image": report({"Target": "x"}), "sbom": SUNG},
        {"version": VERSION, "image": report(Results=3), "sbom": SUNG},
    ],
    ids=["nothing", "no report", "text", "a list", "a table", "another version", "half a result", "a number"],
)
@pytest.mark.parametrize("code", [0, 1])
def test_a_report_that_is_none_judges_nothing(tmp_path: Path, answers: dict[str, Any], code: int) -> None:
    """Whatever the exit code."""
    told, extra = ask(trivy(tmp_path, answers, code=code), tmp_path, BASH)

    assert (told.answer.state, set(told.answer.judged), extra) == ("unavailable", set(), [])


def test_a_program_that_prints_no_json_is_quoted_by_its_last_line(tmp_path: Path) -> None:
    program = trivy(tmp_path, {"image": "hello"}, code=1)

    with pytest.raises(ProgramBroken, match="exit code 1, FATAL no database"):
        run_trivy([program, "image"])


def test_a_program_that_hangs_is_stopped(tmp_path: Path) -> None:
    program = tmp_path / "trivy"
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    program.chmod(0o755)

    with pytest.raises(ProgramBroken, match="timed out"):
        run_trivy([str(program)], limit_s=0.2)


def test_packages_that_only_it_found_are_packages_of_the_image(tmp_path: Path) -> None:
    gems = {
        "Target": "Ruby",
        "Class": "lang-pkgs",
        "Type": "gemspec",
        "Packages": [{"Name": "rack", "Version": "2.0.1", "FilePath": "usr/rack.gemspec"}],
        "Vulnerabilities": [problem("rack", "2.0.1", "CVE-2099-2")],
    }
    program = trivy(tmp_path, {"version": VERSION, "image": report(system_result(), gems), "sbom": SUNG})

    told, extra = ask(program, tmp_path, BASH)

    assert [(one.ecosystem, one.name, one.version, one.path) for one in extra] == [
        ("RubyGems", "rack", "2.0.1", "usr/rack.gemspec")
    ]
    assert [match.advisory.id for match in told.answer.matches[extra[0].key]] == ["CVE-2099-2"]
    assert extra[0].key in told.answer.unknown  # no canary of Ruby came back: others may be missing


def test_the_end_of_the_release_is_told(tmp_path: Path) -> None:
    image = report(system_result(), Metadata={"OS": {**SYSTEM, "EOSL": True}})
    program = trivy(tmp_path, {"version": VERSION, "image": image, "sbom": SUNG})

    assert ask(program, tmp_path, BASH)[0].is_end_of_life


def test_what_is_not_affected_is_no_finding() -> None:
    answer = read_report(report(system_result(problem("bash", "5.2-1", "CVE-1", Status="not_affected"))))

    assert [one.status for result in answer.results for one in result.vulnerabilities] == [1]


def test_it_goes_nowhere(tmp_path: Path) -> None:
    """No updates, no telemetry, no check for a newer version."""
    argv = image_command("trivy", tmp_path)

    assert {
        *("--skip-db-update", "--skip-java-db-update", "--offline-scan"),
        *("--skip-version-check", "--disable-telemetry"),
    } <= set(argv)


def test_canaries_are_a_document_of_the_images_distribution() -> None:
    python = Package(name="x", version="1", ecosystem="PyPI")

    document = canary_document(canaries_for([BASH, python], {"PyPI": "jinja2 2.10"}), DEBIAN)

    rows = [(one["type"], one["name"], one["version"], one.get("purl")) for one in document["components"]]
    assert rows == [
        ("operating-system", "debian", "12", None),
        ("library", "openssl", "0", "pkg:deb/debian/openssl@0?distro=debian-12"),
        ("library", "glibc", "0", "pkg:deb/debian/glibc@0?distro=debian-12"),
        ("library", "jinja2", "2.10", "pkg:pypi/jinja2@2.10"),
    ]
