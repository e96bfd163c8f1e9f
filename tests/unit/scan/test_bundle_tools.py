"""Wheels in a bundle: chosen by the hashes of a lock, described by what they tell of themselves."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from pipeline.scan.bundle_tools import (
    imported_wheels,
    licence_of,
    locked_hashes,
    other_rules,
    packaged_locks,
    rules_text,
    wheel_items,
    wheels_for,
)
from pipeline.scan.data import DataBroken, Item, replace_section

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
LOCK = f"""# made by a script
one==1.0 \\
    --hash={A} \\
    --hash={B}
    # via two
two==2.0 ; python_version < "4" \\
    --hash={C}
"""


def item(name: str, digest: str) -> Item:
    """A wheel of a section."""
    return Item(name=name, digest=digest, size_bytes=1)


def test_a_lock_tells_the_hashes_of_each_package() -> None:
    """Whatever else stands in its lines."""
    assert locked_hashes(LOCK) == {"one==1.0": frozenset((A, B)), "two==2.0": frozenset((C,))}


def test_every_packaged_lock_has_hashes_for_every_package() -> None:
    """So that an import can never miss one unseen."""
    locks = packaged_locks()

    assert {"ruff", "bandit", "semgrep"} <= locks.keys()
    assert [name for name, lock in locks.items() if not all(locked_hashes(lock).values())] == []
    assert [name for name, lock in locks.items() if lock.count("==") < len(locked_hashes(lock))] == []


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param(
            [item("one-1.0-py3-none-any.whl", A), item("two-2.0-cp311-cp311-manylinux_2_17_x86_64.whl", C)],
            ("one-1.0-py3-none-any.whl", "two-2.0-cp311-cp311-manylinux_2_17_x86_64.whl"),
            id="whole",
        ),
        pytest.param([item("one-1.0-py3-none-any.whl", A)], (), id="one-is-missing"),
        pytest.param(
            [item("one-1.0-py3-none-any.whl", A), item("two-2.0-py3-none-any.whl", B)], (), id="another-hash"
        ),
        pytest.param(
            [item("one-1.0-py3-none-any.whl", A), item("two-2.0-cp311-cp311-manylinux_2_17_aarch64.whl", C)],
            (),
            id="another-machine",
        ),
    ],
)
def test_wheels_are_used_when_each_package_has_one_for_this_machine(
    items: Sequence[Item], expected: tuple[str, ...]
) -> None:
    """By the hash alone: a name proves nothing."""
    assert wheels_for(LOCK, items, "x86_64") == expected


def wheel(path: Path, metadata: str) -> Path:
    """A wheel that tells this of itself."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one/__init__.py", "")
        archive.writestr("one-1.0.dist-info/METADATA", metadata)
    return path


def test_a_wheel_is_described_by_package_licence_and_digest(tmp_path: Path) -> None:
    """And is found again for the lock that names its digest, once it was imported."""
    path = wheel(
        tmp_path / "one-1.0-py3-none-any.whl", "Name: One\nVersion: 1.0\nLicense-Expression: MIT\n\ntext\n"
    )

    items = wheel_items(tmp_path, "2026-11-24T00:00:00Z")

    told = items[path]
    assert (told.name, told.licence, told.address) == (path.name, "MIT", "pkg:pypi/one@1.0")

    def fill(folder: Path) -> list[Item]:
        (folder / path.name).write_bytes(path.read_bytes())
        return [told]

    data = tmp_path / "data"
    replace_section(data, "tools", fill)
    lock = f"one==1.0 \\\n    --hash={told.digest}\n"
    assert imported_wheels(data, lock) == ((data / "tools").resolve(), (path.name,))
    assert imported_wheels(data, LOCK) is None
    (data / "tools" / path.name).unlink()
    with pytest.raises(DataBroken, match="is not there"):
        imported_wheels(data, lock)


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    """With its name."""
    (tmp_path / "one.whl").write_bytes(b"no zip")

    with pytest.raises(DataBroken, match="it is no wheel"):
        wheel_items(tmp_path, "")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"License-Expression": "MIT OR Apache-2.0", "License": "x"}, "MIT OR Apache-2.0"),
        ({"Classifier": "License :: OSI Approved :: BSD License", "License": "long\ntext"}, "BSD License"),
        ({"License": "GPLv2\nall of it"}, "GPLv2"),
        ({}, "unknown"),
    ],
)
def test_the_licence_is_what_tells_most(metadata: dict[str, str], expected: str) -> None:
    """An expression, a classifier, the first line of the text, or unknown."""
    assert licence_of(metadata) == expected


def test_other_rules_are_named(tmp_path: Path) -> None:
    """None for the record of this very version; a record that is none is refused."""
    path = tmp_path / "rules.json"
    path.write_text(rules_text())
    same = other_rules(path)
    path.write_text(rules_text().replace('"tools/ruff.txt": "sha256:', '"tools/ruff.txt": "sha256:0'))

    other = other_rules(path)

    assert (same, other) == ([], ["tools/ruff.txt"])
    path.write_text("[]")
    with pytest.raises(DataBroken, match="it is no record of rules"):
        other_rules(path)
