"""Licences of Python packages as SPDX expressions, from the three places their metadata may tell them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST: Final = 100  # a longer `License` field is the licence's text and not its name
_CLASSIFIERS: Final[Mapping[str, str]] = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "LicenseRef-BSD",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License (GPL)": "LicenseRef-GPL",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Library or Lesser General Public License (LGPL)": "LicenseRef-LGPL",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Zope Public License": "ZPL-2.1",
    "zlib/libpng License": "Zlib",
}
_NAMES: Final[Mapping[str, str]] = {  # of the free `License` field, in lower case without punctuation
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2 0": "Apache-2.0",
    "apache license 2 0": "Apache-2.0",
    "apache license version 2 0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "LicenseRef-BSD",
    "bsd license": "LicenseRef-BSD",
    "bsd 2 clause": "BSD-2-Clause",
    "bsd 3 clause": "BSD-3-Clause",
    "bsd 3 clause license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "3 clause bsd license": "BSD-3-Clause",
    "gpl": "LicenseRef-GPL",
    "gplv2": "GPL-2.0-only",
    "gplv3": "GPL-3.0-only",
    "isc": "ISC",
    "lgpl": "LicenseRef-LGPL",
    "mit": "MIT",
    "mit license": "MIT",
    "the mit license": "MIT",
    "mpl 2 0": "MPL-2.0",
    "mozilla public license 2 0": "MPL-2.0",
    "psf": "PSF-2.0",
    "psf 2 0": "PSF-2.0",
    "psf license": "PSF-2.0",
    "unlicense": "Unlicense",
    "zpl 2 1": "ZPL-2.1",
}


def licence_of(expression: str, text: str, classifiers: Sequence[str]) -> str:
    """The licence as SPDX says it; a family without a version is a `LicenseRef-`; "" where nothing tells it.

    Args:
        expression: The field `License-Expression`, which goes first.
        text: The old free field `License`: a name, an expression, or the whole text.
        classifiers: Those that begin with `License ::`; several are offered as alternatives.
    """
    if expression.strip():
        return expression.strip()
    named = [known for one in classifiers if (known := _CLASSIFIERS.get(one.rpartition(" :: ")[2]))]
    exact = [one for one in named if not one.startswith("LicenseRef-")]
    from_text = _from_text(text)
    if from_text and not from_text.startswith("LicenseRef-"):
        return from_text
    return " OR ".join(dict.fromkeys(exact or named)) or from_text


def _from_text(text: str) -> str:
    line = text.strip()
    if not line or len(line) > LONGEST or "\n" in line:
        return ""
    plain = " ".join(re.findall(r"[a-z0-9]+", line.lower()))
    return _NAMES.get(plain) or _parsed(line)


def _parsed(line: str) -> str:
    """The line, if it is an SPDX expression."""
    from license_expression import ExpressionError, get_spdx_licensing

    try:
        found = get_spdx_licensing().parse(line, validate=True)
    except (ExpressionError, ValueError):
        return ""
    return "" if found is None else str(found)
