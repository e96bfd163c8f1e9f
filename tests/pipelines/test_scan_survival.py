"""What scanners and hostile repositories do to a run: each ends in its documented state, nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from pipeline.scan.packages.locks import READERS
from tests.pipelines.test_robustness_output import peak_kb

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pipelines.robust import RobustProject

pytestmark = [pytest.mark.root, pytest.mark.timeout(400)]

LIMIT_S: Final = 3  # of what hangs
MOST_KB: Final = 300 << 10

# One scanner for each script, side by side with one that is good. Their names are those of tools with a lock.
STAGES: Final = '''
import json
from dataclasses import dataclass

import anyio

from pipeline import Context, stage
from pipeline.scan.finding import Finding, InFile, Rule, Severity, Witness
from pipeline.scan.scanner import Command, Scan, counted
from pipeline.stages.scanning import conclude, read_files
from pipeline.stages.contents import too_large
from pipeline.stages.looking import run_scanner, with_large
from pipeline.stages.tools import with_project

drop = ["*"]


@dataclass(frozen=True)
class Fake:
    """Runs a script that prints a list of paths as JSON."""

    name: str
    script: str
    limit_s: float

    def wants(self, paths):
        return [path for path in paths if path.endswith(".txt")]

    def settings(self, paths):
        return []

    def expects(self, target):
        return sorted(target.files)

    def commands(self, target):
        return [Command(argv=("sh", "-c", self.script), outputs=("/tmp/out",), timeout_s=self.limit_s)]

    def read(self, target, ran):
        seen = json.loads(ran[0].stdout or ran[0].files["/tmp/out"])
        found = tuple(
            Finding(id="", kind="sast", rule=Rule(id="F1"), title="a word", message="a word",
                    severity=Severity(level="low", basis="fake"), place=InFile(path=path, line=1),
                    witnesses=(Witness(tool=self.name, version="1", rule="F1"),))
            for path in seen
        )
        return Scan(scanner=self.name, state="complete", coverage=counted("files", list(target.files)),
                    findings=found)


@stage(inputs=["**"])
async def fakes(ctx: Context) -> str:
    """Runs all scripts of `tools.json` at once."""
    scripts = json.loads((ctx.root / "tools.json").read_text())
    client = await ctx.dagger()
    container = client.container().with_rootfs(client.host().directory("ROOTFS"))
    files = read_files(ctx)
    answers = {}

    async def work(name):
        ready = await with_project(ctx, container, without=too_large(files))
        limit_s = LIMIT if name in ("bandit", "semgrep") else 60.0
        fake = Fake(name, scripts[name], limit_s)
        answers[name] = with_large(await run_scanner(ctx, ready, fake, files), fake.wants(too_large(files)))

    async with anyio.create_task_group() as group:
        for name in scripts:
            group.start_soon(work, name)
    return conclude(ctx, [answers[name] for name in scripts], kinds=frozenset({"sast"}), texts={}).result
'''.replace("LIMIT", str(LIMIT_S))
GOOD: Final = """cd /src; echo '["a.txt"]'"""
# Tool, what it does, and the sentence that is told.
BAD: Final = {
    "bandit": ("sleep 60", f"`sh` was stopped after {LIMIT_S} s"),
    "semgrep": ("trap '' TERM; while :; do :; done", f"`sh` was stopped after {LIMIT_S} s"),
    "vulture": ("echo '[\"a.txt\"]'; kill -SEGV $$", "`sh` was ended by SIGSEGV"),
    "zizmor": ("head -c 1000 /dev/urandom", "what `zizmor` said cannot be understood"),
    "hadolint": ("yes | head -c 200000000", "`sh` said more than 64 MiB"),
    "shellcheck": ("exit 0", "what `shellcheck` said cannot be understood (KeyError: '/tmp/out')"),
    "locust": ("yes '[' | tr -d '\\n' | head -c 1000000", "what `locust` said cannot be understood"),
    "safety": ("head -c 200000000 /dev/zero >/tmp/out", "`sh` said more than 64 MiB"),
    "pip-audit": ("ln -s /etc/passwd /tmp/out", "what `pip-audit` said cannot be understood"),
    "wapiti3": ("awk 'BEGIN { s = \"x\"; while (1) s = s s }'", "`sh` could not run: "),
}


def scans_of(project: RobustProject, stage: str) -> dict[str, dict[str, Any]]:
    """The scanners' answers that a stage kept, by name."""
    path = project.runs()[-1] / "stages" / stage / "files/findings.json"
    return {one["scanner"]: one for one in json.loads(path.read_text())["scans"]}


