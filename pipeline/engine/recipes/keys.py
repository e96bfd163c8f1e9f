"""The keys that sign another archive than Debian's, from a package that Debian signed: none is on trust."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.recipes.releases import RELEASES

if TYPE_CHECKING:
    from pipeline.engine.recipes.archive import Archive
    from pipeline.engine.recipes.releases import Distribution

_LIMIT_S: Final = 300.0


def find_keyring(wanted: Distribution, debian: Archive, kept: Path) -> Path | None:
    """Return the file of a distribution's keys, from Debian's package of them; None when it cannot be had.

    Args:
        debian: Where Debian's packages come from; its keys vouch for the package.
        kept: A folder to keep the file in; one that is there is not fetched again.
    """
    file = kept / Path(wanted.keyring).name
    if file.is_file():
        return file
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as name:
        work = Path(name)
        argv = ["apt-get", "--quiet", "--config-file", _configure(work, debian)]
        for command in ([*argv, "update"], [*argv, "download", wanted.keyring_package]):
            if not _run(command, work):
                return None
        package = next(work.glob(f"{wanted.keyring_package}_*.deb"), None)
        if package is None or not _run(["dpkg-deb", "--extract", os.fspath(package), "tree"], work):
            return None
        found = work / "tree" / wanted.keyring.lstrip("/")
        if not found.is_file():
            return None
        os.replace(found, file)
    return file


def _configure(work: Path, debian: Archive) -> str:
    """Lay out an apt of its own below `work`, which knows Debian alone, and return its configuration."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(debian.sources(RELEASES[0].suite))
    settings = {
        "Dir::State": work,
        "Dir::State::status": work / "status",
        "Dir::State::lists": work / "lists",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",  # else another user would have to pass through folders of ours
    }
    lines = [*debian.apt_options, *(f'{name} "{value}";' for name, value in settings.items())]
    config = work / "apt.conf"
    config.write_text("\n".join([*lines, ""]))
    return os.fspath(config)


def _run(argv: list[str], folder: Path) -> bool:
    """Run a command in `folder` and say whether it went well."""
    if shutil.which(argv[0]) is None:
        return False
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
