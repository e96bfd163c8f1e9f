"""Records on a host over SSH promise what all records do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.deploy.ssh_state import SshState
from tests.contract.test_state import (
    test_a_document_is_replaced_by_who_has_read_it_last as _documents,
)
from tests.contract.test_state import test_lines_are_added_and_never_mix as _lines
from tests.contract.test_state import test_names_are_sorted_and_begin_as_asked as _names
from tests.contract.test_state import (
    test_what_is_not_there_has_neither_content_nor_version as _nothing,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.deploy.docker.bed import BedHost

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.slow]


@pytest.fixture
async def state(host: BedHost, tmp_path: Path) -> AsyncIterator[SshState]:
    shell = host.shell(host.ssh)
    yield SshState(shell, str(tmp_path / "state"))
    await shell.close()


test_what_is_not_there_has_neither_content_nor_version = _nothing
test_a_document_is_replaced_by_who_has_read_it_last = _documents
test_lines_are_added_and_never_mix = _lines
test_names_are_sorted_and_begin_as_asked = _names


async def test_a_line_that_was_cut_off_spoils_no_other(state: SshState, tmp_path: Path) -> None:
    """The next one begins on a line of its own."""
    await state.append("history.jsonl", b'{"n": 1}\n')
    with open(tmp_path / "state" / "history.jsonl", "ab") as file:
        file.write(b'{"n": 2')

    await state.append("history.jsonl", b'{"n": 3}\n')

    assert (await state.read("history.jsonl"))[0] == b'{"n": 1}\n{"n": 2\n{"n": 3}\n'
