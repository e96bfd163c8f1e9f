"""What is installed is read by a program that runs nothing of it; imports are matched by module names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.scan.packages.imports import imported_modules, with_imported
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

    assert imported_modules([code]) == frozenset({"a", "a.b", "c", "c.d", "c.d.e", "g"})


def test_code_that_does_not_parse_says_nothing() -> None:
    """Not known is not "no"."""
    assert imported_modules(["import a", "def"]) is None


def test_packages_are_marked_by_the_modules_they_install() -> None:
    """A package whose modules are not known stays unknown, as do all where the code is not known."""
    packages = [Package(name=name, version="1", ecosystem="PyPI") for name in ("PyYAML", "idna", "other")]
    modules = {"pyyaml": ("yaml", "_yaml"), "idna": ("idna",), "other": ()}

    told = with_imported(packages, modules, frozenset({"yaml"}))

    assert [one.imported for one in told] == [True, False, None]
    assert [one.imported for one in with_imported(packages, modules, None)] == [None, None, None]
