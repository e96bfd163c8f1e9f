"""Promotion: an environment takes what another one has proved. The histories say which release that is.

What is compared are images, not release ids: the same images run with other settings elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time when a record is read
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pipeline.deploy.outcome import Outcome
from pipeline.errors import RefusedByPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.deploy.history import Entry

UNSETTLED: Final = {
    None: "a deployment there is not over",
    Outcome.WAITING: "a deployment there waits for somebody's word",
    Outcome.INTERRUPTED: "a deployment there was interrupted",
    Outcome.ROLLBACK_FAILED: "a rollback there failed",
}
HOUR_S: Final = 3600.0


class NothingToPromote(RefusedByPolicy):
    """The environment that should have proved a release has none that came to stay."""

    def __init__(self, source: str, what: str) -> None:
        super().__init__(f"cannot promote from `{source}`: {what}")
        self.hint = f"`pipeline history {source}` shows what it has had"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What environment `source` says about a release. `proved` is when it last came to stay there.

    `problems` maps the rule to why the release may not go on.
    """

    source: str
    release: str = ""  # its id there
    images: Mapping[str, str]  # by service
    proved: float = 0.0  # seconds since 1970
    problems: Mapping[str, str]


def choose_release(source: str, history: Sequence[Entry], asked: str = "") -> Entry:
    """Return the history's entry of the release to promote: the one that runs there, or the one asked for.

    Args:
        asked: Its release id, version or commit (the beginning of it will do); "" is what runs there.

    Raises:
        NothingToPromote: It never came to stay there.
    """
    good = [one for one in history if one.outcome is Outcome.SUCCEEDED]
    if not good:
        raise NothingToPromote(source, "no release has come to stay there")
    if not asked:
        return good[-1]
    found = [one for one in good if asked in (one.new, one.version)]
    found = found or [one for one in good if len(asked) >= 7 and one.commit.startswith(asked)]
    if not found:
        raise NothingToPromote(source, f"`{asked}` has not come to stay there")
    if len({one.commit for one in found}) > 1:
        raise NothingToPromote(source, f"`{asked}` may be one of several")
    return found[-1]


def judge_promotion(
    source: str,
    history: Sequence[Entry],
    images: Mapping[str, str],
    *,
    runs: Mapping[str, str] | None = None,
    contains: bool | None = None,
    max_age_s: float,
    now: float,
) -> Promotion:
    """Say whether `source` has proved images, and whether they are newer than what runs where they go.

    Args:
        history: That of `source`, the oldest first.
        images: Digests that have to be proved, by service.
        runs: The images that run where they go; None: nothing does.
        contains: Git says that what runs there is made of later commits, which hold those of these images;
            None: that is not known.
        max_age_s: How long ago they may have been proved.
    """
    problems: dict[str, str] = {}
    tries = [one for one in history if proves(one.images, images)]
    good = [one for one in tries if one.outcome is Outcome.SUCCEEDED]
    bad = _why_not_green(source, history, tries, good)
    if bad:
        problems["green"] = bad
    if good and now - good[-1].ended > max_age_s:
        hours, limit = (now - good[-1].ended) / HOUR_S, max_age_s / HOUR_S
        problems["expired"] = f"`{source}` proved it {hours:.0f} h ago, and that counts for {limit:.0f} h"
    if good and _is_older(history, good[0], images, runs, contains):
        problems["older"] = f"what runs there is newer than what `{source}` would give (`--allow-older`)"
    return Promotion(
        source=source,
        release=good[-1].new if good else "",
        images=images,
        proved=good[-1].ended if good else 0.0,
        problems=problems,
    )


def allow_older(promotion: Promotion) -> Promotion:
    """Return the promotion without the complaint that something newer runs."""
    return replace(promotion, problems={k: v for k, v in promotion.problems.items() if k != "older"})


def proves(ran: Mapping[str, str], images: Mapping[str, str]) -> bool:
    """Whether each of `images` ran there: as the same service, or as any where there is none of that name."""
    somewhere = set(ran.values())
    return bool(images) and all(
        ran[name] == digest if name in ran else digest in somewhere for name, digest in images.items()
    )


def _why_not_green(
    source: str, history: Sequence[Entry], tries: Sequence[Entry], good: Sequence[Entry]
) -> str:
    changing = [one for one in history if one.outcome not in (Outcome.REFUSED, Outcome.ALREADY)]
    if changing and changing[-1].outcome in UNSETTLED:
        return f"`{source}` is not green: {UNSETTLED[changing[-1].outcome]} (`{changing[-1].deployment}`)"
    if not tries:
        return f"`{source}` has never had it"
    if not good:
        return f"`{source}` has tried it, and it did not stay: {_how(tries[-1])}"
    settled = [one for one in tries if one.outcome not in (Outcome.REFUSED, Outcome.ALREADY)]
    if settled[-1].outcome is not Outcome.SUCCEEDED:
        return f"`{source}` has tried it again since, and it did not stay: {_how(settled[-1])}"
    for later in history[history.index(good[-1]) + 1 :]:
        if later.kind == "rollback" and later.old == good[-1].new and later.outcome is Outcome.SUCCEEDED:
            return f"`{source}` has gone back from it since{': ' + later.reason if later.reason else ''}"
    return ""


def _how(entry: Entry) -> str:
    outcome = str(entry.outcome or "not over")
    return f"{outcome} ({entry.reason})" if entry.reason else outcome


def _is_older(
    history: Sequence[Entry],
    first: Entry,
    images: Mapping[str, str],
    runs: Mapping[str, str] | None,
    contains: bool | None,
) -> bool:
    """Whether what runs there came to `source` after these images first did, or git says it is newer."""
    if runs is None or proves(runs, images):
        return False
    if contains is not None:
        return contains
    came = [one for one in history if one.outcome is Outcome.SUCCEEDED and proves(one.images, runs)]
    return bool(came) and came[0].ended > first.ended
