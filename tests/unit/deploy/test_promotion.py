"""What an environment has proved may go on; the histories say what that is."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.deploy.history import Entry
from pipeline.deploy.outcome import Outcome
from pipeline.deploy.promotion import (
    NothingToPromote,
    Promotion,
    allow_older,
    choose_release,
    judge_promotion,
    proves,
)

HOUR = 3600.0
WEEK = 168 * HOUR


def entry(number: int, outcome: Outcome | None = Outcome.SUCCEEDED, **more: Any) -> Entry:
    """Return a deployment of release `number` to staging, which ended at that hour."""
    at = more.pop("at", number) * HOUR
    values: dict[str, Any] = {
        "deployment": f"d-{number}",
        "environment": "staging",
        "new": f"r-{number}",
        "images": {"api": f"sha256:{number}"},
        "commit": f"{number}" * 40,
        "version": f"1.{number}",
        "started": at - 60,
        "ended": at if outcome else 0.0,
        "outcome": outcome,
    }
    return Entry(**{**values, **more})


def judge(history: list[Entry], number: int, **more: Any) -> Promotion:
    values: dict[str, Any] = {"max_age_s": WEEK, "now": 10 * HOUR}
    return judge_promotion("staging", history, {"api": f"sha256:{number}"}, **{**values, **more})


def test_what_runs_in_staging_is_what_is_promoted() -> None:
    """Not the last one tried: the last one that came to stay."""
    history = [entry(1), entry(2), entry(3, Outcome.ROLLED_BACK)]

    assert choose_release("staging", history) == history[1]
    assert judge(history, 2) == Promotion(
        source="staging", release="r-2", images={"api": "sha256:2"}, proved=2 * HOUR, problems={}
    )


@pytest.mark.parametrize("asked", ["r-1", "1.1", "1" * 40, "1" * 7])
def test_an_earlier_one_is_found_by_release_version_or_commit(asked: str) -> None:
    history = [entry(1), entry(2)]

    assert choose_release("staging", history, asked).deployment == "d-1"


@pytest.mark.parametrize(
    ("history", "asked", "said"),
    [
        ([], "", "no release has come to stay there"),
        ([entry(1, Outcome.ROLLED_BACK)], "", "no release has come to stay there"),
        ([entry(1)], "latest", "`latest` has not come to stay there"),
        ([entry(1), entry(2, Outcome.FAILED)], "r-2", "`r-2` has not come to stay there"),
        ([entry(1)], "1" * 6, "`111111` has not come to stay there"),
        ([entry(1), entry(1, commit="1" * 39 + "2")], "1" * 7, "`1111111` may be one of several"),
    ],
)
def test_a_tag_or_a_failed_release_is_nothing_to_promote(history: list[Entry], asked: str, said: str) -> None:
    with pytest.raises(NothingToPromote) as caught:
        choose_release("staging", history, asked)

    assert str(caught.value) == f"cannot promote from `staging`: {said}"


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ([entry(1)], "`staging` has never had it"),
        (
            [entry(2, Outcome.ROLLED_BACK, reason="12 % errors")],
            "`staging` has tried it, and it did not stay: rolled back (12 % errors)",
        ),
        (
            [entry(2), entry(2, Outcome.ROLLED_BACK, deployment="d-9", at=3)],
            "`staging` has tried it again since, and it did not stay: rolled back",
        ),
        (
            [entry(1), entry(2), entry(1, kind="rollback", old="r-2", reason="slow", at=3)],
            "`staging` has gone back from it since: slow",
        ),
        ([entry(2), entry(3, None)], "`staging` is not green: a deployment there is not over (`d-3`)"),
        (
            [entry(2), entry(3, Outcome.ROLLBACK_FAILED)],
            "`staging` is not green: a rollback there failed (`d-3`)",
        ),
        (
            [entry(2), entry(3, Outcome.WAITING)],
            "`staging` is not green: a deployment there waits for somebody's word (`d-3`)",
        ),
    ],
)
def test_what_staging_is_not_green_with_stays_there(history: list[Entry], said: str) -> None:
    assert judge(history, 2).problems == {"green": said}


def test_what_was_refused_or_already_there_says_nothing_about_a_release() -> None:
    history = [entry(2), entry(2, Outcome.ALREADY, deployment="d-8"), entry(3, Outcome.REFUSED)]

    assert judge(history, 2).problems == {}


def test_a_proof_expires() -> None:
    found = judge([entry(2)], 2, now=(2 + 168.5) * HOUR)

    assert found.problems == {"expired": "`staging` proved it 168 h ago, and that counts for 168 h"}


@pytest.mark.parametrize(
    ("runs", "contains", "is_older"),
    [
        (None, None, False),
        ({"api": "sha256:1"}, None, False),
        ({"api": "sha256:2"}, None, False),
        ({"api": "sha256:3"}, None, True),
        ({"api": "sha256:3"}, False, False),
        ({"api": "sha256:9"}, None, False),
        ({"api": "sha256:9"}, True, True),
    ],
)
def test_what_is_older_than_what_runs_there_needs_a_word(
    runs: dict[str, str] | None, contains: bool | None, is_older: bool
) -> None:
    """Git's word counts; without it, in which order staging had them."""
    found = judge([entry(1), entry(2), entry(3)], 2, runs=runs, contains=contains)

    assert list(found.problems) == (["older"] if is_older else [])
    assert allow_older(found).problems == {}


@pytest.mark.parametrize(
    ("ran", "images", "is_proved"),
    [
        ({"api": "a", "db": "d"}, {"api": "a"}, True),
        ({"api": "a"}, {"api": "a", "worker": "a"}, True),
        ({"api": "a"}, {"api": "a", "worker": "b"}, False),
        ({"api": "a", "worker": "b"}, {"api": "b"}, False),
        ({"api": "a"}, {}, False),
    ],
)
def test_every_image_must_have_run_where_it_is_promoted_from(
    ran: dict[str, str], images: dict[str, str], is_proved: bool
) -> None:
    """No image comes along that nobody has tried."""
    assert proves(ran, images) is is_proved
