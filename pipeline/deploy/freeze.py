"""Freezes: when nothing is deployed. Pure; rules of RFC 5545 are counted on the clock on the wall."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.config.delivery_policy import at_zone, find_zone

if TYPE_CHECKING:
    from pipeline.config.delivery_policy import FreezeRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A freeze that holds: since when and until when."""

    since: datetime
    until: datetime


def find_frozen(freeze: FreezeRules, now: float) -> Frozen | None:
    """Return the freeze that holds at `now` (seconds since 1970); its end is no more part of it."""
    zone = find_zone(freeze.tz) or UTC
    moment = datetime.fromtimestamp(now, UTC)
    begins = at_zone(freeze.from_, zone)
    if freeze.rule is None or freeze.lasts_s is None:
        ends = at_zone(freeze.to, zone) if freeze.to is not None else begins
        return Frozen(since=begins, until=ends) if begins <= moment < ends else None
    from dateutil.rrule import rrulestr

    since = rrulestr(freeze.rule, dtstart=begins).before(moment, inc=True)
    if since is None:
        return None
    # The length is of time that goes by, not of the clock on the wall, which is put back once a year.
    until = since.astimezone(UTC) + timedelta(seconds=freeze.lasts_s)
    return Frozen(since=since, until=until.astimezone(since.tzinfo)) if moment < until else None
