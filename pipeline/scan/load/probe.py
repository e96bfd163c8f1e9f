"""Wait for a service, read its description and its state: small errands beside a load test.

    python -m pipeline.scan.load.probe OUT ready BASE STATE WITHIN_S HEALTH… -- DESCRIPTION…
    python -m pipeline.scan.load.probe OUT state STATE
    python -m pipeline.scan.load.probe OUT python

Each writes JSON to the file OUT: what programs tell each other is nothing for a log. Runs inside a container:
standard library only.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import re
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any, Final

EVERY_S: Final = 0.2
LIMIT_S: Final = 10.0
DESCRIPTION_MAX_BYTES: Final = 8 << 20


def get(base: str, path: str) -> tuple[int, bytes]:
    """GET a path; status and body.

    Raises:
        OSError: There is no answer.
        http.client.HTTPException: The answer is no HTTP.
    """
    address = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=LIMIT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(DESCRIPTION_MAX_BYTES)
    finally:
        connection.close()


def wait_ready(base: str, state: str, within_s: float, paths: list[str]) -> dict[str, Any]:
    """Ask until one of the paths answers well, or the service ended.

    Where several are guessed, any answer to the last one but a server's error will do.
    """
    began = time.monotonic()
    told: dict[str, Any] = {"ready": False, "path": "", "last": "no answer"}
    while not told["ready"]:
        for path in paths:
            try:
                status, _ = get(base, path)
            except (OSError, http.client.HTTPException) as error:
                told["last"] = f"GET {path}: {error or type(error).__name__}"
                continue
            told["last"] = f"GET {path}: status {status}"
            is_guess = len(paths) > 1 and path == paths[-1]
            if status < 400 or (is_guess and status < 500):
                told |= {"ready": True, "path": path}
                break
        told["waited_s"] = time.monotonic() - began
        if told["waited_s"] > within_s or read_state(state).get("exit_code") is not None:
            break
        time.sleep(EVERY_S)
    return told


def read_state(base: str) -> dict[str, Any]:
    """What the sampler beside the service knows; {} when it does not answer."""
    try:
        told = json.loads(get(base, "/")[1])
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def find_description(base: str, paths: list[str]) -> dict[str, Any] | None:
    """The first OpenAPI description among the paths; None when there is none."""
    for path in paths:
        try:
            status, body = get(base, path)
            found = json.loads(body) if status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            continue
        if isinstance(found, dict) and "paths" in found:
            return found
    return None


def own_python() -> dict[str, Any]:
    """What it takes to start this Python from another place: its loader, its libraries, and its program."""
    import _posixsubprocess
    import _socket

    loaded = (_posixsubprocess.__name__, _socket.__name__)  # what a sampler loads is mapped now
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    files = sorted({match for match in re.findall(r" (/\S+)$", maps, re.MULTILINE) if ".so" in match})
    loader = next(
        (file for file in files if re.search(r"/(ld-linux[^/]*|ld-musl[^/]*|ld-[\d.]+\.so)", file)), ""
    )
    folders = sorted({os.path.dirname(file) for file in files})
    return {
        "program": os.path.realpath(sys.executable),
        "loader": loader,
        "folders": folders,
        "loaded": loaded,
        "machine": machine(),
    }


def machine() -> str:
    """What figures depend on: the kind of CPU, and how many."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^(?:model name|CPU part)\s*:\s*(.+)$", text, re.MULTILINE)
    return f"{model[1].strip() if model else platform.machine()}, {len(os.sched_getaffinity(0))} CPUs"


def main(argv: list[str]) -> int:
    """Do one errand."""
    out, errand, rest = argv[0], argv[1], argv[2:]
    if errand == "python":
        told: Any = own_python()
    elif errand == "state":
        told = read_state(rest[0])
    else:
        cut = rest.index("--")
        told = wait_ready(rest[0], rest[1], float(rest[2]), rest[3:cut])
        told["description"] = find_description(rest[0], rest[cut + 1 :]) if told["ready"] else None
    Path(out).write_text(json.dumps(told), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
