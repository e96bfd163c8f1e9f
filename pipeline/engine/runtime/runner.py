"""Choose what runs containers on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.engine.runtime.spec import Runner


def find_runner(preferred: str | None = None) -> Runner:
    """Return the first runner that works: `launcher`, then `runc`; or just the preferred one.

    Raises:
        NoRunner: None works; says why for each.
    """
    raise NotImplementedError
