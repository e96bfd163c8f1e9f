"""What the adapters of audit tools share: they judged what they name, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.scan.advisories.answer import Match, SourceAnswer, SourceInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.advisories.answer import Key
    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import Ran


def json_of(ran: Ran) -> Any:
    """What a tool printed, as JSON; None where it is none: the exit code says nothing."""
    try:
        return json.loads(ran.stdout)
    except (ValueError, RecursionError):
        return None


def tool_answer(
    source: SourceInfo,
    packages: Sequence[Package],
    matches: Mapping[Key, tuple[Match, ...]],
    unknown: Mapping[Key, str],
    judged: frozenset[Key],
) -> SourceAnswer:
    """An answer in which every package the tool did not speak of is unknown."""
    silent = f"{source.name} did not speak of it"
    left = {one.key: unknown.get(one.key, silent) for one in packages if one.key not in judged}
    is_nothing = bool(left) and not judged
    return SourceAnswer(
        source=source,
        state="unavailable" if is_nothing else "incomplete" if left else "complete",
        reason=next(iter(left.values()), ""),
        matches={key: told for key, told in matches.items() if told},
        unknown=left,
        judged=judged,
    )
