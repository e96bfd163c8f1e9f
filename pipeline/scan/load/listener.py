"""A second file for Locust: it notes each response time by second, which Locust's own figures cannot tell.

    locust -f locustfile.py,…/listener.py

The project's own file runs as it is. `PIPELINE_LOAD_RESULT` says where the result goes,
`PIPELINE_LOAD_WARMUP` how many seconds are not counted. Runs inside a container.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import time
from pathlib import Path
from typing import Any, Final

from pipeline.scan.load.histogram import Histogram

RESULT: Final = os.environ["PIPELINE_LOAD_RESULT"]
WARMUP_S: Final = float(os.environ.get("PIPELINE_LOAD_WARMUP", "0"))
MAX_NAMES: Final = 2000  # names beyond that, mostly addresses with numbers in them, are counted as one


class Notes:
    """Response times and failures by name and second."""

    def __init__(self) -> None:
        self.began = self.ended = time.time()
        self.first = 0.0
        self.windows: dict[str, dict[int, Histogram]] = {}
        self.failed: dict[str, dict[int, int]] = {}
        self.errors: dict[str, dict[str, int]] = {}
        self.cpu_s = 0.0

    def begin(self, **_: Any) -> None:
        """Begin to count, after the warm-up."""
        self.first = time.time() + WARMUP_S
        self.cpu_s = time.process_time()

    def note(
        self,
        *,
        request_type: str,
        name: str,
        response_time: float,
        exception: BaseException | None = None,
        start_time: float | None = None,
        **_: Any,
    ) -> None:
        """Count one request."""
        began = start_time if start_time is not None else time.time() - response_time / 1000
        second = int(began - self.first)
        if began < self.first:
            return
        if request_type:
            name = f"{request_type} {name}"
        if name not in self.windows:
            if len(self.windows) >= MAX_NAMES:
                name = "(others)"
            self.windows.setdefault(name, {})
            self.failed.setdefault(name, {})
            self.errors.setdefault(name, {})
        if exception is None:
            windows = self.windows[name]
            if second not in windows:
                windows[second] = Histogram()
            windows[second].record(response_time / 1000)
        else:
            self.failed[name][second] = self.failed[name].get(second, 0) + 1
            kind = kind_of(exception)
            self.errors[name][kind] = self.errors[name].get(kind, 0) + 1

    def end(self, **_: Any) -> None:
        """Write what was counted."""
        self.ended = time.time()
        duration_s = max(self.ended - self.first, 0.0)
        seconds = int(duration_s) + 1
        result = {
            "format": 1,
            "workload": "closed",
            "began_at": self.first,
            "ended_at": self.ended,
            "warmup_s": WARMUP_S,
            "duration_s": duration_s,
            "generator": {
                "cpu": (time.process_time() - self.cpu_s) / max(self.ended - self.first + WARMUP_S, 0.001),
                "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            },
            "endpoints": {
                name: {
                    "windows": [windows.get(second, Histogram()).to_json() for second in range(seconds)],
                    "failed": [self.failed[name].get(second, 0) for second in range(seconds)],
                    "errors": self.errors[name],
                }
                for name, windows in self.windows.items()
            },
        }
        Path(RESULT).write_text(json.dumps(result), encoding="utf-8")


def kind_of(error: BaseException) -> str:
    """What kind of failure it was: the status, else the name of the error."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return f"status {status}" if status else type(error).__name__


events: Any = importlib.import_module("locust").events  # no need of ours: it is there or this is never run
notes: Final = Notes()
events.test_start.add_listener(notes.begin)
events.request.add_listener(notes.note)
events.quitting.add_listener(notes.end)
