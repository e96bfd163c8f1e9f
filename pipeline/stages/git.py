"""What git tells about a project besides its files: the version its tags mean, where it comes from."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

from pipeline.release.remote import to_web_address

if TYPE_CHECKING:
    from pathlib import Path

GIT_LIMIT_S: Final = 60.0


def described_version(root: Path, *, exact: bool = True) -> str:
    """Return the version that the nearest tag means, as tools for versions from tags do; "" outside git.

    On the tag itself it is the tag ("1.4.2"), after it the next one in development ("1.4.3.dev7" seven
    commits later), without any tag "0.1.dev" and the number of commits.

    Args:
        exact: False leaves the number of commits out ("1.4.3.dev0"), for what must not change with each.
    """
    described = _git(root, "describe", "--tags", "--long", "--match", "*[0-9]*")
    if not described:
        commits = _git(root, "rev-list", "--count", "HEAD")
        return f"0.1.dev{commits if exact else 0}" if commits else ""
    tag, since, _ = described.rsplit("-", 2)
    version = re.sub(r"^[^\d]*", "", tag)
    if since == "0":
        return version
    return f"{_next(version)}.dev{since if exact else 0}"


def _next(version: str) -> str:
    """Return `version` with its last number one higher."""
    last = list(re.finditer(r"\d+", version))[-1]
    return f"{version[: last.start()]}{int(last.group()) + 1}"


def web_address(root: Path) -> str:
    """Return where people find the source, from the remote `origin`; "" when it is nowhere on the web."""
    return to_web_address(_git(root, "config", "--get", "remote.origin.url"))


def _git(root: Path, *argv: str) -> str:
    """Return what git says, "" when it has no answer here."""
    try:
        done = subprocess.run(
            ["git", *argv], cwd=root, capture_output=True, text=True, timeout=GIT_LIMIT_S, check=True
        )
    except (subprocess.SubprocessError, FileNotFoundError):
        return ""
    return done.stdout.strip()
