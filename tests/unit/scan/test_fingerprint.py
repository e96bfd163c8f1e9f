"""The name of a finding: what keeps it, and what makes it another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.scan.finding import InFile, InRequest
from pipeline.scan.fingerprint import fingerprint, identify, secret_fingerprint
from tests.unit.scan.making import finding, package

CODE = """import hashlib


def first(data):
    return hashlib.md5(data).hexdigest()


class Store:
    def load(self, key, value):
        print(key)
        return hashlib.md5(key, value)
"""


def ids(text: str, *lines: int, path: str = "app.py", **more: Any) -> list[str]:
    """The fingerprints of findings on these lines of a file."""
    found = [finding(place=InFile(path=path, line=line), **more) for line in lines]
    return [one.id for one in identify(found, {path: text})]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param("\n" * 50 + CODE, (55, 61), id="fifty-lines-on-top"),
        pytest.param(CODE.replace("(data)", "( data )"), (5, 11), id="white-space"),
        pytest.param(
            CODE.replace(
                "hashlib.md5(key, value)", "hashlib.md5(\n            key,\n            value,\n        )"
            ),
            (5, 11),
            id="one-argument-a-line",
        ),
        pytest.param(CODE.replace("(key, value)\n", "(key, value)  # noqa: S324\n"), (5, 11), id="comment"),
        pytest.param(
            "import hashlib\n\n" + CODE.split("\n\n\n")[2] + "\n\n" + CODE.split("\n\n\n")[1] + "\n",
            (10, 6),
            id="functions-swapped",
        ),
    ],
)
def test_a_finding_keeps_its_name_when_only_the_layout_changes(text: str, lines: tuple[int, ...]) -> None:
    """Lines move, code is reformatted, comments come and go, functions change places."""
    assert ids(text, *lines) == ids(CODE, 5, 11)


PACKED = """def run(first, second):
    if first: exec(first); eval(second)
    for one in first: exec(one)
"""
UNPACKED = """def run(first, second):
    if first:
        exec(first)
        eval(second)
    for one in first:
        exec(one)
"""


@pytest.mark.parametrize(
    ("packed", "unpacked"),
    [((2, 15), (3, 9)), ((2, 28), (4, 9)), ((3, 23), (6, 9)), ((2, 8), (2, 8)), ((3, 0), (6, 0))],
    ids=["first-of-a-line", "second-of-a-line", "inside", "the-condition", "without-a-column"],
)
def test_statements_of_one_line_keep_their_names_on_lines_of_their_own(
    packed: tuple[int, int], unpacked: tuple[int, int]
) -> None:
    """As formatters put them; the column tells which of them is meant."""
    before, after = (
        identify([finding(place=InFile(path="a.py", line=at[0], column=at[1]))], {"a.py": text})[0].id
        for at, text in ((packed, PACKED), (unpacked, UNPACKED))
    )

    assert before == after


def test_a_second_equal_line_is_a_second_finding() -> None:
    """The first keeps its name, the new one gets its own: nothing hides behind an old finding."""
    line = "    hashlib.md5(data)\n"
    once = CODE.replace("    return hashlib.md5(data).hexdigest()\n", line)

    before, after = ids(once, 5), ids(once.replace(line, line + line), 5, 6)

    assert after[0] == before[0]
    assert len(set(after)) == 2


def test_a_renamed_file_keeps_the_name_without_the_path() -> None:
    [before] = identify([finding(place=InFile(path="a.py", line=5))], {"a.py": CODE})
    [after] = identify([finding(place=InFile(path="b.py", line=5))], {"b.py": CODE})

    assert before.id != after.id
    assert before.moved_id == after.moved_id != ""


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"rule": "S2"}, id="another-rule"),
        pytest.param({"kind": "quality"}, id="another-kind"),
    ],
)
def test_another_problem_has_another_name(changed: dict[str, Any]) -> None:
    assert ids(CODE, 5, **changed) != ids(CODE, 5)


def test_the_same_line_in_another_function_is_another_problem() -> None:
    moved = CODE.replace("def first", "def second")

    assert ids(moved, 5) != ids(CODE, 5)


def test_a_hard_coded_secret_has_the_same_name_whatever_its_value() -> None:
    """The value would otherwise be in the fingerprint, where a short one could be guessed."""
    before, after = ids('PASSWORD = "hunter2"\n', 1, cwe=(259,)), ids('PASSWORD = "other"\n', 1, cwe=(259,))

    assert before == after
    assert ids('PASSWORD = "hunter2"\n', 1) != ids('PASSWORD = "other"\n', 1)


@pytest.mark.parametrize(
    "line",
    ['TOKEN = f"x{1!r:>3}y"\n', "match T:\n    case 'x':\n        pass\n", "try:\n    x\nfinally:\n    y\n"],
)
def test_every_statement_can_be_named_with_and_without_its_literals(line: str) -> None:
    for cwe in ((), (798,)):
        [one] = identify([finding(place=InFile(path="a.py", line=1), cwe=cwe)], {"a.py": line})

        assert isinstance(one.place, InFile)
        assert one.place.snippet != ""


def test_files_that_do_not_parse_or_are_no_python_are_named_by_their_lines() -> None:
    """Indentation does not matter there either."""
    for path in ("broken.py", "values.yaml"):
        assert ids("a: (\n  b: 1\n", 2, path=path) == ids("a: (\n\n      b:   1\n", 3, path=path)


def test_a_package_keeps_its_name_over_an_update_that_does_not_help() -> None:
    [before] = identify([finding(kind="vulnerability", rule="CVE-1", place=package(version="2.10"))], {})
    [after] = identify([finding(kind="vulnerability", rule="CVE-1", place=package(version="2.11"))], {})

    assert before.id == after.id


def test_a_request_is_named_by_its_route() -> None:
    one = InRequest(method="GET", url="http://app/items/1", route="/items/{id}", parameter="id")
    found = identify(
        [finding(kind="dast", place=one), finding(kind="dast", place=replace(one, parameter="q"))], {}
    )
    [other] = identify([finding(kind="dast", place=replace(one, url="http://app/items/2"))], {})

    assert found[0].id == other.id
    assert found[0].id != found[1].id


def test_a_finding_of_a_secret_keeps_the_name_it_was_given() -> None:
    one = finding(kind="secret", id=secret_fingerprint(b"key", "aws", "value"))

    assert identify([one, one], {"app.py": CODE}) == [one, one]


def test_a_secret_is_named_by_a_keyed_hash() -> None:
    """Another repository's key gives another name, and rule and value do not run into each other."""
    name = secret_fingerprint(b"key", "rule", "value")

    assert len(name) == 32
    assert name == secret_fingerprint(b"key", "rule", "value")
    assert name != secret_fingerprint(b"other", "rule", "value")
    assert name != secret_fingerprint(b"key", "rulev", "alue")


def test_parts_do_not_run_into_each_other() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
