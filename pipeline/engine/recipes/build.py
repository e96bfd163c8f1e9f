"""Building a recipe: `mmdebstrap` makes the tree, `tidy` makes it the same each time, the store keeps it.

Packages are verified by apt against the archive's signatures; those kept from an earlier build (`debs`) are
verified again against the same signed index.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import anyio.to_thread

from pipeline.digest import Digest
from pipeline.engine.locks import try_lock
from pipeline.engine.recipes.archive import Archive, MirrorSettings, find_archive
from pipeline.engine.recipes.debs import DamagedPackage, KeptPackages
from pipeline.engine.recipes.hooks import customize_hooks
from pipeline.engine.recipes.releases import DEBIAN
from pipeline.engine.recipes.tidy import AVAILABLE, Package, Tidied, tidy
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractContextManager

    from pipeline.engine.recipes.recipe import Recipe
    from pipeline.engine.store.blobs import BlobWriter

EPOCH_S: Final = 1_735_689_600
"""Time stamp given to what a build itself writes: 2025-01-01, so that two builds are equal."""

_LIMIT_S: Final = 1800.0
_STOP_LIMIT_S: Final = 20.0
_SLIM_EXCLUDES: Final = (
    "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/linda/*", "/usr/share/lintian/overrides/*",
    "/usr/share/man/*", "/usr/share/locale/*",
)  # fmt: skip
# Merges /bin and /lib into /usr from the start where the suite does: doing it later would need perl.
_MERGED_USR: Final = Path("/usr/share/mmdebstrap/hooks/maybe-merged-usr")
# The same by hand where the package that the hook looks for is not in the archive.
_MERGE_USR: Final = 'for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d"; ln -s "usr/$d" "$1/$d"; done'
_UNREACHABLE: Final = (
    *("Could not resolve", "Temporary failure resolving", "Could not connect", "Unable to connect"),
    *("Connection refused", "Network is unreachable", "Connection timed out", "Connection failed"),
)
_UNVERIFIED: Final = (
    "NO_PUBKEY",
    "is not signed",
    "invalid signature",
    "EXPKEYSIG",
    "signatures were invalid",
)


class _Blobs(Protocol):
    def has(self, digest: Digest) -> bool: ...
    def path(self, digest: Digest) -> Path: ...
    def writer(self, expected: Digest | None = None) -> AbstractContextManager[BlobWriter]: ...


class _Store(Protocol):
    @property
    def blobs(self) -> _Blobs: ...


class RecipeFailed(EngineError):
    """A stand-in could not be built; `log` is what mmdebstrap said."""

    def __init__(self, recipe: Recipe, reason: str, *, hint: str | None = None, log: str = "") -> None:
        super().__init__(f"cannot build the stand-in `{recipe.name}`: {reason}")
        self.recipe = recipe
        self.hint = hint
        self.log = log


class SuiteNotVerified(RecipeFailed):
    """The keys of this machine do not vouch for the suite."""

    def __init__(self, recipe: Recipe, archive: Archive, *, log: str) -> None:
        of = recipe.distribution
        reason = f"no key in `{archive.keyring}` vouches for {of.name} {recipe.suite}"
        super().__init__(recipe, reason, hint=f"apt-get install {of.keyring_package}", log=log)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltRecipe:
    """A built stand-in: one uncompressed layer in the store, and what is in it."""

    recipe: Recipe
    layer: Path
    diff_id: Digest
    size_bytes: int
    packages: tuple[Package, ...]  # by name


async def build(
    recipe: Recipe,
    store: _Store,
    cache_dir: Path,
    *,
    mirror_settings: MirrorSettings | None = None,
    refresh: bool = False,
) -> BuiltRecipe:
    """Return the stand-in, built now unless the store has it; `refresh` takes today's packages.

    Packages are kept in `cache_dir` for the next build. One process builds a recipe at a time; others
    wait and take its result.

    Raises:
        RecipeFailed: mmdebstrap is missing or failed, or a package is damaged.
        SuiteNotVerified: No key of this machine vouches for the suite.
        NoKeyring: The machine has no keys of the distribution at all.
    """
    kept = KeptPackages(cache_dir / "packages" / recipe.suite)
    for folder in (cache_dir / "built", cache_dir / "tmp", kept.folder):
        await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
    record = cache_dir / "built" / f"{recipe.digest.removeprefix('sha256:')}.json"
    if not refresh and (known := _load(recipe, record, store)) is not None:
        return known
    async with _alone(record.with_suffix(".lock")):
        if not refresh and (known := _load(recipe, record, store)) is not None:
            return known
        await anyio.to_thread.run_sync(_sweep, cache_dir / "tmp")
        archive = await anyio.to_thread.run_sync(
            lambda: find_archive(
                mirror_settings or MirrorSettings(),
                distribution=recipe.distribution,
                kept=cache_dir / "keys",
            )
        )
        tidied = await _make(recipe, archive, store, kept, cache_dir / "tmp")
        _save(record, tidied)
        return _built(recipe, tidied, store)


async def _make(recipe: Recipe, archive: Archive, store: _Store, kept: KeptPackages, tmp: Path) -> Tidied:
    if shutil.which("mmdebstrap") is None:
        raise RecipeFailed(recipe, "mmdebstrap is not installed", hint="apt-get install mmdebstrap")
    await anyio.to_thread.run_sync(kept.drop_damaged)
    with tempfile.TemporaryDirectory(dir=tmp, ignore_cleanup_errors=True) as name:
        work = Path(name)
        _lay_out(work, recipe, archive)
        log = await _run(recipe, archive, mmdebstrap_argv(recipe, work, kept.folder), work)
        try:
            return await anyio.to_thread.run_sync(_keep, store, work / "root.tar", kept)
        except DamagedPackage as error:
            reason = f"the kept package `{error.path.name}` is not the archive's; it was removed"
            raise RecipeFailed(recipe, reason, hint="run it again", log=log) from error


def _sweep(tmp: Path) -> None:
    """Remove what builds that were killed left behind: nothing runs for so long."""
    for left in tmp.iterdir():
        if time.time() - left.stat().st_mtime > 2 * _LIMIT_S:
            shutil.rmtree(left, ignore_errors=True)


def _lay_out(work: Path, recipe: Recipe, archive: Archive) -> None:
    # In a user namespace mmdebstrap is another user, who has to pass through here.
    work.chmod(0o755)
    (work / "sources.list").write_text(archive.sources(recipe.suite))
    (work / "apt.conf").write_text("\n".join([*archive.apt_options, 'Acquire::Languages "none";', ""]))


def mmdebstrap_argv(recipe: Recipe, work: Path, debs: Path) -> list[str]:
    """Return the command that writes `work/root.tar`; `work` has `sources.list` and `apt.conf`."""
    kept = shlex.quote(os.fspath(debs))
    hooks = [
        f"--customize-hook=sync-out /var/cache/apt/archives {kept}",
        f'--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-cache dumpavail > "$1/{AVAILABLE}"',
        *(f"--customize-hook={hook}" for hook in customize_hooks(recipe)),
    ]
    excludes = [f"--dpkgopt=path-exclude={path}" for path in _SLIM_EXCLUDES] if recipe.is_slim else []
    return [
        *("mmdebstrap", "--variant=minbase", "--format=tar", "--skip=download/empty,essential/unlink"),
        *((f"--include={','.join(recipe.packages)}",) if recipe.packages else ()),
        *_merging(recipe),
        *(f"--aptopt={work / 'apt.conf'}", *excludes, "--dpkgopt=path-include=/usr/share/doc/*/copyright"),
        '--setup-hook=mkdir -p "$1/var/cache/apt/archives"',
        f"--setup-hook=sync-in {kept} /var/cache/apt/archives",
        *hooks,
        *(recipe.suite, os.fspath(work / "root.tar"), os.fspath(work / "sources.list")),
    ]


def _merging(recipe: Recipe) -> list[str]:
    """Return the options that merge /bin and /lib into /usr."""
    if recipe.distribution != DEBIAN:
        return [f"--setup-hook={_MERGE_USR}"]
    return [f"--hook-dir={_MERGED_USR}"] if _MERGED_USR.is_dir() else []


async def _run(recipe: Recipe, archive: Archive, argv: Sequence[str], work: Path) -> str:
    """Run mmdebstrap to its end and return what it said."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH_S), "TMPDIR": os.fspath(work), "LC_ALL": "C.UTF-8"}
    log = work / "log"
    said_to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said_to,
            stderr=said_to,
            env=env,
            start_new_session=True,
        )
    finally:
        os.close(said_to)
    try:
        with anyio.fail_after(_LIMIT_S):
            status = await process.wait()
    except TimeoutError as error:
        raise RecipeFailed(recipe, f"it took longer than {_LIMIT_S:.0f} seconds") from error
    finally:
        await _stop(process)
    said = log.read_text(encoding="utf-8", errors="replace")
    if status != 0:
        raise _failure(recipe, archive, said, status)
    return said


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End mmdebstrap and what it started; it unmounts and removes its tree on SIGTERM."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with anyio.move_on_after(_STOP_LIMIT_S, shield=True):
        await process.wait()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _failure(recipe: Recipe, archive: Archive, log: str, status: int) -> RecipeFailed:
    if any(sign in log for sign in _UNVERIFIED):
        return SuiteNotVerified(recipe, archive, log=log)
    if any(sign in log for sign in _UNREACHABLE):
        reason = f"the package mirror `{archive.main}` cannot be reached"
        return RecipeFailed(recipe, reason, hint="check the network and the machine's apt sources", log=log)
    lines = [line for line in log.splitlines() if line.startswith(("E:", "W:"))] or log.splitlines()
    last = lines[-1].removeprefix("E:").removeprefix("W:").strip() if lines else "it said nothing"
    return RecipeFailed(recipe, f"mmdebstrap ended with {status}: {last}", log=log)


