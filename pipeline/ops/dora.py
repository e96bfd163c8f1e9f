"""The four keys of delivery (https://dora.dev), from the history of one environment: pure.

How often, how long from commit to live, how many changes fail, how long until a failure is over. What each is
made of is told with it; what cannot be known is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DAY_S: Final = 86400.0
HOUR_S: Final = 3600.0
Level: TypeAlias = Literal["elite", "high", "medium", "low", "unknown"]


class Recorded(Protocol):
    """A deployment as the environment's history has it, see `deploy.history.Entry`."""

    @property
    def deployment(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def old(self) -> str: ...
    @property
    def new(self) -> str: ...
    @property
    def commit(self) -> str: ...
    @property
    def started(self) -> float: ...
    @property
    def ended(self) -> float: ...
    @property
    def outcome(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One deployment that ended. Times are seconds since 1970; `committed` is 0 where it is not known.

    `ended` is when it was live, or, where it `failed` and undid itself, when that was over. `restores` is the
    deployment that a rollback by hand took away.
    """

    deployment: str
    release: str
    started: float
    ended: float
    committed: float = 0.0
    failed: bool = False
    restores: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something that was wrong in the environment; `ended` is 0 while it lasts."""

    began: float
    ended: float = 0.0
    deployment: str = ""  # that brought it, "" where none is known to have


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The four keys over `days`.

    Args:
        deployments: Changes that came to stay, or did so until they were taken away.
        days_a_week: Median over the whole weeks of the window of days with at least one.
        lead_time_s: Median from commit to live, of `with_commit` changes.
        failure_rate: Share of all changes that were undone, or brought an incident; 0 to 1.
        restore_s: Median, of `restored` failures, until the change was undone or the incident was over.
    """

    days: int
    deployments: int
    failed: int
    days_a_week: float | None
    lead_time_s: float | None
    with_commit: int
    failure_rate: float | None
    restore_s: float | None
    restored: int


def changes_of(history: Sequence[Recorded], committed: Mapping[str, float]) -> tuple[Change, ...]:
    """Return what of a history was a change, the oldest first: not what was refused, or changed nothing.

    Args:
        committed: When each commit was made, where that is known.
    """
    found: list[Change] = []
    brought: dict[str, str] = {}  # release to the deployment that last brought it
    for one in history:
        stayed = one.outcome == "succeeded"
        if not stayed and (one.outcome not in ("rolled back", "rollback failed") or one.kind == "rollback"):
            continue
        change = Change(
            deployment=one.deployment,
            release=one.new,
            started=one.started,
            ended=one.ended,
            committed=committed.get(one.commit, 0.0),
            failed=not stayed,
            restores=brought.get(one.old, "") if one.kind == "rollback" else "",
        )
        found.append(change)
        if stayed and one.kind != "rollback":
            brought[one.new] = one.deployment
    return tuple(found)


def four_keys(
    changes: Sequence[Change], *, until: float, days: int = 90, incidents: Sequence[Incident] = ()
) -> Keys:
    """Work out the keys of the `days` before `until`.

    A rollback by hand is no change: it says that the one it took away has failed.
    """
    since = until - days * DAY_S
    taken_away = {one.restores: one.ended for one in changes if one.restores}
    own = [one for one in changes if since < one.ended <= until and not one.restores]
    blamed = {one.deployment for one in incidents if one.deployment}
    bad = [one for one in own if one.failed or one.deployment in taken_away or one.deployment in blamed]
    good = [one for one in own if not one.failed]
    leads = [one.ended - one.committed for one in good if 0 < one.committed <= one.ended]
    alone = [one for one in own if one.deployment not in blamed]
    restores = [*_undone(alone, taken_away, until), *_solved(incidents, since, until)]
    return Keys(
        days=days,
        deployments=len(good),
        failed=len(bad),
        days_a_week=_days_a_week([one.ended for one in good], until, days),
        lead_time_s=median(leads) if leads else None,
        with_commit=len(leads),
        failure_rate=len(bad) / len(own) if own else None,
        restore_s=median(restores) if restores else None,
        restored=len(restores),
    )


def _undone(own: Sequence[Change], taken_away: dict[str, float], until: float) -> list[float]:
    """How long each bad change was there; one that undid itself counts from its start."""
    times = []
    for one in own:
        if one.failed:
            times.append(one.ended - one.started)
        elif one.deployment in taken_away and taken_away[one.deployment] <= until:
            times.append(taken_away[one.deployment] - one.ended)
    return times


def _solved(incidents: Sequence[Incident], since: float, until: float) -> list[float]:
    return [one.ended - one.began for one in incidents if one.ended and since < one.ended <= until]


def _days_a_week(moments: Sequence[float], until: float, days: int) -> float | None:
    """Median over the window's whole weeks, counted back from its end, in days of UTC."""
    weeks = days // 7
    if weeks == 0:
        return None
    last = datetime.fromtimestamp(until, UTC).date()
    live = {datetime.fromtimestamp(at, UTC).date() for at in moments}
    counts = [sum(last - timedelta(days=7 * week + day) in live for day in range(7)) for week in range(weeks)]
    return float(median(counts))


def frequency_level(keys: Keys) -> Level:
    """Elite: most days; high: once a week or more; medium: once a month or more."""
    if keys.days_a_week is None:
        return "unknown"
    if keys.days_a_week >= 3:
        return "elite"
    if keys.days_a_week >= 1:
        return "high"
    return "medium" if keys.deployments >= keys.days / 30 else "low"


def lead_level(keys: Keys) -> Level:
    """Elite: within a day; high: a week; medium: a month."""
    return _level(keys.lead_time_s, (DAY_S, 7 * DAY_S, 30 * DAY_S))


def failure_level(keys: Keys) -> Level:
    """Elite: up to 5 % of the changes; high: 10 %; medium: 15 %."""
    return _level(keys.failure_rate, (0.05, 0.10, 0.15))


def restore_level(keys: Keys) -> Level:
    """Elite: within an hour; high: a day; medium: a week."""
    return _level(keys.restore_s, (HOUR_S, DAY_S, 7 * DAY_S))


def _level(value: float | None, limits: tuple[float, float, float]) -> Level:
    if value is None:
        return "unknown"
    names: tuple[Level, ...] = ("elite", "high", "medium")
    return next((name for name, limit in zip(names, limits, strict=True) if value <= limit), "low")
