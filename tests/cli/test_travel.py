"""`pipeline cache export` and `import` from outside; what travels is tested elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pipeline.digest import digest_text
from pipeline.engine.store import Store, StoredResult
from tests.cli.harness import lines

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.harness import CliProject


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A store with one result."""
    store = Store.open(tmp_path / "used")
    draft = store.snapshots.prepare(store.snapshots.empty)
    (draft.upper / "file").write_text("made\n")
    snapshot = store.snapshots.commit(draft, identity=digest_text("identity"))
    store.index.save_result(digest_text("key"), StoredResult(trees={"": snapshot.id}))
    store.close()
    return tmp_path / "used"


@pytest.mark.root
def test_a_store_goes_to_another_machine(cli: CliProject, used: Path, tmp_path: Path) -> None:
    """What was carried and what is new is counted; a second import has nothing new."""
    target = tmp_path / "cache"

    exported = cli("cache", "export", str(target), PIPELINE_STORE=str(used))
    imported = [cli("cache", "import", str(target), PIPELINE_STORE=str(tmp_path / "new")) for _ in range(2)]

    assert (exported.code, exported.stderr) == (0, "")
    assert exported.stdout.splitlines()[0].startswith("1 result, 1 layer, 0 cache volumes, ")
    assert exported.stdout.splitlines()[1] == f"in {target}"
    assert [answer.stdout for answer in imported] == [
        "new: 1 result, 1 layer, 0 cache volumes\n",
        "new: 0 results, 0 layers, 0 cache volumes\n",
    ]
    store = Store.open(tmp_path / "new")
    found = store.index.find_result(digest_text("key"))
    assert found is not None
    assert (store.snapshots.lowers(store.snapshots.get(found.trees[""]))[0] / "file").read_text() == "made\n"
    store.close()


@pytest.mark.root
def test_json_tells_what_did_not_fit(cli: CliProject, used: Path, tmp_path: Path) -> None:
    """A budget of nothing carries nothing, and says so."""
    target = str(tmp_path / "cache")

    answer = cli("cache", "export", target, "--max-size", "0", "--json", PIPELINE_STORE=str(used))

    told = json.loads(answer.stdout)
    assert told.pop("size_bytes") < 1000
    assert told == {"target": target, "results": 0, "snapshots": 0, "volumes": 0, "left_out": 1}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ("export", "somewhere"),
            """
            error: cannot export the cache: there is no store at `ROOT/none` yet
            hint: `pipeline run` makes it
            """,
        ),
        (
            ("import", "nowhere"),
            """
            error: cannot import the cache `nowhere`: `index.json` is missing
            """,
        ),
    ],
    ids=["no-store", "no-cache"],
)
@pytest.mark.root
def test_wrong_use_is_one_sentence(cli: CliProject, argv: tuple[str, ...], said: str) -> None:
    """It names the place, and changes nothing."""
    answer = cli("cache", *argv, PIPELINE_STORE=str(cli.root / "none"))

    assert (answer.stdout, answer.stderr) == ("", lines(said))
    assert answer.code in {1, 2}
