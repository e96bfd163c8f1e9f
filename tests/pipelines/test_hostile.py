"""A hostile project: its `conftest.py` looks for the engine and for the secrets of other stages, for real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipelines.projects import new_repository

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

# Everything it finds is written to a report that the stage keeps. It looks while another stage's container,
# which has the secret, is at work.
CONFTEST = """
import ctypes, glob, json, os, pathlib, socket, stat

WORDS = [b"open" + b"sesame-" + word for word in (b"deploy", b"service")]
OURS = (b"pytest", b"/opt/pipeline/guard", b"pipeline_localhost")  # in this very container
NAMES = ("sockets", "ports", "variables", "secrets", "mounts", "devices", "processes", "shared")
found = {name: [] for name in NAMES}


def walk(top):
    for folder, names, files in os.walk(top, onerror=None):
        if folder in ("/proc", "/sys"):
            names[:] = []
            continue
        yield from (os.path.join(folder, name) for name in files)


def look_at_files():
    for path in walk("/"):
        try:
            kind = os.lstat(path)
            if stat.S_ISSOCK(kind.st_mode):
                found["sockets"].append(path)
            small = stat.S_ISREG(kind.st_mode) and kind.st_size < 1_000_000
            if small and not path.startswith(("/usr/", "/venv/", "/src/")):
                data = pathlib.Path(path).read_bytes()
                found["secrets"] += [path for word in WORDS if word in data]
        except OSError:
            pass


def look_at_processes():
    for folder in glob.glob("/proc/[0-9]*"):
        for name in ("environ", "cmdline"):
            try:
                data = pathlib.Path(folder, name).read_bytes()
            except OSError:
                continue
            found["secrets"] += [f"{folder}/{name}" for word in WORDS if word in data]
            if name == "cmdline" and b"pipeline" in data and not any(one in data for one in OURS):
                found["processes"].append(data.decode("utf-8", "replace"))
        for root in ("root", "cwd"):
            try:
                os.listdir(f"{folder}/{root}/proc/1/root/var/lib/pipeline")
                found["mounts"].append(f"{folder}/{root}")
            except OSError:
                pass


def look_at_network():
    lines = [line.split() for line in open("/proc/net/route").read().splitlines()[1:]]
    gateways = {socket.inet_ntoa(int(line[2], 16).to_bytes(4, "little")) for line in lines} - {"0.0.0.0"}
    for host in sorted({"127.0.0.1", *gateways}):
        for port in range(1, 65536):
            with socket.socket() as one:
                one.settimeout(0.5)
                # A port may have been given to this very socket: then it has connected to itself.
                if one.connect_ex((host, port)) == 0 and one.getsockname() != one.getpeername():
                    found["ports"].append(f"{host}:{port}")
    for line in open("/proc/net/unix").read().splitlines()[1:]:
        name = (line.split() + [""] * 8)[7]
        if name.startswith("@") and ("pipeline" in name or "dagger" in name):
            found["sockets"].append(name)


def look_at_shared_folders():
    for line in open("/proc/self/mountinfo"):
        place = line.split()[4]
        if place != "/" and not place.startswith(("/proc", "/sys", "/dev")) and os.path.isdir(place):
            found["shared"].append(place)  # later installations would take what is written there


def look_at_the_rest():
    for name in os.environ:
        if "DAGGER" in name or "DEPLOY" in name or "TOKEN" in name:
            found["variables"].append(name)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"proc", b"/mnt", b"proc", 0, None) == 0:
        found["mounts"].append("proc")
    for path in ("/dev/sda", "/dev/vda", "/dev/mem", "/dev/kmsg"):
        if os.path.exists(path):
            found["devices"].append(path)
    try:
        os.mknod("/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(8, 0))
        os.close(os.open("/tmp/disk", os.O_RDONLY))
        found["devices"].append("made")
    except OSError:
        pass


def pytest_sessionstart(session):
    look_at_the_rest()
    look_at_shared_folders()
    look_at_network()
    look_at_processes()
    look_at_files()
    os.makedirs("/reports", exist_ok=True)
    pathlib.Path("/reports/found.json").write_text(json.dumps(found))
    # Links in what the stage keeps, which would be followed on the machine itself.
    os.symlink("/etc/shadow", "/reports/shadow.txt")
    os.symlink("/", "/reports/root")
    os.makedirs("/reports/services", exist_ok=True)
    os.symlink("/root", "/reports/services/home")
"""
STAGES = '''
"""A stage with a secret, at work while the tests run."""

from pipeline import Context, stage


@stage(secrets=["DEPLOY_KEY"], after=["deps"])
async def guarded(ctx: Context) -> None:
    """Hold a secret in a container, in a variable, a file and a command line."""
    client = await ctx.dagger()
    secret = client.set_secret("DEPLOY_KEY", ctx.secret("DEPLOY_KEY"))
    container = client.container().from_("python:3.13-slim").with_secret_variable("DEPLOY_KEY", secret)
    container = container.with_mounted_secret("/run/secrets/deploy", secret)
    container = container.with_env_variable("RUN", ctx.run_id)
    await container.with_exec(["sh", "-c", "sleep 25; : $DEPLOY_KEY"]).sync()
'''
PROJECT = {
    "ci/stages.py": STAGES,
    "pyproject.toml": """
[tool.pipeline.services.api]
image = "python:3.13-slim"
command = ["python", "-m", "http.server", "8000"]
ports = [8000]
secrets = ["API_TOKEN"]
""",
    "requirements.txt": "pytest\n",
    "tests/integration/conftest.py": CONFTEST,
    "tests/integration/test_a.py": "def test_a():\n    pass\n",
    ".gitignore": ".pipeline\n",
}


def shown_to_all() -> set[int]:
    """Return the ports that programs of this machine show to every network, before anything of ours runs."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[1].startswith("00000000")}


def test_hostile_tests_reach_neither_the_engine_nor_another_stages_secrets(
    tmp_path: Path, store: Path
) -> None:
    """No socket, port, variable, process, mount, device or cache leads out; links are not followed."""
    theirs = shown_to_all()
    project = new_repository(tmp_path / "project", store, PROJECT)
    secrets = {"DEPLOY_KEY": "opensesame-deploy", "API_TOKEN": "opensesame-service"}

    ran = project.run("--only", "integration,guarded", "--keep-going", "-j", "4", **secrets)

    assert ran.outcomes["integration"] == "success", ran.stdout
    found = json.loads((ran.files("integration") / "found.json").read_text())
    found["ports"] = [one for one in found["ports"] if int(one.rpartition(":")[2]) not in theirs]
    found["ports"].remove("127.0.0.1:8000")  # its own service
    looked_for = ("sockets", "ports", "variables", "secrets", "mounts", "devices", "processes", "shared")
    assert found == {name: [] for name in looked_for}
    kept = sorted(
        str(path.relative_to(ran.files("integration"))) for path in ran.files("integration").rglob("*")
    )
    assert kept == ["coverage.xml", "found.json", "junit.xml", "services", "services/api.log"]
    assert not any(path.is_symlink() for path in ran.files("integration").rglob("*"))
