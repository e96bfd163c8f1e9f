"""What the real tools do in situations in which they end well without having looked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.scan.sast.bandit import Bandit
from pipeline.scan.sast.ruff import Ruff
from pipeline.scan.sast.semgrep import Semgrep
from pipeline.scan.scanner import Target
from tests.unit.scan.sast.real import run_here, scan_here

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.scan.scanner import CommandScanner, Scan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CALL = b"import pickle\n\n\ndef read(request):\n    return pickle.loads(request.body)\n"
TREE = {
    "good.py": CALL,
    "bom.py": b"\xef\xbb\xbf" + CALL,
    "odd name \xc3\xbc.py": CALL,
    "build/made.py": CALL,
    "node_modules/module.py": CALL,
    "blanket.py": b"# flake8: noqa\n" + CALL,
    "own_line.py": CALL.replace(b"body)", b"body)  # noqa: S301").replace(
        b"pickle\n\n", b"pickle  # noqa\n\n"
    ),
    "latin.py": b"# -*- coding: latin-1 -*-\nNAME = '\xe9'\n" + CALL,
    "not_utf8.py": b"NAME = '\xe9'\n" + CALL,
    "does_not_parse.py": b"def read(:\n" + CALL,
    "null.py": CALL + b"\0\n",
    "ruff.toml": b'exclude = ["*"]\n[lint]\nignore = ["ALL"]\n',
    "pyproject.toml": b'[tool.ruff]\nexclude = ["*"]\n',
    ".semgrepignore": b"*\n",
    ".gitignore": b"*.py\n",
}
PARSING = {"good.py", "bom.py", "odd name \u00fc.py", "build/made.py", "node_modules/module.py", "blanket.py"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `src` holds every odd file at once, and links out of it."""
    folder = tmp_path_factory.mktemp("odd")
    for name, data in TREE.items():
        path = folder / "src" / (name if name.isascii() else name.encode("latin-1").decode())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "elsewhere.py").write_bytes(CALL)
    (folder / "src" / "link.py").symlink_to("../elsewhere.py")
    (folder / "src" / "endless").symlink_to(".")
    return folder


def found(scan: Scan, rule: str) -> set[str]:
    """The files a rule was found in."""
    return {one.where.partition(":")[0] for one in scan.findings if one.rule.id == rule}


def test_ruff_tells_what_it_passes_over(tree: Path, ruff: Path) -> None:
    """The project's settings and a comment for a whole file leave nothing out; other encodings are told."""
    scan = scan_here(Ruff(), tree, ruff)

    assert scan.state == "incomplete"
    assert {one.what: one.why for one in scan.coverage.missed} == {
        "does_not_parse.py": "it does not parse: Expected a parameter or the end of the parameter list",
        "latin.py": "it is not UTF-8: ruff passes over it and says nothing",
        "not_utf8.py": "it is not UTF-8: ruff passes over it and says nothing",
        "null.py": "it does not parse: Got unexpected token \0",
    }
    assert found(scan, "S301") == PARSING


def test_bandit_tells_what_it_skips(tree: Path, bandit: Path) -> None:
    """It reads other encodings; what a link names outside is none of the project's findings."""
    scan = scan_here(Bandit(), tree, bandit)

    assert scan.state == "incomplete"
    assert {one.what for one in scan.coverage.missed} == {"does_not_parse.py", "not_utf8.py", "null.py"}
    assert found(scan, "S301") == PARSING | {"latin.py", "own_line.py"}


def test_semgrep_takes_no_file_for_scanned_that_does_not_parse(tree: Path, semgrep: Path) -> None:
    """It says that they were."""
    scan = scan_here(Semgrep(), tree, semgrep)

    assert scan.state == "incomplete"
    assert {one.what for one in scan.coverage.missed} == {"does_not_parse.py", "not_utf8.py", "null.py"}
    assert found(scan, "unpickle-from-request") >= PARSING


def test_semgrep_with_a_file_of_rules_that_is_none_is_an_error(tmp_path: Path, semgrep: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "good.py").write_bytes(CALL)
    (tmp_path / "src" / ".semgrep.yml").write_text("rules: [{id: mine}]\n")

    scan = scan_here(Semgrep(), tmp_path, semgrep)

    assert (scan.state, scan.coverage.seen, scan.findings) == ("error", 0, ())


@pytest.mark.parametrize("scanner", [Ruff(), Bandit(), Semgrep()], ids=lambda one: one.name)
def test_a_tree_that_is_not_there_is_an_error(
    scanner: CommandScanner, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Bandit ends well, with an empty report."""
    target = Target(root="/src", files={"app.py": CALL})
    programs = request.getfixturevalue(scanner.name)

    scan = scanner.read(target, [run_here(one, tmp_path, programs) for one in scanner.commands(target)])

    assert (scan.state, scan.findings) == ("error", ())
    assert f"{scanner.name} " in scan.reason


def test_bandit_with_settings_it_cannot_read_is_an_error(tmp_path: Path, bandit: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_bytes(CALL)
    (tmp_path / "src" / ".bandit").write_text("exclude_dirs:\n  - tests\n")

    scan = scan_here(Bandit(), tmp_path, bandit)

    assert (scan.state, scan.findings) == ("error", ())
    assert scan.reason == "`.bandit` is not INI: bandit would drop all of it and say nothing"
