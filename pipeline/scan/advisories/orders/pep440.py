"""The order of Python versions: PEP 440, by `packaging`."""

from __future__ import annotations

from functools import lru_cache

from packaging.version import InvalidVersion, Version

from pipeline.scan.advisories.orders.bad import BadVersion


@lru_cache(maxsize=16384)
def key(text: str) -> Version:
    """A version with its local part, which sorts after the same version without."""
    try:
        return Version(text)
    except (InvalidVersion, ValueError) as error:  # ValueError: thousands of digits
        raise BadVersion(text, "PyPI") from error
