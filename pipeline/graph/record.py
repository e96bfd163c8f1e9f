"""The run folder: every run's evidence, written as it happens, so that a killed run has all it knew.

The shape of the files is in `docs/reference/run-folder.md`. Reading them back is for `history` and reports.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, assert_never

from pipeline.digest import Digest
from pipeline.errors import PipelineError
from pipeline.graph import events
from pipeline.graph.context import Artifact, check_artifact_name
from pipeline.graph.files import write_atomically
from pipeline.graph.wire import event_to_line, plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA: Final = 1
COPY_BYTES: Final = 1 << 20


class FolderBroken(PipelineError):
    """The run folder cannot be written: without evidence the run must end."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot write the run folder `{path}`: {(error.strerror or str(error)).lower()}")
        self.path = path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            self.hint = "free space on its disk; `pipeline cache prune` empties the cache of stage results"


def new_run_id(now: float) -> str:
    """An id that sorts by time (UTC, milliseconds) and is unique for runs that start together."""
    moment = datetime.fromtimestamp(now, UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{moment.microsecond // 1000:03d}-{os.urandom(2).hex()}"


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact and where its content is."""

    artifact: Artifact
    path: Path


class RunFolder:
    """Writes one run's folder; `write` is called with each event, in order, from one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name
        self._events: int | None = None
        self._logs: dict[str, int] = {}
        self._run: dict[str, Any] = {}

    @classmethod
    def create(cls, runs: Path, now: float) -> RunFolder:
        """Make a new folder below `runs` (normally `.pipeline/runs`).

        Raises:
            FolderBroken: It cannot be made.
        """
        try:
            runs.mkdir(parents=True, exist_ok=True)
            while True:
                path = runs / new_run_id(now)
                try:
                    path.mkdir()
                    return cls(path)
                except FileExistsError:
                    continue
        except OSError as error:
            raise FolderBroken(runs, error) from error

    def write(self, event: events.Event) -> None:
        """Note an event in the files that hold it.

        Raises:
            FolderBroken: A file cannot be written.
        """
        try:
            self._write(event)
        except OSError as error:
            raise FolderBroken(self.path, error) from error

    def _write(self, event: events.Event) -> None:
        match event:
            case events.StageOutput():
                self._log(event)
                return
            case events.RunStarted():
                self._started(event)
            case events.RunFinished():
                self._finished(event)
            case events.StageFinished():
                self._run.setdefault("stages", {})[event.stage] = _summary(event)
            case events.StageStarted() | events.StageStep() | events.StageQuiet() | events.StageRetried():
                pass
            case _:
                assert_never(event)
        if self._events is None:
            self._events = _append_to(self.path / "events.jsonl")
        # One unbuffered write a line: a kill never leaves two half lines, and loses none that was told.
        _write_all(self._events, event_to_line(event).encode("utf-8", "surrogatepass") + b"\n")
        if isinstance(event, events.RunFinished):
            self.close()

    def _started(self, event: events.RunStarted) -> None:
        from pipeline import __version__

        self._run = {
            "schema": SCHEMA,
            "run_id": event.run_id,
            "status": "running",
            "started_at": event.at,
            "command": list(event.command),
            "project": event.project,
            "commit": event.commit,
            "dirty": event.dirty,
            "environment": event.environment,
            "pid": os.getpid(),
            "version": __version__,
            "stages": {},
        }
        stages = [plain(row) for row in event.stages]
        self._json("plan.json", {"schema": SCHEMA, "run_id": event.run_id, "stages": stages})
        self._json("run.json", self._run)

    def _finished(self, event: events.RunFinished) -> None:
        self._run |= {
            "status": "finished",
            "outcome": str(event.outcome),
            "exit_code": event.exit_code,
            "finished_at": event.at,
            "duration_s": event.duration_s,
            "message": event.message,
        }
        self._json("run.json", self._run)

    def _log(self, event: events.StageOutput) -> None:
        handle = self._logs.get(event.stage)
        if handle is None:
            handle = self._logs[event.stage] = _append_to(self.stage_folder(event.stage) / "log.txt")
        ending = "\n" if event.stream == "log" and not event.text.endswith("\n") else ""
        _write_all(handle, (event.text + ending).encode("utf-8", "surrogatepass"))

    def stage_folder(self, stage: str) -> Path:
        """`stages/<name>`; made when it is written to."""
        return self.path / "stages" / stage

    def files_folder(self, stage: str) -> Path:
        """Where a stage's kept files are."""
        return self.stage_folder(stage) / "files"

    def keep(self, stage: str, name: str, data: bytes | Path) -> Stored:
        """Write a kept file whole or not at all.

        Raises:
            BadArtifactName: The name would leave the folder.
            OSError: `data` cannot be read, or the file not written.
        """
        check_artifact_name(name)
        path = self.files_folder(stage) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, bytes):
            write_atomically(path, data, durable=False)
            digest, size = hashlib.sha256(data).hexdigest(), len(data)
        else:
            digest, size = _copy_hashed(data, path)
        return Stored(Artifact(name=name, digest=Digest(f"sha256:{digest}"), size_bytes=size), path)

    def result(self, finished: events.StageFinished, value: Any, kept: Sequence[Artifact]) -> None:
        """Write `stages/<name>/result.json`; `value` is plain, None when there is none to store.

        Raises:
            FolderBroken: It cannot be written.
        """
        data = {
            "schema": SCHEMA,
            "run_id": self.run_id,
            **plain(finished),
            "result": value,
            "kept": [plain(artifact) for artifact in kept],
        }
        try:
            self._json(f"stages/{finished.stage}/result.json", data)
        except OSError as error:
            raise FolderBroken(self.path, error) from error

    def close(self) -> None:
        """Close the files; events that still come open them again."""
        for handle in (*self._logs.values(), self._events):
            if handle is not None:
                os.close(handle)
        self._logs.clear()
        self._events = None

    def _json(self, name: str, data: Any) -> None:
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.path / name, text.encode("utf-8", "surrogatepass"), durable=False)


def prune_runs(runs: Path, *, keep: int, but: Sequence[str] = ()) -> int:
    """Remove the oldest run folders until `keep` are left; never those named in `but`. Give how many went."""
    try:
        names = sorted(entry.name for entry in os.scandir(runs) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return 0
    import shutil

    going = [name for name in names[: max(0, len(names) - keep)] if name not in but]
    for name in going:
        shutil.rmtree(runs / name, ignore_errors=True)  # another run may be removing it too
    return len(going)


def _summary(event: events.StageFinished) -> dict[str, Any]:
    row = {"outcome": str(event.outcome), "why": event.why, "duration_s": event.duration_s}
    flags = {"cached": event.cached, "flaky": event.flaky, "soft_failed": event.soft_failed}
    message = {"message": event.failure.message} if event.failure else {}
    return row | {"attempts": event.attempts, "key": event.key} | flags | message


def _append_to(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _copy_hashed(source: Path, target: Path) -> tuple[str, int]:
    """Copy by way of a temporary name, digesting what is copied; give digest and size."""
    draft = target.with_name(f".{target.name[:100]}.{os.urandom(4).hex()}.tmp")
    seen, size = hashlib.sha256(), 0
    try:
        with open(source, "rb") as reader, open(draft, "xb") as writer:
            while piece := reader.read(COPY_BYTES):
                seen.update(piece)
                size += len(piece)
                writer.write(piece)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return seen.hexdigest(), size
