"""Which tests are integration, end-to-end or security tests: by their folder, or by a marker of pytest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.detect.testing import TEST_FOLDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.detect.testing import PytestSettings

# Stage, the names its folders have below a folder of tests, and its markers. Of several markers on one test
# the first stage's counts.
SUITES: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "e2e": (("acceptance", "e2e", "end_to_end", "end2end", "endtoend"), ("acceptance", "e2e", "end_to_end")),
    "security_tests": (("security",), ("security",)),
    "integration": (("integration", "integrations"), ("integration", "integration_test")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The tests of one stage: all below its folders, and those elsewhere that have one of its markers."""

    stage: str
    folders: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()  # what pytest is told to look at
    is_left_out: bool = (
        False  # the project's own settings deselect it by a marker, when nothing else is asked
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Suites:
    """The suites that are there, and what is left for `unit`."""

    suites: tuple[Suite, ...] = ()
    unit_paths: tuple[str, ...] = ()  # empty where the runner's own configuration says
    has_unit_tests: bool = False


def find_suites(
    settings: PytestSettings,
    test_paths: Sequence[str],
    test_files: Sequence[str],
    files: Sequence[str],
    read: Callable[[str], str | None],
) -> Suites:
    """Share out the files of tests among the stages; no test belongs to two of them.

    Args:
        test_paths: What pytest is told to look at, as a whole; empty where its settings say.
    """
    folders: dict[str, list[str]] = {stage: [] for stage in SUITES}
    elsewhere = []
    for name in test_files:
        found = suite_folder(name)
        if found is None:
            elsewhere.append(name)
        elif found[1] not in folders[found[0]]:
            folders[found[0]].append(found[1])
    everything = list(test_paths) or settings.words("testpaths")
    markers = _markers(settings, elsewhere, files, read)
    suites = []
    for stage in SUITES:
        own, marked = folders[stage], markers.get(stage, ())
        wide = everything or ["."] if marked else []
        narrow = [one for one in own if not any(_is_below(one, other) for other in wide)]
        if own or marked:
            paths = (*narrow, *wide)
            suites.append(
                Suite(
                    stage=stage,
                    folders=tuple(own),
                    markers=tuple(marked),
                    paths=paths,
                    is_left_out=_is_left_out(stage, settings),
                )
            )
    taken = [folder for one in suites for folder in one.folders]
    left = tuple(one for one in everything if not any(_is_below(one, folder) for folder in taken))
    marks = [marker for one in suites for marker in one.markers]
    return Suites(
        suites=tuple(suites),
        unit_paths=left if taken and left != tuple(everything) else tuple(test_paths),
        has_unit_tests=any(not _is_wholly_marked(read(name) or "", marks) for name in elsewhere),
    )


def suite_folder(name: str) -> tuple[str, str] | None:
    """Return the stage a file of tests belongs to by its folder, and that folder; None for any other.

    A folder counts below a folder of tests, at the root, or when its own name says that it holds tests:
    an application may have a package `security` with tests of its own.
    """
    parts = name.split("/")[:-1]
    for depth, part in enumerate(parts):
        for stage, (names, _) in SUITES.items():
            is_first = depth == 0 and (stage == "e2e" or not set(parts[1:]) & set(TEST_FOLDERS))
            if part in names and (is_first or set(parts[:depth]) & set(TEST_FOLDERS)):
                return stage, "/".join(parts[: depth + 1])
            plain = re.sub(r"^tests?[_-]|[_-]?tests?$", "", part)
            if plain != part and plain in names:
                return stage, "/".join(parts[: depth + 1])
    return None


def _markers(
    settings: PytestSettings,
    elsewhere: Sequence[str],
    files: Sequence[str],
    read: Callable[[str], str | None],
) -> dict[str, list[str]]:
    """Return the markers each stage's tests outside of its folders have: declared, and used."""
    conftests = [name for name in files if name.rpartition("/")[2] == "conftest.py"]
    hooks = "\n".join(read(name) or "" for name in conftests)
    lines = settings.values.get("markers", "")
    declared = lines if isinstance(lines, str) else "\n".join(map(str, lines))
    known = {
        stage: [
            marker
            for marker in markers
            if re.search(rf"^\s*{marker}\b(?!-)", declared, re.MULTILINE)
            or re.search(rf"addinivalue_line\(\s*['\"]markers['\"],\s*['\"]{marker}\b", hooks)
        ]
        for stage, (_, markers) in SUITES.items()
    }
    if not any(known.values()):
        return {}
    texts = [hooks, *(read(name) or "" for name in elsewhere)]
    return {
        stage: [marker for marker in markers if any(re.search(rf"\bmark\.{marker}\b", t) for t in texts)]
        for stage, markers in known.items()
    }


def _is_left_out(stage: str, settings: PytestSettings) -> bool:
    options = " ".join(settings.words("addopts"))
    chosen = re.search(r"(?:^|\s)-m[ =]?(.*)", options)
    return chosen is not None and any(re.search(rf"\b{one}\b", chosen[1]) for one in SUITES[stage][1])


def _is_wholly_marked(text: str, markers: Sequence[str]) -> bool:
    found = re.search(r"^pytestmark\s*=\s*(\[[^\]]*\]|.*)", text, re.MULTILINE)
    return found is not None and any(re.search(rf"\bmark\.{one}\b", found[1]) for one in markers)


def _is_below(path: str, folder: str) -> bool:
    return folder in (".", path) or path.startswith(folder.rstrip("/") + "/")
