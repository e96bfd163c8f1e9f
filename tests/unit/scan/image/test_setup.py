"""Rules over how an image is set up, and over the end of its release."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.finding import InFile, InPackage
from pipeline.scan.image.endings import find_release, judge_release, why_no_date
from pipeline.scan.image.inventory import take_inventory
from pipeline.scan.image.setup import MOST_FILES, is_secret, judge_setup
from pipeline.scan.image.system import System
from tests.unit.scan.image.making import DEBIAN, STATUS, Node, folder, read, status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.scan.finding import Finding

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
DAY_S = 86400.0
SOUND: dict[str, Any] = {"User": "1000"}
PLANTED = "hunter2-planted"


def judge(
    files: Mapping[str, str | bytes | Node], config: Mapping[str, Any] = SOUND, **more: Any
) -> list[Finding]:
    """The findings about an image of one layer."""
    image = read(files, config=config, more=more)
    return judge_setup(
        image,
        take_inventory(image),
        name="app",
        dockerfile="Dockerfile",
        now=NOW,
        max_age_s=180 * DAY_S,
    )


def rules(findings: list[Finding]) -> list[tuple[str, str]]:
    """Each rule with the place it is told at."""
    return [(one.rule.id, one.place.path if isinstance(one.place, InFile) else "") for one in findings]


CONFIGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "sound": (SOUND, []),
    "no user": ({}, ["image-root-user"]),
    "root": ({"User": "root"}, ["image-root-user"]),
    "root by number and group": ({"User": "0:1000"}, ["image-root-user"]),
    "a user by name": ({"User": "nobody"}, []),
    "a port": ({**SOUND, "ExposedPorts": {"80/tcp": {}}}, ["image-no-healthcheck"]),
    "a port and a health check": (
        {**SOUND, "ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Test": ["CMD", "true"]}},
        [],
    ),
    "a port and a health check that is switched off": (
        {**SOUND, "ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Test": ["NONE"]}},
        ["image-no-healthcheck"],
    ),
    "a secret in a variable": ({**SOUND, "Env": [f"DB_PASSWORD={PLANTED}"]}, ["image-secret-env"]),
    "a secret in a label": ({**SOUND, "Labels": {"api.token": PLANTED}}, ["image-secret-label"]),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configuration_is_judged(name: str) -> None:
    """Told at the Dockerfile; values of what may be a secret are nowhere in the findings."""
    config, expected = CONFIGS[name]

    found = judge({"a": ""}, config)

    assert rules(found) == [(rule, "Dockerfile") for rule in expected]
    assert all(PLANTED not in str(one) for one in found)


def test_a_secret_in_a_build_step_is_told_by_its_name() -> None:
    """Once, though two steps tell it; one that is a variable as well is told as that."""
    steps = [
        {"created_by": f"RUN |1 NPM_TOKEN={PLANTED} /bin/sh -c npm ci # buildkit"},
        {"created_by": f"ARG NPM_TOKEN={PLANTED}"},
        {"created_by": "RUN export TOKEN=$(cat /run/secrets/t) PASSWORD_FILE=/run/x"},
        {"created_by": f"ENV API_KEY={PLANTED}"},
    ]

    found = judge({"a": ""}, {**SOUND, "Env": [f"API_KEY={PLANTED}"]}, history=steps)

    assert [rule for rule, _ in rules(found)] == ["image-secret-env", "image-secret-history"]
    assert found[1].message == "the history of the image tells the value of `NPM_TOKEN`"
    assert PLANTED not in str(found)


@pytest.mark.parametrize(
    "line",
    [
        *("GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D", "PYTHON_SHA256=0123456789abcdef"),
        *("PASSWORD_FILE=/run/secrets/db", "DB_PASSWORD=", "TOKEN_TTL=3600", "MAX_TOKENS=4096"),
        *("SECRET_NAME=db", "USE_TOKEN=true", "API_KEY=${API_KEY}", "API_KEY=<yours>", "KEYBOARD=us"),
        *("AUTH_TOKEN=/run/token", "PATH=/usr/bin"),
    ],
)
def test_what_is_no_secret_is_not_told(line: str) -> None:
    name, _, value = line.partition("=")

    assert not is_secret(name, value)


@pytest.mark.parametrize(
    "name",
    [
        "PASSWORD",
        "db_passwd",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "API-KEY",
        "SECRET_KEY",
        "oauth.token",
    ],
)
def test_names_that_promise_secrets(name: str) -> None:
    assert is_secret(name, PLANTED)


def test_files_with_unsafe_modes_are_told_where_no_package_brought_them() -> None:
    found = judge(
        {
            "etc/os-release": DEBIAN,
            STATUS: status(passwd="1"),
            "var/lib/dpkg/info/passwd.list": "/usr/bin/passwd\n",
            "usr/bin/passwd": Node(mode=0o4755),
            "opt/helper": Node(mode=0o4755),
            "srv/open": Node(mode=0o666),
            "srv/all": folder(0o777),
            "tmp": folder(0o1777),
        }
    )

    assert rules(found) == [
        ("image-setuid", "app!/opt/helper"),
        ("image-world-writable", "app!/srv/all"),
        ("image-world-writable", "app!/srv/open"),
    ]


def test_many_files_of_one_rule_are_counted() -> None:
    found = judge({f"srv/{number:03}": Node(mode=0o666) for number in range(50)})

    assert len(found) == MOST_FILES + 1
    assert found[-1].message.startswith("30 more files, such as `srv/020`")


def test_caches_are_told_from_one_mebibyte_on() -> None:
    big = b"x" * 2**20
    found = judge({"root/.cache/pip/http/a": big, "var/cache/apk/x": b"x", "srv/.cache/pip/a": big})

    assert [(one.rule.id, one.message) for one in found] == [("image-cache-left", "1 files of pip, 1.0 MiB")]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"created": "2026-10-01T00:00:00Z"}, []),
        ({"created": "2026-01-01T00:00:00Z"}, ["the base was made 327 days ago; 180 days are allowed"]),
        ({"created": "1970-01-01T00:00:00Z"}, []),
        ({"created": "hello"}, []),
        (
            {"created": "2026-11-20T00:00:00Z", "history": [{"created": "2025-01-01T00:00:00Z"}]},
            ["the base was made 692 days ago; 180 days are allowed"],
        ),
    ],
    ids=["new", "old", "without a time", "no time", "an old base"],
)
def test_an_old_base_is_told(more: dict[str, Any], expected: list[str]) -> None:
    """By the oldest step; images that are made the same each time do not say when they were made."""
    assert [one.message for one in judge({"a": ""}, **more)] == expected


def ending(system: System, day: str, trivy: str = "") -> list[tuple[str, str]]:
    """Rules and levels on a day."""
    found = judge_release(system, "app", "Debian:12", datetime.date.fromisoformat(day), trivy=trivy)
    assert all(isinstance(one.place, InPackage) and one.place.path == "app!/etc/os-release" for one in found)
    return [(one.rule.id, one.severity.level) for one in found]


BOOKWORM = System(id="debian", version="12", name="Debian GNU/Linux 12 (bookworm)")


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2026-01-01", []),
        ("2026-06-01", [("os-ends-soon", "low")]),
        ("2026-11-24", [("os-long-term-support", "low")]),
        ("2028-06-30", [("os-long-term-support", "low")]),
        ("2028-07-01", [("os-end-of-life", "high")]),
    ],
)
def test_the_end_of_a_release_is_told_by_the_day(day: str, expected: list[tuple[str, str]]) -> None:
    assert ending(BOOKWORM, day) == expected


def test_trivy_may_know_better_that_a_release_has_ended() -> None:
    """Also of a distribution that the table does not have."""
    rocky = System(id="rocky", version="8.5", name="Rocky Linux 8.5")

    assert ending(BOOKWORM, "2026-01-01", trivy="0.70") == []
    assert ending(rocky, "2026-01-01", trivy="0.70") == [("os-end-of-life", "high")]


@pytest.mark.parametrize(
    "system",
    [
        System(id="debian", version="12"),
        System(id="ubuntu", version="24.04"),
        System(id="alpine", version="3.19.1"),
        System(id="debian", version="10.13"),
    ],
    ids=lambda one: f"{one.id} {one.version}",
)
def test_the_table_says_where_its_dates_are_from(system: System) -> None:
    release = find_release(system)

    assert release is not None
    assert "" not in (release.data.name, release.data.as_of, release.data.licence)
    assert why_no_date(system) == ""


def test_a_release_that_the_table_does_not_have_is_told_as_not_known() -> None:
    """A rolling one has no end, and no distribution none either."""
    fedora = System(id="fedora", version="40", name="Fedora Linux 40")

    assert why_no_date(fedora) == "the table has no end of life of Fedora Linux 40"
    assert [why_no_date(one) for one in (System(), System(id="wolfi", version="1"), System(id="debian"))] == [
        "",
        "",
        "",
    ]
