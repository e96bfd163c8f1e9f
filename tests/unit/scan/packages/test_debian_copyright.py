"""What licences a Debian package has, by its copyright file."""

from __future__ import annotations

from typing import Final

import pytest

from pipeline.scan.packages.debian_copyright import licence_of_copyright

FORMAT: Final = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"


def files(licence: str, patterns: str = "*") -> str:
    """A stanza for files, with a text as it follows the name."""
    return f"Files: {patterns}\nCopyright: 2020 Somebody\nLicense: {licence}\n Its text: is not read.\n\n"


@pytest.mark.parametrize(
    ("synopsis", "expression"),
    [
        pytest.param("Expat", "MIT", id="debians-name"),
        pytest.param("GPL-2+", "GPL-2.0-or-later", id="or-later"),
        pytest.param("GPLv3", "GPL-3.0-only", id="only"),
        pytest.param("LGPL-2.1+", "LGPL-2.1-or-later", id="lesser"),
        pytest.param("GPL-2.0-or-later", "GPL-2.0-or-later", id="spdx"),
        pytest.param("bsd-3-clause", "BSD-3-Clause", id="other-case"),
        pytest.param("GPL-1+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0-Perl", id="alternatives"),
        pytest.param("BSD-3-clause and ISC", "BSD-3-Clause AND ISC", id="both"),
        pytest.param(
            "GPL-2+ or Artistic-2.0, and BSD-3-clause",
            "(GPL-2.0-or-later OR Artistic-2.0) AND BSD-3-Clause",
            id="a-comma-binds-least",
        ),
        pytest.param("MIT and ISC or Zlib", "(MIT AND ISC) OR Zlib", id="and-binds-more"),
        pytest.param("LGPLv3+_or_GPLv2+", "LGPL-3.0-or-later OR GPL-2.0-or-later", id="underscores"),
        pytest.param("GPL-2+ with OpenSSL exception", "GPL-2.0-or-later", id="exception"),
        pytest.param("GPL", "LicenseRef-GPL", id="family"),
        pytest.param("our own_1", "LicenseRef-unnamed", id="sentence"),
        pytest.param("TinySCHEME", "LicenseRef-TinySCHEME", id="unknown"),
    ],
)
def test_a_synopsis_becomes_an_spdx_expression(synopsis: str, expression: str) -> None:
    assert licence_of_copyright(FORMAT + files(synopsis)) == expression


def test_all_licences_of_the_software_count_and_the_packagings_own_does_not() -> None:
    text = FORMAT + files("Zlib") + files("MIT or GPL-2+", "contrib/*") + files("GPL-3+", "debian/*")

    assert licence_of_copyright(text) == "(MIT OR GPL-2.0-or-later) AND Zlib"


def test_where_only_the_packaging_is_told_that_counts() -> None:
    """As in packages that Debian itself is the author of."""
    assert licence_of_copyright(FORMAT + files("GPL-3+", "debian/*")) == "GPL-3.0-or-later"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "This is free software.\nLicense: MIT\n",
        "Format: 1\n\n" + files("MIT"),
        FORMAT,
        "\x00\ufffd: \n:\n",
    ],
    ids=["empty", "prose", "another-format", "no-licence", "garbage"],
)
def test_what_is_not_machine_readable_names_no_licence(text: str) -> None:
    assert licence_of_copyright(text) == ""
