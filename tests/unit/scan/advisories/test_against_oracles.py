"""Random advisories judged twice: by us, and by OSV's own steps over the ecosystem's own comparison.

The steps are those of the OSV schema, section "Evaluation"; versions are compared by `packaging`, by dpkg and
by the `semver` package that npm carries, of which the matching itself uses `packaging` alone.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
from functools import cmp_to_key
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version

from pipeline.scan.advisories.match import Installed, about, judge
from pipeline.scan.advisories.osv import parse_advisory
from tests.unit.scan.advisories.records import record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Compare = Callable[[str, str], int]

PYTHON = [
    "0.dev1",
    "0",
    "0.1",
    "1.0.dev1",
    "1.0a1.dev2",
    "1.0a1",
    "1.0a1.post1",
    "1.0b2",
    "1.0c1",
    "1.0rc10",
    "1.0rc9",
    "1.0",
    "1",
    "1.0.0",
    "v1.0",
    "1.0.post1.dev3",
    "1.0.post1",
    "1.0-2",
    "1.0.1",
    "1.9",
    "1.10",
    "2.0.dev0",
    "2.0-alpha",
    "2.0",
    "2024.11.24",
    "1!0.1",
    "1!1.0rc1",
    "1!1.0",
    "2!0",
]
DEBIAN = [
    "0~",
    "0",
    "0-0",
    "1.0~~",
    "1.0~~a",
    "1.0~",
    "1.0~rc1-1",
    "1.0",
    "1.0-0",
    "1.0-1~deb12u1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1+deb12u1",
    "1.0-1+deb12u10",
    "1.0-1+deb12u9",
    "1.0a-1",
    "1.0+dfsg-1",
    "1.0.1-1",
    "1.0-1a",
    "1.0-1.1",
    "1.10-1",
    "1.9-1",
    "1.09-1",
    "2.0-1-1",
    "0:1.0-1",
    "1:0.1-1",
    "1:0.1~beta-1",
    "1:1:0-1",
    "2:0",
    "1.0Z",
    "1.0.Z",
]
NODE = [
    "0.0.0-0",
    "0.0.0",
    "0.1.0",
    "1.0.0-0",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0-rc-1",
    "1.0.0--1",
    "1.0.0",
    "1.0.0+build",
    "1.0.0+other",
    "1.0.1-1a",
    "1.0.1-1",
    "1.9.0",
    "1.10.0",
    "2.0.0-0.3.7",
    "2.0.0-x.7.z.92",
    "2.0.0",
    "10.0.0",
    "999999999999.0.0",
]


def python_compare(left: str, right: str) -> int:
    """PEP 440 by its reference implementation."""
    return (Version(left) > Version(right)) - (Version(left) < Version(right))


def dpkg_compare() -> Compare:
    """`dpkg --compare-versions` over all pairs of the versions, asked as they come."""
    known: dict[tuple[str, str], int] = {}

    def says(left: str, sign: str, right: str) -> bool:
        return subprocess.run(["dpkg", "--compare-versions", left, sign, right], check=False).returncode == 0

    def compare(left: str, right: str) -> int:
        if (left, right) not in known:
            order = -1 if says(left, "lt", right) else int(says(left, "gt", right))
            known[left, right], known[right, left] = order, -order
        return known[left, right]

    return compare


def node_compare() -> Compare:
    """The `semver` package that npm carries, asked once for all pairs."""
    npm = shutil.which("npm")
    modules = Path(npm).resolve().parent.parent / "node_modules/semver" if npm else Path("/nowhere")
    if not modules.is_dir():
        pytest.skip("npm is not installed")
    program = (
        f"const s=require({json.dumps(str(modules))});const v=JSON.parse(process.argv[1]);"
        "console.log(JSON.stringify(v.map(a=>v.map(b=>s.compare(a,b)))))"
    )
    told = subprocess.run(["node", "-e", program, json.dumps(NODE)], check=True, capture_output=True).stdout
    table = json.loads(told)
    place = {version: at for at, version in enumerate(NODE)}
    return lambda left, right: int(table[place[left]][place[right]])


def is_affected(affected: dict[str, Any], version: str, compare: Compare) -> bool:
    """The schema's `IsVulnerable`, step by step."""
    if any(compare(version, one) == 0 for one in affected.get("versions", ())):
        return True
    return any(_in_range(one["events"], version, compare) for one in affected.get("ranges", ()))