def test_a_scanner_that_breaks_is_in_error_with_a_sentence_and_the_others_are_heard(
    bare: RobustProject,
) -> None:
    """It hangs, dies, prints garbage or too much, wants too much memory, leaves nothing or a link."""
    scripts = {"ruff": GOOD, **{name: script for name, (script, _) in BAD.items()}}
    settings = '[tool.pipeline.engine]\nexec_max_memory = "100MB"\n'
    bare.write({"ci/stages.py": STAGES, "tools.json": json.dumps(scripts), "a.txt": "a word\n"})
    bare.write({"pyproject.toml": settings})

    done, peaks_kb = run_watched(bare, "run")

    scans = scans_of(bare, "fakes")
    assert done.returncode == 1
    assert scans["ruff"]["state"] == "complete"
    assert {name for name, one in scans.items() if one["state"] == "error"} == BAD.keys()
    told = {name: scans[name]["reason"] for name in BAD}
    assert {name: told[name][: len(reason)] for name, (_, reason) in BAD.items()} == {
        name: reason for name, (_, reason) in BAD.items()
    }
    assert told["wapiti3"].endswith("(out of memory)")
    assert all(one["coverage"]["seen"] == 0 for name, one in scans.items() if name in BAD)
    path = bare.runs()[-1] / "stages/fakes/files/findings.json"
    judged = json.loads(path.read_text())["verdict"]["judged"]
    assert [one["finding"]["place"]["path"] for one in judged] == ["a.txt"]
    assert max(peaks_kb.values()) < MOST_KB, peaks_kb
    assert bare.wait_until_gone() == {}


def test_a_scanner_that_fills_the_disk_is_in_error_and_says_so(bare: RobustProject) -> None:
    """The store's disk is full for a moment; what the tool wrote is gone with it."""
    full = "dd if=/dev/zero of=/big bs=1M count=100 2>/dev/null; echo '[]' || exit 3"
    bare.write({"ci/stages.py": STAGES, "tools.json": json.dumps({"bandit": full}), "a.txt": "a\n"})
    bare.store.mkdir()
    bare.room.do("mount", "-t", "tmpfs", "-o", "size=20m", "none", str(bare.store))

    done = bare("run", "-q")

    scan = scans_of(bare, "fakes")["bandit"]
    assert done.code == 1
    assert scan["state"] == "error"
    assert "no room on the disk" in scan["reason"] or "no space left" in scan["reason"].lower(), scan


@pytest.fixture
def hostile(bare: RobustProject) -> RobustProject:
    """10,000 files, links out of the tree, names and contents that are no UTF-8, and a gigabyte of holes."""
    root = bare.root
    (root / "many").mkdir()
    for number in range(10_000):
        (root / "many" / f"m{number}.txt").write_text(f"{number}\n")
    for name in (b"caf\xe9.txt", b"new\nline.txt", b"*[a]!?.txt", b"-rf.txt"):
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(b"\xff\xfe\x00\x81 no text\n")
    (root / "passwd.txt").symlink_to("/etc/passwd")
    (root / "out").symlink_to("/etc")
    (root / "loop.txt").symlink_to("loop.txt")
    bare.write({"tools.json": json.dumps({"ruff": COUNT}), ".gitignore": ".pipeline\n"})
    return bare


COUNT: Final = """
cd /src; find . -type f -name '*.txt' -print0 | tr -dc '\\0' | wc -c >/tmp/n
test -e huge.txt && echo huge >>/tmp/n; tr '\\n' ' ' </tmp/n >&2; printf '["%s"]' "$(tr '\\n' ' ' </tmp/n)"
"""


def commit(root: Path) -> None:
    """Commit everything; what is in the gigabyte came after the commit, or git would copy it."""
    settings = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    (root / "huge.txt").write_bytes(b"")
    for argv in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all")):
        subprocess.run(["git", *settings, *argv], cwd=root, check=True, capture_output=True)
    with (root / "huge.txt").open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.slow
