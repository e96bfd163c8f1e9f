"""How much of a cache stays when it is pruned, and sizes as people write them."""

from __future__ import annotations

import pytest

from pipeline.session.tables.engine import BadSize, Space, decide_size, parse_size

NOTHING_SAID = Space()


@pytest.mark.parametrize(
    ("space", "kept"),
    [
        pytest.param(NOTHING_SAID, 0, id="nothing-said"),
        pytest.param(Space(max_used=200), 100, id="within"),
        pytest.param(Space(max_used=60), 60, id="too-much"),
        pytest.param(Space(max_used=60, reserved=80), 80, id="reserved"),
        pytest.param(Space(max_used=60, target=40), 40, id="target"),
        pytest.param(Space(max_used=60, target=40, reserved=50), 50, id="target-and-reserved"),
        pytest.param(Space(target=40), 100, id="a-target-alone"),
        pytest.param(Space(min_free=30), 80, id="short-of-room"),
        pytest.param(Space(min_free=500), 0, id="very-short-of-room"),
        pytest.param(Space(min_free=30, reserved=95), 80, id="room-before-reserved"),
        pytest.param(Space(min_free=5, max_used=200, target=10), 100, id="nothing-broken"),
    ],
)
def test_what_a_cache_keeps(space: Space, kept: int) -> None:
    """Of 100 bytes on a disk with 10 free."""
    assert decide_size(space, used=100, free=10) == kept


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 0),
        (" 12 ", 12),
        ("12b", 12),
        ("2KB", 2048),
        ("1.5 GiB", 3 << 29),
        ("1g", 1 << 30),
        ("25%", 250),
        ("0%", 0),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    """Units are powers of 1024; a percentage is one of the disk, here of 1000 bytes."""
    assert parse_size(text, disk_bytes=1000) == size


@pytest.mark.parametrize("text", ["much", "-1", "1X", "GB", "5 %%"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadSize, match="cannot read the size"):
        parse_size(text, disk_bytes=1000)
