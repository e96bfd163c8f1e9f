"""Which releases an environment has had, how each came there and how that ended."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time when a record is read
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pipeline.deploy.outcome import Outcome
from pipeline.deploy.records import RecordUnreadable, read_record, write_record
from pipeline.deploy.release import Release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config.delivery import KeepSettings
    from pipeline.deploy.state import State

NAME: Final = "history.jsonl"
DAY_S: Final = 86400.0
Kind: TypeAlias = Literal["deploy", "promote", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One deployment. Written when it starts, with no outcome, and again when it has ended.

    Times are seconds since 1970. `old` and `new` are release ids.
    """

    deployment: str
    environment: str
    kind: Kind = "deploy"
    old: str = ""
    new: str
    images: Mapping[str, str] = field(default_factory=dict)  # service to digest
    commit: str = ""
    version: str = ""
    actor: str = ""
    run: str = ""
    plan: str = ""  # digest
    fence: int = 0
    started: float
    ended: float = 0.0
    outcome: Outcome | None = None
    reason: str = ""
    backup: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)  # by step


async def add_entry(state: State, entry: Entry) -> None:
    """Add an entry; one of the same deployment takes the place of the former."""
    await state.append(NAME, write_record(entry))


async def read_history(state: State) -> tuple[Entry, ...]:
    """Return the deployments, the oldest first.

    Raises:
        RecordUnreadable: A line other than one that was cut off is damaged.
    """
    data, _ = await state.read(NAME)
    found: dict[str, Entry] = {}
    lines = data.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = read_record(line, Entry, f"{NAME}:{number}")
        except RecordUnreadable:
            if line.endswith(b"}"):
                raise
            continue  # cut off by a kill
        found[entry.deployment] = entry
    return tuple(found.values())


def last_good(history: Sequence[Entry], *, other_than: str = "") -> str:
    """Return the id of the release that last came to stay, other than that one; "" without one."""
    good = [one.new for one in history if one.outcome is Outcome.SUCCEEDED and one.new != other_than]
    return good[-1] if good else ""


def kept_releases(history: Sequence[Entry], keep: KeepSettings, now: float) -> frozenset[str]:
    """Return the ids of releases that can be gone back to: so many, or so young, whichever is more."""
    good = [one for one in history if one.outcome is Outcome.SUCCEEDED]
    latest = list(dict.fromkeys(one.new for one in reversed(good)))[: keep.releases + 1]
    return frozenset(latest) | {one.new for one in good if now - one.ended < keep.days * DAY_S}


async def save_release(state: State, release: Release) -> None:
    """Keep all that a release is, so that it can be deployed again."""
    name = f"releases/{release.id}.json"
    data, version = await state.read(name)
    if not data:
        await state.write(name, write_record(release), version=version)


async def load_release(state: State, release_id: str) -> Release | None:
    """Return a release by its id; None where this environment never had it."""
    name = f"releases/{release_id}.json"
    data, _ = await state.read(name)
    return read_record(data, Release, name) if data else None
