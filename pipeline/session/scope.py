"""What a resolver may reach: the engine, and objects by their ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pipeline.engine.engine import Engine
    from pipeline.session.calls import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Handed to each resolver."""

    engine: Engine
    load: Callable[[str], Awaitable[Object]]
