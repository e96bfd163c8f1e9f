"""Git repositories: in directories, and on servers."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagger
import pytest

from tests.gitservers import (
    Worktree,
    daemon,
    new_key,
    new_repository,
    smart_http,
    ssh_agent,
    ssh_server,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conformance.conftest import EngineProcess, Engines

pytestmark = [pytest.mark.anyio, pytest.mark.root]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A repository with two commits on `main`, one on `side`, and a tag of each kind."""

    git: Worktree
    first: str
    second: str
    side: str


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    git = new_repository(tmp_path / "served" / "repo")
    first = git.commit(f="1")
    git("tag", "v1.9.0")
    git("checkout", "-q", "-b", "side")
    side = git.commit(s="side")
    git("checkout", "-q", "main")
    second = git.commit(f="2")
    git("tag", "-a", "v1.10.0", "-m", "annotated")
    git("tag", "other")
    return Sample(git=git, first=first, second=second, side=side)


@pytest.fixture
def local(dag: dagger.Client, sample: Sample) -> dagger.GitRepository:
    """The sample as a directory's repository."""
    return dag.host().directory(str(sample.git.path), no_cache=True).as_git()


@pytest.fixture
def served(dag: dagger.Client, embedded: EngineProcess, sample: Sample) -> Iterator[dagger.GitRepository]:
    """The sample on a server of this machine."""
    with daemon(sample.git.path.parent) as address:
        yield dag.git(f"{address}/repo")


@pytest.fixture(params=["local", "served"])
def repository(request: pytest.FixtureRequest) -> dagger.GitRepository:
    found: dagger.GitRepository = request.getfixturevalue(request.param)
    return found


# ---- refs ------------------------------------------------------------------------------------


async def test_refs(repository: dagger.GitRepository, sample: Sample) -> None:
    """161. Branches, tags of both kinds, commits, HEAD and full refs lead to their commits."""
    found = {
        "head": repository.head(),
        "branch": repository.branch("side"),
        "tag": repository.tag("v1.9.0"),
        "annotated": repository.tag("v1.10.0"),
        "full": repository.ref("refs/heads/side"),
        "short": repository.ref("v1.9.0"),
        "commit": repository.commit(sample.first),
    }

    told = {name: (await ref.ref(), await ref.commit()) for name, ref in found.items()}

    assert told == {
        "head": ("refs/heads/main", sample.second),
        "branch": ("refs/heads/side", sample.side),
        "tag": ("refs/tags/v1.9.0", sample.first),
        "annotated": ("refs/tags/v1.10.0", sample.second),
        "full": ("refs/heads/side", sample.side),
        "short": ("refs/tags/v1.9.0", sample.first),
        "commit": (sample.first, sample.first),
    }


async def test_refs_that_are_not_there(repository: dagger.GitRepository, sample: Sample) -> None:
    """161. A short commit is refused, and so is a ref that the repository does not have."""
    with pytest.raises(dagger.QueryError, match="invalid commit SHA"):
        await repository.commit(sample.first[:8]).commit()
    with pytest.raises(dagger.QueryError, match='repository does not contain ref "refs/heads/none"'):
        await repository.branch("none").id()
    with pytest.raises(dagger.QueryError, match='repository does not contain ref "refs/tags/none"'):
        await repository.tag("none").id()
    with pytest.raises(dagger.QueryError):
        await repository.commit("0" * 40).tree().sync()


async def test_latest_version(repository: dagger.GitRepository, sample: Sample) -> None:
    """The latest version is the highest tag that is a semantic version."""
    assert await repository.latest_version().ref() == "refs/tags/v1.10.0"
    assert await repository.latest_version().commit() == sample.second


async def test_no_version(dag: dagger.Client, tmp_path: Path) -> None:
    """Without such a tag the latest version is an error."""
    new_repository(tmp_path).commit(f="1")

    with pytest.raises(dagger.QueryError, match="no valid semver tags found"):
        await dag.host().directory(str(tmp_path)).as_git().latest_version().id()


async def test_branches(repository: dagger.GitRepository) -> None:
    """163. Branches are listed by their short names, sorted, filtered by glob patterns."""
    assert await repository.branches() == ["main", "side"]
    assert await repository.branches(patterns=["s*"]) == ["side"]
    assert await repository.branches(patterns=["refs/heads/ma*"]) == ["main"]
    assert await repository.branches(patterns=["none"]) == []


