"""Licences: what metadata means, and what a policy says to it."""

from __future__ import annotations

import pytest

from pipeline.scan.licence_policy import judge_licences
from pipeline.scan.packages.licences import licence_of
from pipeline.scan.packages.package import Package

OSI = "License :: OSI Approved :: "


@pytest.mark.parametrize(
    ("expression", "text", "classifiers", "licence"),
    [
        pytest.param(
            "MIT OR Apache-2.0", "BSD", [OSI + "BSD License"], "MIT OR Apache-2.0", id="expression-first"
        ),
        pytest.param("", "MIT", [], "MIT", id="name"),
        pytest.param("", "Apache License, Version 2.0", [], "Apache-2.0", id="long-name"),
        pytest.param("", "BSD-3-Clause", [OSI + "BSD License"], "BSD-3-Clause", id="text-more-exact"),
        pytest.param("", "BSD", [OSI + "MIT License"], "MIT", id="classifier-more-exact"),
        pytest.param("", "", [OSI + "BSD License"], "LicenseRef-BSD", id="family"),
        pytest.param(
            "",
            "",
            [OSI + "MIT License", OSI + "Apache Software License"],
            "MIT OR Apache-2.0",
            id="alternatives",
        ),
        pytest.param("", "MIT AND (ISC OR Zlib)", [], "MIT AND (ISC OR Zlib)", id="text-is-an-expression"),
        pytest.param("", "Permission is hereby granted\nfree of charge", [], "", id="whole-text"),
        pytest.param("", "see the file", ["License :: Other/Proprietary License"], "", id="unknown"),
        pytest.param("", "", [], "", id="nothing"),
    ],
)
def test_metadata_becomes_an_spdx_expression(
    expression: str, text: str, classifiers: list[str], licence: str
) -> None:
    assert licence_of(expression, text, classifiers) == licence


@pytest.mark.parametrize(
    ("licence", "allowed", "denied", "rule"),
    [
        pytest.param("MIT", (), (), None, id="no-policy"),
        pytest.param("GPL-3.0-only", (), ("GPL*",), "licence-denied", id="denied"),
        pytest.param("MIT OR GPL-3.0-only", (), ("GPL*",), None, id="an-alternative-is-good"),
        pytest.param("MIT AND GPL-3.0-only", (), ("GPL*",), "licence-denied", id="both-hold"),
        pytest.param("LGPL-3.0-only", (), ("GPL*",), None, id="other-name"),
        pytest.param("ISC", ("MIT", "BSD-*"), (), "licence-not-allowed", id="not-allowed"),
        pytest.param("BSD-3-Clause", ("MIT", "BSD-*"), (), None, id="allowed-by-pattern"),
        pytest.param("", (), (), "licence-unknown", id="unknown"),
        pytest.param("a licence of our own", (), ("GPL*",), None, id="no-expression"),
    ],
)
def test_the_policy_judges_what_an_expression_asks(
    licence: str, allowed: tuple[str, ...], denied: tuple[str, ...], rule: str | None
) -> None:
    package = Package(name="a", version="1", ecosystem="PyPI", licence=licence)

    found = judge_licences([package], allowed=allowed, denied=denied, version="1")

    assert [one.rule.id for one in found] == ([rule] if rule else [])


def test_an_unknown_licence_weighs_more_where_only_some_are_allowed() -> None:
    package = Package(name="a", version="1", ecosystem="PyPI")

    levels = [
        judge_licences([package], allowed=allowed, denied=(), version="1")[0].severity.level
        for allowed in ((), ("MIT",))
    ]

    assert levels == ["low", "medium"]


def test_the_teams_own_packages_are_not_judged() -> None:
    package = Package(name="a", version="1", ecosystem="PyPI", private="a folder")

    assert judge_licences([package], allowed=("MIT",), denied=(), version="1") == []
