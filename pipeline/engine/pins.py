"""What `pipeline.lock` says that image names mean, and what is done when a name means something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping


class StandInPinned(EngineError):
    """No registry is asked: the lock file has a stand-in in place of the image."""

    def __init__(self) -> None:
        super().__init__("pipeline.lock names a stand-in for it")
        self.hint = "`pipeline lock --update` takes the image itself, where its registry can be reached"


class ImageNotPinned(EngineError):
    """Only images of the lock file may be used, and this one is not in it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"cannot use the image `{name}`: pipeline.lock does not pin it")
        self.hint = "`pipeline lock` adds what is missing"


class ImageDrifted(EngineError):
    """A stand-in was built that is not the one of the lock file."""

    def __init__(self, name: str, pinned: str, found: str) -> None:
        super().__init__(f"cannot use the image `{name}`: {drift(pinned, found)}")
        self.hint = "`pipeline lock --update` shows what changed and takes it"


def drift(pinned: str, found: str) -> str:
    """Say that a stand-in differs from its pin."""
    return f"pipeline.lock pins the stand-in {pinned[:19]}, today's Debian packages make {found[:19]}"


class Pins:
    """The pins of one session: names in canonical form, and the digests of what they stand for."""

    def __init__(
        self, images: Mapping[str, str], stand_ins: Mapping[str, str], *, is_locked: bool = False
    ) -> None:
        """Take the pins.

        Args:
            images: Digests by name.
            stand_ins: Digests of what recipes made by name.
            is_locked: Refuse what is not pinned, and what is not as pinned.
        """
        self._images = dict(images)
        self._stand_ins = dict(stand_ins)
        self._is_locked = is_locked

    def image(self, name: str) -> str | None:
        """Return the digest to take for an image; None when the registry decides.

        Raises:
            ImageNotPinned: It is not in the lock file and has to be.
        """
        if self._is_locked and name not in self._images and name not in self._stand_ins:
            raise ImageNotPinned(name)
        return self._images.get(name)

    def is_stand_in(self, name: str) -> bool:
        """Whether the lock file has a stand-in in place of the image."""
        return name in self._stand_ins

    def check_stand_in(self, name: str, found: str) -> str:
        """Return what people should know of a stand-in that was built; "" when it is as pinned.

        Raises:
            ImageDrifted: It is another one, which is not allowed.
        """
        pinned = self._stand_ins.get(name, found)
        if pinned == found:
            return ""
        if self._is_locked:
            raise ImageDrifted(name, pinned, found)
        return f"`{name}`: {drift(pinned, found)}"
