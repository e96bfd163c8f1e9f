"""Wait for a service, read its description, fetch samples: small errands beside a load test.

    python -m pipeline.scan.load.probe ready BASE WITHIN_S HEALTH… -- DESCRIPTION…
    python -m pipeline.scan.load.probe samples BASE
    python -m pipeline.scan.load.probe python

Each writes JSON to stdout. Runs inside a container: standard library only.
"""

from __future__ import annotations

import http.client
import json
import os
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


def wait_ready(base: str, within_s: float, paths: list[str]) -> dict[str, Any]:
    """Ask until one of the paths answers well; any answer but a server's error will do for `/`."""
    began = time.monotonic()
    last = "no answer"
    while True:
        for path in paths:
            try:
                status, _ = get(base, path)
            except (OSError, http.client.HTTPException) as error:
                last = f"GET {path}: {error or type(error).__name__}"
                continue
            last = f"GET {path}: status {status}"
            if status < 400 or (path == "/" and len(paths) > 1 and status < 500):
                return {"ready": True, "path": path, "last": last, "waited_s": time.monotonic() - began}
        if time.monotonic() - began > within_s:
            return {"ready": False, "path": "", "last": last, "waited_s": time.monotonic() - began}
        time.sleep(EVERY_S)


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
    }


def main(argv: list[str]) -> int:
    """Do one errand."""
    errand, rest = argv[0], argv[1:]
    if errand == "python":
        told: Any = own_python()
    elif errand == "samples":
        told = json.loads(get(rest[0], "/")[1])
    else:
        cut = rest.index("--")
        told = wait_ready(rest[0], float(rest[1]), rest[2:cut])
        told["description"] = find_description(rest[0], rest[cut + 1 :]) if told["ready"] else None
    sys.stdout.write(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
