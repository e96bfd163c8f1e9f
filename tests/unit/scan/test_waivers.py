"""The file of waivers: what is taken, and what is said of what is not."""

from __future__ import annotations

import datetime

import pytest

from pipeline.scan.waivers import Waiver, WaiversInvalid, parse_waivers

GOOD = """
[[waiver]]
finding = "0123456789abcdef"
reason = "the input is ours, nobody else writes it"
owner = "team-a"
created = 2026-11-01
expires = 2027-01-31

[[waiver]]
advisory = "CVE-2024-1"
package = "jinja2"
reason = "we render no template of other people"
owner = "team-b"
created = 2026-11-01
expires = 2026-12-01
kind = "vulnerability"
broad = true
"""


def entry(**changes: str) -> str:
    """One good entry with other lines; "" leaves a line out."""
    lines = {
        "rule": '"S101"',
        "path": '"tests/**"',
        "reason": '"tests are run without -O, always"',
        "owner": '"team-a"',
        "created": "2026-11-01",
        "expires": "2027-01-31",
    }
    rows = [f"{key} = {value}" for key, value in (lines | changes).items() if value]
    return "\n".join(["[[waiver]]", *rows])


def test_entries_become_waivers() -> None:
    first, second = parse_waivers(GOOD)

    assert first == Waiver(
        finding="0123456789abcdef",
        reason="the input is ours, nobody else writes it",
        owner="team-a",
        created=datetime.date(2026, 11, 1),
        expires=datetime.date(2027, 1, 31),
    )
    assert (second.advisory, second.package, second.broad) == ("CVE-2024-1", "jinja2", True)
    assert (first.name, second.name) == ("0123456789ab", "CVE-2024-1 jinja2")
    assert parse_waivers("") == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(entry(reason='"because"'), "reason: expected at least 20 characters", id="short-reason"),
        pytest.param(entry(reason=""), "reason: expected at least 20 characters", id="no-reason"),
        pytest.param(entry(owner=""), "owner: expected who answers for it", id="no-owner"),
        pytest.param(entry(owner="3"), "owner: expected a text, got 3", id="owner-no-text"),
        pytest.param(entry(expires=""), "expires: expected a day such as 2027-01-31, got None", id="no-end"),
        pytest.param(entry(expires='"soon"'), "expires: expected a day such as", id="no-day"),
        pytest.param(entry(expires="2026-11-01T10:00:00"), "expires: expected a day such as", id="moment"),
        pytest.param(entry(expires="2027-05-01"), "expires: expected at most 180 days after", id="too-long"),
        pytest.param(entry(expires="2026-10-01"), "expires: expected at most 180 days after", id="backwards"),
        pytest.param(entry(path=""), "expected one of `finding`, `rule` and `path`,", id="rule-alone"),
        pytest.param(entry(finding='"0123456789"'), "got `finding` and `path` and `rule`", id="too-much"),
        pytest.param(
            entry(rule="", path="", finding='"xyz"'),
            "finding: expected 8 to 32 hexadecimal",
            id="no-fingerprint",
        ),
        pytest.param(entry(kind='"sats"'), "kind: expected one of sast, secret,", id="unknown-kind"),
        pytest.param(entry(broad='"yes"'), "broad: expected true or false, got 'yes'", id="broad-no-bool"),
        pytest.param(entry(until="3"), "until: unknown key", id="unknown-key"),
        pytest.param("[waivers]", "waivers: unknown key; waivers are `[[waiver]]` entries", id="other-table"),
        pytest.param("waiver = 3", "waiver: expected `[[waiver]]` entries", id="no-list"),
        pytest.param("waiver = [", "not TOML", id="no-toml"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, problem: str) -> None:
    with pytest.raises(WaiversInvalid) as caught:
        parse_waivers(text)

    assert problem in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(WaiversInvalid) as caught:
        parse_waivers(entry(owner="") + "\n" + entry(reason='"x"', kind='"y"'))

    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "waiver 1",
        "waiver 2",
        "waiver 2",
    ]