@pytest.mark.differs("there an annotated tag is listed twice")
async def test_tags(repository: dagger.GitRepository) -> None:
    """163. Tags are listed once each, sorted, filtered by glob patterns."""
    assert await repository.tags() == ["other", "v1.10.0", "v1.9.0"]
    assert await repository.tags(patterns=["v1.9*", "o*"]) == ["other", "v1.9.0"]


async def test_the_common_ancestor(repository: dagger.GitRepository, sample: Sample) -> None:
    """Two branches have the commit in common where they parted."""
    found = repository.branch("main").common_ancestor(repository.branch("side"))

    assert await found.commit() == sample.first


# ---- trees -----------------------------------------------------------------------------------


async def test_trees(repository: dagger.GitRepository, sample: Sample) -> None:
    """162. A tree has the files of its commit, and `.git` unless that is discarded."""
    tree = repository.tag("v1.9.0").tree()

    assert await tree.entries() == [".git/", "f"]
    assert await tree.file("f").contents() == "1"
    assert await repository.branch("side").tree(discard_git_dir=True).entries() == ["f", "s"]
    assert await repository.commit(sample.first).tree(discard_git_dir=True).file("f").contents() == "1"


async def test_repositories_without_git_directories(
    dag: dagger.Client, embedded: EngineProcess, sample: Sample
) -> None:
    """162. A repository can say for all of its trees that they have no `.git`."""
    with daemon(sample.git.path.parent) as address:
        bare = dag.git(f"{address}/repo", keep_git_dir=False)

        assert await bare.head().tree().entries() == ["f"]


@pytest.mark.parametrize(("depth", "count"), [(None, 1), (1, 1), (2, 2), (0, 2), (-1, 2)])
async def test_depth(served: dagger.GitRepository, tmp_path: Path, depth: int | None, count: int) -> None:
    """162. One commit of history comes along unless another depth, or with 0 all of it, is asked for."""
    head = served.head()
    await (head.tree() if depth is None else head.tree(depth=depth)).export(str(tmp_path / "out"))

    assert len(Worktree(path=tmp_path / "out")("rev-list", "HEAD").split()) == count


@pytest.mark.parametrize("wanted", [False, True])
async def test_tags_of_a_tree(served: dagger.GitRepository, tmp_path: Path, wanted: bool) -> None:
    """162. Tags come along when they are asked for."""
    await served.head().tree(include_tags=wanted).export(str(tmp_path / "out"))

    out = Worktree(path=tmp_path / "out")
    assert out("tag").split() == (["other", "v1.10.0", "v1.9.0"] if wanted else [])


async def test_a_tree_that_can_be_worked_on(
    served: dagger.GitRepository, tmp_path: Path, sample: Sample
) -> None:
    """162. The tree of a branch is a clean checkout of it, with the server as its origin."""
    await served.branch("side").tree().export(str(tmp_path / "out"))

    out = Worktree(path=tmp_path / "out")
    assert out("rev-parse", "HEAD") == sample.side
    assert out("status", "--porcelain") == ""
    assert out("remote", "get-url", "origin") == await served.url()


async def test_submodules(dag: dagger.Client, embedded: EngineProcess, tmp_path: Path) -> None:
    """163. Submodules are checked out with the rest."""
    inner = new_repository(tmp_path / "served" / "inner")
    inner.commit(i="inner")
    outer = new_repository(tmp_path / "served" / "outer")
    with daemon(tmp_path / "served") as address:
        outer("-c", "protocol.file.allow=always", "submodule", "add", "-q", f"{address}/inner", "sub")
        outer.commit(o="outer")

        tree = dag.git(f"{address}/outer").branch("main").tree()

        assert await tree.file("sub/i").contents() == "inner"


# ---- local repositories ----------------------------------------------------------------------


async def test_what_is_not_committed(dag: dagger.Client, local: dagger.GitRepository, sample: Sample) -> None:
    """What a worktree has beside its last commit is a changeset; a repository on a server has none."""
    (sample.git.path / "f").write_text("3")
    (sample.git.path / "new").write_text("new")
    (sample.git.path / ".gitignore").write_text("*.log\n")
    (sample.git.path / "x.log").write_text("")

    changes = dag.host().directory(str(sample.git.path), no_cache=True).as_git().uncommitted()

    assert await changes.modified_paths() == ["f"]
    assert await changes.added_paths() == [".gitignore", "new"]
    assert await changes.after().file("f").contents() == "3"


