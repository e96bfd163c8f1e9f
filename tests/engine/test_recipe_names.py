"""Which images have a stand-in, by their names alone, and what it says of itself."""

from __future__ import annotations

import re

import pytest

from pipeline.engine.recipes.recipe import find_recipe, why_no_recipe

FAMILIES = "recipes exist for the official debian, ubuntu, python, node, postgres and redis images alone"
UBUNTU_TODAY = "Ubuntu {} from its packages of today, not the registry's image"
TODAY = "Debian {} from its packages of today, not the registry's image"


@pytest.mark.parametrize(
    ("reference", "name", "suite", "note"),
    [
        ("debian:bookworm-slim", "debian bookworm", "bookworm", TODAY.format("bookworm")),
        ("docker.io/library/debian", "debian trixie", "trixie", TODAY.format("trixie")),
        ("debian:stable-slim", "debian trixie", "trixie", TODAY.format("trixie")),
        ("debian:11.9", "debian bullseye", "bullseye", TODAY.format("bullseye")),
        ("python:3.11-slim", "python 3.11", "bookworm", "python 3.11.2 from Debian bookworm"),
        ("python:3.13-slim", "python 3.13", "trixie", "python 3.13.5 from Debian trixie"),
        ("python:3.9", "python 3.9", "bullseye", "python 3.9.2 from Debian bullseye"),
        ("python:3-slim", "python 3.13", "trixie", "python 3.13.5 from Debian trixie"),
        ("python:slim-bookworm", "python 3.13", "trixie", "python 3.13.5 from Debian trixie"),
        ("debian:sid-slim", "debian sid", "sid", TODAY.format("sid")),
        ("debian:unstable", "debian sid", "sid", TODAY.format("sid")),
        ("debian:testing", "debian forky", "forky", TODAY.format("forky")),
        ("ubuntu", "ubuntu resolute", "resolute", UBUNTU_TODAY.format("resolute")),
        ("docker.io/library/ubuntu:24.04", "ubuntu noble", "noble", UBUNTU_TODAY.format("noble")),
        ("ubuntu:jammy", "ubuntu jammy", "jammy", UBUNTU_TODAY.format("jammy")),
        ("python:3.12", "python 3.12", "noble", "python 3.12.3 from Ubuntu noble"),
        ("python:3.14-slim", "python 3.14", "forky", "python 3.14.8 from Debian forky"),
        (
            "python:3.10.4-slim-bookworm", "python 3.10", "jammy",
            "python 3.10.12, not the 3.10.4 asked for, from Ubuntu jammy",
        ),
        (
            "python:3.8-slim", "python 3.9", "bullseye",
            "python 3.9.2, not the 3.8 asked for, from Debian bullseye",
        ),
        ("node:18-slim", "node 18", "bookworm", "node 18.20.4 from Debian bookworm"),
        ("node:16", "node 18", "bookworm", "node 18.20.4, not the 16 asked for, from Debian bookworm"),
        ("node:22", "node 22", "resolute", "node 22.22.1 from Ubuntu resolute"),
        ("node:23", "node 24", "forky", "node 24.21.0, not the 23 asked for, from Debian forky"),
        ("node:lts-slim", "node 20", "trixie", "node 20.19.2 from Debian trixie"),
        ("postgres", "postgres 17", "trixie", "postgres 17 from Debian trixie"),
        ("postgres:13", "postgres 13", "bullseye", "postgres 13 from Debian bullseye"),
        (
            "postgres:15.4", "postgres 15", "bookworm",
            "postgres 15, not the 15.4 asked for, from Debian bookworm",
        ),
        (
            "docker.io/library/postgres:16-alpine3.20", "postgres 17", "trixie",
            "postgres 17, not the 16 asked for, from Debian trixie, not Alpine",
        ),
        ("redis:alpine", "redis 8", "trixie", "redis 8 from Debian trixie, not Alpine"),
        ("redis:7-bookworm", "redis 7", "bookworm", "redis 7 from Debian bookworm"),
        ("redis:5", "redis 6", "bullseye", "redis 6, not the 5 asked for, from Debian bullseye"),
    ],
)  # fmt: skip
def test_an_official_image_has_a_stand_in_that_says_what_it_is(
    reference: str, name: str, suite: str, note: str
) -> None:
    """The next newer version serves where none is the one asked for, and the note says so."""
    recipe = find_recipe(reference)

    assert recipe is not None
    assert (recipe.name, recipe.suite, recipe.note) == (name, suite, note)
    assert why_no_recipe(reference) == ""


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("alpine:3.20", FAMILIES),
        ("ghcr.io/acme/python:3.11", FAMILIES),
        ("python:3.11-alpine", "recipes are Debian and Ubuntu, not alpine"),
        ("python:3.15-slim", "recipes know python 3.9, 3.10, 3.11, 3.12, 3.13 and 3.14, not 3.15"),
        ("python:2.7", "recipes know python 3.9, 3.10, 3.11, 3.12, 3.13 and 3.14, not 2.7"),
        ("node:26", "recipes know node 12, 18, 20, 22 and 24, not 26"),
        (
            "debian:buster",
            "recipes know the Debian releases trixie, bookworm, bullseye, forky and sid, not `buster`",
        ),
        ("ubuntu:20.04", "recipes know the Ubuntu releases resolute, noble and jammy, not `20.04`"),
        ("python:rc-slim", "no recipe knows the version `rc`"),
        ("postgres:18", "no Debian release can stand in for postgres 18 (the newest carries 17)"),
        ("redis:rc", "no recipe knows the version `rc`"),
        ("redis:7-windowsservercore", "recipes are Debian, not windows"),
        ("debian@sha256:" + "0" * 64, "it is pinned by digest, which only the registry's own image has"),
    ],
)
def test_an_image_without_a_stand_in_says_why(reference: str, reason: str) -> None:
    assert find_recipe(reference) is None
    assert why_no_recipe(reference) == reason


@pytest.mark.parametrize(
    ("reference", "has"),
    [
        ("python:3.12-slim-bookworm", True),
        ("python:3.12.1-bullseye", True),
        ("python:slim-bookworm", True),
        ("python:3.12-slim", False),
        ("python:3.12-slim-trixie", False),
    ],
)
def test_a_stand_in_of_another_release_has_adduser_where_the_one_asked_for_has_it(
    reference: str, has: bool
) -> None:
    """Debian's own images have it up to bookworm."""
    recipe = find_recipe(reference)

    assert recipe is not None
    assert ("adduser" in recipe.packages) is has


def test_a_stand_in_for_python_tells_its_version_as_the_official_image_does() -> None:
    recipe = find_recipe("python:3.13-slim")

    assert recipe is not None
    assert re.fullmatch(r"3\.13\.\d+", dict(recipe.env)["PYTHON_VERSION"])


def test_a_servers_image_exposes_its_port_and_begins_by_its_own_script() -> None:
    """So that a service of it is healthy when it takes connections."""
    postgres, redis = find_recipe("postgres:15"), find_recipe("redis:7")

    assert postgres is not None
    assert redis is not None
    told = [(one.entrypoint, one.cmd, one.ports, one.workdir) for one in (postgres, redis)]
    assert told == [
        (("docker-entrypoint.sh",), ("postgres",), ("5432/tcp",), ""),
        (("docker-entrypoint.sh",), ("redis-server",), ("6379/tcp",), "/data"),
    ]
    assert dict(postgres.env)["PATH"].startswith("/usr/lib/postgresql/15/bin:")
