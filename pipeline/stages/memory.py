"""What scanners said of each file, kept for the next run: only files that changed are looked at again.

What a scanner says of a file depends on the file's path and content and on all that `memory_key` names; so
that a run that remembers says what one that looks at everything would. Lost or damaged notes are none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pipeline
from pipeline.config.lock import load_lock
from pipeline.digest import digest_bytes, digest_json
from pipeline.scan.document import converter
from pipeline.scan.finding import Finding, InFile
from pipeline.scan.scanner import Coverage, Scan, Target, unchecked
from pipeline.stages.contents import Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.scan.scanner import CommandScanner


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was said of one file."""

    digest: str  # of the file
    findings: tuple[Finding, ...] = ()
    names: tuple[str, ...] = ()  # it uses, for scanners that settle in the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a scanner said of files when all that its answers depend on was as `key` says."""

    key: str
    scanner: str = ""  # as its scans are named
    version: str = ""
    files: Mapping[str, Said] = field(default_factory=dict)


def memory_key(
    scanner: CommandScanner, files: Mapping[str, bytes], *, root: Path, image: str, lock: str, options: object
) -> str:
    """The digest of all that answers depend on, but for the files that are judged.

    Args:
        image: The tool's, by name; what the project's lock file makes of names counts too.
        lock: The requirements the tool is installed from.
    """
    settings = scanner.settings(sorted(files))
    # Rules, canaries and flags: what it would be asked about no file at all.
    asked = scanner.commands(Target(root="/src", files=Part(files, settings)))
    return digest_json(
        {
            "code": code_digest(),
            "scanner": scanner.name,
            "image": image,
            "pins": load_lock(root).names,
            "lock": digest_bytes(lock.encode()),
            "options": json.loads(json.dumps(options, default=repr)),
            "settings": {path: digest_bytes(files[path]) for path in settings},
            "asked": [[one.argv, dict(one.env), dict(one.files), one.stdin] for one in asked],
        }
    )


@lru_cache(maxsize=1)
def code_digest() -> str:
    """The digest of the program that reads the tools' answers."""
    package = Path(pipeline.__file__).parent
    folders = [package / "scan", package / "scan" / "sast", package / "scan" / "lint"]
    paths = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    paths += [package / "stages" / name for name in ("looking.py", "memory.py", "tools.py")]
    return digest_json([[path.name, digest_bytes(path.read_bytes())] for path in paths])


def load_memory(note: bytes | None, key: str) -> Memory:
    """What an earlier run noted under this key; empty where it noted nothing that can be used."""
    try:
        told = json.loads(note or b"{}")
        if told.get("key") != key:
            return Memory(key=key)
        structure = converter().structure
        files = {
            path: Said(
                digest=digest,
                findings=tuple(structure(one, Finding) for one in findings),
                names=tuple(map(str, names)),
            )
            for path, (digest, findings, names) in told["files"].items()
        }
        return Memory(key=key, scanner=str(told["scanner"]), version=str(told["version"]), files=files)
    except Exception:  # noqa: BLE001 - whatever stands in a damaged note, the files are looked at again
        return Memory(key=key)


def dump_memory(memory: Memory) -> bytes:
    """A memory as JSON."""
    plain = converter().unstructure
    files = {
        path: [said.digest, [plain(one, Finding) for one in said.findings], said.names]
        for path, said in sorted(memory.files.items())
    }
    told = {"key": memory.key, "scanner": memory.scanner, "version": memory.version, "files": files}
    return json.dumps(told, ensure_ascii=False).encode("utf-8", "surrogatepass")


def recalled(memory: Memory, paths: Sequence[str]) -> Scan:
    """The answer for files that were looked at before."""
    return Scan(
        scanner=memory.scanner,
        state="complete",
        coverage=Coverage(unit="files", expected=len(paths), seen=len(paths)),
        findings=tuple(one for path in paths for one in memory.files[path].findings),
        version=memory.version,
        names={path: memory.files[path].names for path in paths if memory.files[path].names},
    )


def learned(memory: Memory, scan: Scan, digests: Mapping[str, str]) -> Memory:
    """The memory with what a scan said of files with these digests.

    A scan that is not sound teaches nothing, and a file that was missed is not remembered.
    """
    missed = scan.coverage.missed
    is_sound = scan.state == "complete" or (scan.state == "incomplete" and scan.reason == unchecked(missed))
    if not is_sound:
        return memory
    found: dict[str, list[Finding]] = {}
    for one in scan.findings:
        found.setdefault(one.place.path if isinstance(one.place, InFile) else "", []).append(one)
    gone = {one.what for one in missed}
    said = {
        path: Said(digest=digest, findings=tuple(found.get(path, ())), names=tuple(scan.names.get(path, ())))
        for path, digest in digests.items()
        if path not in gone
    }
    return replace(memory, scanner=scan.scanner, version=scan.version, files={**memory.files, **said})


def digests_of(files: Mapping[str, bytes], paths: Iterable[str]) -> dict[str, str]:
    """The digest of each of these files."""
    return {path: str(digest_bytes(files[path])) for path in paths}


def unchanged(memory: Memory, digests: Mapping[str, str]) -> list[str]:
    """The files of which the memory knows what would be said."""
    return [
        path
        for path, digest in digests.items()
        if path in memory.files and memory.files[path].digest == digest
    ]
