"""What happened between two directories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.engine.files import Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Changeset:
    """Two directories, compared when something is asked."""

    before: Directory
    after: Directory
