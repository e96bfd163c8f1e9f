"""Stand-ins for database servers: which images have one, and what it is made of."""

from __future__ import annotations

import pytest

from pipeline.engine.recipes.recipe import find_recipe, why_no_recipe


@pytest.mark.parametrize(
    ("reference", "name", "suite", "note"),
    [
        ("postgres", "postgres 17", "trixie", "postgres 17 from Debian trixie"),
        ("postgres:13", "postgres 13", "bullseye", "postgres 13 from Debian bullseye"),
        (
            "postgres:15.4",
            "postgres 15",
            "bookworm",
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
def test_a_server_has_a_stand_in_whatever_its_image_is_built_on(
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
        ("postgres:18", "no Debian release can stand in for postgres 18 (the newest carries 17)"),
        ("redis:rc", "no recipe knows the version `rc`"),
        ("redis:7-windowsservercore", "recipes are Debian, not windows"),
    ],
)
def test_a_server_without_a_stand_in_says_why(reference: str, reason: str) -> None:
    assert find_recipe(reference) is None
    assert why_no_recipe(reference) == reason


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
