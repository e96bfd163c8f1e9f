"""What scanners need and a run cannot make: advisories, rules, tools, kept on this machine by section.

A section is a folder that is only ever replaced as a whole: its name is a link to the folder in use.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MANIFEST: Final = "manifest.json"
VARIABLE: Final = "PIPELINE_SCAN_DATA"
BLOCK: Final = 1024 * 1024


class DataBroken(PipelineError):
    """Data of scanners cannot be read or written."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(f"cannot use the data in `{path}`: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file of a section."""

    name: str  # letters, digits, `.`, `_` and `-`
    digest: str  # "sha256:…" of the file
    size_bytes: int
    as_of: str = ""  # time of the newest record
    fetched_at: str = ""
    licence: str = ""
    address: str = ""  # where it came from, without credentials


def data_folder() -> Path:
    """Where data of scanners is: `$PIPELINE_SCAN_DATA`, the user's data folder, or `/var/lib` for root."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    if os.geteuid() == 0 and "XDG_DATA_HOME" not in os.environ:
        return Path("/var/lib/pipeline-scan")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "pipeline-scan"


def load_items(folder: Path) -> list[Item]:
    """The files of a section; none where there is no section.

    Raises:
        DataBroken: Its manifest is damaged.
    """
    try:
        table = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DataBroken(folder, str(error)) from error
    return parse_items(table, folder)


def parse_items(table: Any, where: Path | str) -> list[Item]:
    """Read the items of a manifest.

    Raises:
        DataBroken: It is none.
    """
    try:
        return [Item(**one) for one in table["items"]]
    except (KeyError, TypeError) as error:
        raise DataBroken(where, f"its manifest is damaged: {error}") from error


def items_json(items: Sequence[Item]) -> str:
    """The text `load_items` reads."""
    return json.dumps({"items": [asdict(one) for one in items]}, indent=1, sort_keys=True) + "\n"


def digest_and_size(path: Path) -> tuple[str, int]:
    """What names the content of a file, and its size."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"sha256:{digest}", path.stat().st_size


def replace_section(data: Path, section: str, fill: Callable[[Path], Sequence[Item]]) -> list[Item]:
    """Make a section anew and put it in place of the old one in one step; nothing changes where that fails.

    Args:
        fill: Writes the files into the folder it is given, and says which.

    Raises:
        DataBroken: The folder cannot be written.
    """
    try:
        kept = data / ".sections"
        kept.mkdir(parents=True, exist_ok=True)
        fresh = kept / f"{section}-{os.getpid()}-{os.urandom(4).hex()}"
        fresh.mkdir()
    except OSError as error:
        raise DataBroken(data, error.strerror or str(error)) from error
    try:
        items = list(fill(fresh))
        (fresh / MANIFEST).write_text(items_json(items), encoding="utf-8")
        link = data / f".{section}-{fresh.name}"
        link.symlink_to(fresh.relative_to(data))
        link.replace(data / section)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise DataBroken(data, error.strerror or str(error)) from error
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    for old in kept.glob(f"{section}-*"):
        if old != fresh:
            shutil.rmtree(old, ignore_errors=True)
    return items
