"""Fingerprints end to end: code is moved about, the real tools look again, and nothing is new but what is."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from pipeline.scan.baseline import Baseline, known_of
from pipeline.scan.fingerprint import identify
from pipeline.scan.merge import merge
from pipeline.scan.sast.bandit import Bandit
from pipeline.scan.sast.ruff import Ruff
from tests.unit.scan.sast.real import place, read_tree, scan_here

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.scan.finding import Finding

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HEAD: Final = "import hashlib\nimport pickle\nimport subprocess\n\n\n"
DIGEST: Final = "def digest(data):\n    return hashlib.md5( data ,\n        ).hexdigest()\n\n\n"
READ: Final = "class Store:\n    def read(self, file):\n        return pickle.load(file)\n\n\n"
RUN: Final = "def run(command):\n    subprocess.run(command, shell = True,  check=True)\n"
APP: Final = HEAD + DIGEST + READ + RUN


def look(folder: Path, ruff: Path, bandit: Path) -> list[Finding]:
    """What ruff and bandit find together, as the stage tells it."""
    texts = {path: data.decode() for path, data in read_tree(place(folder, "/src")).items()}
    scans = [scan_here(Ruff(), folder, ruff), scan_here(Bandit(), folder, bandit)]
    return merge(one for scan in scans for one in identify(scan.findings, texts))


def rewritten(text: str) -> Callable[[Path, Path], None]:
    """A change: the file gets this text."""

    def change(root: Path, _: Path) -> None:
        (root / "app.py").write_text(text)

    return change


def reformatted(root: Path, ruff: Path) -> None:
    """A change: ruff formats the file, with other lines than before."""
    argv = [str(ruff / "ruff"), "format", "--isolated", "--no-cache", "--line-length", "40", "app.py"]
    subprocess.run(argv, cwd=root, check=True, capture_output=True)
    assert (root / "app.py").read_text() != APP


def renamed(root: Path, _: Path) -> None:
    """A change: the file lies elsewhere."""
    (root / "shop").mkdir()
    (root / "app.py").rename(root / "shop" / "store.py")


@pytest.mark.parametrize(
    ("change", "new"),
    [
        pytest.param(rewritten("\n" * 50 + APP), [], id="50-blank-lines"),
        pytest.param(reformatted, [], id="reformatted"),
        pytest.param(rewritten(HEAD + RUN + "\n\n" + READ + DIGEST), [], id="functions-moved"),
        pytest.param(renamed, [], id="renamed"),
        pytest.param(
            rewritten(APP + "    subprocess.run(command, shell = True,  check=True)\n"),
            ["S602"],
            id="a-second-equal-line",
        ),
    ],
)
def test_only_what_is_new_is_new(
    change: Callable[[Path, Path], None], new: list[str], tmp_path: Path, ruff: Path, bandit: Path
) -> None:
    root = tmp_path / "src"
    root.mkdir()
    (root / "app.py").write_text(APP)
    before = Baseline(known=known_of(look(tmp_path, ruff, bandit), "they were there"))

    change(root, ruff)
    after = look(tmp_path, ruff, bandit)

    known, gone = before.split(after)
    assert [one.rule.id for one, is_known in zip(after, known, strict=True) if not is_known] == new
    assert gone == []
    assert {one.rule for one in before.known} == {"S324", "S301", "S602", "S403", "S404"}
