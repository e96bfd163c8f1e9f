"""Who a command runs as: names looked up in the container's own passwd and group files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.engine.runtime.stacked import resolve
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MAX_ID: Final = 2**32 - 2


class UnknownUser(EngineError):
    """A user or group is not in the container's files."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"unable to find {what} {name}: no matching entries in {what} file")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A user in numbers; `groups` holds `gid` too."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find_identity(lowers: Sequence[Path], user: str) -> Identity:
    """Turn `user`, `uid`, `user:group` or "" (root) into numbers, by the files of the tree.

    Without a group the user's own counts, and the groups that list the user; an unknown number is
    taken as it is, with group 0 and home `/`.

    Raises:
        UnknownUser: A name is in neither file.
    """
    name, _, group = user.partition(":")
    name = name or "0"
    number = _number(name)
    entry = next(
        (
            e
            for e in _records(lowers, "/etc/passwd", 6)
            if e[0] == name or _number(e[2]) == number is not None
        ),
        None,
    )
    if entry is None and number is None:
        if name != "root":
            raise UnknownUser("user", name)
        number = 0
    uid = int(entry[2]) if entry else number or 0
    home = (entry[5] if entry else "") or ("/root" if uid == 0 else "/")
    if group:
        gid = _find_group(lowers, group)
        return Identity(uid=uid, gid=gid, groups=(gid,), home=home)
    gid = int(entry[3]) if entry and entry[3].isdigit() else 0
    listed = [
        int(e[2])
        for e in _records(lowers, "/etc/group", 4)
        if entry is not None and entry[0] in e[3].split(",")
    ]
    return Identity(uid=uid, gid=gid, groups=tuple(dict.fromkeys((gid, *listed))), home=home)


def find_ids(lowers: Sequence[Path], owner: str) -> tuple[int, int]:
    """Turn an owner into a user and a group number; a missing group is the number of the user.

    Raises:
        UnknownUser: A name is in neither file.
    """
    if not owner:
        return 0, 0
    uid = find_identity(lowers, owner.partition(":")[0]).uid
    group = owner.partition(":")[2]
    return uid, _find_group(lowers, group) if group else uid


def _find_group(lowers: Sequence[Path], name: str) -> int:
    number = _number(name)
    if number is not None:
        return number
    for entry in _records(lowers, "/etc/group", 3):
        if entry[0] == name:
            return int(entry[2])
    if name == "root":
        return 0
    raise UnknownUser("group", name)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) <= _MAX_ID else None


def _records(lowers: Sequence[Path], path: str, fields: int) -> list[list[str]]:
    file = resolve(lowers, path).file
    if file is None:
        return []
    with open(file, encoding="utf-8", errors="surrogateescape") as lines:
        records = [line.rstrip("\n").split(":") for line in lines]
    return [record for record in records if len(record) >= fields and record[2].isdigit()]
