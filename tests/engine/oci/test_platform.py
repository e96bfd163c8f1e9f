"""Platform names have one normal form, and the best offer is chosen."""

from __future__ import annotations

import pytest

from pipeline.engine.oci.platform import InvalidPlatform, find_best, host_platform, normalise_platform

_OWN_ARCH = host_platform().partition("/")[2]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/i386", "linux/386"),
        ("linux/arm", "linux/arm"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("Linux/AMD64", "linux/amd64"),
        ("macos/arm64", "darwin/arm64"),
        ("linux", f"linux/{_OWN_ARCH}"),
        ("aarch64", "linux/arm64"),
    ],
)
def test_names_are_normalised(text: str, normal: str) -> None:
    """Every usual spelling leads to the one that images use."""
    assert normalise_platform(text) == normal


@pytest.mark.parametrize("text", ["", "linux/", "a/b/c/d", "linux/am d64", "nonsense"])
def test_what_names_no_platform_is_refused(text: str) -> None:
    """The error shows the text and how to write one."""
    with pytest.raises(InvalidPlatform) as caught:
        normalise_platform(text)

    assert caught.value.text == text
    assert caught.value.hint == "write it as os/arch or os/arch/variant, for example linux/amd64"


@pytest.mark.parametrize(
    ("wanted", "offered", "best"),
    [
        pytest.param("linux/amd64", ["linux/arm64", "linux/amd64"], 1, id="the-same"),
        pytest.param("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], 1, id="newest-older"),
        pytest.param("linux/arm", ["linux/arm/v6", "linux/arm/v7"], 1, id="bare-arm-is-v7"),
        pytest.param("linux/arm64", ["linux/arm64/v8"], 0, id="implied-variant"),
        pytest.param("linux/amd64", ["linux/amd64/v2", "linux/386"], None, id="nothing-suits"),
        pytest.param("linux/amd64", [], None, id="nothing-offered"),
    ],
)
def test_the_best_offer_is_found(wanted: str, offered: list[str], best: int | None) -> None:
    """The same variant first, then the newest that the processor still runs."""
    assert find_best(wanted, offered) == best
