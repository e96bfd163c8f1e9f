"""A small service on loopback whose answers a test writes itself, and our program's look at it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from pipeline.scan.dast.aim import Aim
from pipeline.scan.dast.passive import REPORT, Passive, plan_of
from pipeline.scan.dast.prober.main import scan
from pipeline.scan.scanner import Ran, Scan, Target

Reply: TypeAlias = tuple[int, dict[str, str], str | bytes]
Handler: TypeAlias = Callable[[str, str, dict[str, str], dict[str, str]], Reply | None]
"""Given method, path, the values of query and form, and headers; None closes the connection."""

PAGE = {
    "content-type": "text/html",
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
MISSING: Reply = (404, {"content-type": "text/plain"}, "not found")


@contextmanager
def serving(handler: Handler) -> Iterator[str]:
    """Serve on a free port of loopback; lends the address."""

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def version_string(self) -> str:
            return "shop"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the library names it
            """Say nothing."""

        def answer(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            parts = urlsplit(self.path)
            values = dict(parse_qsl(parts.query, keep_blank_values=True))
            body = self.rfile.read(size).decode()
            if body and "json" in self.headers.get("content-type", ""):
                values |= {name: str(value) for name, value in dict(json.loads(body)).items()}
            else:
                values |= dict(parse_qsl(body, keep_blank_values=True))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = handler(str(self.command), parts.path, values, headers)
            if reply is None:
                self.close_connection = True
                return
            status, more, text = reply
            data = text.encode() if isinstance(text, str) else text
            self.send_response(status)
            for name, value in {**more, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(data)
            except ConnectionError:
                self.close_connection = True  # whoever asked has read enough

        do_GET = do_POST = do_PUT = do_PATCH = do_HEAD = answer  # noqa: N815 - as the library calls them

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients go away as they like."""

    server = Server(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def seen(base: str, **more: Any) -> Scan:
    """What our checks say of a service."""
    given: dict[str, Any] = {"writes": True, "rate": 5000, "limit_s": 20.0}
    aim = Aim(base=base, **(given | more))
    report = scan(json.loads(json.dumps(plan_of(aim))))
    target = Target(root=base, files={}, options={"aim": aim})
    return Passive().read(target, [Ran(exit_code=0, stdout=b"", files={REPORT: json.dumps(report).encode()})])


def told(scan: Scan, *, above: tuple[str, ...] = ("info",)) -> set[tuple[str, str]]:
    """Rule and place of every finding, but those of some levels."""
    return {(one.rule.id, one.where) for one in scan.findings if one.severity.level not in above}


def linking(*links: str) -> str:
    """A page with links."""
    return "".join(f'<a href="{link}">x</a>' for link in links)
