"""What is installed is read by a program that runs nothing of it; imports are matched by module names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.scan.packages.direct import named_by, with_direct
from pipeline.scan.packages.imports import Imports, imports_of, with_imported
from pipeline.scan.packages.installed import PROGRAM, read_installed
from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import LockBroken


def test_the_program_tells_what_is_installed_here() -> None:
    """Run by this Python: pytest is there, under the name it is imported by; the project itself is not."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)

    read = read_installed(done.stdout)

    names = {one.name: one for one in read.packages}
    assert names["pytest"].version == pytest.__version__
    assert names["pytest"].is_installed
    assert "pytest" in read.modules["pytest"]
    assert "dagger-pipeline" not in names


@pytest.mark.parametrize("text", ["", "<html>", "[1]", '[{"name": "a"}]', "null"])
def test_what_is_no_list_of_packages_is_refused(text: str) -> None:
    """Rather than taken for an empty environment."""
    with pytest.raises(LockBroken):
        read_installed(text)


def test_modules_and_their_parents_are_imported() -> None:
    """Relative imports are the project's own; one in a function counts as any other."""
    code = "import a.b\nfrom c.d import e\nfrom . import own\ndef f():\n    import g\n"

    assert imports_of([code]) == Imports(
        modules=frozenset({"a", "a.b", "c", "c.d", "c.d.e", "g"}), is_whole=True
    )


def test_code_that_does_not_parse_leaves_open_what_else_is_imported() -> None:
    """Not known is not "no"."""
    assert imports_of(["import a", "def"]) == Imports(modules=frozenset({"a"}), is_whole=False)


def test_packages_are_marked_by_the_modules_they_install() -> None:
    """A package whose modules are not known stays unknown, as do all where the code is not known."""
    packages = [Package(name=name, version="1", ecosystem="PyPI") for name in ("PyYAML", "idna", "other")]
    modules = {"pyyaml": ("yaml", "_yaml"), "idna": ("idna",), "other": ()}

    yaml = frozenset({"yaml"})
    whole = with_imported(packages, modules, Imports(modules=yaml, is_whole=True))
    part = with_imported(packages, modules, Imports(modules=yaml, is_whole=False))

    assert [one.imported for one in whole] == [True, False, None]
    assert [one.imported for one in part] == [True, None, None]


PYPROJECT = """
[project]
dependencies = ["Jinja2 >= 2", "idna[all]; python_version > '3'"]
optional-dependencies = { more = ["requests"] }
[dependency-groups]
dev = ["pytest", { include-group = "x" }]
[tool.poetry.dependencies]
python = "^3.11"
rich = "*"
[tool.poetry.group.test.dependencies]
hypothesis = "*"
"""


def test_what_the_project_names_itself_is_direct() -> None:
    """Where the lock file does not say; other ecosystems, and projects that name nothing, stay unknown."""
    names = named_by(PYPROJECT)
    packages = [Package(name=name, version="1", ecosystem="PyPI") for name in ("jinja2", "markupsafe")]
    packages += [
        Package(name="rich", version="1", ecosystem="npm"),
        Package(name="idna", version="1", ecosystem="PyPI", direct=False),
    ]

    assert names == {"jinja2", "idna", "requests", "pytest", "rich", "hypothesis"}
    assert [one.direct for one in with_direct(packages, names)] == [True, False, None, False]
    assert with_direct(packages, named_by("[project")) == packages
