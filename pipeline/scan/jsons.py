"""JSON for other programs: UTF-8 whatever names of files and words of tools hold."""

from __future__ import annotations

import json
import re
from typing import Final

# Half of a pair: what a name of a file that is no UTF-8 is read as. No encoding of text has it.
_HALVES: Final = re.compile("[\ud800-\udfff]")
UNREADABLE: Final = "\ufffd"


def json_text(value: object, *, is_exact: bool = False) -> str:
    """A value as JSON that can be written as UTF-8, with a line end.

    Args:
        is_exact: On one line, and halves of surrogate pairs are escaped, so that Python reads back the same;
            else they become the sign for what cannot be read, as readers in other languages want it.
    """
    text = json.dumps(value, ensure_ascii=False, indent=None if is_exact else 1)
    if not text.isascii() and _HALVES.search(text):
        text = json.dumps(value) if is_exact else _HALVES.sub(UNREADABLE, text)
    return text + "\n"


def uri_path(path: str) -> str:
    """A path as a relative URI: the bytes of its name, whatever they are."""
    from urllib.parse import quote

    try:
        data = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a pair that stands for no byte
        data = _HALVES.sub(UNREADABLE, path).encode()
    return quote(data, safe="/~")
