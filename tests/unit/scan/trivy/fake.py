"""A Trivy server for tests: what a real one was recorded to answer, worked out the same way.

`test_fake` replays the recording against it. Its database is the recording's, and what a test adds.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote

from pipeline.scan.advisories.orders import BadVersion, order_of

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDING: Final[dict[str, Any]] = json.loads((Path(__file__).parent / "exchanges.json").read_text())
EXCHANGES: Final[list[dict[str, Any]]] = RECORDING["exchanges"]
TOKEN: Final = "s3cr3t-trivy-token"
FAMILIES: Final = {"debian": "Debian", "alpine": "Alpine", "ubuntu": "Ubuntu", "rocky": "Rocky Linux"}
PURLS: Final = {"debian": "deb/debian", "alpine": "apk/alpine", "ubuntu": "deb/ubuntu", "rocky": "rpm/rocky"}
LANGUAGES: Final = {
    "python-pkg": ("PyPI", "pypi", "Python"),
    "node-pkg": ("npm", "npm", "Node.js"),
    "npm": ("npm", "npm", ""),
    "jar": ("Maven", "maven", "Java"),
    "gobinary": ("Go", "golang", ""),
}
ENDED: Final = ("debian 11",)
TEXTS: Final = (
    *("id", "name", "version", "release", "arch", "src_name", "src_version", "src_release", "file_path"),
    *("digest", "maintainer", "analyzed_by"),
)
STRUCTURE: Final[dict[str, Any]] = {
    **dict.fromkeys(TEXTS, ""),
    **dict.fromkeys(("epoch", "src_epoch", "relationship"), 0),
    **{key: [] for key in ("licenses", "locations", "depends_on")},
    **dict.fromkeys(("dev", "indirect"), False),
    "repository": None,
}


def recorded_database() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The advisories of the recording, by release or language and by package."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for exchange in EXCHANGES:
        for result in exchange["response"].get("results", ()):
            for one in result["vulnerabilities"]:
                is_os = result["class"] == "os-pkgs"
                bucket = "debian 12" if is_os else LANGUAGES[result["type"]][0]
                told = found.setdefault(bucket, {}).setdefault(one["pkg_name"].lower(), [])
                if not told:
                    told.append(one)
    return found


def advisory(name: str, fixed: str, severity: str = "HIGH") -> dict[str, Any]:
    """One more advisory, in the recording's shape."""
    one = recorded_database()["debian 12"]["libgcrypt20"][0]
    return {**one, "vulnerability_id": name, "fixed_version": fixed, "severity": severity}


