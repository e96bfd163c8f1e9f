"""What the engine adds to every exec and no key knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Declared network settings of the host: never in an image, never in a key.

    `env` never overrides what the exec sets; `binds` maps targets to host paths, read-only; `secrets`
    are texts that no output may show.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    binds: Mapping[str, Path] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
