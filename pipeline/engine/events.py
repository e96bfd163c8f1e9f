"""What the engine tells while it works; `connect` hands it to the stage that asked."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecEvent:
    """One thing that happened to an exec; `span_id` is the 16 hex digits of the asking span, or ""."""

    kind: Literal["started", "output", "finished", "cached"]
    exec_digest: Digest
    span_id: str = ""
    argv: tuple[str, ...] = ()
    stream: Literal["stdout", "stderr", ""] = ""
    text: str = ""  # scrubbed; of an output event
    exit_code: int | None = None
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEvent:
    """An image name was turned into content; `source` says where that came from.

    A `recipe` is a stand-in built from Debian packages, never the registry's image; `note` says more.
    """

    reference: str  # as asked for
    digest: Digest  # of what the name leads to, index or manifest; of the recipe's content for a stand-in
    source: Literal["registry", "store", "recipe"]
    span_id: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeEvent:
    """Something a person should know, in one sentence."""

    text: str
    span_id: str = ""


EngineEvent = ExecEvent | ImageEvent | NoticeEvent
Observer = Callable[[EngineEvent], None]

current_span: ContextVar[str] = ContextVar("current_span", default="")
"""The span id of the request being answered; set by the session, read where events are made."""
