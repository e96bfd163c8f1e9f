"""A node of a real control plane that runs nothing: it says of pods what their image's name tells it to.

`registry.invalid/bad/...` cannot be pulled, `crash/...` ends at once, `config/...` cannot be set up and
`homeless/...` finds no node; a pod of a job succeeds, but not for `fails/...`; all others are ready at once.
"""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import yaml

NODE: Final = "node-1"
WAITING: Final = {
    "bad": ("ImagePullBackOff", "Back-off pulling image: manifest unknown"),
    "config": ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
    "crash": ("CrashLoopBackOff", "back-off 10s restarting failed container"),
}
POLL_S: Final = 0.2


class Cluster:
    """The server that a kubeconfig names, asked with its token."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._url = cluster["server"]
        self._token = config["users"][0]["user"]["token"]
        self._trust = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer; {} for what is not there or has changed meanwhile."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request = Request(  # noqa: S310 - the cluster's own address
            self._url + path,
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": kind},
        )
        try:
            with urlopen(request, context=self._trust, timeout=10) as answer:  # noqa: S310 - likewise
                return json.loads(answer.read())
        except HTTPError as error:
            if error.code in (404, 409):
                return {}
            raise


class Kubelet:
    """Looks at all pods again and again, in a thread of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        self._cluster = Cluster(kubeconfig)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._logs = _serve_logs()
        self._addresses: dict[str, str] = {}

    def __enter__(self) -> Kubelet:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        self._cluster.ask("POST", "/api/v1/nodes", node)
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._logs.server_address[1]}},
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        self._cluster.ask("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._logs.shutdown()
        self._logs.server_close()

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            for pod in self._cluster.ask("GET", "/api/v1/pods").get("items", []):
                self._tend(pod)

    def _tend(self, pod: Any) -> None:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if "deletionTimestamp" in meta:
            self._cluster.ask("DELETE", path, {"gracePeriodSeconds": 0, "kind": "DeleteOptions"})
            return
        told = pod["spec"]["containers"][0]["image"].split("/")[1]
        if "nodeName" not in pod["spec"]:
            if told == "homeless":
                self._say(path, pod, {"phase": "Pending", "conditions": [_HOMELESS]})
                return
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            binding = {
                "kind": "Binding",
                "apiVersion": "v1",
                "metadata": {"name": meta["name"]},
                "target": target,
            }
            self._cluster.ask("POST", f"{path}/binding", binding)
        self._say(path, pod, self._status(pod, told))

    def _say(self, path: str, pod: Any, status: dict[str, Any]) -> None:
        had = pod.get("status", {})
        if {key: had.get(key) for key in status} != status:
            self._cluster.ask("PATCH", f"{path}/status", {"status": status})

    def _status(self, pod: Any, told: str) -> dict[str, Any]:
        is_job = "job-name" in pod["metadata"].get("labels", {})
        address = self._addresses.setdefault(
            pod["metadata"]["uid"], f"10.9.{len(self._addresses) // 250}.{len(self._addresses) % 250 + 1}"
        )
        main: dict[str, Any] = {"name": "main", "image": "x", "imageID": "x", "restartCount": 0}
        since = pod["metadata"]["creationTimestamp"]
        if is_job and told not in WAITING:
            code = 1 if told == "fails" else 0
            end = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": since}
            main |= {
                "ready": False,
                "state": {"terminated": {**end, "finishedAt": since, "containerID": "x://1"}},
            }
            return {"phase": "Failed" if code else "Succeeded", "containerStatuses": [main]}
        ready = told not in WAITING
        if ready:
            main |= {"ready": True, "started": True, "state": {"running": {"startedAt": since}}}
        else:
            reason, message = WAITING[told]
            main |= {"ready": False, "state": {"waiting": {"reason": reason, "message": message}}}
            if told == "crash":
                main |= {"restartCount": 2, "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}
        conditions = [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True" if ready else "False"},
        ]
        return {
            "phase": "Running" if ready else "Pending",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": conditions,
            "containerStatuses": [main],
        }


_HOMELESS: Final = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient memory.",
}


class _Log(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = b"cannot open the database\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _serve_logs() -> ThreadingHTTPServer:
    """Answer what the control plane asks a node for logs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Log)
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=node-1",
            "-days",
            "2",
        ]
        key, own = f"{folder}/key", f"{folder}/own"
        subprocess.run([*words, "-keyout", key, "-out", own], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    with Kubelet(Path(sys.argv[1])):
        while True:
            time.sleep(60)