def _keep(store: _Store, tar: Path, kept: KeptPackages) -> Tidied:
    """Tidy the tree into the store; refuse it when a kept package it was made of is not the archive's."""
    with store.blobs.writer() as writer:
        tidied = tidy(tar, writer.write, epoch_s=EPOCH_S)
        kept.verify(tidied.packages)
    return tidied


def _built(recipe: Recipe, tidied: Tidied, store: _Store) -> BuiltRecipe:
    return BuiltRecipe(
        recipe=recipe,
        layer=store.blobs.path(tidied.diff_id),
        diff_id=tidied.diff_id,
        size_bytes=tidied.size_bytes,
        packages=tidied.packages,
    )


def _load(recipe: Recipe, record: Path, store: _Store) -> BuiltRecipe | None:
    try:
        known = json.loads(record.read_text())
        packages = tuple(Package(**package) for package in known["packages"])
        tidied = Tidied(
            diff_id=Digest(known["diff_id"]), size_bytes=int(known["size_bytes"]), packages=packages
        )
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):  # damaged: built again and overwritten
        return None
    return _built(recipe, tidied, store) if store.blobs.has(tidied.diff_id) else None


def _save(record: Path, tidied: Tidied) -> None:
    temporary = record.with_suffix(f".{os.getpid()}.new")
    temporary.write_text(json.dumps(asdict(tidied)))
    os.rename(temporary, record)


@contextlib.asynccontextmanager
async def _alone(lock: Path) -> AsyncIterator[None]:
    """Keep other builders of the same recipe out, in this process and others."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not try_lock(descriptor):  # noqa: ASYNC110 - the holder may be another process
            await anyio.sleep(0.2)
        yield
    finally:
        os.close(descriptor)
