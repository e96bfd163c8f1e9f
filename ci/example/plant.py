"""Plants a fault of `faults.toml` in a copy of this project: `python plant.py NAME [FOLDER]`.

Without a name it lists them. The stage a fault is meant for, and it alone, must find it.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FAULTS = Path(__file__).parent / "faults.toml"
BRANCH = "planted"


class CannotPlant(Exception):
    """The project is not as the fault expects it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One change of a file: `new` in place of `old`, or a new file where `old` is empty."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something wrong that one stage must find, and what that stage must say then."""

    name: str
    stage: str
    what: str
    says: tuple[str, ...]
    edits: tuple[Edit, ...]
    undone: bool  # committed, and taken away by the next commit


def load_faults(path: Path = FAULTS) -> dict[str, Fault]:
    """Return all faults by name."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["fault"]
    return {
        one["name"]: Fault(
            name=one["name"],
            stage=one["stage"],
            what=one["what"],
            says=tuple(one["says"]),
            edits=tuple(
                Edit(file=edit["file"], old=edit.get("find", ""), new=joined(edit["replace"]))
                for edit in one["edits"]
            ),
            undone=one.get("undone", False),
        )
        for one in tables
    }


def joined(text: str | list[str]) -> str:
    """Return a text; what a scanner would take for a secret is given in parts."""
    return text if isinstance(text, str) else "".join(text)


def plant(fault: Fault, root: Path) -> list[str]:
    """Plant a fault in the git repository at `root`; return a line for each thing that was done.

    Raises:
        CannotPlant: A file is not as expected; then nothing was changed.
    """
    before = {edit.file: read(root / edit.file) for edit in fault.edits}
    changed: dict[str, str | None] = dict(before)
    for edit in fault.edits:
        changed[edit.file] = edited(edit, changed[edit.file])
    write(root, changed)
    done = [f"{'changed' if edit.old else 'added'} {edit.file}" for edit in fault.edits]
    if fault.undone:
        git(root, "checkout", "--quiet", "-b", BRANCH)
        git(root, "commit", "--quiet", "-m", fault.name, "--", *changed)
        write(root, before)
        git(root, "commit", "--quiet", "-m", f"undo {fault.name}", "--", *changed)
        done.append(f"committed that on the branch `{BRANCH}`, and took it away by the next commit")
    return done


def edited(edit: Edit, text: str | None) -> str:
    """Return a file's text with the change; None stands for a file that is not there."""
    if not edit.old:
        if text is not None:
            raise CannotPlant(f"cannot add `{edit.file}`: it is there already")
        return edit.new
    if (count := (text or "").count(edit.old)) != 1:
        raise CannotPlant(f"cannot change `{edit.file}`: `{edit.old}` is in it {count} times, not once")
    return str(text).replace(edit.old, edit.new)


def read(path: Path) -> str | None:
    """Return a file's text, or None."""
    return path.read_text(encoding="utf-8") if path.is_file() else None


def write(root: Path, files: Mapping[str, str | None]) -> None:
    """Write files, remove those that stand for None, and tell git of them: it tracks what is delivered."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")
    git(root, "add", "--all", "--", *files)


def git(root: Path, *argv: str) -> None:
    """Run git in the project, under a name of its own."""
    who = ("-c", "user.name=plant", "-c", "user.email=plant@example.com")
    subprocess.run(["git", *who, *argv], cwd=root, check=True, capture_output=True)


def main(argv: list[str]) -> int:
    """Plant what the command line names; return the exit code."""
    faults = load_faults()
    if not argv or argv[0] not in faults:
        lines = [f"{one.name:24} {one.stage:16} {one.what}" for one in faults.values()]
        print("\n".join([*(f"there is no fault `{name}`; these are:" for name in argv[:1]), *lines]))
        return 2 if argv else 0
    fault = faults[argv[0]]
    try:
        done = plant(fault, Path(argv[1] if len(argv) > 1 else "."))
    except CannotPlant as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join([*done, f"the stage `{fault.stage}` must fail: {fault.what}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
