"""`dependency_scan`: known vulnerabilities of what the lock files name and of what is really installed."""

from __future__ import annotations

import datetime
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from pipeline.graph.context import Context, Skip
from pipeline.graph.stage import stage
from pipeline.stages.containers import take
from pipeline.stages.results import Deps, Findings, Source  # noqa: TC001 - read when the graph is checked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.packages.installed import InstalledRead
    from pipeline.scan.packages.locks import LocksRead
    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import Scan

KINDS: Final = frozenset({"vulnerability"})
SAFETY_KEY: Final = "SAFETY_API_KEY"
LISTER, LISTED = "/opt/pipeline/installed.py", "/opt/pipeline/installed.json"


@stage(timeout_s=1800, secrets=[SAFETY_KEY], despite=["deps"])
async def dependency_scan(ctx: Context, checkout: Source, deps: Deps | None = None) -> Findings:
    """Match every package against advisories; each ends as vulnerable, clean or unknown, with the reason."""
    from pipeline.scan.advisories.settle import scan_of, scans_of_failed, settle
    from pipeline.scan.packages.found import find_locks
    from pipeline.scan.packages.locks import read_locks
    from pipeline.stages.advisory_sources import ask_sources, with_times
    from pipeline.stages.scanning import absent_scans, conclude
    from pipeline.stages.standing import today

    files = _read(ctx, find_locks(ctx.input_files()))
    locks = read_locks(files)
    installed = await read_environment(ctx, deps) if deps is not None else None
    settings = dict(ctx.config.get("dependency_scan", {}))
    packages = gather_packages(ctx, locks, installed, settings)
    absent = absent_scans(ctx, "installed", "packages")
    if not packages and not locks.broken:
        others = "; ".join(one.reason for one in absent) or "none is installed"
        raise Skip(f"no lock file names a package, and {others}")
    ctx.depend_on("day", today().isoformat())  # advisories come without a change of the project
    now = datetime.datetime.now(datetime.UTC)
    asked = [one for one in packages if not one.private]
    answers = await ask_sources(ctx, settings, packages, asked, now, files=files)
    if not any(one.source.is_live and one.judged for one in answers):
        packages = await with_times(ctx, packages)
    settled = settle(packages, answers)
    scan = with_broken(scan_of(settled, answers), locks.broken)
    ctx.keep("packages.json", packages_json(settled))
    named = frozenset(settings.get("sources", ()))
    failed = [one for one in scans_of_failed(answers, named) if one.reason not in scan.reason]
    return conclude(ctx, [scan, *failed, *absent], kinds=KINDS)


def _read(ctx: Context, paths: Sequence[str]) -> dict[str, bytes]:
    """Return the files; links are left out, for they could lead out of the project."""
    places = {path: ctx.root / path for path in paths}
    return {
        p: place.read_bytes() for p, place in places.items() if place.is_file() and not place.is_symlink()
    }


async def read_environment(ctx: Context, deps: Deps) -> InstalledRead:
    """Return the packages installed in the container of the dependencies."""
    from pipeline.scan.packages.installed import PROGRAM, read_installed

    container = (await take(ctx, deps.container)).with_new_file(LISTER, PROGRAM)
    quietly = ["sh", "-c", 'python "$1" >"$2"', "list", LISTER, LISTED]  # the list would fill the log
    listed = container.with_exec(quietly)
    return read_installed(await listed.file(LISTED).contents())


def gather_packages(
    ctx: Context, locks: LocksRead, installed: InstalledRead | None, settings: Mapping[str, Any]
) -> list[Package]:
    """Return all packages that count, each once, with what is known of it."""
    from pipeline.scan.packages.direct import named_by, with_direct
    from pipeline.scan.packages.imports import imports_of, with_imported

    packages = combine(locks.packages, installed.packages if installed else ())
    if installed is not None:
        code = _read(ctx, [path for path in ctx.input_files() if path.endswith(".py")])
        imports = imports_of(data.decode("utf-8", "replace") for data in code.values())
        packages = with_imported(packages, installed.modules, imports)
    for data in _read(ctx, ["pyproject.toml"]).values():
        packages = with_direct(packages, named_by(data.decode("utf-8", "replace")))
    patterns = settings.get("private", ())
    if not settings.get("dev", True):
        packages = [one for one in packages if not one.dev]
    # The user vouches for these: no public data can know them, and their names are told to nobody.
    return [one for one in packages if not any(fnmatchcase(one.name, pattern) for pattern in patterns)]


def combine(locked: Sequence[Package], installed: Sequence[Package]) -> list[Package]:
    """Join what lock files name with what is installed.

    An installed package that a lock file names at this version is that one; a name without a version takes
    the installed one; what only is installed stands for itself.
    """
    by_key = {one.key: one for one in installed}
    by_name = {one.key[:2]: one for one in installed}
    found: list[Package] = []
    used: set[tuple[str, str, str]] = set()
    for one in locked:
        real = by_key.get(one.key) or (None if one.version else by_name.get(one.key[:2]))
        if real is None:
            found.append(one)
            continue
        used.add(real.key)
        private = one.private or real.private
        found.append(
            replace(one, version=real.version, private=private, licence=real.licence, is_installed=True)
        )
    return found + [one for one in installed if one.key not in used]


def with_broken(scan: Scan, broken: Mapping[str, str]) -> Scan:
    """Return the scan with lock files that could not be read: their packages were not looked at."""
    from pipeline.scan.scanner import Coverage, Missed

    if not broken:
        return scan
    missed = tuple(Missed(what=path, why=why) for path, why in sorted(broken.items()))
    before = scan.coverage
    coverage = Coverage(
        unit=before.unit,
        expected=before.expected + len(missed),
        seen=before.seen,
        missed=(*before.missed, *missed),
    )
    said = "; ".join(f"`{one.what}` cannot be read: {one.why}" for one in missed)
    reason = "; ".join(part for part in (scan.reason, said) if part)
    state = "incomplete" if scan.state == "complete" else scan.state
    if not before.expected:
        state = "unavailable"
    return replace(scan, state=state, coverage=coverage, reason=reason)


def packages_json(settled: Sequence[Any]) -> str:
    """Return every package with how it ended, as JSON."""
    import json

    rows = [
        {
            "purl": one.package.purl,
            "name": one.package.name,
            "version": one.package.version,
            "ecosystem": one.package.ecosystem,
            "path": one.package.path,
            "state": one.state,
            "why": one.why,
            "by": [f"{each.name} as of {each.as_of or each.fetched_at}" for each in one.by],
        }
        for one in settled
    ]
    return json.dumps(rows, indent=1) + "\n"
