"""Interrupts of a run: the first signal stops it cleanly; a second one, or a slow stop, ends the process."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MARGIN_S: Final = 2.0


class Interrupts:
    """Handles SIGINT, SIGTERM and SIGHUP while it is entered; only the main thread can.

    A SIGHUP that is ignored stays so: that is what `nohup` is for.

    Plain signal handlers, not the event loop's: the second signal, and the limit on a clean stop, must work
    even when a stage blocks the loop.

    Args:
        stop: Called for the first signal with its name, from a handler: must only schedule.
        last_words: Called before the process is ended by force, with the reason and the exit code; what it
            returns is said on standard error.
        grace_s: How long a clean stop may take.
        code: The exit code of a process that is ended by force.
    """

    def __init__(
        self,
        *,
        stop: Callable[[str], None],
        last_words: Callable[[str, int], str],
        grace_s: float,
        code: int = 130,
    ) -> None:
        self._stop = stop
        self._last_words = last_words
        self._grace_s = grace_s
        self._code = code
        self._count = 0
        self._before: dict[signal.Signals, Any] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Interrupts:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back, and call off the end by force."""
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def limit(self, seconds: float, reason: str, code: int) -> None:
        """End the process by force in `seconds`, unless the run is over before. The first limit counts."""
        if self._timer is None and self._before:
            self._timer = threading.Timer(seconds, self._end, (reason, code))
            self._timer.daemon = True
            self._timer.start()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        self._count += 1
        if self._count > 1:
            self._end(f"killed by a second {name}", self._code)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        reason = f"stages did not stop within {self._grace_s:g} s of {name}"
        self.limit(self._grace_s + MARGIN_S, reason, self._code)
        self._stop(name)

    def _end(self, reason: str, code: int) -> None:
        try:
            said = self._last_words(reason, code)
            # Not by `print`: the main thread may hang while it holds the stream's lock.
            os.write(2, f"error: {said}\n".encode("utf-8", "backslashreplace"))
        finally:
            os._exit(code)
