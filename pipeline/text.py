"""Text that came from tools, made fit for people's terminals."""

from __future__ import annotations

import re
from typing import Final

# Colours, cursor movements, titles: a stage's output must not steer the reader's terminal.
_ESCAPES: Final = re.compile(
    r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def clean(text: str) -> str:
    """`text` without what would steer a terminal; tabs and line ends stay."""
    return _ESCAPES.sub("", text.replace("\r\n", "\n"))
