"""Advisories on this machine: what they know, how old they are, and when their silence proves nothing."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.advisories.answer import SourceInfo
from pipeline.scan.advisories.bulk import BulkBroken, read_records
from pipeline.scan.advisories.fetch import NothingFetched, Wanted, cached_index
from pipeline.scan.advisories.index import Index, IndexBroken, build_index
from pipeline.scan.advisories.osv import BadAdvisory, parse_advisory
from pipeline.scan.advisories.settle import scan_of, settle
from pipeline.scan.advisories.sources.local import LocalSource
from pipeline.scan.advisories.times import DAY_S
from tests.unit.scan.advisories.records import between, record
from tests.unit.scan.advisories.worlds import NOW, package

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import Scan

CANARY = record("GHSA-canary", package="django", events=between("0 2.2.3"), modified="2026-11-20T00:00:00Z")
BAD = record("GHSA-bad", events=between("0 1.5"), aliases=["CVE-2026-1"], modified="2026-11-23T00:00:00Z")


def index_of(tmp_path: Path, records: Sequence[object], name: str = "own") -> Path:
    """An index of records."""
    path = tmp_path / f"{name}.idx"
    build_index(path, records, SourceInfo(name=name), now=NOW)
    return path


def scan(packages: Sequence[Package], *sources: LocalSource) -> Scan:
    """What a scan with these sources says."""
    answers = [one.ask(packages, NOW) for one in sources]
    return scan_of(settle(packages, answers), answers)


def test_packages_are_found_vulnerable_and_clean(tmp_path: Path) -> None:
    """The date of the data is that of its newest record."""
    told = scan([package(), package("other")], LocalSource(path=index_of(tmp_path, [CANARY, BAD])))

    assert (told.state, told.coverage.seen, told.coverage.expected, told.reason) == ("complete", 2, 2, "")
    assert [(one.rule.id, one.where, one.fix) for one in told.findings] == [
        ("CVE-2026-1", "thing 1.0", "update thing to 1.5")
    ]
    assert told.data[0].as_of == "2026-11-23T00:00:00Z"


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([], "own has no advisories for PyPI"),
        ([record("X", ecosystem="npm", events=between("0 1.0.0"))], "own has no advisories for PyPI"),
        ([BAD], "own does not know that requests 2.19.0 or jinja2 2.10 or django 2.2 of PyPI is vulnerable"),
        ([{**CANARY, "withdrawn": "2026-01-01T00:00:00Z"}], "own does not know that requests 2.19.0"),
    ],
    ids=["empty", "of-another-ecosystem", "without-the-canary", "canary-withdrawn"],
)
def test_data_that_knows_nothing_proves_nothing(tmp_path: Path, records: list[object], why: str) -> None:
    """Nothing was looked at: unavailable, whatever was asked for."""
    told = scan([package("other")], LocalSource(path=index_of(tmp_path, records)))

    assert (told.state, told.coverage.seen) == ("unavailable", 0)
    assert why in told.reason


def test_data_for_another_release_of_a_distribution_proves_nothing(tmp_path: Path) -> None:
    """Debian 11's advisories say nothing of Debian 12."""
    records = [record("DSA-1", package="openssl", ecosystem="Debian:11", events=between("0 1.0"))]

    told = scan([package("bash", "5.2", "Debian:12")], LocalSource(path=index_of(tmp_path, records)))

    assert told.state == "unavailable"
    assert "does not know that openssl 0 or glibc 0 of Debian:12 is vulnerable" in told.reason


def test_the_users_own_canary_takes_the_place_of_ours(tmp_path: Path) -> None:
    """For data that knows a few packages only."""
    source = LocalSource(path=index_of(tmp_path, [BAD]), canaries={"PyPI": "thing 1.0"})

    assert scan([package("other")], source).state == "complete"


