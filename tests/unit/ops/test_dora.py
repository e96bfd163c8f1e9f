"""The four keys: from the history, with what is not known said as that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deploy.history import Entry
from pipeline.deploy.outcome import Outcome
from pipeline.ops.dora import (
    Change,
    Incident,
    Keys,
    changes_of,
    failure_level,
    four_keys,
    frequency_level,
    lead_level,
    restore_level,
)

HOUR = 3600.0
DAY = 86400.0
UNTIL = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


def change(days_ago: float, **more: Any) -> Change:
    """Return a change that was live so many days ago, made of a commit two hours older."""
    ended = UNTIL - days_ago * DAY
    values: dict[str, Any] = {
        "deployment": f"d-{days_ago:g}",
        "release": f"r-{days_ago:g}",
        "started": ended - 600,
        "ended": ended,
        "committed": ended - 2 * HOUR,
    }
    return Change(**{**values, **more})


def test_without_a_history_nothing_is_known() -> None:
    """No deployment in a quarter is a frequency of none; the rest is unknown, and not zero."""
    keys = four_keys([], until=UNTIL)

    assert keys == Keys(
        days=90,
        deployments=0,
        failed=0,
        days_a_week=0.0,
        lead_time_s=None,
        with_commit=0,
        failure_rate=None,
        restore_s=None,
        restored=0,
    )
    assert (lead_level(keys), failure_level(keys), restore_level(keys)) == ("unknown",) * 3
    assert frequency_level(keys) == "low"


def test_the_keys_of_two_weeks() -> None:
    """Three days of one week and one of the other; one undid itself, one was taken away by hand."""
    history = [
        change(20),  # before the window
        change(10),
        change(3, committed=0.0),
        change(2),
        change(1.0, failed=True),
        change(0.5),
        change(0.25, deployment="d-back", restores="d-0.5"),
    ]

    keys = four_keys(history, until=UNTIL, days=14)

    assert keys == Keys(
        days=14,
        deployments=4,
        failed=2,
        days_a_week=2.0,
        lead_time_s=2 * HOUR,
        with_commit=3,
        failure_rate=2 / 5,
        restore_s=(600 + DAY / 4) / 2,
        restored=2,
    )


def test_an_incident_makes_the_change_that_brought_it_a_failed_one() -> None:
    """One that still lasts has no time to restore; one whose change was taken away counts once."""
    history = [change(3), change(2), change(1, deployment="d-back", restores="d-2")]
    incidents = [
        Incident(began=UNTIL - 2 * DAY, ended=UNTIL - DAY, deployment="d-2"),
        Incident(began=UNTIL - HOUR),
    ]

    keys = four_keys(history, until=UNTIL, incidents=incidents)

    assert (keys.failed, keys.failure_rate, keys.restore_s, keys.restored) == (1, 0.5, DAY, 1)


def test_less_than_a_week_has_no_days_a_week() -> None:
    assert four_keys([change(1)], until=UNTIL, days=6).days_a_week is None


@pytest.mark.parametrize(
    ("level", "field", "values"),
    [
        (lead_level, "lead_time_s", {DAY: "elite", DAY + 1: "high", 30 * DAY: "medium", 31 * DAY: "low"}),
        (failure_level, "failure_rate", {0.05: "elite", 0.1: "high", 0.15: "medium", 0.16: "low"}),
        (restore_level, "restore_s", {HOUR: "elite", DAY: "high", 7 * DAY: "medium", 8 * DAY: "low"}),
        (frequency_level, "days_a_week", {5.0: "elite", 1.0: "high", 0.0: "medium"}),
    ],
)
def test_levels_have_limits_that_belong_to_the_better_one(level: Any, field: str, values: Any) -> None:
    plain: dict[str, Any] = {
        "days": 90,
        "deployments": 3,
        "failed": 0,
        "days_a_week": None,
        "lead_time_s": None,
        "with_commit": 0,
        "failure_rate": None,
        "restore_s": None,
        "restored": 0,
    }

    assert {value: level(Keys(**{**plain, field: value})) for value in values} == values


def entry(number: int, outcome: Outcome | None, **more: Any) -> Entry:
    values: dict[str, Any] = {
        "deployment": f"d-{number}",
        "environment": "production",
        "old": f"r-{number - 1}",
        "new": f"r-{number}",
        "commit": f"c{number}",
        "started": number * HOUR,
        "ended": number * HOUR + 60,
        "outcome": outcome,
    }
    return Entry(**{**values, **more})


def test_a_history_becomes_changes() -> None:
    """What was refused, was there already or failed before anything was changed is none."""
    history = [
        entry(1, Outcome.SUCCEEDED),
        entry(2, Outcome.REFUSED),
        entry(3, Outcome.ALREADY),
        entry(4, Outcome.FAILED),
        entry(5, Outcome.ROLLED_BACK),
        entry(6, Outcome.SUCCEEDED, kind="promote"),
        entry(7, Outcome.SUCCEEDED, kind="rollback", old="r-6", new="r-1"),
        entry(8, Outcome.ROLLED_BACK, kind="rollback"),
        entry(9, None),
    ]

    changes = changes_of(history, {"c1": 60.0})

    assert [(one.deployment, one.failed, one.restores, one.committed) for one in changes] == [
        ("d-1", False, "", 60.0),
        ("d-5", True, "", 0.0),
        ("d-6", False, "", 0.0),
        ("d-7", False, "d-6", 0.0),
    ]


@given(
    st.lists(
        st.builds(
            change,
            st.floats(0, 120),
            failed=st.booleans(),
            committed=st.sampled_from([0.0, UNTIL - 200 * DAY]),
        ),
        max_size=20,
    )
)
def test_keys_stay_within_what_they_can_be(changes: list[Change]) -> None:
    keys = four_keys(changes, until=UNTIL)

    assert keys.days_a_week is not None
    assert 0 <= keys.days_a_week <= 7
    assert keys.failure_rate is None or 0 <= keys.failure_rate <= 1
    assert (keys.lead_time_s is None) == (keys.with_commit == 0)
    assert (keys.restore_s is None) == (keys.restored == 0)
