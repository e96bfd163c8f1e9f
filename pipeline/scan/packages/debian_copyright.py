"""Licences of Debian packages as SPDX expressions, from machine-readable copyright files (DEP-5)."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

from pipeline.scan.packages.dpkg import paragraphs

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST: Final = 1024**2  # bytes of one file that are read
MOST_LICENCES: Final = 200  # of one package
_FORMAT: Final = "copyright-format"  # in the address that the field `Format` names
_GNU: Final = re.compile(
    r"(?P<kind>[AL]?GPL|GFDL)[-_ ]?v?(?P<version>\d(?:\.\d)?)?(?:\.0)?(?P<later>\+|-or-later)?(?:-only)?"
)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.+_-]{0,60}", re.IGNORECASE)
_EXCEPTION: Final = re.compile(r"\s+with\s+.*$|[-_]with[-_].*$", re.IGNORECASE | re.DOTALL)
_NAMES: Final[Mapping[str, str]] = {  # names of Debian's, in lower case, that are not SPDX's
    "apache-2": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "artistic-1": "Artistic-1.0-Perl",
    "artistic-2": "Artistic-2.0",
    "boost-1.0": "BSL-1.0",
    "bsd": "LicenseRef-BSD",
    "bsd-2": "BSD-2-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd-4": "BSD-4-Clause",
    "cc0": "CC0-1.0",
    "expat": "MIT",
    "mit/x11": "MIT",
    "openldap-2.8": "OLDAP-2.8",
    "public-domain": "LicenseRef-public-domain",
    "unicode": "LicenseRef-Unicode",
}


def licence_of_copyright(text: str) -> str:
    """All licences that a copyright file names for the software; "" where it is not machine-readable.

    What only the packaging is under (`Files: debian/*`) is left out, and so are exceptions: `GPL-2+ with
    OpenSSL exception` counts as `GPL-2.0-or-later`.
    """
    known = list(paragraphs(text.replace("\r", "")))
    if not known or _FORMAT not in known[0].get("Format", ""):
        return ""
    stanzas = [one for one in known[1:] if "Files" in one]
    of_software = [one for one in stanzas if not _is_packaging(one["Files"])] or stanzas or known[:1]
    named = dict.fromkeys(one.get("License", "") for one in of_software)
    told = [_expression(one) for one in named if one]
    flat = {part for one in told for part in ([one] if " OR " in one else one.split(" AND "))}
    terms = sorted(flat)[:MOST_LICENCES]
    return terms[0] if len(terms) == 1 else " AND ".join(f"({one})" if " " in one else one for one in terms)


def _is_packaging(patterns: str) -> bool:
    words = patterns.replace(",", " ").split()
    return bool(words) and all(one.startswith("debian/") for one in words)


def _expression(synopsis: str) -> str:
    """A licence as DEP-5 writes it: `or` binds less than `and`, and both more than a comma."""
    groups = re.split(r"\s*,\s*(?:(and|or)\s+)?", synopsis)
    parts, words = groups[::2], {word for word in groups[1::2] if word}
    made = [_alternatives(one) for one in parts if one]
    if len(made) == 1:
        return made[0]
    joint = " OR " if words == {"or"} else " AND "
    return joint.join(f"({one})" if " " in one else one for one in dict.fromkeys(made))


def _alternatives(text: str) -> str:
    choices = [
        " AND ".join(dict.fromkeys(_licence(one) for one in re.split(r"[\s_]+and[\s_]+", choice)))
        for choice in re.split(r"[\s_]+or[\s_]+", text)
    ]
    unique = list(dict.fromkeys(choices))
    if len(unique) == 1:
        return unique[0]
    return " OR ".join(f"({one})" if " AND " in one else one for one in unique)


def _licence(name: str) -> str:
    """One name; what SPDX does not know is a `LicenseRef-`."""
    bare = _EXCEPTION.sub("", name.strip().strip("()")).strip()
    if (known := _NAMES.get(bare.lower())) is not None:
        return known
    if (gnu := _GNU.fullmatch(bare)) is not None:
        if not gnu["version"]:
            return f"LicenseRef-{gnu['kind']}"
        version = gnu["version"] if "." in gnu["version"] else f"{gnu['version']}.0"
        return f"{gnu['kind']}-{version}-{'or-later' if gnu['later'] else 'only'}"
    if (spdx := _spdx().get(bare.lower())) is not None:
        return spdx
    return (
        f"LicenseRef-{re.sub(r'[^A-Za-z0-9.-]+', '-', bare)}"
        if _NAME.fullmatch(bare)
        else "LicenseRef-unnamed"
    )


@functools.cache
def _spdx() -> Mapping[str, str]:
    """SPDX's own names, by themselves in lower case."""
    from license_expression import get_spdx_licensing

    return {name.lower(): name for name in get_spdx_licensing().known_symbols}
