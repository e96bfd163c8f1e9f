"""What every place for records promises, whichever it is."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from pipeline.deploy.state import LocalState, StateChanged

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.deploy.state import State

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["local"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    return {"local": LocalState}[request.param](tmp_path / "state")


async def test_what_is_not_there_has_neither_content_nor_version(state: State) -> None:
    """And no name."""
    assert (await state.read("lease.json"), await state.names("")) == ((b"", ""), ())


async def test_a_document_is_replaced_by_who_has_read_it_last(state: State) -> None:
    """Anybody else is told that it has changed, and changes nothing."""
    first = await state.write("a/lease.json", b"1\n", version="")
    second = await state.write("a/lease.json", b"2\n", version=first)

    for version in (first, "", "nonsense"):
        with pytest.raises(StateChanged, match=r"cannot write the record `a/lease\.json`"):
            await state.write("a/lease.json", b"3\n", version=version)

    assert await state.read("a/lease.json") == (b"2\n", second)


async def test_lines_are_added_and_never_mix(state: State) -> None:
    """Though many write at once."""
    line = b'{"n": "' + b"x" * 5000 + b'"}\n'

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(state.append, "history.jsonl", line)

    assert (await state.read("history.jsonl"))[0] == line * 20


async def test_names_are_sorted_and_begin_as_asked(state: State) -> None:
    """Documents and logs alike."""
    await state.write("releases/r-2.json", b"2\n", version="")
    await state.write("releases/r-1.json", b"1\n", version="")
    await state.append("history.jsonl", b"{}\n")

    assert await state.names("releases/") == ("releases/r-1.json", "releases/r-2.json")
    assert await state.names("") == ("history.jsonl", "releases/r-1.json", "releases/r-2.json")


WRITER: Final = """
import anyio, sys
from pathlib import Path
from pipeline.deploy.state import LocalState, StateChanged
async def main():
    try:
        await LocalState(Path(sys.argv[1])).write('lease.json', sys.argv[2].encode(), version='')
    except StateChanged:
        return
    print('won')
anyio.run(main)
"""


async def test_one_of_many_processes_wins(tmp_path: Path) -> None:
    """Of those that have read the same version, exactly one may write."""
    tries = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, str(n)], stdout=subprocess.PIPE)
        for n in range(4)
    ]
    said = [one.communicate()[0] for one in tries]

    assert sorted(said) == [b"", b"", b"", b"won\n"]


async def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    """The next one begins on a line of its own."""
    state = LocalState(tmp_path)
    await state.append("history.jsonl", b'{"n": 1}\n')
    with open(tmp_path / "history.jsonl", "ab") as file:
        file.write(b'{"n": 2')
        os.fsync(file.fileno())

    await state.append("history.jsonl", b'{"n": 3}\n')

    assert (await state.read("history.jsonl"))[0] == b'{"n": 1}\n{"n": 2\n{"n": 3}\n'
