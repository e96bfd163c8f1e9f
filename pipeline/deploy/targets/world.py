"""What should run in a local environment, and the plan of what runs where: pure, but for its one file."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time when the record is read
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.deploy.records import read_record, write_record
from pipeline.digest import digest_of

if TYPE_CHECKING:
    from pipeline.deploy.release import Release, ReleasedService
    from pipeline.deploy.state import LocalState

FILE: Final = "local.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The record of one environment. What runs is asked of holders and of the proxy, never of this."""

    fence: int = 0
    slots: Mapping[str, str] = field(default_factory=dict)  # "a" to the release that has those servers
    shares: Mapping[str, float] = field(default_factory=dict)  # release to percent
    fetched: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # release to digests of its images
    archived: tuple[str, ...] = ()  # digests of images that lie beside the record
    fronts: Mapping[str, int] = field(default_factory=dict)  # name to its port on loopback
    shifted: float = 0.0  # when traffic was last shifted, in seconds since 1970
    counted: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # server to requests, errors then

    def slot_of(self, release: str) -> str:
        """The slot that a release has; "" for none."""
        return next((slot for slot, name in self.slots.items() if name == release), "")


def read_world(state: LocalState) -> World:
    """Return the record; the caller is `alone`, or only looks."""
    data = state.look(FILE)
    return read_record(data, World, FILE) if data else World()


def write_world(state: LocalState, world: World) -> None:
    """Replace the record; the caller is `alone`."""
    state.put(FILE, write_record(world))


def names_of_part(release: Release, part: int, parts: int) -> frozenset[str]:
    """The names of the instances that a part has; a service of few instances has them in early parts."""
    return frozenset(
        f"{name}-{number}"
        for name, one in release.services.items()
        for number in range(1, one.settings.replicas + 1)
        if (number - 1) * parts // one.settings.replicas + 1 == part
    )


def partner(number: int, replicas: int, others: int) -> int:
    """Which of a needed service's `others` instances number `number` of `replicas` talks to.

    It is never in a later part than the one that needs it.
    """
    return (number - 1) * others // replicas + 1


def shared_unit(service: str, one: ReleasedService) -> str:
    """The name of an exclusive service's own unit: releases in which it is the same share it."""
    return f"x-{service}-{digest_of(one).removeprefix('sha256:')[:12]}"


def shared_services(release: Release) -> tuple[str, ...]:
    """The exclusive services, each after those it needs: each has a holder of its own."""
    return tuple(name for name in release.in_order() if release.services[name].settings.exclusive)
