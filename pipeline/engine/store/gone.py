"""What is to be removed: moved aside at once, and taken away when there is time.

On some disks a file takes milliseconds to go, where the file system discards its blocks at once. Nobody is
to wait for trees of them, neither an engine that comes in after one that was killed, nor one that leaves.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from typing import TYPE_CHECKING

from pipeline.engine.store.layers import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Gone:
    """The folder of a store for what no row names any more; several engines may empty it at once."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "gone"

    def take(self, path: Path) -> None:
        """Move a file or directory aside; one that is not there is no error."""
        try:
            os.rename(path, self._folder / f"{path.name}-{secrets.token_hex(6)}")
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            remove_tree(path)  # the folder would have to grow for it, and the disk is full

    def empty(self, is_over: Callable[[], bool]) -> bool:
        """Take away what was moved aside, until `is_over` says that the time is; return whether all is.

        Raises:
            OSError: Something cannot be removed.
        """
        return all(remove_tree(self._folder / name, is_over) for name in os.listdir(self._folder))

    def empty_within(self, within_s: float) -> bool:
        """Take away what was moved aside, for so many seconds at most; return whether all is."""
        until = time.monotonic() + within_s
        return self.empty(lambda: time.monotonic() > until)
