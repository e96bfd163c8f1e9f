"""Keys of stages: what changes them, and how the change is told."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import Context, stage
from pipeline.graph.code import code_of
from pipeline.graph.inputs import ProjectFiles
from pipeline.graph.keys import Change, KeyParts, explain, parts_from_plain, parts_of, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STAGES = '''
"""Stages."""
import functools
import re
import json
from {name} import helpers
from {name}.deep import Level, Policy, Shape, half, unused, used
from pipeline import Context, stage

LIMIT = 3
WORDS = {{"b", "a", "c"}}
PATTERN = re.compile("x+")
OTHER = 1
POLICY = Policy(limit=3, inner=Policy(limit=7))
TABLE = {{"a": [Policy(limit=5)], "self": []}}
TABLE["self"].append(TABLE)
HALF = functools.partial(half, by=2)

def near(value):
    """Docs."""
    return value + LIMIT

@stage
async def unit(ctx: Context) -> int:
    # a comment
    def inner():
        return near(1)
    total = POLICY.limit + len(TABLE) + HALF(4) + Level.HIGH.value
    return total + used() + inner() + len(WORDS) + helpers.help() + Shape().area() + len(PATTERN.pattern)

@stage
async def late(ctx: Context) -> int:
    from .lazy import laziness
    from {name} import lazy2
    return laziness
'''
FILES = {
    "__init__.py": "",
    "stages.py": STAGES,
    "helpers.py": "from . import far\ndef help():\n    return 1\n",
    "far.py": "FAR = 1\n",
    "deep.py": (
        "BASE = 1\n"
        "import dataclasses, enum\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Policy:\n    limit: int\n    inner: object = None\n"
        "class Level(enum.Enum):\n    HIGH = 9\n"
        "def half(x, by):\n    return x / by\n"
        "def used():\n    return BASE\n"
        "def unused():\n    return 2\n"
        "class Shape:\n    side: int = 2\n    def area(self):\n        return self.side ** 2\n"
    ),
    "lazy.py": "laziness = 1\n",
    "lazy2.py": "x = 1\n",
}


class Package:
    """A package of stages on disk, imported anew after each change."""

    def __init__(self, folder: Path) -> None:
        self.name = f"pkg_{folder.name.replace('-', '_')}"
        self.folder = folder / self.name
        self.folder.mkdir()
        for path, text in FILES.items():
            (self.folder / path).write_text(text.format(name=self.name) if path == "stages.py" else text)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file."""
        text = (self.folder / path).read_text()
        assert old in text
        (self.folder / path).write_text(text.replace(old, new))

    def code(self, name: str = "unit") -> dict[str, str]:
        """The code parts of a stage, without the package's name."""
        for module in [one for one in sys.modules if one.partition(".")[0] == self.name]:
            del sys.modules[module]
        importlib.invalidate_caches()
        stages = importlib.import_module(f"{self.name}.stages")
        found = code_of(getattr(stages, name).function)
        return {label.replace(self.name, "pkg"): digest for label, digest in found.items()}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """The package, importable."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Package(tmp_path)
    yield made
    for module in [one for one in sys.modules if one.partition(".")[0] == made.name]:
        del sys.modules[module]


def test_the_code_of_a_stage_is_what_it_uses_of_its_own_package(package: Package) -> None:
    """Functions and classes by name, whole modules by file; nothing of other packages."""
    assert sorted(package.code()) == [
        "pkg.deep:Level",
        "pkg.deep:Policy",
        "pkg.deep:Shape",
        "pkg.deep:half",
        "pkg.deep:used",
        "pkg.stages:near",
        "pkg.stages:unit",
        "pkg/__init__.py",
        "pkg/far.py",
        "pkg/helpers.py",
    ]
    assert sorted(package.code("late")) == [
        "pkg.stages:late",
        "pkg/__init__.py",
        "pkg/lazy.py",
        "pkg/lazy2.py",
    ]


@pytest.mark.parametrize(
    ("path", "old", "new", "changed"),
    [
        ("stages.py", "# a comment", "# another, longer\n    # comment", []),
        ("stages.py", "OTHER = 1", "OTHER = 2", []),
        ("stages.py", '{"b", "a", "c"}', '{"c", "b", "a"}', []),
        ("deep.py", "return 2", "return 3", []),
        ("stages.py", "LIMIT = 3", "LIMIT = 4", ["pkg.stages:near"]),
        ("stages.py", "near(1)", "near(2)", ["pkg.stages:unit"]),
        ("stages.py", '{"b", "a", "c"}', '{"b", "a"}', ["pkg.stages:unit"]),
        ("stages.py", '"x+"', '"x*"', ["pkg.stages:unit"]),
        ("stages.py", "Policy(limit=3,", "Policy(limit=4,", ["pkg.stages:unit"]),
        ("stages.py", "Policy(limit=7)", "Policy(limit=8)", ["pkg.stages:unit"]),
        ("stages.py", "Policy(limit=5)", "Policy(limit=6)", ["pkg.stages:unit"]),
        ("stages.py", "half, by=2", "half, by=4", ["pkg.stages:unit"]),
        ("deep.py", "HIGH = 9", "HIGH = 8", ["pkg.deep:Level"]),
        ("deep.py", "x / by", "x // by", ["pkg.deep:half"]),
        ("deep.py", "BASE = 1", "BASE = 2", ["pkg.deep:used"]),
        ("deep.py", "side: int = 2", "side: int = 3", ["pkg.deep:Shape"]),
        ("deep.py", "** 2", "** 3", ["pkg.deep:Shape"]),
        ("far.py", "FAR = 1", "FAR = 2", ["pkg/far.py"]),
    ],
)
def test_only_what_can_change_the_result_changes_the_code(
    package: Package, path: str, old: str, new: str, changed: list[str]
) -> None:
    """Comments, layout and what is not used do not count."""
    before = package.code()
    package.edit(path, old, new)

    after = package.code()

    assert [label for label in after if after[label] != before.get(label)] == changed


def test_code_is_the_same_in_every_process(package: Package) -> None:
    """Whatever the hash seed."""
    script = (
        "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, sys.argv[1])\n"
        "from importlib import import_module\n"
        "from pipeline.graph.code import code_of\n"
        "print(code_of(import_module(sys.argv[2] + '.stages').unit.function))"
    )
    argv = [sys.executable, "-c", script, str(package.folder.parent), package.name]

    said = {
        subprocess.run(argv, check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2", "3")
    }

    assert len(said) == 1
    assert "stages:unit" in said.pop()


@stage(inputs=["src/**"], options={"level": 1}, secrets=["B", "A"])
async def scan(ctx: Context) -> None: ...


FILES_NOW = ProjectFiles(digests={"README.md": "r", "src/a.py": "1", "src/b.py": "2"}, from_git=True)


def parts(**changes: Any) -> KeyParts:
    """The parts of `scan`, with changes."""
    made = parts_of(
        scan,
        code=code_of(scan.function),
        files=FILES_NOW,
        needs={"build": "k1"},
        options=scan.options,
        facts={"arch": "x"},
    )
    return replace(made, **changes)


def test_parts_hold_declared_inputs_options_needs_secret_names_and_facts() -> None:
    """Files that are no input are not in it."""
    found = parts()

    assert (dict(found.inputs), dict(found.options), dict(found.needs)) == (
        {"src/a.py": "1", "src/b.py": "2"},
        {"level": "1"},
        {"build": "k1"},
    )
    assert (found.secrets, dict(found.facts), found.stage) == (("A", "B"), {"arch": "x"}, "scan")


def test_the_base_leaves_out_what_is_only_known_after_a_run() -> None:
    """The key has it."""
    ran = parts(observed={"image python": "sha256:1"})

    assert ran.base == parts().base
    assert ran.key != parts().key
    assert parts_from_plain(ran.plain()) == ran


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        (
            {"inputs": {"src/a.py": "9", "src/c.py": "3"}},
            "input `src/a.py` changed, input `src/b.py` removed, input `src/c.py` added",
        ),
        ({"options": {"level": "2"}}, "option `level` changed"),
        ({"needs": {"build": "k2"}}, "`build` changed"),
        ({"needs": {}}, "need `build` removed"),
        ({"secrets": ("A",)}, "the names of its secrets changed"),
        ({"facts": {"arch": "y"}}, "setting `arch` changed"),
        ({"observed": {"image python": "sha256:1"}}, "used `image python` added"),
        ({"version": "9"}, f"pipeline or Python is another version ({parts().version} to 9)"),
    ],
)
def test_a_difference_is_told_down_to_the_name(changes: Any, said: str) -> None:
    """In words people use."""
    assert say(explain(parts(), parts(**changes))) == said


def test_a_long_list_of_changes_is_cut() -> None:
    """The rest is counted."""
    changes = tuple(Change(part="inputs", name=str(i), how="added") for i in range(5))

    assert say(changes, most=2) == "input `0` added, input `1` added and 3 more"
