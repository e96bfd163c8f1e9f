"""Calls of the C library that Python has no function for."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWNET: Final = 0x40000000
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 1 << 18


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(answer: int) -> None:
    if answer != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own.

    Raises:
        OSError: The kernel refused.
    """
    _check(_libc().unshare(flags))


def setns(descriptor: int, kind: int) -> None:
    """Move the calling thread into a namespace.

    Raises:
        OSError: The kernel refused.
    """
    _check(_libc().setns(descriptor, kind))


def mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    """Mount.

    Raises:
        OSError: The kernel refused.
    """
    arguments = (
        os.fsencode(source),
        os.fsencode(target),
        kind.encode(),
        ctypes.c_ulong(flags),
        options.encode(),
    )
    _check(_libc().mount(*arguments))
