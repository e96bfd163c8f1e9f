"""Data in one file: everything is verified before anything is replaced."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.errors import PipelineError
from pipeline.scan.bundle import HEAD, BundleBroken, BundleOlder, import_bundle, write_bundle
from pipeline.scan.data import DataBroken, Item, digest_and_size, load_items, replace_section

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NEW, OLD = "2026-11-20T00:00:00Z", "2026-11-01T00:00:00Z"


def item(path: Path, name: str = "own.idx", as_of: str = NEW) -> Item:
    """What a bundle says of a file."""
    digest, size = digest_and_size(path)
    return Item(name=name, digest=digest, size_bytes=size, as_of=as_of, licence="CC-BY-4.0")


def bundle(tmp_path: Path, text: str = "advisories", as_of: str = NEW) -> Path:
    """A bundle with one file."""
    source, target = tmp_path / "source", tmp_path / "data.bundle"
    source.write_text(text)
    write_bundle(target, {"advisories": {source: item(source, as_of=as_of)}}, made_at=NEW)
    return target


def held(data: Path) -> str:
    """What is in place."""
    return (data / "advisories/own.idx").read_text()


def test_what_a_bundle_holds_is_in_place_after_the_import(tmp_path: Path) -> None:
    """With its date and licence; nothing else lies about."""
    data = tmp_path / "data"

    told = import_bundle(bundle(tmp_path), data)

    assert held(data) == "advisories"
    assert [(one.name, one.as_of, one.licence) for one in load_items(data / "advisories")] == [
        ("own.idx", NEW, "CC-BY-4.0")
    ]
    assert list(told) == ["advisories"]
    assert sorted(path.name for path in data.iterdir()) == [".sections", "advisories"]


def test_a_newer_bundle_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    """The older files are gone."""
    data = tmp_path / "data"
    import_bundle(bundle(tmp_path, "old", OLD), data)

    import_bundle(bundle(tmp_path, "new", NEW), data)

    assert held(data) == "new"
    assert len(list((data / ".sections").iterdir())) == 1


def test_an_older_bundle_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    """Both dates are told."""
    data = tmp_path / "data"
    import_bundle(bundle(tmp_path, "new", NEW), data)
    older = bundle(tmp_path, "old", OLD)

    with pytest.raises(BundleOlder, match=f"as of {OLD}, older than what is here .{NEW}."):
        import_bundle(older, data)

    assert held(data) == "new"
    import_bundle(older, data, allow_older=True)
    assert held(data) == "old"


def head(**more: Any) -> str:
    """A manifest with one file of ten bytes."""
    table = {"name": "own.idx", "digest": "sha256:" + "0" * 64, "size_bytes": 10, **more}
    return json.dumps({"format": 1, "made_at": NEW, "sections": {"advisories": {"items": [table]}}})


def members(*files: tuple[str, bytes | str]) -> Callable[[Path], None]:
    """What writes an archive of these files."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files:
                archive.writestr(name, data)

    return write


def bare(data: bytes) -> Callable[[Path], None]:
    """What writes a file that is no archive."""

    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def cut(path: Path) -> None:
    """A bundle that was not copied whole."""
    members((HEAD, head()), ("advisories/own.idx", b"0123456789"))(path)
    path.write_bytes(path.read_bytes()[:-40])


TEN = b"0123456789"
HOSTILE: dict[str, Callable[[Path], None]] = {
    "cut off": cut,
    "a page of html": bare(b"<html></html>"),
    "empty": bare(b""),
    "no manifest": members(("advisories/own.idx", TEN)),
    "a manifest that is no JSON": members((HEAD, "{")),
    "a manifest of another format": members((HEAD, head().replace('"format": 1', '"format": 2'))),
    "a wrong digest": members((HEAD, head()), ("advisories/own.idx", TEN)),
    "a file that is missing": members((HEAD, head())),
    "a file the manifest does not name": members((HEAD, head()), ("advisories/own.idx", TEN), ("x", b"")),
    "a file that is there twice": members(
        (HEAD, head()), ("advisories/own.idx", TEN), ("advisories/own.idx", TEN)
    ),
    "a name out of the folder": members((HEAD, head(name="../../evil")), ("advisories/../../evil", TEN)),
    "an absolute name": members((HEAD, head(name="/etc/evil")), ("advisories//etc/evil", TEN)),
    "a hidden name": members((HEAD, head(name=".evil")), ("advisories/.evil", TEN)),
    "a section out of the folder": members(
        (HEAD, head().replace("advisories", "../x")), ("../x/own.idx", TEN)
    ),
    "a bomb": members((HEAD, head()), ("advisories/own.idx", b"0" * 50_000_000)),
    "a size without end": members((HEAD, head(size_bytes=10**15)), ("advisories/own.idx", TEN)),
    "a size that is no number": members((HEAD, head(size_bytes="10")), ("advisories/own.idx", TEN)),
    "unknown fields": members((HEAD, head(extra=1)), ("advisories/own.idx", TEN)),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_bundle_that_is_not_what_it_says_changes_nothing(tmp_path: Path, name: str) -> None:
    """Neither outside the folder nor in it."""
    data = tmp_path / "data"
    import_bundle(bundle(tmp_path, "good"), data)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    path = tmp_path / "data.bundle"
    HOSTILE[name](path)

    with pytest.raises((BundleBroken, DataBroken)):
        import_bundle(path, data)

    assert held(data) == "good"
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_a_file_that_its_check_refuses_changes_nothing(tmp_path: Path) -> None:
    """The right bytes of something that cannot be used."""
    data = tmp_path / "data"
    import_bundle(bundle(tmp_path, "good"), data)

    def check(path: Path) -> None:
        raise PipelineError(f"cannot read {path.name}")

    with pytest.raises(PipelineError, match=r"cannot read own\.idx"):
        import_bundle(bundle(tmp_path, "bad"), data, check={"advisories": check})

    assert held(data) == "good"
    assert len(list((data / ".sections").iterdir())) == 1


def test_a_bundle_that_is_missing_says_so(tmp_path: Path) -> None:
    """The path is told."""
    with pytest.raises(BundleBroken, match="there is no such file"):
        import_bundle(tmp_path / "none", tmp_path / "data")


def test_a_section_that_cannot_be_filled_leaves_the_one_that_was_there(tmp_path: Path) -> None:
    """What was begun is taken away."""
    data = tmp_path / "data"
    import_bundle(bundle(tmp_path, "good"), data)

    def fill(folder: Path) -> list[Item]:
        (folder / "half").write_text("x")
        raise PipelineError("the disk is full")

    with pytest.raises(PipelineError):
        replace_section(data, "advisories", fill)

    assert held(data) == "good"


def test_a_damaged_manifest_is_told(tmp_path: Path) -> None:
    """Rather than taken for an empty section, which has none."""
    (tmp_path / "manifest.json").write_text("{")

    with pytest.raises(DataBroken):
        load_items(tmp_path)

    assert load_items(tmp_path / "none") == []


def test_sections_are_replaced_one_by_one(tmp_path: Path) -> None:
    """A bundle of rules leaves the advisories alone."""
    data = tmp_path / "data"
    import_bundle(bundle(tmp_path), data)
    source = tmp_path / "rules"
    source.write_text("rules")
    other = tmp_path / "other.bundle"
    write_bundle(other, {"rules": {source: replace(item(source), name="rules.tar")}}, made_at=NEW)

    import_bundle(other, data)

    assert held(data) == "advisories"
    assert (data / "rules/rules.tar").read_text() == "rules"
