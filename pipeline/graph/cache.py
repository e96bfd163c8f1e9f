"""The stage cache: results and kept files by key, in one directory that can be carried to another machine.

Layout: `v1/entries/<stage>/<base>.json` (a line with the digest of the rest, then JSON),
`v1/last/<stage>` (the name of the entry stored last), `v1/blobs/<2 digits>/<62 digits>`,
`v1/notes/<stage>/<name>` (what stages remember). Blobs are written before the entry that names them. What is
lost, damaged or of another format is a miss, and is removed. Readers and writers share a lock that pruning
takes alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.digest import Digest, digest_file
from pipeline.errors import PipelineError
from pipeline.graph.context import Artifact, check_artifact_name
from pipeline.graph.files import sync_folder, write_atomically
from pipeline.graph.keys import KeyParts, parts_from_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FORMAT: Final = "v1"
DEFAULT_MAX_BYTES: Final = 2 << 30
COPY_BYTES: Final = 1 << 20
LINK_BYTES: Final = 1 << 20  # from here on a kept file is linked into a run folder, not copied
DRAFT_AGE_S: Final = 3600.0  # a temporary file so old belongs to no living writer


class EntryDamaged(PipelineError):
    """A stored entry cannot be restored; it has been removed."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one good run of a stage left: its key, its result as JSON, the files it kept."""

    parts: KeyParts
    result: Any
    kept: tuple[Artifact, ...] = ()
    duration_s: float = 0.0
    run_id: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheState:
    """What the cache holds."""

    entries: int
    size_bytes: int
    max_bytes: int