@pytest.mark.parametrize(
    ("modified", "released", "state"),
    [
        ("2026-11-20T00:00:00Z", "", "complete"),
        ("2024-10-10T17:22:00Z", "", "stale"),
        ("2024-10-10T17:22:00Z", "2025-05-01T00:00:00Z", "stale"),
        ("2026-11-20T00:00:00Z", "2026-11-22T08:00:00Z", "stale"),
        ("2026-11-20T00:00:00Z", "2026-11-19T08:00:00.123456789Z", "complete"),
        ("", "", "stale"),
        ("2099-01-01T00:00:00Z", "", "stale"),
    ],
    ids=[
        "fresh",
        "old",
        "older-than-the-release",
        "release-is-newer",
        "release-is-older",
        "undated",
        "future",
    ],
)
def test_old_data_is_no_pass(tmp_path: Path, modified: str, released: str, state: str) -> None:
    """Data of October 2024 says nothing of releases of May 2025; a date in the future is no date."""
    path = index_of(tmp_path, [{**CANARY, "modified": modified}])

    told = scan([package("other", released=released)], LocalSource(path=path, max_age_s=30 * DAY_S))

    assert told.state == state
    assert told.state == "complete" or told.reason != ""


def test_a_package_newer_than_the_data_is_unknown_and_says_so(tmp_path: Path) -> None:
    """Both dates are told."""
    path = index_of(tmp_path, [CANARY])

    told = scan([package("other", released="2026-11-22T08:00:00Z")], LocalSource(path=path))

    assert [one.why for one in told.coverage.missed] == [
        "it is newer than the data: released 2026-11-22, data as of 2026-11-20"
    ]


def test_a_second_source_judges_what_the_first_cannot(tmp_path: Path) -> None:
    """Old data beside new data does not make the whole stale."""
    old = LocalSource(path=index_of(tmp_path, [{**CANARY, "modified": "2024-01-01T00:00:00Z"}], "old"))
    new = LocalSource(path=index_of(tmp_path, [CANARY, BAD], "new"))

    told = scan([package(), package("other")], old, new)

    assert (told.state, len(told.findings), told.coverage.seen) == ("complete", 1, 2)


def test_partial_data_adds_findings_and_makes_nothing_clean(tmp_path: Path) -> None:
    """A folder of the user's own advisories needs no canary, and its silence says nothing."""
    source = LocalSource(path=index_of(tmp_path, [BAD]), is_partial=True)

    told = scan([package(), package("other")], source)

    assert (told.state, len(told.findings), told.coverage.seen) == ("incomplete", 1, 1)
    assert [one.why for one in told.coverage.missed] == ["no source for PyPI"]


UNKNOWN: list[tuple[Package, str]] = [
    (package("other", ""), "no version is fixed"),
    (package("other", "1.x"), "cannot read the version `1.x`: it is none of PyPI"),
    (package("other", "1.0", "Homebrew"), "own has no advisories for Homebrew"),
    (package("other", private="a git repository"), "it is private (a git repository)"),
    (package("odd"), "GHSA-odd cannot be judged: its version `1.x` does not parse"),
    (package("git"), "GHSA-git cannot be judged: it names git commits only"),
]


@pytest.mark.parametrize(("one", "why"), UNKNOWN)
def test_what_cannot_be_judged_is_unknown_with_its_reason(tmp_path: Path, one: Package, why: str) -> None:
    """Beside a package that could be judged: incomplete."""
    ranges: list[dict[str, Any]] = [{"type": "GIT", "events": [{"introduced": "0"}]}]
    records = [
        CANARY,
        record("GHSA-odd", package="odd", events=between("0 1.x")),
        record("GHSA-git", package="git", ranges=ranges),
    ]

    told = scan([package("clean"), one], LocalSource(path=index_of(tmp_path, records)))

    assert (told.state, told.coverage.seen, told.coverage.expected) == ("incomplete", 1, 2)
    assert why in told.coverage.missed[0].why


