"""YAML that others wrote: read fast, and never so deep that the reader breaks."""

from __future__ import annotations

import re
from typing import Any, Final

DEEPEST: Final = 500  # levels: the fast reader works by recursion in C, which crashes some way above 10,000
_MANY: Final = 5_000
_STEEP: Final = re.compile(r"^[ ]{2000}|(?:[-?] ){500}", re.MULTILINE)


def load_yaml(text: str) -> Any:
    """The one document of a text, as plain values.

    Raises:
        yaml.YAMLError: It is no YAML, holds what is no plain value, or is nested more than 500 levels deep.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if text.count("[") + text.count("{") > _MANY or _STEEP.search(text):
        _check_depth(text, loader)
    return yaml.load(text, loader)  # noqa: S506 - both loaders are safe ones


def _check_depth(text: str, loader: Any) -> None:
    """Go through the events, which takes no recursion."""
    import yaml

    depth = 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST} levels deep")
