"""How long advisories take: to index 100,000 records, to open the index, to judge 165 pins.

    python benchmarks/advisories.py [--data FOLDER_OR_ZIP] [--rounds 7]

Records are made up by a fixed seed, in the sizes of real ones, unless `--data` names some in the OSV schema.
Times are CPU seconds, the least of the rounds. The last table counts, for each order of versions, the answers
of the ecosystem's own tool, recorded in `tests/unit/scan/advisories/orders`, that we do not give.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.advisories.answer import SourceInfo
from pipeline.scan.advisories.bulk import read_records
from pipeline.scan.advisories.index import Index, build_index
from pipeline.scan.advisories.orders import order_of
from pipeline.scan.advisories.settle import scan_of, settle
from pipeline.scan.advisories.sources.local import LocalSource
from pipeline.scan.packages.package import Package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORDS: Final = 100_000
PACKAGES: Final = 25_000  # so that a package has 4 records, as in the public database
PINS: Final = 165
ORACLES: Final = Path(__file__).parent.parent / "tests/unit/scan/advisories/orders"
NAMES: Final = {
    "dpkg": "Debian",
    "rpm": "Red Hat",
    "apk": "Alpine",
    "npm": "npm",
    "go": "Go",
    "gem": "RubyGems",
    "php": "Packagist",
    "maven": "Maven",
}
BARS: Final = {"open": 1.0, "match": 0.050}


def made_up(count: int) -> Iterator[dict[str, Any]]:
    """Records with two ranges, a list of versions, aliases and some text."""
    chance = random.Random(20261124)  # noqa: S311 - the same records each time
    yield record("GHSA-0", "django", ["2.0", "2.1", "2.2"], "2.2.3", chance)
    for number in range(1, count):
        name = f"package-{chance.randrange(PACKAGES)}"
        major = chance.randrange(1, 9)
        versions = [f"{major}.{minor}.{patch}" for minor in range(6) for patch in range(chance.randrange(5))]
        yield record(f"GHSA-{number}", name, versions, f"{major}.6.{chance.randrange(9)}", chance)


def record(name: str, package: str, versions: list[str], fix: str, chance: random.Random) -> dict[str, Any]:
    """One record in the OSV schema."""
    first = [{"introduced": "0"}, {"fixed": f"0.{chance.randrange(9)}"}]
    second = [{"introduced": versions[0] if versions else "1.0"}, {"fixed": fix}]
    return {
        "id": name,
        "modified": "2026-11-24T00:00:00Z",
        "aliases": [f"CVE-2026-{name[5:]}"],
        "details": "Words about what goes wrong. " * 20,
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "references": [{"type": "WEB", "url": f"https://example.org/{name}/{one}"} for one in range(5)],
        "affected": [
            {
                "package": {"name": package, "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": first}, {"type": "ECOSYSTEM", "events": second}],
                "versions": versions,
            }
        ],
    }


def least(rounds: int, work: Callable[[], object]) -> float:
    """The least CPU seconds of some rounds."""
    times = []
    for _ in range(rounds):
        before = time.process_time()
        work()
        times.append(time.process_time() - before)
    return min(times)


def pins_of(index: Path, *, busiest: bool) -> list[Package]:
    """Pins of packages that have advisories: those with the most, or every so many."""
    import sqlite3

    connection = sqlite3.connect(index)
    order = "count(*) DESC" if busiest else "name"
    rows = connection.execute(f"SELECT name FROM records GROUP BY name ORDER BY {order}").fetchall()  # noqa: S608
    connection.close()
    chosen = rows[:PINS] if busiest else rows[:: max(1, len(rows) // PINS)][:PINS]
    return [Package(name=name, version="3.2.1", ecosystem="PyPI") for (name,) in chosen]


def times(data: Path | None, rounds: int) -> bool:
    """Print the times; whether they are within the bars."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "records.idx"
        before = time.process_time()
        records: Iterator[object] = made_up(RECORDS) if data is None else read_records(data)
        contents = build_index(index, records, SourceInfo(name="records"), now=now)
        built = time.process_time() - before
        count = sum(contents.counts.values())
        print(f"index {count} records, once            {built:7.2f} s   {index.stat().st_size / 1e6:.0f} MB")
        opened = least(rounds, lambda: Index(index).__exit__())
        bar = f"bar {BARS['open'] * 1000:.0f} ms"
        print(f"open it                                 {opened * 1000:7.2f} ms  {bar}")
        source = LocalSource(path=index)
        good = opened <= BARS["open"]
        for busiest in (False, True):
            pins = pins_of(index, busiest=busiest)
            took = least(rounds, lambda pins=pins: source.ask(pins, now))
            answers = [source.ask(pins, now)]
            found = len(scan_of(settle(pins, answers), answers).findings)
            whose = "that have the most advisories" if busiest else "spread over all"
            bar = "" if busiest else f"  bar {BARS['match'] * 1000:.0f} ms"
            print(f"{len(pins)} pins, {whose:<30}{took * 1000:7.2f} ms{bar}  ({found} findings)")
            good = good and (busiest or took <= BARS["match"])
    print(f"largest resident set {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return good


def orders() -> bool:
    """Print for each order how many recorded answers are not ours; whether there are none."""
    sign = {-1: "<", 0: "=", 1: ">"}
    wrong = 0
    for name, ecosystem in NAMES.items():
        order = order_of(ecosystem)
        rows = [line.split(" ") for line in (ORACLES / f"{name}.txt").read_text().splitlines()]
        if order is None:
            raise LookupError(ecosystem)
        bad = [
            row
            for row in rows
            if sign[(order(row[0]) > order(row[2])) - (order(row[0]) < order(row[2]))] != row[1]
        ]
        spent = least(3, lambda rows=rows, order=order: [order(text) for row in rows for text in row[::2]])
        each = spent / len(rows) / 2 * 1e6
        print(f"{ecosystem:<10} {len(rows)} pairs, {len(bad)} wrong, {each:5.1f} us a version")
        wrong += len(bad)
    return wrong == 0


def main() -> int:
    """Measure; the exit code is 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    in_time = times(options.data, options.rounds)
    return 0 if orders() and in_time else 1


if __name__ == "__main__":
    raise SystemExit(main())