def test_a_listed_version_that_has_no_place_in_the_order_is_vulnerable_all_the_same(tmp_path: Path) -> None:
    """An old version of dates: whether ranges mean it cannot be said, a list that names it can be read."""
    old = record("GHSA-old", versions=["2004d"])
    unrelated = record("GHSA-other", events=between("0 1.0"))

    told = scan([package(version="2004d")], LocalSource(path=index_of(tmp_path, [CANARY, old, unrelated])))

    assert [(one.rule.id, one.place.version) for one in told.findings] == [("GHSA-old", "2004d")]  # type: ignore[union-attr]


def test_a_private_package_that_is_known_to_be_vulnerable_is_told(tmp_path: Path) -> None:
    """Only silence about it proves nothing."""
    told = scan([package(private="a git repository")], LocalSource(path=index_of(tmp_path, [CANARY, BAD])))

    assert (told.state, len(told.findings)) == ("complete", 1)


def test_records_that_cannot_be_read_leave_the_data_incomplete(tmp_path: Path) -> None:
    """They are counted, and the first is named."""
    records: list[object] = [CANARY, {"id": "X", "affected": 3}, BadAdvisory("y.json", "it is no table")]

    told = scan([package("other")], LocalSource(path=index_of(tmp_path, records)))

    assert told.state == "incomplete"
    assert "2 records could not be read; first: cannot read the advisory `X`" in told.reason


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "there is no such file"),
        (b"", "no such table"),
        (b"<html>", "not a database"),
        (b"SQLite format 3\0", ""),
    ],
    ids=["missing", "empty", "html", "cut-off"],
)
def test_a_broken_index_is_unavailable(tmp_path: Path, data: bytes | None, why: str) -> None:
    """It never raises, and never passes."""
    path = tmp_path / "own.idx"
    if data is not None:
        path.write_bytes(data)

    told = scan([package()], LocalSource(path=path))

    assert (told.state, told.coverage.seen) == ("unavailable", 0)
    assert why in told.reason


def test_an_index_that_is_cut_off_is_unavailable(tmp_path: Path) -> None:
    """Its head may still be whole."""
    records = [CANARY, *(record(f"X-{n}", package=f"p{n}", events=between("0 -")) for n in range(2000))]
    path = index_of(tmp_path, records)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    packages = [package(f"p{n}") for n in range(0, 2000, 50)]
    told = scan(packages, LocalSource(path=path))

    assert told.state == "unavailable"


def test_records_are_read_from_a_zip_a_folder_and_files_of_json_and_yaml(tmp_path: Path) -> None:
    """A tree of git is a folder: what is no advisory in it holds no record."""
    folder = tmp_path / "tree"
    (folder / "vulns/thing").mkdir(parents=True)
    (folder / ".github").mkdir()
    (folder / ".github/workflow.yaml").write_text("id: nothing")
    (folder / "LICENSE").write_text("words")
    (folder / "settings.yaml").write_text("false_positives: [a]")
    (folder / "vulns/thing/A-1.yaml").write_text("id: A-1\nmodified: '2026-01-01T00:00:00Z'\n")
    (folder / "vulns/thing/A-2.json").write_text(json.dumps({"id": "A-2"}))
    (folder / "vulns/thing/A-3.json").write_text("{")
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("A-1.json", json.dumps({"id": "A-1"}))
        file.writestr("readme.txt", "words")

    told = [one if isinstance(one, dict) else str(one) for one in read_records(folder)]

    assert [one["id"] for one in told if isinstance(one, dict)] == ["A-1", "A-2"]
    assert [one[:35] for one in told if isinstance(one, str)] == ["cannot read the advisory `A-3.json`"]
    assert list(read_records(archive)) == [{"id": "A-1"}]


def test_an_archive_that_is_cut_off_or_something_else_is_refused(tmp_path: Path) -> None:
    """A portal's page saved under the name, a truncated download, nothing at all."""
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as file:
        file.writestr("A-1.json", json.dumps({"id": "A-1"}))
    cut, page = tmp_path / "cut.zip", tmp_path / "page.zip"
    cut.write_bytes(whole.read_bytes()[:-30])
    page.write_bytes(b"<html></html>")

    for path in (cut, page, tmp_path / "none.zip"):
        with pytest.raises(BulkBroken):
            list(read_records(path))


