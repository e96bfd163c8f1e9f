"""How long an engine takes to come into a store where a killed one left files, and how long these take to go.

.venv/bin/python benchmarks/start_after_kill.py [--files N]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.engine.store import Store

# An engine that is killed while a command writes files, a hundred in a folder.
_KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.engine.store import Store

store = Store.open(Path(sys.argv[1]))
draft = store.snapshots.prepare(store.snapshots.empty)
for number in range(int(sys.argv[2])):
    folder = draft.upper / str(number // 100)
    if number % 100 == 0:
        folder.mkdir()
    (folder / str(number)).write_bytes(b"x" * 500)
os.kill(os.getpid(), signal.SIGKILL)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=40_000)
    files: int = parser.parse_args().files
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as name:
        root = Path(name, "store")
        worker = subprocess.run([sys.executable, "-c", _KILLED, root, str(files)], check=False)
        assert worker.returncode == -signal.SIGKILL
        os.sync()
        began = time.perf_counter()
        store = Store.open(root)
        opened = time.perf_counter()
        store.gone.empty(lambda: False)
        emptied = time.perf_counter()
        store.close()
    print(f"coming in after {files} files were left   {(opened - began) * 1000:9.1f} ms")
    print(f"removing them                             {(emptied - opened) * 1000:9.1f} ms")


if __name__ == "__main__":
    main()
