"""Equal content under different recipes has one digest, so that what stands on it is not run again."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from pipeline.engine import ops
from pipeline.engine.files import Directory
from pipeline.engine.sources.git import GitSources
from pipeline.engine.sources.http import HttpRequest, HttpSources
from tests.engine.test_sources_http import serve
from tests.engine.workbench import Workbench, open_workbench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.anyio, pytest.mark.root]


@pytest.fixture
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workbench]:
    async with open_workbench(tmp_path_factory.mktemp("bench"), offline=False) as bench:
        yield bench


async def _from_host(bench: Workbench) -> Directory:
    return await bench.host(file="same")


async def _from_git(bench: Workbench) -> Directory:
    """A repository in a tree, checked out without `.git`."""
    folder = bench.folder / "repository"
    folder.mkdir()
    (folder / "file").write_text("same")
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    loaded = await bench.engine.host_directory(str(folder))
    git = GitSources(bench.engine.store)
    repository = await git.open_local(await bench.engine.solver.tree(loaded.tree))
    content = await git.tree(repository, repository.refs.head(), discard_git_dir=True)
    return Directory(tree=ops.Pinned(content=content))


async def _from_http(bench: Workbench) -> Directory:
    """A download; it belongs to the directory that it is alone in."""
    with serve() as site:
        site.files["/file"] = b"same"
        request = HttpRequest(url=site["/file"], permissions=0o644)
        fetched = await HttpSources(bench.engine.store).fetch(request)
    return Directory(tree=ops.Pinned(content=fetched.content))


async def _from_a_command(bench: Workbench) -> Directory:
    made = bench.sh("mkdir /made && printf same > /made/file && chmod 644 /made/file")
    return made.directory("/made")


async def _from_an_edit(_bench: Workbench) -> Directory:
    return Directory().with_new_file("file", "same", permissions=0o644)


SOURCES = {
    "git": _from_git,
    "http": _from_http,
    "a command": _from_a_command,
    "an edit": _from_an_edit,
}


@pytest.mark.parametrize("name", SOURCES)
async def test_what_stands_on_equal_content_is_not_run_again(bench: Workbench, name: str) -> None:
    """A directory of the host comes first; the other has its digest, and the command is a hit."""
    host = await _from_host(bench)
    ran = await bench.stdout(bench.sh("cat /src/file", bench.base.with_directory("/src", host)))
    other = await SOURCES[name](bench)
    digests = {await bench.engine.digest(one) for one in (host, other)}
    before = bench.count_runs()

    again = await bench.stdout(bench.sh("cat /src/file", bench.base.with_directory("/src", other)))

    assert (ran, again, bench.count_runs() - before) == ("same", "same", 0)
    assert len(digests) == 1
