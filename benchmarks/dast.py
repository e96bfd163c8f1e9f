"""Print what dynamic scans find in a vulnerable app on loopback, beside what they must find.

    .venv/bin/python benchmarks/dast.py [--tools FOLDER] [--without-wapiti]

The tools are installed from their locks into FOLDER (made the first time; a temporary one without it), and
run here as they are in their containers. The app runs on the Python of the development group. Beside the time
on the clock stands the CPU time of the scanner, which other work on the machine changes less. Last comes an
app whose pages lead to another host: how much that one is asked.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.scan.dast.aim import Aim  # noqa: E402
from pipeline.scan.dast.passive import Passive  # noqa: E402
from pipeline.scan.dast.prober.main import alive, describe  # noqa: E402
from pipeline.scan.dast.schemathesis import Schemathesis  # noqa: E402
from pipeline.scan.dast.wapiti import PYTHON, Wapiti  # noqa: E402
from pipeline.scan.fingerprint import identify  # noqa: E402
from pipeline.scan.merge import merge  # noqa: E402
from pipeline.scan.scanner import Ran, Target  # noqa: E402
from tests.vulnapp.flaws import FLAWS, false_alarms, found_flaws  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.scanner import Scan

PORT: Final = 18_947
PLACES: Final = ("/scan-in/", "/scan-out/", "/home/scan/", "/dast")


def installed(folder: Path, lock: str) -> Path:
    """The folder of programs of a tool."""
    venv = folder / lock
    if not venv.is_dir():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        text = ROOT / "pipeline/scan/tools" / f"{lock}.txt"
        pip = [
            str(venv / "bin/pip"),
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
        ]
        subprocess.run([*pip, "-r", str(text)], check=True)
    return venv / "bin"


def run(scanner: Passive | Schemathesis | Wapiti, aim: Aim, programs: str) -> tuple[Scan, float, float]:
    """One scanner's answer, the seconds it took, and those of CPU."""
    target = Target(root=aim.base, files={}, options={"aim": aim})
    [command] = scanner.commands(target)
    with tempfile.TemporaryDirectory() as folder:

        def here(text: str) -> str:
            if text == PYTHON:
                return f"{programs}/python"
            for place in PLACES:
                if text.startswith(place):
                    return folder + text
            return text

        for name, text in command.files.items():
            path = Path(here(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        Path(folder, "scan-out").mkdir()
        env = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": folder,
            **{name: here(value) for name, value in command.env.items()},
        }
        began, cpu = time.monotonic(), cpu_of_children()
        done = subprocess.run(
            [here(one) for one in command.argv], env=env, cwd=folder, capture_output=True, check=False
        )
        took, cpu = time.monotonic() - began, cpu_of_children() - cpu
        files = {
            name: Path(here(name)).read_bytes() for name in command.outputs if Path(here(name)).is_file()
        }
    ran = Ran(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr, files=files)
    return scanner.read(target, [ran]), took, cpu


def cpu_of_children() -> float:
    """CPU seconds of the programs that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def summary(name: str, runs: Sequence[tuple[Scan, float, float]], bar: str = "") -> None:
    """One row."""
    found = merge(identify([one for scan, _, _ in runs for one in scan.findings], {}))
    ids = found_flaws(found)
    lacks = " ".join(flaw.id for flaw in FLAWS if flaw.id not in ids) or "-"
    took, cpu = sum(one for _, one, _ in runs), sum(one for _, _, one in runs)
    count = f"{len(ids)} of {len(FLAWS)}"
    print(f"| {name} | {count} | {bar} | {lacks} | {len(false_alarms(found))} | {took:.1f} s | {cpu:.1f} s |")
    for one in false_alarms(found):
        print(f"  above low on a sound route: {one}", file=sys.stderr)
    for scan, _, _ in runs:
        if scan.state != "complete":
            print(f"  {scan.scanner} is {scan.state}: {scan.reason}", file=sys.stderr)


def measure(base: str, folder: Path, *, with_wapiti: bool) -> None:
    """All rows."""
    description = describe(base, ["/openapi.json"])["description"]
    quiet = Aim(base=base, description=description, writes=True)
    attack = Aim(base=base, description=description, writes=True, active=True, limit_s=600.0)
    programs = str(installed(folder, "schemathesis"))
    passive, schema = run(Passive(), quiet, programs), run(Schemathesis(), quiet, programs)
    active = run(Passive(), attack, programs)
    print("| scanners | found | must | not found | above low on sound routes | took | CPU |")
    print("|---|---|---|---|---|---|---|")
    summary("passive", [passive])
    summary("schemathesis", [schema])
    summary("passive and schemathesis", [passive, schema], "7 in 15 s")
    summary("passive with attacks", [active])
    if with_wapiti:
        attacks = run(Wapiti(), attack, str(installed(folder, "wapiti3")))
        summary("wapiti", [attacks])
        summary("all with attacks", [active, schema, attacks], "12")


class Leading(BaseHTTPRequestHandler):
    """Every page leads elsewhere: by a redirect, a link, a form, or where the value of a parameter says."""

    asked: ClassVar[list[str]] = []  # of the other host

    def do_GET(self) -> None:
        """Answer, or note that the other host was asked."""
        here, port = self.connection.getsockname()
        elsewhere = f"http://127.0.0.2:{port}"
        if here == "127.0.0.2":
            self.asked.append(self.path)
        path, _, query = self.path.partition("?")
        is_page = path in ("/", "/page")
        self.send_response(200 if is_page else 302)
        self.send_header("content-type", "text/html")
        given = urllib.parse.unquote(query.partition("=")[2])
        if not is_page:
            self.send_header("location", given if given.startswith("http") else elsewhere + path)
        body = f"<a href='{elsewhere}/link'>a</a><a href='/page?q=1'>b</a><a href='/out?to=1'>c</a>"
        body += f"<form action='{elsewhere}/form' method=post><input name=a></form><form action='/send'>"
        data = f"<html><body>{body}<input name=b></form></body></html>".encode() if is_page else b""
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815 - the name is the base class's

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def strays(folder: Path, *, with_wapiti: bool) -> None:
    """How often a host that pages lead to is asked."""
    with ExitStack() as stack:
        port = 0
        for host in ("127.0.0.1", "127.0.0.2"):
            server = stack.enter_context(ThreadingHTTPServer((host, port), Leading))
            port = int(server.server_address[1])
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        operation = {"parameters": [{"name": "to", "in": "query", "schema": {"type": "string"}}]}
        description = {
            "openapi": "3.1.0",
            "info": {"title": "a", "version": "1"},
            "paths": {path: {"get": {**operation, "responses": {}}} for path in ("/out", "/page")},
        }
        aim = Aim(base=f"http://127.0.0.1:{port}", description=description, writes=True, active=True)
        scanners: list[tuple[Passive | Schemathesis | Wapiti, str]] = [(Passive(), "schemathesis")]
        scanners += [(Schemathesis(), "schemathesis")]
        scanners += [(Wapiti(), "wapiti3")] if with_wapiti else []
        for scanner, lock in scanners:
            Leading.asked.clear()
            scan, took, _ = run(scanner, aim, str(installed(folder, lock)))
            print(
                f"{scanner.name}: asked the other host {len(Leading.asked)} times; {scan.state}, {took:.1f} s"
            )


def main() -> None:
    """Start the app and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=Path)
    parser.add_argument("--without-wapiti", action="store_true")
    options = parser.parse_args()
    base = f"http://127.0.0.1:{PORT}"
    argv = [sys.executable, "-m", "uvicorn", "tests.vulnapp.app:app", "--port", str(PORT)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([*argv, "--log-level", "critical"], cwd=ROOT) as app,
    ):
        try:
            if not alive(base, "/", 30)["alive"]:
                sys.exit("the app does not start")
            tools = options.tools or Path(folder)
            measure(base, tools, with_wapiti=not options.without_wapiti)
            strays(tools, with_wapiti=not options.without_wapiti)
        finally:
            app.terminate()


if __name__ == "__main__":
    main()