async def test_a_file_that_is_tracked_and_ignored(dag: dagger.Client, sample: Sample) -> None:
    """A file that git tracks counts though a rule ignores it; other ignored files do not."""
    (sample.git.path / ".gitignore").write_text("*.log\n")
    (sample.git.path / "kept[1].log").write_text("old")
    sample.git("add", "-f", "kept[1].log", ".gitignore")
    sample.git("commit", "-q", "-m", "keep a log")
    (sample.git.path / "kept[1].log").write_text("new")
    (sample.git.path / "other.log").write_text("")

    changes = dag.host().directory(str(sample.git.path), no_cache=True).as_git().uncommitted()

    assert await changes.modified_paths() == ["kept[1].log"]
    assert (await changes.added_paths(), await changes.removed_paths()) == ([], [])


async def test_a_bare_repository_has_nothing_uncommitted(
    dag: dagger.Client, sample: Sample, tmp_path: Path
) -> None:
    """Without a worktree there is nothing that is not committed."""
    sample.git("clone", "-q", "--bare", ".", str(tmp_path / "bare"))

    assert await dag.host().directory(str(tmp_path / "bare")).as_git().uncommitted().is_empty()


async def test_nothing_uncommitted(served: dagger.GitRepository) -> None:
    """A repository on a server has nothing that is not committed, and an address."""
    assert await served.uncommitted().is_empty()
    assert (await served.url() or "").endswith("/repo")


@pytest.mark.parametrize("place", ["worktree", "git directory", "bare"])
async def test_repositories_in_directories(
    dag: dagger.Client, sample: Sample, tmp_path: Path, place: str
) -> None:
    """A worktree, its `.git` and a bare repository are repositories; they have no address."""
    sample.git("clone", "-q", "--bare", ".", str(tmp_path / "bare"))
    path = {"worktree": "served/repo", "git directory": "served/repo/.git", "bare": "bare"}[place]

    found = dag.host().directory(str(tmp_path / path)).as_git()

    assert await found.branch("side").commit() == sample.side
    assert await found.branch("side").tree(discard_git_dir=True).entries() == ["f", "s"]
    assert await found.url() is None


async def test_a_directory_without_a_repository(dag: dagger.Client) -> None:
    """A directory that is no repository is an error."""
    with pytest.raises(dagger.QueryError):
        await dag.directory().as_git().head().commit()


# ---- servers and credentials -----------------------------------------------------------------


async def test_a_repository_that_is_not_there(
    dag: dagger.Client, embedded: EngineProcess, sample: Sample
) -> None:
    """161. An unknown repository is an error that names it."""
    with daemon(sample.git.path.parent) as address, pytest.raises(dagger.QueryError) as caught:
        await dag.git(f"{address}/none").id()

    assert f"repository not found: {address}/none" in str(caught.value)


TOKEN = "token-that-is-never-shown"


@pytest.mark.parametrize("way", ["token", "user and token", "header"])
async def test_private_repositories_by_http(
    dag: dagger.Client, embedded: EngineProcess, sample: Sample, unique: str, way: str
) -> None:
    """164. A token, with or without a user, or a whole header lets in; a wrong one is refused, not shown."""
    user = "me" if way == "user and token" else "x-access-token"
    value = base64.b64encode(f"{user}:{TOKEN}".encode()).decode()
    right, wrong = dag.set_secret(unique, TOKEN), dag.set_secret(unique + "wrong", TOKEN + "-wrong")
    if way == "header":
        right = dag.set_secret(unique, f"Bearer {TOKEN}")
    expected = f"Bearer {TOKEN}" if way == "header" else f"Basic {value}"

    def opened(address: str, secret: dagger.Secret) -> dagger.GitRepository:
        url = f"{address}/repo"
        if way == "header":
            return dag.git(url, http_auth_header=secret)
        if way == "user and token":
            return dag.git(url, http_auth_token=secret, http_auth_username="me")
        return dag.git(url, http_auth_token=secret)

    with smart_http(sample.git.path.parent, expected) as (address, _):
        assert await opened(address, right).branch("main").commit() == sample.second
        assert await opened(address, right).branch("main").tree().file("f").contents() == "2"
        for refused in (opened(address, wrong), dag.git(f"{address}/repo")):
            with pytest.raises(dagger.QueryError, match="git error: git authentication failed") as caught:
                await refused.id()
            assert TOKEN not in str(caught.value)
    assert TOKEN not in embedded.words.read_text()


