"""Copies and new files made without a mount are those made with one."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from pipeline.engine import actions, edit, mounts, ops
from pipeline.engine.direct import apply_to_draft, copy_directly, write_directly
from pipeline.engine.treehash import content_digest
from pipeline.errors import EngineError
from tests.engine.store_helpers import commit, key, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.engine.store import Snapshot, Store

pytestmark = pytest.mark.root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    mounts.enter_private_mount_namespace()
    with opened(tmp_path / "store") as store:
        yield store


def _base(store: Store) -> Snapshot:
    """An image of two layers: directories, a link, a file, an opaque directory and a removed one."""

    def first(root: Path) -> None:
        for name in ("usr/lib", "gone/old", "opaque/old", "app"):
            (root / name).mkdir(parents=True)
        (root / "lib").symlink_to("usr/lib")
        (root / "app/kept").write_text("kept")
        (root / "plain").write_text("file")
        os.chown(root / "app", 5, 6)
        (root / "app").chmod(0o2775)

    def second(root: Path) -> None:
        for name in ("gone", "opaque"):
            shutil.rmtree(root / name)
        (root / "opaque").mkdir(mode=0o700)

    return commit(store, commit(store, store.snapshots.empty, first), second)


def _source(store: Store) -> Snapshot:
    def fill(root: Path) -> None:
        (root / "sub").mkdir(mode=0o750)
        (root / "sub/file").write_text("text")
        (root / "old").write_text("text")
        os.link(root / "old", root / "same")
        os.chown(root / "old", 7, 8)
        (root / "link").symlink_to("sub")
        root.chmod(0o711)

    return commit(store, store.snapshots.empty, fill)


def _directly(store: Store, action: actions.Copy) -> Snapshot | None:
    draft = store.snapshots.prepare(_base(store))
    with store.snapshots.view(_source(store)) as source:
        if not copy_directly(action, draft.upper, store.snapshots.lowers(draft.parent), source):
            assert os.listdir(draft.upper) == []
            return None
    return store.snapshots.commit(draft, identity=key("direct"))


def _merged(store: Store, action: actions.Copy) -> Snapshot:
    with store.snapshots.view(_source(store)) as source:
        return commit(store, _base(store), lambda root: edit.apply(action, root, lambda _tree: source))


@pytest.mark.parametrize("path", ["/", "app", "/app/", "new", "new/deep/er", "gone", "gone/old", "opaque"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"owner": "9:10"},
        {"owner": "9", "mode": 0o700},
        {"filters": actions.Filters(include=("sub",))},
        {"source_path": "sub"},
    ],
    ids=["plain", "owner", "owner and mode", "filter", "part"],
)
def test_a_direct_copy_equals_a_copy_on_the_merged_tree(
    store: Store, path: str, more: dict[str, object]
) -> None:
    """Contents, attributes of targets and parents, and what shows through from below."""
    action = actions.Copy(source=ops.Scratch(), path=path, **more)  # type: ignore[arg-type]

    direct, merged = _directly(store, action), _merged(store, action)

    assert direct is not None
    with store.snapshots.view(direct) as one, store.snapshots.view(merged) as two:
        assert content_digest(one) == content_digest(two)
        assert one.stat().st_mode == two.stat().st_mode


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(actions.Copy(source=ops.Scratch(), path="lib"), id="a link at the target"),
        pytest.param(actions.Copy(source=ops.Scratch(), path="lib/x"), id="a link on the way"),
        pytest.param(actions.Copy(source=ops.Scratch(), path="plain"), id="a file at the target"),
        pytest.param(actions.Copy(source=ops.Scratch(), path="a/../b"), id="a path to be resolved"),
        pytest.param(actions.Copy(source=ops.Scratch(), path="new", owner="app"), id="a name of a user"),
        pytest.param(actions.Copy(source=ops.Scratch(), path="new", source_path="none"), id="no source"),
        pytest.param(
            actions.Copy(source=ops.Scratch(), path="new", kind="file", source_path="old"), id="a file"
        ),
    ],
)
def test_what_needs_the_merged_tree_is_left_to_it(store: Store, action: actions.Copy) -> None:
    """The answer is False and the draft is untouched."""
    assert _directly(store, action) is None


def test_names_that_meet_are_left_to_the_merged_tree(store: Store) -> None:
    """Merging two directories, or replacing a file, takes a look at both."""

    def fill(root: Path) -> None:
        (root / "kept").write_text("another")

    draft = store.snapshots.prepare(_base(store))
    with store.snapshots.view(commit(store, store.snapshots.empty, fill)) as source:
        action = actions.Copy(source=ops.Scratch(), path="app")

        assert copy_directly(action, draft.upper, store.snapshots.lowers(draft.parent), source) is False


def test_a_draft_that_holds_something_is_left_to_the_merged_tree(store: Store) -> None:
    """Only an empty one is known without looking."""
    draft = store.snapshots.prepare(_base(store))
    (draft.upper / "something").write_text("x")
    with store.snapshots.view(_source(store)) as source:
        action = actions.Copy(source=ops.Scratch(), path="new")

        assert copy_directly(action, draft.upper, store.snapshots.lowers(draft.parent), source) is False


@pytest.mark.parametrize("path", ["new", "lib"], ids=["directly", "merged"])
@pytest.mark.parametrize("over", ["image", "nothing"])
def test_an_action_on_a_draft_takes_either_way(store: Store, path: str, over: str) -> None:
    """The caller sees no difference; a link on the way leads where it should."""
    base = _base(store) if over == "image" else store.snapshots.empty
    draft = store.snapshots.prepare(base)

    with store.snapshots.view(_source(store)) as source:
        action = actions.Copy(source=ops.Scratch(), path=path)
        apply_to_draft(action, store.snapshots, draft, lambda _tree: source)
    made = store.snapshots.commit(draft, identity=key("made"))

    with store.snapshots.view(made) as root:
        real = root / ("usr/lib" if (path, over) == ("lib", "image") else path)
        assert sorted(os.listdir(real)) == ["link", "old", "same", "sub"]


def _written(store: Store, action: actions.WriteFile) -> tuple[Snapshot | None, Snapshot]:
    """Return what `action` makes without a mount, if it can, and on the merged tree."""
    merged = commit(store, _base(store), lambda root: edit.apply(action, root, lambda _tree: root))
    draft = store.snapshots.prepare(_base(store))
    if not write_directly(action, draft.upper, store.snapshots.lowers(draft.parent)):
        assert os.listdir(draft.upper) == []
        return None, merged
    return store.snapshots.commit(draft, identity=key("written")), merged


@pytest.mark.parametrize(
    "path", ["new", "/app/new", "new/deep/er", "gone", "gone/old", "opaque/old", "./app//new"]
)
@pytest.mark.parametrize(
    "more",
    [{}, {"owner": "9:10"}, {"owner": "9", "mode": 0o700}, {"into": True}],
    ids=["", "owner", "mode", "into"],
)
def test_a_file_written_directly_equals_one_on_the_merged_tree(
    store: Store, path: str, more: dict[str, object]
) -> None:
    """Contents, attributes of the file and of its parents, and what shows through from below."""
    direct, merged = _written(store, actions.WriteFile(path=path, content=b"text", **more))  # type: ignore[arg-type]

    assert direct is not None
    with store.snapshots.view(direct) as one, store.snapshots.view(merged) as two:
        assert content_digest(one) == content_digest(two)


@pytest.mark.parametrize(
    "path",
    ["plain", "app", "lib", "lib/new", "a/../b", "app/", "app/."],
    ids=["file there", "directory there", "link", "link on the way", "to be resolved", "slash", "dot"],
)
def test_a_file_that_meets_something_is_left_to_the_merged_tree(store: Store, path: str) -> None:
    """The answer is False and the draft is untouched."""
    direct, _merged = _written(store, actions.WriteFile(path=path, content=b"text", into=True))

    assert direct is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("plain/new", "cannot find `plain/new`: not a directory"),
        ("x" * 256, "File name length exceeds the maximum supported 255 characters"),
    ],
    ids=["below a file", "too long"],
)
def test_a_file_that_cannot_be_is_refused_either_way(store: Store, path: str, message: str) -> None:
    """By the merged tree, in its words."""
    draft = store.snapshots.prepare(_base(store))

    with pytest.raises(EngineError) as caught:
        apply_to_draft(
            actions.WriteFile(path=path, content=b""), store.snapshots, draft, lambda _tree: draft.upper
        )

    assert str(caught.value) == message


def test_four_thousand_files_are_copied_in_about_the_time_of_reading_them(store: Store) -> None:
    """A changed source tree is copied at every run; measured in time of the processor."""

    def fill(root: Path) -> None:
        for number in range(4000):
            if number % 100 == 0:
                (root / str(number)).mkdir()
            (root / str(number - number % 100) / f"{number}.py").write_text(f"value = {number}\n" * 20)

    source = commit(store, store.snapshots.empty, fill)
    draft = store.snapshots.prepare(_base(store))
    with store.snapshots.view(source) as path:
        action = actions.Copy(source=ops.Scratch(), path="src")

        began = time.process_time()
        done = copy_directly(action, draft.upper, store.snapshots.lowers(draft.parent), path)
        took = time.process_time() - began

    assert done is True
    assert took < 1.5
