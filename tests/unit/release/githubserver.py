"""A small GitHub of the tests: the releases of one repository, kept as its REST API keeps them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "a token of the tests"
Failure = tuple[int, dict[str, str], dict[str, Any]]


@dataclass
class GitHubState:
    """What the server knows, and how it misbehaves."""

    tags: Callable[[], set[str]]  # names at the git remote: a published release needs its tag, or makes it
    releases: list[dict[str, Any]] = field(default_factory=list)
    contents: dict[int, bytes] = field(default_factory=dict)  # of assets, by id
    requests: list[str] = field(default_factory=list)
    fail: Callable[[str, int], Failure | None] = lambda _, __: None
    after: Callable[[str, int], int | None] = lambda _, __: None  # do it, then answer with this status
    kill: tuple[int, int, bool] | None = (
        None  # process, at which request that changes something, and whether it is done before
    )
    tells_digests: bool = True
    ids: int = 0
    address: str = ""

    def new_id(self) -> int:
        self.ids += 1
        return self.ids

    def shown(self) -> dict[str, dict[str, bytes]]:
        """Name and content of the assets of each published release, by tag."""
        return {
            one["tag_name"]: {a["name"]: self.contents[a["id"]] for a in one["assets"]}
            for one in self.releases
            if not one["draft"]
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: GitHubState

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else self._chunks()
        parts = urlsplit(self.path)
        line = f"{self.command} {parts.path}"
        state = self.state
        state.requests.append(line)
        number = len(state.requests)
        changes = sum(not each.startswith("GET ") for each in state.requests)
        is_fatal = state.kill is not None and line[:4] != "GET " and changes == state.kill[1]
        if state.kill is not None and is_fatal and not state.kill[2]:
            os.kill(state.kill[0], signal.SIGKILL)
            return
        bad = state.fail(line, number)
        if bad is not None:
            self._answer(*bad)
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {}, {"message": "Bad credentials"})
            return
        status, answer = self._act(parts.path, parse_qs(parts.query), body)
        if state.kill is not None and is_fatal:
            os.kill(state.kill[0], signal.SIGKILL)
            return
        lost = state.after(line, number)
        if lost is not None:
            self._answer(lost, {}, {"message": "lost"})
        else:
            self._answer(status, {}, answer)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, status: int, headers: dict[str, str], body: Any) -> None:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _act(self, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
        state = self.state
        missing = (404, {"message": "Not Found"})
        if not (match := re.fullmatch(r"/(?:repos|uploads)/ann/app/releases(?P<rest>/.*)?", path)):
            return missing
        rest = match["rest"] or ""
        if rest == "":
            return self._list(query) if self.command == "GET" else self._create(json.loads(body))
        if match := re.fullmatch(r"/tags/(.+)", rest):
            found = [one for one in state.releases if one["tag_name"] == match[1] and not one["draft"]]
            return (200, found[0]) if found else missing
        if match := re.fullmatch(r"/assets/(\d+)", rest):
            return self._asset(int(match[1]))
        match = re.fullmatch(r"/(\d+)(/assets)?", rest)
        found = [one for one in state.releases if match and one["id"] == int(match[1])]
        if not match or not found:
            return missing
        if match[2]:
            return self._upload(found[0], query["name"][0], body)
        return (200, found[0]) if self.command == "GET" else self._change(found[0], json.loads(body))

    def _list(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        page, count = int(query["page"][0]), int(query["per_page"][0])
        return 200, self.state.releases[::-1][(page - 1) * count : page * count]

    def _create(self, table: dict[str, Any]) -> tuple[int, Any]:
        state = self.state
        if not table["draft"] and any(
            r["tag_name"] == table["tag_name"] and not r["draft"] for r in state.releases
        ):
            return 422, {"message": "Validation Failed", "errors": [{"code": "already_exists"}]}
        number = state.new_id()
        upload = f"{state.address}/uploads/ann/app/releases/{number}/assets{{?name,label}}"
        release = {**table, "id": number, "assets": [], "upload_url": upload}
        state.releases.append(release)
        return 201, release

    def _change(self, release: dict[str, Any], table: dict[str, Any]) -> tuple[int, Any]:
        if table.get("draft") is False and release["draft"] and release["tag_name"] not in self.state.tags():
            return 422, {"message": "the tests want the tag first", "errors": [{"code": "invalid"}]}
        release.update({name: value for name, value in table.items() if name != "make_latest"})
        return 200, release

    def _asset(self, number: int) -> tuple[int, Any]:
        for release in self.state.releases:
            for asset in release["assets"]:
                if asset["id"] == number and self.command == "DELETE":
                    release["assets"].remove(asset)
                    return 204, None
                if asset["id"] == number:
                    return 200, self.state.contents[number]
        return 404, {"message": "Not Found"}

    def _upload(self, release: dict[str, Any], name: str, body: bytes) -> tuple[int, Any]:
        state = self.state
        if any(asset["name"] == name for asset in release["assets"]):
            errors = [{"resource": "ReleaseAsset", "code": "already_exists", "field": "name"}]
            return 422, {"message": "Validation Failed", "errors": errors}
        number = state.new_id()
        asset: dict[str, Any] = {"id": number, "name": name, "size": len(body), "state": "uploaded"}
        asset["url"] = f"{state.address}/repos/ann/app/releases/assets/{number}"
        if state.tells_digests:
            asset["digest"] = f"sha256:{hashlib.sha256(body).hexdigest()}"
        release["assets"].append(asset)
        state.contents[number] = body
        return 201, asset


@contextmanager
def github(tags: Callable[[], set[str]]) -> Iterator[GitHubState]:
    """Serve an empty repository `ann/app` on loopback."""
    state = GitHubState(tags=tags)
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