async def test_the_hosts_credential_helper(engines: Engines, sample: Sample, tmp_path: Path) -> None:
    """164. Without credentials in the call the host's git configuration is asked for some."""
    helper = "!f() { echo username=u; echo password=p; }; f"
    (tmp_path / "config").write_text(f'[credential]\n\thelper = "{helper}"\n')
    expected = "Basic " + base64.b64encode(b"u:p").decode()

    with smart_http(sample.git.path.parent, expected) as (address, _):
        async with engines.session(GIT_CONFIG_GLOBAL=str(tmp_path / "config")) as dag:
            assert await dag.git(f"{address}/repo").head().commit() == sample.second


async def test_private_repositories_by_ssh(
    dag: dagger.Client, embedded: EngineProcess, sample: Sample, tmp_path: Path
) -> None:
    """164. An agent's key lets in to a known host; another key, or an unknown host, does not."""
    new_key(tmp_path / "stranger")

    with (
        ssh_server(tmp_path) as server,
        ssh_agent(tmp_path, server.key) as agent,
        ssh_agent(tmp_path, tmp_path / "stranger") as stranger,
    ):
        url = f"{server.address}{sample.git.path}"
        socket, wrong = dag.host().unix_socket(str(agent)), dag.host().unix_socket(str(stranger))
        known = dag.git(url, ssh_auth_socket=socket, ssh_known_hosts=server.known_hosts)
        assert await known.branch("side").commit() == sample.side
        assert await known.branch("side").tree().entries() == [".git/", "f", "s"]
        with pytest.raises(dagger.QueryError, match="git error: exit status 128"):
            await dag.git(url, ssh_auth_socket=wrong, ssh_known_hosts=server.known_hosts).id()
        other_host = server.known_hosts.replace("127.0.0.1", "127.0.0.2")
        with pytest.raises(dagger.QueryError, match="git error: exit status 128"):
            await dag.git(url, ssh_auth_socket=socket, ssh_known_hosts=other_host).id()


async def test_the_agent_of_the_caller(engines: Engines, sample: Sample, tmp_path: Path) -> None:
    """164. Without a socket in the call the caller's own agent is asked, also for `user@host:path`."""
    with ssh_server(tmp_path) as server, ssh_agent(tmp_path, server.key) as agent:
        (tmp_path / "known").write_text(server.known_hosts)
        options = f"-p {server.port} -o BatchMode=yes -o UserKnownHostsFile={tmp_path / 'known'}"
        environ = {"SSH_AUTH_SOCK": str(agent), "GIT_SSH_COMMAND": f"ssh {options}"}
        async with engines.session(**environ) as dag:
            repository = dag.git(f"{server.user}@127.0.0.1:{sample.git.path}")
            assert await repository.head().commit() == sample.second
            assert await repository.head().tree().file("f").contents() == "2"


async def test_a_branch_that_moves(engines: Engines, sample: Sample) -> None:
    """165. A branch is looked up once a session; the next session sees that it moved."""
    with daemon(sample.git.path.parent) as address:
        async with engines.session() as dag:
            assert await dag.git(f"{address}/repo").branch("main").commit() == sample.second
            third = sample.git.commit(f="3")
            assert await dag.git(f"{address}/repo").branch("main").commit() == sample.second
        async with engines.session() as dag:
            branch = dag.git(f"{address}/repo").branch("main")
            assert await branch.commit() == third
            assert await branch.tree().file("f").contents() == "3"


async def test_equal_commits_are_equal_trees(engines: Engines, sample: Sample) -> None:
    """165. The same commit is the same tree in a later session of another store."""
    digests = set()
    with daemon(sample.git.path.parent) as address:
        for store in ("one", "two"):
            async with engines.session(store) as dag:
                digests.add(await dag.git(f"{address}/repo").branch("main").tree().digest())

    assert len(digests) == 1


@pytest.mark.differs("there a server of plain files is not understood")
async def test_a_repository_on_a_service(
    dag: dagger.Client, base: dagger.Container, sample: Sample, tmp_path: Path
) -> None:
    """158. A repository on a service is reached by the service's name."""
    sample.git("clone", "-q", "--bare", ".", str(tmp_path / "www" / "repo.git"))
    Worktree(path=tmp_path / "www" / "repo.git")("update-server-info")
    service = (
        base.with_directory("/www", dag.host().directory(str(tmp_path / "www")))
        .with_exposed_port(8080)
        .with_default_args(["httpd", "-f", "-p", "8080", "-h", "/www"])
        .as_service()
    )

    name = await service.hostname()
    repository = dag.git(f"http://{name}:8080/repo.git", experimental_service_host=service)

    assert await repository.branch("side").commit() == sample.side
    assert os.path.exists(tmp_path / "www")