def _in_range(events: Sequence[dict[str, str]], version: str, compare: Compare) -> bool:
    limits = [event["limit"] for event in events if "limit" in event]
    if limits and not any(limit == "*" or compare(version, limit) < 0 for limit in limits):
        return False

    def place(left: dict[str, str], right: dict[str, str]) -> int:
        (mine,), (other,) = left.values(), right.values()
        if "0" in (mine, other):
            return int(other == "0") - int(mine == "0")
        return compare(mine, other)

    vulnerable = False
    for event in sorted((one for one in events if "limit" not in one), key=cmp_to_key(place)):
        ((kind, told),) = event.items()
        at_least = told == "0" or compare(version, told) >= 0
        if kind == "introduced" and at_least:
            vulnerable = True
        elif (kind == "fixed" and at_least) or (kind == "last_affected" and compare(version, told) > 0):
            vulnerable = False
    return vulnerable


def random_affected(chance: random.Random, versions: Sequence[str], compare: Compare) -> dict[str, Any]:
    """Ranges with several intervals, open or closed by any kind of event, events shuffled, and a list."""
    named = [one for one in versions if one != "0"]
    told: dict[str, Any] = {"ranges": []}
    for _ in range(chance.randrange(3)):
        places = sorted(chance.sample(named, chance.randrange(1, 6)), key=cmp_to_key(compare))
        events = []
        for begin, end in itertools.zip_longest(places[::2], places[1::2]):
            events.append({"introduced": "0" if begin == places[0] and chance.random() < 0.5 else begin})
            if end is not None and (events[-1]["introduced"] == "0" or compare(begin, end)):
                events.append({chance.choice(["fixed", "last_affected"]): end})
        if chance.random() < 0.5 and len({one for event in events for one in event.values()}) == len(events):
            chance.shuffle(events)
        for _ in range(chance.choice([0, 0, 0, 1, 2])):
            events.append({"limit": chance.choice([*named, "*"])})
        told["ranges"].append({"type": "ECOSYSTEM", "events": events})
    told["versions"] = chance.sample(named, chance.randrange(3))
    return told


def disagreements(ecosystem: str, versions: Sequence[str], compare: Compare) -> list[object]:
    """What we judge otherwise, of 300 random advisories and every version."""
    chance = random.Random(ecosystem)  # noqa: S311 - the same advisories each time
    wrong: list[object] = []
    for _ in range(300):
        told = random_affected(chance, versions, compare)
        if not told["ranges"] and not told["versions"]:
            continue
        advisory = about(parse_advisory(record(ecosystem=ecosystem, **told)), ecosystem, "thing")
        for version in versions:
            verdict = judge(advisory, Installed(ecosystem, version))
            wanted = is_affected(told, version, compare)
            fix = verdict.fixed
            is_fix_good = not fix or (compare(version, fix) < 0 and not is_affected(told, fix, compare))
            if verdict.undecided or verdict.is_affected != wanted or not is_fix_good:
                wrong.append((told, version, verdict, wanted))
    return wrong


def test_python_versions_are_judged_as_the_schema_says() -> None:
    """Epochs, pre-, post- and development releases, several spellings of one version."""
    assert disagreements("PyPI", PYTHON, python_compare) == []


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is not installed")
def test_debian_versions_are_judged_as_the_schema_says() -> None:
    """Epochs, tildes, letters, colons and dashes inside, revisions of nothing."""
    assert disagreements("Debian:12", DEBIAN, dpkg_compare()) == []


def test_node_versions_are_judged_as_the_schema_says() -> None:
    """Pre-releases of every kind, build metadata and large numbers."""
    assert disagreements("npm", NODE, node_compare()) == []
