"""`pipeline engine status` and `prune` on a store with something in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.digest import digest_text
from pipeline.engine import mounts
from pipeline.engine.store import Store, StoredResult
from pipeline.engine.store.usage import limits_of
from tests.cli.harness import Answer, lines

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.harness import CliProject

pytestmark = pytest.mark.root


@pytest.fixture
def store(cli: CliProject) -> Path:
    """A store that an engine left: a layer, a result over it with its output, a cache volume, a mirror."""
    mounts.enter_private_mount_namespace()
    opened = Store.open(cli.home / "store")
    try:
        draft = opened.snapshots.prepare(opened.snapshots.empty)
        (draft.upper / "layer").write_bytes(bytes(100_000))
        layer = opened.snapshots.commit(draft, identity=digest_text("layer"), kind="images")
        draft = opened.snapshots.prepare(layer)
        (draft.upper / "made").write_bytes(bytes(10_000))
        made = opened.snapshots.commit(draft, identity=digest_text("made"))
        output = opened.blobs.put_bytes(b"output")
        result = StoredResult(trees={"": made.id}, blobs=(output,))
        opened.index.save_result(digest_text("exec"), result)
        volume, _created = opened.index.volume_path(digest_text("volume"))
        (volume / "kept").write_bytes(bytes(5000))
        (opened.root / "git").mkdir()
        (opened.root / "git/mirror").write_bytes(bytes(20_000))
    finally:
        opened.close()
    return opened.root


def _ask(cli: CliProject, store: Path, *argv: str) -> dict[str, Any]:
    answer = cli("engine", *argv, "--json", PIPELINE_STORE=str(store))
    assert (answer.code, answer.stderr) == (0, "")
    told: dict[str, Any] = json.loads(answer.stdout)
    return told


def _used(told: dict[str, Any]) -> dict[str, int]:
    return {one["kind"]: one["count"] for one in told["usage"] if one["count"] and one["kind"] != "index"}


def test_status_tells_the_limits_and_what_takes_the_space(cli: CliProject, store: Path) -> None:
    """Snapshots and blobs are counted by what they are for."""
    told = _ask(cli, store, "status")

    bound = limits_of(store)
    assert _used(told) == {"images": 1, "results": 2, "git": 1, "cache volumes": 1}
    assert {one["kind"]: one["size_bytes"] for one in told["usage"]}["cache volumes"] == 8192
    assert told["limits"]["max_bytes"] == bound.max_bytes
    assert told["limits"]["min_free_bytes"] == bound.min_free_bytes


def test_status_of_no_store_makes_none(cli: CliProject, tmp_path: Path) -> None:
    told = _ask(cli, tmp_path / "absent", "status")

    assert (told["usage"], told["limits"]) == (None, None)
    assert not (tmp_path / "absent").exists()


def test_pruning_all_leaves_nothing_and_a_dry_run_leaves_everything(cli: CliProject, store: Path) -> None:
    """Both tell the same."""
    dry = _ask(cli, store, "prune", "--all", "--dry-run")
    between = _used(_ask(cli, store, "status"))
    done = _ask(cli, store, "prune", "--all")
    after = _used(_ask(cli, store, "status"))

    assert {**dry, "dry_run": False} == done
    assert (done["snapshots"], done["blobs"], done["volumes"]) == (2, 1, 1)
    assert (between, after) == ({"images": 1, "results": 2, "git": 1, "cache volumes": 1}, {})


def test_pruning_within_the_usual_limits_takes_nothing(cli: CliProject, store: Path) -> None:
    """Sizes given by options, and those of the configuration, are kept as well."""
    cli.write({"pyproject.toml": '[tool.pipeline.engine]\nmax_bytes = "1GiB"\n'})

    answers = [
        cli("engine", "prune", *argv, PIPELINE_STORE=str(store))
        for argv in ([], ["--max-size", "500MB"], ["--free", "1MB"])
    ]

    nothing = lines("""
        freed 0 B: 0 snapshots, 0 blobs, 0 cache volumes
    """)
    assert answers == [Answer(stdout=nothing, stderr="", code=0)] * 3


def test_a_small_limit_takes_the_longest_unused_first(cli: CliProject, store: Path) -> None:
    """By option or by the environment; what a result stands on goes last."""
    by_option = _ask(cli, store, "prune", "--max-size", "500KB", "--dry-run")
    answer = cli("engine", "prune", "--json", PIPELINE_STORE=str(store), PIPELINE_STORE_MAX_BYTES="500KB")

    assert json.loads(answer.stdout) == {**by_option, "dry_run": False}
    assert by_option["freed_bytes"] <= 120_000


def test_mirrors_stay_while_another_engine_is_at_work(cli: CliProject, store: Path) -> None:
    """It may be reading them; once it has left they go."""
    mirror = store / "git/mirror"
    at_work = Store.open(store)
    try:
        _ask(cli, store, "prune", "--all")
        stayed = mirror.exists()
    finally:
        at_work.close()

    told = _ask(cli, store, "prune", "--all")

    assert (stayed, mirror.exists(), told["freed_bytes"]) == (True, False, 20_480)
