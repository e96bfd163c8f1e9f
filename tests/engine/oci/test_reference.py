"""Image references are read as Docker reads them."""

from __future__ import annotations

import pytest

from pipeline.engine.oci.reference import InvalidReference, canonical_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20"),
        ("user/app", "docker.io/user/app:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}"),
        (f"r.example:5000/a:b@{DIGEST}", f"r.example:5000/a:b@{DIGEST}"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("a__b/c-d.e", "docker.io/a__b/c-d.e:latest"),
    ],
)
def test_defaults_are_filled_in(text: str, canonical: str) -> None:
    """The canonical text is read as itself."""
    assert canonical_reference(text) == canonical
    assert canonical_reference(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "it has no name"),
        ("Alpine", "`Alpine` has capital letters"),
        ("a//b", "a part of its name is empty"),
        ("a:b:c", "`a:b` is no name"),
        ("a:-x", "`-x` is no tag"),
        ("a@sha256:12", "`sha256:12` is no sha256 digest"),
        ("../../etc", "`..` is no registry host"),
        ("a/../b", "`..` is no name"),
        ("https://r.example/a", "it is an address with a scheme"),
        ("bad_host:5000/a", "`bad_host:5000` is no registry host"),
        ("a" * 256, "its name is longer than 255 characters"),
    ],
)
def test_what_is_no_reference_is_refused(text: str, what: str) -> None:
    """The error shows the text and the part that is wrong."""
    with pytest.raises(InvalidReference) as caught:
        canonical_reference(text)

    assert str(caught.value) == f"cannot read image reference `{text}`: {what}"