def test_a_hostile_repository_is_scanned_within_bounds_and_what_was_left_out_is_told(
    hostile: RobustProject,
) -> None:
    """Nothing outside of it is read, the gigabyte is told as missed, the rest is seen."""
    hostile.write({"ci/stages.py": STAGES})
    commit(hostile.root)

    done, peaks_kb = run_watched(hostile, "run")

    scan = scans_of(hostile, "fakes")["ruff"]
    path = hostile.runs()[-1] / "stages/fakes/files/findings.json"
    [judged] = json.loads(path.read_text())["verdict"]["judged"]
    assert done.returncode == 0, done
    assert judged["finding"]["place"]["path"].split() == ["10004"]
    assert scan["state"] == "incomplete"
    assert scan["coverage"]["missed"] == [{"what": "huge.txt", "why": "it has more than 16 MiB"}]
    assert (scan["coverage"]["seen"], scan["coverage"]["expected"]) == (10_004, 10_005)
    assert max(peaks_kb.values()) < MOST_KB, peaks_kb


@pytest.mark.slow
def test_secrets_of_a_hostile_repository_are_looked_for_within_bounds(hostile: RobustProject) -> None:
    """The stage reads the first part of the gigabyte and says so; links are not followed."""
    commit(hostile.root)

    done, peaks_kb = run_watched(hostile, "run", "--only", "checkout,secret_scan")

    scans = scans_of(hostile, "secret_scan")
    assert done.returncode == 0, done
    assert {name: one["state"] for name, one in scans.items() if one["state"] != "complete"} == {
        "secrets": "incomplete"
    }
    missed = {"what": "huge.txt", "why": "only its first 256 MB were read"}
    assert scans["secrets"]["coverage"]["missed"] == [missed]
    assert max(peaks_kb.values()) < MOST_KB, peaks_kb


GARBAGE: Final = {
    "empty": b"",
    "binary": bytes(range(256)),
    "no-text": b"\xff\xfe\xfa",
    "cut": b'{"packages": {"a": {"version": "1',
    "number": b"3",
    "deep": b"[" * 200_000,
    "wrong-kinds": b'{"packages": 3, "dependencies": [1], "default": "x", "lockfileVersion": {}}',
    "wrong-table": b'package = 3\nversion = "x"\n[[packages]]\nname = 3\n',
    "doctype": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><project>&b;</project>',
}


def test_broken_lock_files_of_every_kind_are_told_and_stop_nothing(bare: RobustProject) -> None:
    """One good file is judged all the same; none of the broken ones passes as one without packages."""
    names = [*READERS, "pylock.toml", "requirements-x.txt"]
    files = {f"{kind}/{name}": data for kind, data in GARBAGE.items() for name in names}
    bare.write({**files, "requirements.txt": "iniconfig==2.0.0\n", ".gitignore": ".pipeline\n"})

    done = bare("run", "--only", "checkout,dependency_scan", "--offline", PIPELINE_SCAN_DATA="/nothing")

    assert done.code in (0, 1), done
    [scan] = scans_of(bare, "dependency_scan").values()
    missed = {one["what"]: one["why"] for one in scan["coverage"]["missed"]}
    rows = json.loads((bare.runs()[-1] / "stages/dependency_scan/files/packages.json").read_text())
    named = {row["path"] for row in rows if row["state"] == "unknown"}
    silent = sorted(set(files) - missed.keys() - named)
    assert "Traceback" not in done.stdout + done.stderr
    assert "iniconfig" in json.dumps(scan)
    assert [name for name in silent if not name.startswith(("empty", "doctype/requirements"))] == []
    assert not any("root:" in why for why in missed.values())


def run_watched(
    project: RobustProject, *argv: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, int]]:
    """Run the pipeline; how it ended, and the most memory that engine and command had at once, in KiB."""
    process = project.start(*argv, "-q")
    peaks_kb: dict[str, int] = {}
    until = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < until:
        for pid, command in project.left().items():
            if "pipeline" in command:
                name = "engine" if "pipeline.session" in command else "command"
                peaks_kb[name] = max(peaks_kb.get(name, 0), peak_kb(pid))
        time.sleep(0.2)
    stdout, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr), peaks_kb
