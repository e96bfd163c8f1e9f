"""Services of advisories on loopback, good ones and those that only look like it."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from pipeline.scan.packages.package import Package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Answer = Callable[[str, str, bytes], tuple[int, str, bytes]]

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def package(name: str = "thing", version: str = "1.0", ecosystem: str = "PyPI", **more: Any) -> Package:
    """A package."""
    return Package(name=name, version=version, ecosystem=ecosystem, **more)


def as_json(table: object, status: int = 200) -> tuple[int, str, bytes]:
    """An answer in JSON."""
    return status, "application/json", json.dumps(table).encode()


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """A service on loopback: its address, and the lines of what it is asked ("GET /path")."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            asked.append(f"{self.command} {self.path}")
            status, kind, data = answer(self.command, self.path, body)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - the name the server looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def hanging() -> Iterator[str]:
    """A service that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def closed() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


def pypi(pages: dict[str, list[dict[str, Any]]]) -> Answer:
    """An index with a page for each release, "name/version", and the advisories on it."""

    def answer(_: str, path: str, __: bytes) -> tuple[int, str, bytes]:
        release = path.removeprefix("/pypi/").removesuffix("/json")
        if release not in pages:
            return as_json({"message": "Not Found"}, 404)
        return as_json({"info": {}, "vulnerabilities": pages[release]})

    return answer


def osv(records: list[dict[str, Any]], matches: dict[str, list[str]]) -> Answer:
    """A service of OSV's query API: the ids by "name version"."""
    by_id = {one["id"]: one for one in records}

    def answer(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        if method == "POST" and path == "/v1/querybatch":
            queries = [(q["package"]["name"], q["version"]) for q in json.loads(body)["queries"]]
            told = [matches.get(f"{name} {version}", []) for name, version in queries]
            return as_json(
                {"results": [{"vulns": [{"id": one} for one in ids]} if ids else {} for ids in told]}
            )
        name = path.removeprefix("/v1/vulns/")
        return as_json(by_id[name]) if name in by_id else as_json({"code": 5}, 404)

    return answer
