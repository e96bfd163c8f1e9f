"""What a lock file says of images, and of the stand-ins that are built in their place."""

from __future__ import annotations

import pytest

from pipeline.engine.pins import ImageDrifted, ImageNotPinned, Pins

PINNED = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64


def test_a_stand_in_of_other_packages_is_told_of_or_refused() -> None:
    """Debian's packages change: what was locked is no longer what is built."""
    free, locked = (Pins({}, {"debian": PINNED}, is_locked=locked) for locked in (False, True))
    drift = f"pipeline.lock pins the stand-in {PINNED[:19]}, today's Debian packages make {OTHER[:19]}"

    assert (free.is_stand_in("debian"), free.is_stand_in("python")) == (True, False)
    assert (free.check_stand_in("debian", PINNED), locked.check_stand_in("debian", PINNED)) == ("", "")
    assert free.check_stand_in("debian", OTHER) == f"`debian`: {drift}"
    with pytest.raises(ImageDrifted, match=f"cannot use the image `debian`: {drift}"):
        locked.check_stand_in("debian", OTHER)


def test_only_a_locked_session_wants_every_image_pinned() -> None:
    """Otherwise the registry decides what no lock file speaks of."""
    free, locked = (
        Pins({"python": PINNED}, {"debian": PINNED}, is_locked=locked) for locked in (False, True)
    )

    assert (free.image("python"), free.image("node"), locked.image("python")) == (PINNED, None, PINNED)
    assert locked.image("debian") is None
    with pytest.raises(ImageNotPinned, match=r"cannot use the image `node`: pipeline.lock does not pin it"):
        locked.image("node")