@dataclass
class Fake:
    """The state of the server, and how it is to misbehave."""

    database: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=recorded_database)
    version: dict[str, Any] = field(default_factory=lambda: dict(RECORDING["version"]))
    token: str = TOKEN
    prefix: str = "/twirp"
    not_ready: int = 0  # so many answers are 503
    forgetful: int = 0  # so many scans lose every blob before
    drops: int = 0  # so many requests on a kept connection end it without an answer
    speaks: bytes | None = None  # in place of every answer
    blobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    artifacts: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)  # the calls, by their last part
    connections: int = 0
    url: str = ""

    def answer(self, path: str, body: Any, token: str | None) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        method = path.rpartition("/")[2]
        self.asked.append(method)
        if self.not_ready:
            self.not_ready -= 1
            return 503, {"code": "unavailable", "msg": "not ready"}
        if token != self.token:
            return 401, {"code": "unauthenticated", "msg": "invalid token"}
        known = {"MissingBlobs", "PutBlob", "PutArtifact", "DeleteBlobs", "Scan"}
        if not path.startswith(self.prefix + "/trivy.") or method not in known:
            meta = {"twirp_invalid_route": f"POST {path}"}
            return 404, {"code": "bad_route", "msg": f'no handler for path "{path}"', "meta": meta}
        if not isinstance(body, dict):
            return 400, {"code": "malformed", "msg": "the json request could not be decoded"}
        told: tuple[int, dict[str, Any]] = getattr(self, f"_{method.lower()}")(body)
        return told

    def _missingblobs(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        missing = [one for one in body["blob_ids"] if one not in self.blobs]
        return 200, {
            "missing_artifact": body["artifact_id"] not in self.artifacts,
            "missing_blob_ids": missing,
        }

    def _putblob(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["blob_info"].get("secrets"):
            return PANIC
        self.blobs[body["diff_id"]] = body["blob_info"]
        return 200, {}

    def _putartifact(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.artifacts.add(body["artifact_id"])
        return 200, {}

    def _deleteblobs(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        for one in body["blob_ids"]:
            self.blobs.pop(one, None)
        return 200, {}

    def _scan(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "options" not in body:
            return PANIC
        if self.forgetful:
            self.forgetful -= 1
            self.blobs.clear()
        for one in body["blob_ids"]:
            if self.blobs.get(one, {}).get("schema_version") != 2:
                said = f"failed scan, {body['target']}: failed to apply layers: layer cache missing: {one}"
                return 500, {"code": "internal", "msg": said, "meta": {"cause": "*xerrors.wrapError"}}
        blobs = [self.blobs[one] for one in body["blob_ids"]]
        system = next((one["os"] for one in reversed(blobs) if "os" in one), {"family": "none", "name": ""})
        release = _release(system)
        results = []
        if "vuln" in body["options"].get("scanners", ()):
            files = merged(blobs)
            results = [*self._system(body["target"], system, files), *self._languages(files)]
        told = {**system, "eosl": release in ENDED, "extended": False, "supplier": ""}
        return 200, {"os": told, "results": results, "layers": [_layer(one["diff_id"]) for one in blobs]}

    def _system(
        self, target: str, system: dict[str, str], files: dict[Any, tuple[str, list[dict[str, Any]]]]
    ) -> list[dict[str, Any]]:
        packages = [(one, layer) for key, (layer, told) in files.items() if not key[1] for one in told]
        family = system["family"]
        if not packages or family not in FAMILIES:
            return []
        bucket = self.database.get(_release(system), {})
        listed, problems = [], []
        for one, layer in packages:
            version = _whole(one)
            purl = f"pkg:{PURLS[family]}/{one['name']}@{quote(version)}?"
            purl += f"arch={one['arch']}&" if "arch" in one else ""
            row = _row(one, layer, f"{purl}distro={family}-{system['name']}")
            listed.append(row)
            source = _whole(
                {key.removeprefix("src_"): value for key, value in one.items() if key[:4] == "src_"}
            )
            for known in bucket.get(one.get("src_name", ""), ()):
                if _is_below(FAMILIES[family], source, known["fixed_version"]):
                    problems.append(_problem(known, row, version))
        return [_result(f"{target} ({family} {system['name']})", "os-pkgs", family, listed, problems)]

    def _languages(self, files: dict[Any, tuple[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
        groups: dict[tuple[str, str], list[tuple[dict[str, Any], str]]] = {}
        for (path, kind), (layer, told) in files.items():
            if kind:
                target = LANGUAGES[kind][2] or path
                groups.setdefault((kind, target), []).extend((one, layer) for one in told)
        found = []
        for (kind, target), packages in groups.items():
            ecosystem, purl, _ = LANGUAGES[kind]
            listed, problems = [], []
            for one, layer in packages:
                row = _row(one, layer, f"pkg:{purl}/{one['name'].lower()}@{one['version']}")
                listed.append(row)
                for known in self.database.get(ecosystem, {}).get(one["name"].lower(), ()):
                    if _is_below(ecosystem, one["version"], known["fixed_version"]):
                        problems.append(_problem(known, row, one["version"]))
            found.append(_result(target, "lang-pkgs", kind, listed, problems))
        return found


PANIC: Final[tuple[int, dict[str, Any]]] = (500, {"code": "internal", "msg": "Internal service panic"})


def merged(blobs: list[dict[str, Any]]) -> dict[Any, tuple[str, list[dict[str, Any]]]]:
    """What layers show together: by path and type ("" a distribution's), the layer and its packages."""
    files: dict[Any, tuple[str, list[dict[str, Any]]]] = {}
    for blob in blobs:
        gone = blob.get("whiteout_files", [])
        folders = blob.get("opaque_dirs", [])
        for path, kind in list(files):
            below = any(path.startswith(one + "/") for one in (*gone, *folders))
            if path in gone or below:
                del files[path, kind]
        for one in blob.get("package_infos", ()):
            files[one["file_path"], ""] = (blob["diff_id"], one["packages"])
        for one in blob.get("applications", ()):
            files[one["file_path"], one["type"]] = (blob["diff_id"], one["packages"])
    return files


def _release(system: dict[str, str]) -> str:
    parts = system["name"].split(".")
    short = parts[:1] if system["family"] in ("debian", "rocky") else parts[:2]
    return f"{system['family']} {'.'.join(short)}"


def _whole(one: dict[str, Any]) -> str:
    version = one.get("version", "") + (f"-{one['release']}" if one.get("release") else "")
    return f"{one['epoch']}:{version}" if one.get("epoch") else version


def _is_below(ecosystem: str, version: str, fixed: str) -> bool:
    order = order_of(ecosystem)
    assert order is not None
    try:
        return bool(order(version) < order(fixed))
    except BadVersion:
        return False


def _layer(diff_id: str) -> dict[str, str]:
    return {"digest": "", "diff_id": diff_id, "created_by": "", "size": "0"}


def _row(one: dict[str, Any], layer: str, purl: str) -> dict[str, Any]:
    own = {"layer": _layer(layer), "identifier": {"purl": purl, "bom_ref": "", "uid": ""}}
    return {**STRUCTURE, **one, **own}


def _problem(told: dict[str, Any], row: dict[str, Any], version: str) -> dict[str, Any]:
    own = {
        "pkg_name": row["name"],
        "installed_version": version,
        "pkg_identifier": row["identifier"],
        "layer": row["layer"],
        "pkg_path": row["file_path"],
        "pkg_id": row["id"],
    }
    return {**told, **own}


def _result(target: str, kind: str, name: str, packages: list[Any], problems: list[Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {"misconfigurations": [], "custom_resources": [], "secrets": [], "licenses": []}
    own = {"target": target, "class": kind, "type": name, "packages": packages, "vulnerabilities": problems}
    return {**empty, **own}


class Handler(BaseHTTPRequestHandler):
    """One connection to a fake server."""

    fake: ClassVar[Fake]
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one piece, as the real one sends them
    requests = 0

    def setup(self) -> None:
        super().setup()
        self.fake.connections += 1

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._send(200, b"ok")
        elif self.path == "/version":
            self._send(200, json.dumps(self.fake.version).encode())
        else:
            self._send(404, b"404 page not found")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests += 1
        if self.fake.drops and self.requests > 1:
            self.fake.drops -= 1
            self.close_connection = True
            return
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        status, told = self.fake.answer(self.path, body, self.headers.get("Trivy-Token"))
        self._send(status, json.dumps(told).encode())
        if (status, told) == PANIC:
            self.close_connection = True  # without a word, as the real one does

    def _send(self, status: int, data: bytes) -> None:
        data = data if self.fake.speaks is None else self.fake.speaks
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    """Run the server on a free port of this machine; `fake.url` says where."""
    handler = type("HandlerOfOne", (Handler,), {"fake": fake})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
