"""Reading files by several processes: the same answer as by one, whatever happens to the helpers."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from pipeline.engine.sources.copying import ImportFailed, Reader
from pipeline.engine.sources.readers import read_files

FILES = 3000


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Many small files below `source`, one with a name that is no text."""
    (tmp_path / "target").mkdir()
    names = [f"{number // 100}/{number}" for number in range(FILES)] + [os.fsdecode(b"0/caf\xe9")]
    for name in names:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "target" / name).parent.mkdir(exist_ok=True)
        path.write_text(f"text of {name!a}")
    return names


def _helpers() -> list[int]:
    """The processes that this one started to read files."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"copying.py" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.parametrize("copies", [True, False], ids=["copied", "only hashed"])
def test_several_processes_read_what_one_reads(tmp_path: Path, paths: list[str], copies: bool) -> None:
    """Stamps and digests are equal, the copies have content, mode and time; no process is left."""
    source, target = f"{tmp_path}/source", f"{tmp_path}/target" if copies else None

    read = read_files(source, target, paths)

    assert sorted(read) == sorted(Reader(source, None).read_batch(paths))
    assert _helpers() == []
    for path, (size, mtime_ns, _, _, _, mode), sha256 in read if copies else ():
        info = os.stat(f"{target}/{path}")
        assert (info.st_size, info.st_mtime_ns, info.st_mode) == (size, mtime_ns, mode)
        assert hashlib.sha256(Path(f"{target}/{path}").read_bytes()).hexdigest() == sha256


def test_what_a_dead_process_had_in_hand_is_read_again(
    tmp_path: Path, paths: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It is killed as soon as it is there; a warning says so where it had begun."""
    killed: list[int] = []

    def kill() -> None:
        limit = time.monotonic() + 10
        while not killed and time.monotonic() < limit:
            for pid in _helpers():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    with caplog.at_level(logging.WARNING):
        read = read_files(f"{tmp_path}/source", f"{tmp_path}/target", paths)
    killer.join()

    assert sorted(path for path, _, _ in read) == sorted(paths)
    told = {record.getMessage().partition(" (")[0] for record in caplog.records}
    assert told <= {"a process that reads files has died"}


def test_a_file_that_is_gone_is_left_out(tmp_path: Path, paths: list[str]) -> None:
    for path in paths[:1500]:
        (tmp_path / "source" / path).unlink()

    read = read_files(f"{tmp_path}/source", f"{tmp_path}/target", paths)

    assert sorted(path for path, _, _ in read) == sorted(paths[1500:])
    assert not (tmp_path / "target" / paths[0]).exists()


def test_what_a_helper_meets_is_raised_here(tmp_path: Path, paths: list[str]) -> None:
    """All files from the second hundred on are of a kind that cannot be read."""
    for path in paths[100:]:
        (tmp_path / "source" / path).unlink()
        os.mkfifo(tmp_path / "source" / path)

    with pytest.raises(ImportFailed, match="it was replaced while being read"):
        read_files(f"{tmp_path}/source", f"{tmp_path}/target", paths)

    assert _helpers() == []


def test_a_target_that_cannot_be_written_is_told_with_its_path(tmp_path: Path, paths: list[str]) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read_files(f"{tmp_path}/source", f"{tmp_path}/nowhere", paths)

    assert str(caught.value.filename).startswith(f"{tmp_path}/nowhere/")
