"""The bill of materials: valid, complete, and the same bytes for the same content."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pipeline.scan.packages.package import Package
from pipeline.scan.sbom import Part, bill_of_materials, key_of

JINJA = Package(name="Jinja2", version="3.1.6", ecosystem="PyPI", path="environment", licence="BSD-3-Clause")
SAFE = Package(name="MarkupSafe", version="3.0.4", ecosystem="PyPI", licence="MIT OR Apache-2.0")
LIBC = Package(
    name="libc6", version="2.36-9", ecosystem="Debian:12", architecture="amd64", layer="sha256:1", path="dpkg"
)
NEEDS = {"Jinja2": ("markupsafe", "babel")}
APP = Part(name="app", version="1.0", kind="application", packages=(JINJA, SAFE), requires=NEEDS)
IMAGE = Part(
    name="app-image",
    version="",
    kind="container",
    packages=(LIBC, replace(JINJA, name="jinja2", path="site-packages", layer="sha256:2", licence="")),
    digest="sha256:" + "a" * 64,
)


def bill(*parts: Part, **more: Any) -> Any:
    """The document, read back."""
    return json.loads(bill_of_materials("app", "1.0", parts, **more))


def components(*parts: Part) -> dict[str, Any]:
    """The components by reference."""
    return {one["bom-ref"]: one for one in bill(*parts)["components"]}


def test_it_is_valid_by_the_published_schema() -> None:
    text = bill_of_materials("app", "1.0", [APP, IMAGE])

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_the_same_content_gives_the_same_bytes_in_whatever_order_it_comes() -> None:
    """No time and no random number; the serial number is made of the content."""
    turned = Part(
        name="app", version="1.0", kind="application", packages=(SAFE, JINJA), requires=APP.requires
    )

    first, second = (
        bill_of_materials("app", "1.0", [APP, IMAGE]),
        bill_of_materials("app", "1.0", [turned, IMAGE]),
    )

    assert first == second
    assert json.loads(first)["serialNumber"] != bill(APP)["serialNumber"]
    assert "timestamp" not in json.loads(first)["metadata"]
    assert bill(APP, epoch_s=1000)["metadata"]["timestamp"] == "1970-01-01T00:16:40+00:00"


def test_a_package_of_the_application_and_the_image_is_one_component_with_both_places() -> None:
    found = components(APP, IMAGE)["pkg:pypi/jinja2@3.1.6"]

    places = [one["location"] for one in found["evidence"]["occurrences"]]
    assert places == ["app-image:site-packages", "app:environment"]
    assert found["properties"] == [{"name": "pipeline:layer", "value": "sha256:2"}]
    assert found["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]


def test_every_package_is_there_once_and_depended_on() -> None:
    document = bill(APP, IMAGE)

    refs = [one["bom-ref"] for one in document["components"]]
    assert sorted(refs) == sorted(
        [
            "application:app",
            "container:app-image",
            "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12",
            "pkg:pypi/jinja2@3.1.6",
            "pkg:pypi/markupsafe@3.0.4",
        ]
    )
    edges = {one["ref"]: sorted(one.get("dependsOn", ())) for one in document["dependencies"]}
    assert edges["product:app"] == ["application:app", "container:app-image"]
    assert edges["application:app"] == ["pkg:pypi/jinja2@3.1.6", "pkg:pypi/markupsafe@3.0.4"]
    assert edges["pkg:pypi/jinja2@3.1.6"] == ["pkg:pypi/markupsafe@3.0.4"]


def test_an_image_is_named_by_its_digest() -> None:
    image = components(IMAGE)["container:app-image"]

    assert image["purl"] == "pkg:oci/app-image@sha256:" + "a" * 64
    assert image["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]


@pytest.mark.parametrize(
    ("mine", "yours", "kept"),
    [
        pytest.param(("sha256:" + "1" * 64,), ("sha256:" + "1" * 64,), True, id="equal"),
        pytest.param(("sha256:" + "1" * 64,), ("sha256:" + "2" * 64,), False, id="different"),
        pytest.param(("sha256:" + "1" * 64, "sha256:" + "2" * 64), (), False, id="several-files"),
        pytest.param(("md5:" + "1" * 32,), (), False, id="weak"),
    ],
)
def test_a_hash_is_kept_where_all_tell_the_same(
    mine: tuple[str, ...], yours: tuple[str, ...], kept: bool
) -> None:
    packages = [
        Package(name="a", version="1", ecosystem="PyPI", path=path, hashes=hashes)
        for path, hashes in (("one", mine), ("two", yours))
    ]
    part = Part(name="app", version="1", kind="application", packages=tuple(packages))

    assert ("hashes" in components(part)["pkg:pypi/a@1"]) is kept


def test_what_says_where_a_package_came_from_does_not_make_it_another() -> None:
    assert key_of(LIBC) == "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12"