def test_an_archive_with_a_record_of_no_end_is_not_unpacked(tmp_path: Path) -> None:
    """A bomb of zeros stays in the archive."""
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("A-1.json", b" " * (40 * 1024**2))

    assert [str(one) for one in read_records(path)] == [
        "cannot read the advisory `A-1.json`: it is too large"
    ]


def test_an_index_is_made_once_and_again_when_the_file_changed(tmp_path: Path) -> None:
    """It is named by what it was made of."""
    path, cache = tmp_path / "own.json", tmp_path / "cache"
    path.write_text(json.dumps([CANARY]))
    wanted = Wanted(name="own", address=str(path))
    first = cached_index(wanted, path, cache, NOW)
    made = first.stat().st_mtime_ns
    again = cached_index(wanted, path, cache, NOW)
    path.write_text(json.dumps([CANARY, BAD]))

    other = cached_index(wanted, path, cache, NOW)

    assert (again, again.stat().st_mtime_ns if again.exists() else made) == (first, made)
    assert other != first
    assert not first.exists()
    with Index(other) as index:
        assert index.contents.counts == {"PyPI": 2}


def test_a_file_without_advisories_is_refused(tmp_path: Path) -> None:
    """Rather than taken for one that knows no problem."""
    path = tmp_path / "own.json"
    path.write_text("[]")

    with pytest.raises(NothingFetched):
        cached_index(Wanted(name="own", address=str(path)), path, tmp_path / "cache", NOW)


def test_a_failed_build_leaves_the_index_that_was_there(tmp_path: Path) -> None:
    """It is replaced as a whole or not at all."""
    path = index_of(tmp_path, [CANARY])

    def records() -> Any:
        yield BAD
        raise BulkBroken("x", "it ends")

    with pytest.raises(BulkBroken):
        build_index(path, records(), SourceInfo(name="own"), now=NOW)

    with Index(path) as index:
        assert [one.id for one in index.about("PyPI", "django")] == ["GHSA-canary"]
    assert [one.name for one in tmp_path.iterdir()] == ["own.idx"]


def test_what_is_read_back_from_an_index_is_what_was_read_from_the_record(tmp_path: Path) -> None:
    """Every field that is kept."""
    table = record(
        "GHSA-1",
        ranges=[{"type": "ECOSYSTEM", "events": between("0 1.5", "2.0 =2.3")}],
        versions=["1.0.0", "1.1"],
        aliases=["CVE-1"],
        summary="It is\n bad",
        published="2026-01-01T00:00:00Z",
        severity=[{"type": "CVSS_V3", "score": "CVSS:3.1/x"}],
        references=[{"type": "WEB", "url": "https://a"}, {"type": "ADVISORY", "url": "https://b"}],
        database_specific={"severity": "HIGH", "cwe_ids": ["CWE-79", "x"]},
    )

    with Index(index_of(tmp_path, [table])) as index:
        told = index.about("PyPI", "thing")

    assert told == [parse_advisory(table)]
    assert (told[0].summary, told[0].url, told[0].cwe) == ("It is bad", "https://b", (79,))


@pytest.mark.parametrize(
    "table",
    [
        None,
        [],
        {},
        {"id": ""},
        {"id": 3},
        {"id": "X", "schema_version": "2.0.0"},
        {"id": "X", "affected": [3]},
    ],
)
def test_what_is_no_advisory_is_refused(table: object) -> None:
    """Another major version of the schema is one we cannot read."""
    with pytest.raises(BadAdvisory):
        parse_advisory(table)


def test_an_index_of_another_version_of_the_program_is_refused(tmp_path: Path) -> None:
    """It is made anew by who owns it."""
    import sqlite3

    path = index_of(tmp_path, [CANARY])
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = replace(value, '\"format\": 2', '\"format\": 1')")
    connection.commit()
    connection.close()

    with pytest.raises(IndexBroken, match="another version"):
        Index(path)
