"""What a resolver may reach: the engine, and objects by their ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pipeline.engine.engine import Engine
    from pipeline.engine.ops import PortForward
    from pipeline.session.calls import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Handed to each resolver."""

    engine: Engine
    load: Callable[[str], Awaitable[Object]]
    tunnels: dict[str, tuple[PortForward, ...]] = field(default_factory=dict)  # the open ones, by key
