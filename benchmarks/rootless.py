"""What an ordinary user's engine costs against root's, both in one run: opening a session, execs in a chain.

    sudo .venv/bin/python benchmarks/rootless.py --user NAME [--python PATH] [--rounds N]

`--python` is one that the user may run. Each round has a session and a store of its own;
minima are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHAIN = 20


async def measure(rootfs: str) -> dict[str, float]:
    """Return milliseconds: to open a session, and for each exec of a chain."""
    import dagger  # noqa: F401 - so that it is not part of what is timed

    from pipeline.connect import open_session, parse_target
    from pipeline.engine.settings import EngineSettings

    with tempfile.TemporaryDirectory() as folder:
        settings = EngineSettings(store=os.path.join(folder, "store"))
        began = time.perf_counter()
        session = open_session(
            parse_target("embedded"), settings, workdir=Path(folder), observer=lambda _event: None
        )
        async with session as client:
            opened = time.perf_counter()
            container = client.container().with_rootfs(client.host().directory(rootfs))
            await container.with_exec(["/bin/busybox", "true"]).sync()
            warm = time.perf_counter()
            for number in range(CHAIN):
                container = container.with_exec(["/bin/busybox", "touch", f"/{number}"])
            await container.sync()
            done = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pipeline", "engine", "prune", "--all"],
            env={**os.environ, "PIPELINE_STORE": settings.store},
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return {"open": (opened - began) * 1000, "exec": (done - warm) * 1000 / CHAIN}


def run(python: str, rootfs: str, user: pwd.struct_passwd | None) -> dict[str, float]:
    """Measure in a process of root's, or of the user's."""
    argv = [python, __file__, "--measure", rootfs]
    path = [str(Path(__file__).parent.parent), *(p for p in sys.path if p.endswith("site-packages"))]
    environ = {"PATH": os.environ["PATH"], "HOME": "/root", "CI": "1", "PYTHONPATH": os.pathsep.join(path)}
    if user is not None:
        environ["HOME"] = user.pw_dir
        argv = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--", *argv]
    done = subprocess.run(argv, env=environ, cwd="/", stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--user")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(asyncio.run(measure(options.measure))))
        return
    user = pwd.getpwnam(options.user)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        rootfs = os.path.join(folder, "rootfs")
        (Path(folder) / "rootfs/bin").mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "busybox", Path(folder) / "rootfs/bin/busybox")
        rounds = [
            (run(options.python, rootfs, None), run(options.python, rootfs, user))
            for _ in range(options.rounds)
        ]
    print(f"{'':<28}{'root':>10}{'user':>10}{'ratio':>8}")
    for name, what in (("open", "open a session, ms"), ("exec", f"exec in a chain of {CHAIN}, ms")):
        root, other = (min(pair[side][name] for pair in rounds) for side in (0, 1))
        print(f"{what:<28}{root:>10.1f}{other:>10.1f}{other / root:>8.2f}")


if __name__ == "__main__":
    main()
