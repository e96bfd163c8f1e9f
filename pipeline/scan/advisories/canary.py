"""Packages that are known to be vulnerable: a source that does not know them knows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.scan.advisories.names import base_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# Any one of an ecosystem's has to be found; those with few advisories first, which are quickly read.
CANARIES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "PyPI": (("requests", "2.19.0"), ("jinja2", "2.10"), ("django", "2.2")),
    "npm": (("lodash", "4.17.4"), ("minimist", "1.2.0")),
    "Go": (("golang.org/x/text", "v0.3.0"), ("golang.org/x/net", "v0.1.0")),
    "crates.io": (("time", "0.1.42"), ("openssl", "0.10.0")),
    "RubyGems": (("rack", "2.0.1"), ("nokogiri", "1.8.0")),
    "Packagist": (("symfony/http-kernel", "4.0.0"), ("guzzlehttp/psr7", "1.8.0")),
    "Maven": (("org.apache.logging.log4j:log4j-core", "2.14.1"),),
    "NuGet": (("Newtonsoft.Json", "12.0.1"),),
    "Hex": (("plug", "1.0.0"),),
    "Pub": (("http", "0.13.0"),),
    "GitHub Actions": (("tj-actions/changed-files", "40.0.0"),),
    **dict.fromkeys(("Debian", "Ubuntu"), (("openssl", "0"), ("glibc", "0"))),
    **dict.fromkeys(("Alpine", "Wolfi", "Chainguard"), (("openssl", "0-r0"), ("busybox", "0-r0"))),
    **dict.fromkeys(("Red Hat", "Rocky Linux", "AlmaLinux"), (("openssl", "0:0-0"), ("kernel", "0:0-0"))),
    **dict.fromkeys(("SUSE", "openSUSE"), (("openssl", "0:0-0"), ("kernel-default", "0:0-0"))),
}


def canaries_of(ecosystem: str, own: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The canaries of an ecosystem: those of the settings, "name version" by ecosystem, else ours."""
    told = own.get(ecosystem) or own.get(base_of(ecosystem))
    if told:
        name, _, version = told.partition(" ")
        return ((name, version.strip()),)
    return CANARIES.get(base_of(ecosystem), ())
