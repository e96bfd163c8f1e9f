"""Print what dynamic scans find in a vulnerable app on loopback, beside what they must find.

    .venv/bin/python benchmarks/dast.py [--tools FOLDER] [--without-wapiti]

The tools are installed from their locks into FOLDER (made the first time; a temporary one without it), and
run here as they are in their containers. The app runs on the Python of the development group. Beside the time
on the clock stands the CPU time of the scanner, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

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
            measure(base, options.tools or Path(folder), with_wapiti=not options.without_wapiti)
        finally:
            app.terminate()


if __name__ == "__main__":
    main()
