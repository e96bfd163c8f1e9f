"""The working tree: every tracked file, none that is reached by a link."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.scan.scanner import Missed
from pipeline.scan.secrets.reading import MOST_BYTES, MOST_HITS, find_in
from pipeline.scan.secrets.report import Located

if TYPE_CHECKING:
    from collections.abc import Iterable

# Made here and found again on each run: an engine that finds nothing any more must not pass for a clean tree.
CANARY_RULES: Final = frozenset({"aws-access-key-id", "url-password", "generic-password", "private-key"})


def scan_tree(root: Path, names: Iterable[str]) -> tuple[list[Located], int, list[Missed]]:
    """Look through files of the project.

    Returns:
        What was found; how many files there were to look at; and those that could not be read, or not whole.
        Links are no files: where one leads inside the project is a file of its own.
    """
    found: list[Located] = []
    missed: list[Missed] = []
    expected = 0
    inside: dict[str, bool] = {}
    home = os.path.realpath(root)
    for name in names:
        path = os.path.join(root, name)
        folder = os.path.dirname(path)
        if folder not in inside:
            real = os.path.realpath(folder)
            inside[folder] = real == home or real.startswith(home + os.sep)
        try:
            mode = os.lstat(path)
        except OSError as error:
            expected += 1
            missed.append(Missed(what=name, why=str(error.strerror)))
            continue
        if stat.S_ISLNK(mode.st_mode) or stat.S_ISDIR(mode.st_mode):
            continue  # a link, or a submodule, which is a project of its own
        expected += 1
        if not stat.S_ISREG(mode.st_mode) or not inside[folder]:
            missed.append(Missed(what=name, why="it is no file of the project"))
            continue
        try:
            hits = _scan_file(path, name)
        except OSError as error:
            missed.append(Missed(what=name, why=str(error.strerror)))
            continue
        found += hits
        if len(hits) >= MOST_HITS:
            missed.append(Missed(what=name, why=f"only its first {MOST_HITS} secrets are told"))
        elif mode.st_size > MOST_BYTES:
            missed.append(Missed(what=name, why=f"only its first {MOST_BYTES // 1024**2} MB were read"))
    return found, expected, missed


def _scan_file(path: str, name: str) -> list[Located]:
    # Not followed even when the file became a link since it was looked at.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(handle, "rb", buffering=0) as stream:
        return [Located(hit=hit, path=name) for hit in find_in(stream, name)]


def canary() -> str:
    """A file with one secret of each way to find them; made of parts, so that no scanner finds this one."""
    block = "\n".join(("Kq7xW2vT9pLmZ4cRb8NhYj3Fd6Gs")[::step] * 2 for step in (1, -1))
    begin, end = (f"-----{word} RSA PRIVATE" + " KEY-----" for word in ("BEGIN", "END"))
    return "\n".join(
        (
            "AWS_ID=AKIA" + "Q3EGRT7ZKD5WLHNB",
            "DATABASE_URL=postgres://app:" + "w8Kd0pQz3vXr@db.internal/shop",
            "DB_PASSWORD=" + "t4Wq9ZkLx7Vd",
            begin,
            block,
            end,
            "",
        )
    )


def canary_missing() -> frozenset[str]:
    """The rules that did not find what was planted for them, in a file read as any other; empty is good."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "canary.env").write_text(canary(), encoding="utf-8")
        found, _, _ = scan_tree(Path(folder), ["canary.env"])
    return CANARY_RULES - {one.hit.rule for one in found}
