"""The one complaint of all orders."""

from __future__ import annotations

from pipeline.errors import PipelineError


class BadVersion(PipelineError, ValueError):
    """Text that is no version in its ecosystem."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(f"cannot read the version `{text[:80]}`: it is none of {kind}")
        self.text = text
        self.kind = kind