class StageCache:
    """The cache in `folder`, made when something is stored; safe under concurrent runs."""

    def __init__(self, folder: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._home = folder / FORMAT
        self._size: int | None = None

    def find(self, stage: str, base: Digest) -> Entry | None:
        """The entry stored under a stage's base key, or None; a hit counts as use."""
        return self._load(self._entry_path(stage, base), stage)

    def last(self, stage: str) -> KeyParts | None:
        """The key parts of the entry stored last for a stage, while it is there."""
        try:
            name = (self._home / "last" / stage).read_text("ascii", "replace").strip()
        except OSError:
            return None
        if not name.isalnum():
            return None
        entry = self._load(self._home / "entries" / stage / f"{name}.json", stage)
        return None if entry is None else entry.parts

    def put(self, entry: Entry, files: Mapping[str, Path]) -> None:
        """Store an entry; `files` says where the content of each kept file is.

        An entry larger than the whole cache is not stored.

        Raises:
            OSError: The directory cannot be written; nothing that was there is harmed.
        """
        if sum(artifact.size_bytes for artifact in entry.kept) > self.max_bytes:
            return
        with self._locked(fcntl.LOCK_SH):
            for artifact in entry.kept:
                self._put_blob(artifact, files[artifact.name])
            path = self._entry_path(entry.parts.stage, entry.parts.base)
            data = _entry_bytes(entry)
            write_atomically(path, data)
            write_atomically(self._home / "last" / entry.parts.stage, path.stem.encode(), durable=False)
        if self._size is not None:
            self._size += len(data) + sum(artifact.size_bytes for artifact in entry.kept)
        else:
            self._size = self.state().size_bytes
        if self._size > self.max_bytes:
            self.prune()

    def restore(self, entry: Entry, into: Path) -> dict[str, Path]:
        """Bring an entry's kept files to `into`, verified; give their paths by name.

        Large ones are linked, not copied, and hashed only when they changed since they last were.

        Raises:
            EntryDamaged: A blob is missing or not what it should be; entry and blob were removed.
            OSError: `into` cannot be written.
        """
        placed = {}
        with self._locked(fcntl.LOCK_SH):
            for artifact in entry.kept:
                target = into / artifact.name
                blob = self._blob_path(artifact.digest)
                if not (self._link_verified(blob, target) or _copy_verified(blob, target, artifact.digest)):
                    blob.unlink(missing_ok=True)
                    self.remove(entry.parts.stage, entry.parts.base)
                    raise EntryDamaged(
                        f"cannot restore `{artifact.name}` of `{entry.parts.stage}`: "
                        "its stored content is lost or damaged"
                    )
                placed[artifact.name] = target
        return placed

    def _link_verified(self, blob: Path, target: Path) -> bool:
        """Link a large blob to `target` if it is good; False where it is to be copied, which says why."""
        mark = self._home / "checked" / f"{blob.parent.name}{blob.name}"
        try:
            found = blob.stat()
            if found.st_size < LINK_BYTES:
                return False
            state = f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"
            if not mark.is_file() or mark.read_text("ascii", "replace") != state:
                if digest_file(blob) != f"sha256:{mark.name}":
                    return False
                mark.parent.mkdir(exist_ok=True)
                mark.write_text(state, "ascii")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            os.link(blob, target)
        except OSError:
            return False  # another file system, or one without links
        return True

    def blob(self, digest: Digest) -> Path | None:
        """Where the content of a digest is, if it is here."""
        path = self._blob_path(digest)
        return path if path.is_file() else None

    def put_note(self, stage: str, name: str, data: bytes) -> None:
        """Store what a stage remembers, in place of its last note of that name.

        Raises:
            OSError: The directory cannot be written.
        """
        with self._locked(fcntl.LOCK_SH):
            write_atomically(self._home / "notes" / stage / name, data, durable=False)

    def note(self, stage: str, name: str) -> bytes | None:
        """What a stage remembers under a name."""
        try:
            return (self._home / "notes" / stage / name).read_bytes()
        except OSError:
            return None  # lost, or not readable here: nothing is remembered

    def remove(self, stage: str, base: Digest) -> None:
        """Forget one entry; its blobs stay until the next pruning."""
        self._entry_path(stage, base).unlink(missing_ok=True)

    def state(self) -> CacheState:
        """Count entries and bytes."""
        files = list(_files_below(self.folder))
        entries = sum(1 for path, _ in files if path.suffix == ".json" and path.parts[-3] == "entries")
        size = sum(found.st_size for _, found in files)
        return CacheState(entries=entries, size_bytes=size, max_bytes=self.max_bytes)

    def shrink(self) -> None:
        """Prune if the cache, with what other runs stored meanwhile, is larger than it may be."""
        if self.state().size_bytes > self.max_bytes:
            self.prune()

    def prune(self, max_bytes: int | None = None) -> int:
        """Remove entries, least recently used first, until what is left fits; give the bytes freed.

        Also removes other formats, blobs no entry names and what dead writers left. With 0 all goes.
        """
        if not self.folder.is_dir():
            return 0
        import shutil

        limit = self.max_bytes if max_bytes is None else max_bytes
        with self._locked(fcntl.LOCK_EX):
            before = self.state().size_bytes
            self._remove_foreign()
            if limit == 0:
                shutil.rmtree(self._home / "notes", ignore_errors=True)
            self._remove_oldest(limit)
            after = self.state().size_bytes
        self._size = after
        return before - after

    def _remove_foreign(self) -> None:
        import shutil

        for path in self.folder.iterdir():
            if path.name.startswith("v") and path.name != FORMAT and path.is_dir():
                shutil.rmtree(path)
        shutil.rmtree(self._home / "checked", ignore_errors=True)  # they are made again
        old = time.time() - DRAFT_AGE_S
        for path, found in _files_below(self._home):
            if path.suffix == ".tmp" and found.st_mtime < old:
                path.unlink(missing_ok=True)

    def _remove_oldest(self, limit: int) -> None:
        entries = sorted(
            (
                (found.st_mtime_ns, path, found.st_size)
                for path, found in _files_below(self._home / "entries")
            ),
            reverse=True,
        )
        kept: dict[str, int] = {}
        total = 0
        for index, (_used, path, size) in enumerate(entries):
            blobs = self._blobs_of(path)
            more = size + sum(length for digest, length in blobs.items() if digest not in kept)
            # A tenth is left free, or the next entry would prune again at once.
            if total + more > (limit if index == 0 else limit * 9 // 10):
                path.unlink(missing_ok=True)
                continue
            total += more
            kept |= blobs
        for path, _found in _files_below(self._home / "blobs"):
            if path.suffix != ".tmp" and f"sha256:{path.parent.name}{path.name}" not in kept:
                path.unlink(missing_ok=True)

    def _blobs_of(self, path: Path) -> dict[str, int]:
        entry = self._load(path, path.parent.name, used=False)
        return {} if entry is None else {item.digest: item.size_bytes for item in entry.kept}

    def _load(self, path: Path, stage: str, *, used: bool = True) -> Entry | None:
        try:
            data = path.read_bytes()
        except OSError:
            return None  # lost, or not readable here: a miss
        entry = _entry_from_bytes(data)
        if entry is None or entry.parts.stage != stage or entry.parts.base[7:] != path.stem:
            with contextlib.suppress(OSError):  # where the cache is read-only a miss is all it can be
                path.unlink(missing_ok=True)
            return None
        if used:
            # A read-only cache directory still serves; it just keeps no order of use.
            with contextlib.suppress(OSError):
                os.utime(path)
        return entry

    def _put_blob(self, artifact: Artifact, source: Path) -> None:
        path = self._blob_path(artifact.digest)
        if path.is_file() and path.stat().st_size == artifact.size_bytes:
            return
        if not _copy_verified(source, path, artifact.digest, durable=True):
            raise EntryDamaged(f"cannot store `{artifact.name}`: the file changed while it was stored")

    def _entry_path(self, stage: str, base: Digest) -> Path:
        return self._home / "entries" / stage / f"{base.removeprefix('sha256:')}.json"

    def _blob_path(self, digest: Digest) -> Path:
        text = digest.removeprefix("sha256:")
        return self._home / "blobs" / text[:2] / text[2:]

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, kind)
            yield
        finally:
            os.close(handle)


def _entry_bytes(entry: Entry) -> bytes:
    body = json.dumps(
        {
            "parts": entry.parts.plain(),
            "result": entry.result,
            "kept": [[item.name, item.digest, item.size_bytes] for item in entry.kept],
            "duration_s": entry.duration_s,
            "run_id": entry.run_id,
            "at": entry.at,
        },
        separators=(",", ":"),
    ).encode("utf-8", "surrogatepass")
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _entry_from_bytes(data: bytes) -> Entry | None:
    digest, _, body = data.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    try:
        found = json.loads(body)
        kept = tuple(Artifact(name=n, digest=Digest(d), size_bytes=s) for n, d, s in found["kept"])
        for artifact in kept:
            check_artifact_name(artifact.name)
        return Entry(**{**found, "parts": parts_from_plain(found["parts"]), "kept": kept})
    except (ValueError, KeyError, TypeError, PipelineError):
        return None


def _copy_verified(source: Path, target: Path, digest: Digest, *, durable: bool = False) -> bool:
    """Copy a file if its content has the digest; else leave nothing and say False."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name[:100]}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    seen = hashlib.sha256()
    with contextlib.ExitStack() as files:
        try:
            reader = files.enter_context(open(source, "rb"))
        except FileNotFoundError:  # another run may put it back at any moment: only now counts
            return False
        files.callback(draft.unlink, missing_ok=True)
        with open(draft, "xb") as writer:
            while piece := reader.read(COPY_BYTES):
                seen.update(piece)
                writer.write(piece)
            writer.flush()
            if durable:
                os.fsync(writer.fileno())
        good = f"sha256:{seen.hexdigest()}" == digest
        if good:
            draft.replace(target)
            if durable:
                sync_folder(target.parent)
    return good


def _files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(Path(entry.path))
        else:
            with contextlib.suppress(FileNotFoundError):  # removed by another run in between
                yield Path(entry.path), entry.stat(follow_symlinks=False)
