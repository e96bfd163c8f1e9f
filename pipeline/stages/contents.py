"""The project's files as scanners get them: each read when it is asked for, none of which is huge.

A repository may hold ten thousand files and some of a gigabyte: what a stage holds is what it looks at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

MOST_FILE_BYTES: Final = 16 * 1024**2  # of a file that tools are given; larger ones are told as missed


class Contents(Mapping[str, bytes]):
    """Files of a folder by their path; links, what is no file and what is too large are left out.

    A link could lead out of the project; what it points to inside is a file of its own.
    """

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        """Look which are there, and how large; nothing is read."""
        self._root = root
        self._names: dict[str, None] = {}
        large: list[str] = []
        for name in names:
            try:
                found = os.lstat(root / name)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                if found.st_size > MOST_FILE_BYTES:
                    large.append(name)
                else:
                    self._names[name] = None
        self.too_large: Final = tuple(large)

    def __getitem__(self, name: str) -> bytes:
        if name not in self._names:
            raise KeyError(name)
        return (self._root / name).read_bytes()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Part(Mapping[str, bytes]):
    """Some of the files of another mapping."""

    def __init__(self, files: Mapping[str, bytes], names: Iterable[str]) -> None:
        self._files = files
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> bytes:
        if name not in self._names:
            raise KeyError(name)
        return self._files[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Texts(Mapping[str, str]):
    """Files as text; what is no UTF-8 in them is replaced."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def __getitem__(self, name: str) -> str:
        return self._files[name].decode("utf-8", "replace")

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def too_large(files: Mapping[str, bytes]) -> Sequence[str]:
    """The files that were left out for their size."""
    return files.too_large if isinstance(files, Contents) else ()
