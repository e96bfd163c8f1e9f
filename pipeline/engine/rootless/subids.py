"""The ids that `/etc/subuid` and `/etc/subgid` lend to a user."""

from __future__ import annotations

import contextlib
import os
import pwd
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """`count` ids from `first` on."""

    first: int
    count: int


def find_ranges(file: str) -> tuple[Range, ...]:
    """Return what `file` lends to the user of this process; none when it is not there or lends nothing."""
    names = {str(os.getuid())}
    with contextlib.suppress(KeyError):  # one without a name can still be lent ids by number
        names.add(pwd.getpwuid(os.getuid()).pw_name)
    try:
        text = Path(file).read_text()
    except (FileNotFoundError, PermissionError):
        return ()
    return parse_ranges(text, names)


def is_alone() -> bool:
    """Say whether this process knows no user but its own, for lack of ids that are lent to it."""
    return Path("/proc/self/uid_map").read_text().split()[2:] == ["1"]


def parse_ranges(text: str, names: set[str]) -> tuple[Range, ...]:
    """Return the ranges of those lines `NAME:FIRST:COUNT` whose name is one of `names`."""
    found = []
    for line in text.splitlines():
        name, _, numbers = line.strip().partition(":")
        first, _, count = numbers.partition(":")
        if name in names and first.isdigit() and count.isdigit() and int(count):
            found.append(Range(first=int(first), count=int(count)))
    return tuple(found)
