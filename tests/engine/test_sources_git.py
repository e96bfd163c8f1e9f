"""Git repositories, served by git itself on loopback."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.sources.git import GitSources
from pipeline.engine.sources.gitcheckout import TREE_TIME_S
from pipeline.engine.sources.gitcommand import (
    GitAddress,
    GitAuth,
    GitAuthenticationFailed,
    GitFailed,
    RepositoryNotFound,
    parse_address,
)
from pipeline.engine.sources.gitrefs import (
    InvalidCommit,
    NoVersions,
    RefList,
    RefNotFound,
    ResolvedRef,
    commit_by_id,
    parse_refs,
    version_key,
)
from tests.engine.oci.servers import Answer, Request, serve
from tests.engine.sources_helpers import listing, open_store, tree
from tests.gitservers import (
    ENV,
    commit,
    daemon,
    git,
    new_certificate,
    new_key,
    new_repository,
    smart_http,
    ssh_agent,
    ssh_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pipeline.engine.store import Store


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Make `repo`: three commits on main, a side branch, tags of both kinds."""
    work = tmp_path / "served/repo"
    work.mkdir(parents=True)
    git(work, "init", "-q", "-b", "main")
    commit(work, a="1")
    git(work, "tag", "v0.9.0")
    commit(work, a="2")
    git(work, "tag", "-a", "-m", "release", "v1.0.0")
    git(work, "checkout", "-q", "-b", "side")
    commit(work, s="side")
    git(work, "checkout", "-q", "main")
    commit(work, a="3")
    git(work, "tag", "v1.0.0-rc.1")
    return tmp_path / "served"


@pytest.fixture
def address(base: Path) -> Iterator[str]:
    with daemon(base) as address:
        yield address


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def session(store: Store) -> Callable[[], GitSources]:
    return lambda: GitSources(store, environ=ENV)


REFS = RefList(
    commits={
        "HEAD": "a" * 40, "refs/heads/main": "a" * 40, "refs/heads/v2": "b" * 40,
        "refs/pull/1/head": "c" * 40, "refs/tags/v2": "d" * 40,
    },
    head_name="refs/heads/main",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("main", ResolvedRef(commit="a" * 40, name="refs/heads/main")),
        ("v2", ResolvedRef(commit="d" * 40, name="refs/tags/v2")),
        ("refs/heads/v2", ResolvedRef(commit="b" * 40, name="refs/heads/v2")),
        ("heads/v2", ResolvedRef(commit="b" * 40, name="refs/heads/v2")),
        ("pull/1/head", ResolvedRef(commit="c" * 40, name="refs/pull/1/head")),
        ("HEAD", ResolvedRef(commit="a" * 40, name="refs/heads/main")),
        ("e" * 40, ResolvedRef(commit="e" * 40)),
    ],
)
def test_a_name_means_a_full_ref_a_tag_a_branch_or_a_commit(name: str, expected: ResolvedRef) -> None:
    assert REFS.ref(name) == expected


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: REFS.ref("nope"), 'repository does not contain ref "nope"'),
        (lambda: REFS.branch("nope"), 'repository does not contain ref "refs/heads/nope"'),
        (lambda: REFS.tag("main"), 'repository does not contain ref "refs/tags/main"'),
        (lambda: RefList().head(), 'repository does not contain ref "HEAD"'),
    ],
)
def test_a_ref_that_is_not_there_is_an_error(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(RefNotFound) as caught:
        ask()

    assert str(caught.value) == message


def test_a_commit_needs_its_full_id() -> None:
    assert commit_by_id("a" * 40) == ResolvedRef(commit="a" * 40)
    with pytest.raises(InvalidCommit, match="invalid commit SHA"):
        commit_by_id("abc123")


def test_versions_are_ordered_as_semantic_versions() -> None:
    tags = ["v1.0.0", "v1.0.0-rc.10", "v1.0.0-rc.2", "v0.9", "v10.0.0", "v2", "v1.0.0-alpha", "v1.0.0-1"]

    ordered = sorted(tags, key=lambda tag: version_key(tag) or pytest.fail(tag))

    assert ordered == [
        "v0.9", "v1.0.0-1", "v1.0.0-alpha", "v1.0.0-rc.2", "v1.0.0-rc.10", "v1.0.0", "v2", "v10.0.0",
    ]  # fmt: skip
    assert [version_key(tag) for tag in ("1.0.0", "vx", "version")] == [None, None, None]
    with pytest.raises(NoVersions, match=r"^no valid semver tags found$"):
        RefList(commits={"refs/tags/x": "a" * 40}).latest_version()


def test_the_listing_of_refs_is_read_with_peeled_tags() -> None:
    lines = ["ref: refs/heads/main\tHEAD", f"{'a' * 40}\tHEAD", f"{'b' * 40}\trefs/tags/t"]
    lines.append(f"{'c' * 40}\trefs/tags/t^{{}}")

    assert parse_refs("\n".join(lines)) == RefList(
        commits={"HEAD": "a" * 40, "refs/tags/t": "c" * 40},
        tag_objects={"refs/tags/t": "b" * 40},
        head_name="refs/heads/main",
    )


def test_an_address_is_tried_by_its_scheme_and_without_one_by_https_then_ssh() -> None:
    none = GitAuth()
    tried = {
        url: [place.url for place in parse_address(url, none)]
        for url in (
            "https://h/o/r",
            "git@h:o/r.git",
            "h.org/o/r",
            "ssh://git@h/o/r",
            "git://h/o/r",
            "h:8080/o/r",
        )
    }

    assert tried == {
        "https://h/o/r": ["https://h/o/r"],
        "git@h:o/r.git": ["git@h:o/r.git"],
        "h.org/o/r": ["https://h.org/o/r", "ssh://git@h.org/o/r"],
        "ssh://git@h/o/r": ["ssh://git@h/o/r"],
        "git://h/o/r": ["git://h/o/r"],
        "h:8080/o/r": ["https://h:8080/o/r", "ssh://git@h:8080/o/r"],
    }
    for url in ("file:///etc", "ext::sh -c id", "/etc", "--upload-pack=x", "ftp://h/x"):
        with pytest.raises(GitFailed, match="cannot use git address"):
            parse_address(url, none)


def test_a_password_in_an_address_becomes_a_credential() -> None:
    (place,) = parse_address("https://me:p%40ss@h/o/r", GitAuth())

    assert place == GitAddress(url="https://h/o/r", auth=GitAuth(username="me", token="p@ss"))
    assert "p@ss" not in repr(place)


@pytest.mark.anyio
@pytest.mark.root
class TestRemote:
    """Over the git protocol and HTTP."""

    async def test_refs_are_listed_once_a_session(
        self, session: Callable[[], GitSources], address: str, base: Path
    ) -> None:
        sources = session()
        repository = await sources.open(f"{address}/repo")
        tip = git(base / "repo", "rev-parse", "main")
        commit(base / "repo", a="4")

        again = await sources.open(f"{address}/repo")
        fresh = await session().open(f"{address}/repo")

        assert repository.refs.head() == ResolvedRef(commit=tip, name="refs/heads/main")
        assert again is repository
        assert fresh.refs.head().commit != tip
        assert repository.refs.tags() == ["v0.9.0", "v1.0.0", "v1.0.0-rc.1"]
        assert repository.refs.tags(["v1.*", "refs/tags/v0*"]) == ["v0.9.0", "v1.0.0", "v1.0.0-rc.1"]
        assert repository.refs.branches(["s*"]) == ["side"]
        assert repository.refs.latest_version() == repository.refs.tag("v1.0.0")
        assert repository.refs.tag("v1.0.0").commit == git(base / "repo", "rev-parse", "v1.0.0^{commit}")

    async def test_an_unknown_repository_is_said(
        self, session: Callable[[], GitSources], address: str
    ) -> None:
        with pytest.raises(RepositoryNotFound) as caught:
            await session().open(f"{address}/absent")

        assert str(caught.value) == f"repository not found: {address}/absent"

    async def test_a_tree_without_git_is_the_files_of_the_commit(
        self, session: Callable[[], GitSources], store: Store, address: str
    ) -> None:
        sources = session()
        repository = await sources.open(f"{address}/repo")

        main = await sources.tree(repository, repository.refs.head(), discard_git_dir=True)
        tag = await sources.tree(repository, repository.refs.tag("v1.0.0"), discard_git_dir=True)

        assert listing(store, main) == {"a": "3"}
        assert listing(store, tag) == {"a": "2"}
        with tree(store, main) as root:
            info = os.stat(root / "a")
        assert (info.st_mtime, info.st_uid, info.st_mode & 0o777) == (TREE_TIME_S, 0, 0o644)

    @pytest.mark.parametrize(("depth", "count"), [(1, "1"), (2, "2"), (0, "3")])
    async def test_depth_says_how_much_history_comes_along(
        self, session: Callable[[], GitSources], store: Store, address: str, depth: int, count: str
    ) -> None:
        sources = session()
        repository = await sources.open(f"{address}/repo")

        content = await sources.tree(repository, repository.refs.head(), depth=depth)

        with tree(store, content) as root:
            assert git(root, "rev-list", "--count", "HEAD") == count
            assert git(root, "rev-parse", "--abbrev-ref", "HEAD") == "main"
            assert git(root, "remote", "get-url", "origin") == f"{address}/repo"
            assert git(root, "tag") == ""
            assert git(root, "--no-optional-locks", "status", "--porcelain") == ""
            assert not (root / ".git/FETCH_HEAD").exists()
            assert (root / ".git/logs/HEAD").read_text() == ""
            assert {path.lstat().st_mtime for path in root.rglob("*")} == {TREE_TIME_S}

    async def test_tags_come_along_when_asked_for(
        self, session: Callable[[], GitSources], store: Store, address: str
    ) -> None:
        sources = session()
        repository = await sources.open(f"{address}/repo")

        content = await sources.tree(repository, repository.refs.branch("side"), depth=0, include_tags=True)

        with tree(store, content) as root:
            assert git(root, "tag").split() == ["v0.9.0", "v1.0.0", "v1.0.0-rc.1"]
            assert git(root, "describe") == "v1.0.0-1-g" + git(root, "rev-parse", "--short", "HEAD")

    async def test_a_tag_and_a_commit_leave_head_detached(
        self, session: Callable[[], GitSources], store: Store, address: str, base: Path
    ) -> None:
        sources = session()
        repository = await sources.open(f"{address}/repo")
        older = git(base / "repo", "rev-parse", "main~1")

        at_tag = await sources.tree(repository, repository.refs.tag("v1.0.0"))
        at_commit = await sources.tree(repository, commit_by_id(older))

        with tree(store, at_tag) as root:
            assert git(root, "rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
            assert git(root, "cat-file", "-t", "v1.0.0") == "tag"
        with tree(store, at_commit) as root:
            assert git(root, "rev-parse", "HEAD") == older
            assert git(root, "for-each-ref") == ""

    async def test_the_same_commit_is_the_same_tree_in_a_later_session(
        self, session: Callable[[], GitSources], store: Store, base: Path
    ) -> None:
        """It is not even asked for again: the server is gone by then."""
        with daemon(base) as address:
            sources = session()
            repository = await sources.open(f"{address}/repo")
            first = await sources.tree(repository, repository.refs.head())
        offline = GitSources(store, offline=True, environ=ENV)

        again = await offline.tree(await offline.open(f"{address}/repo"), repository.refs.head())

        assert again == first

    async def test_checking_out_anew_makes_the_same_tree(self, tmp_path: Path, address: str) -> None:
        """Two stores that know nothing of each other agree."""
        digests = set()
        for name in ("one", "two"):
            with open_store(tmp_path / name) as store:
                sources = GitSources(store, environ=ENV)
                repository = await sources.open(f"{address}/repo")
                digests.add(await sources.tree(repository, repository.refs.tag("v1.0.0")))

        assert len(digests) == 1

    async def test_a_commit_that_the_repository_lacks_is_an_error(
        self, session: Callable[[], GitSources], address: str
    ) -> None:
        sources = session()
        repository = await sources.open(f"{address}/repo")

        with pytest.raises(RefNotFound) as caught:
            await sources.tree(repository, commit_by_id("1" * 40))

        assert str(caught.value) == f'repository does not contain ref "{"1" * 40}"'

    async def test_submodules_come_along(
        self, session: Callable[[], GitSources], store: Store, address: str, base: Path
    ) -> None:
        (base / "outer").mkdir()
        git(base / "outer", "init", "-q", "-b", "main")
        git(base / "outer", "submodule", "add", "-q", f"{address}/repo", "inner")
        git(
            base / "outer",
            *("-c", "protocol.file.allow=always", "submodule", "add", "-q", "../repo", "relative"),
        )
        commit(base / "outer", o="outer")
        sources = session()
        repository = await sources.open(f"{address}/outer")

        bare = await sources.tree(repository, repository.refs.head(), discard_git_dir=True)
        whole = await sources.tree(repository, repository.refs.head())

        found = listing(store, bare)
        assert {name: found[name] for name in ("o", "inner/a", "relative/a")} == {
            "o": "outer", "inner/a": "3", "relative/a": "3",
        }  # fmt: skip
        assert not [name for name in found if name.split("/")[-1] == ".git"]
        with tree(store, whole) as root:
            assert git(root / "inner", "rev-parse", "HEAD") == git(base / "repo", "rev-parse", "main")

    async def test_the_common_ancestor_of_two_commits_is_found(
        self, session: Callable[[], GitSources], address: str, base: Path
    ) -> None:
        sources = session()
        repository = await sources.open(f"{address}/repo")
        refs = repository.refs

        found = await sources.common_ancestor(
            repository, refs.branch("main"), repository, refs.branch("side")
        )

        assert found == ResolvedRef(commit=git(base / "repo", "rev-parse", "main~1"))

    @pytest.mark.parametrize(
        ("auth", "expected"),
        [
            (GitAuth(token="sesame"), "Basic " + base64.b64encode(b"x-access-token:sesame").decode()),
            (GitAuth(username="me", token="sesame"), "Basic " + base64.b64encode(b"me:sesame").decode()),
            (GitAuth(header="Bearer sesame"), "Bearer sesame"),
        ],
        ids=["token", "user", "header"],
    )
    async def test_credentials_are_sent_as_a_header(
        self, session: Callable[[], GitSources], store: Store, base: Path, auth: GitAuth, expected: str
    ) -> None:
        with smart_http(base, expected) as (url, sent):
            sources = session()
            repository = await sources.open(f"{url}/repo", auth)
            content = await sources.tree(repository, repository.refs.head())

        assert set(sent) <= {None, expected}  # a password only once it is asked for
        assert expected in sent
        with tree(store, content) as root:
            assert (root / "a").read_text() == "3"
            assert "sesame" not in (root / ".git/config").read_text()
        kept = [path for path in (store.root / "git").rglob("*") if path.is_file()]
        assert not [path for path in kept if b"sesame" in path.read_bytes()]

    async def test_a_refused_credential_is_said_without_showing_it(
        self, session: Callable[[], GitSources], base: Path
    ) -> None:
        with smart_http(base, "Bearer right") as (url, _), pytest.raises(GitAuthenticationFailed) as caught:
            await session().open(f"{url}/repo", GitAuth(token="hunter2"))

        assert str(caught.value) == "git error: git authentication failed"
        assert "hunter2" not in caught.value.log

    async def test_a_host_name_that_only_the_engine_knows_is_reached_by_its_address(
        self, session: Callable[[], GitSources], address: str, base: Path
    ) -> None:
        port = address.rpartition(":")[2]
        known = {"git.service": "127.0.0.1"}
        over_git = await session().open(f"git://git.service:{port}/repo", addresses=known)
        with smart_http(base, "Bearer t") as (url, _):
            named = url.replace("127.0.0.1", "git.service") + "/repo"

            over_http = await session().open(named, GitAuth(header="Bearer t"), addresses=known)

        assert over_git.refs == over_http.refs
        assert over_http.url == named


@pytest.mark.anyio
@pytest.mark.root
class TestSecure:
    """Over HTTPS and SSH, by every way to write an address."""

    async def test_an_address_without_a_scheme_is_https(
        self, store: Store, base: Path, tmp_path: Path
    ) -> None:
        certificate = new_certificate(tmp_path)
        environ = ENV | {"GIT_SSL_CAINFO": os.fspath(tmp_path / "cert.pem")}

        with smart_http(base, certificate=certificate) as (address, _):
            repository = await GitSources(store, environ=environ).open(
                f"{address.removeprefix('https://')}/repo"
            )

        assert repository.url == f"{address}/repo"
        assert repository.refs.branches() == ["main", "side"]

    async def test_an_address_without_a_scheme_is_ssh_where_https_refuses(
        self, store: Store, base: Path, tmp_path: Path
    ) -> None:
        certificate = new_certificate(tmp_path)
        with ssh_server(tmp_path) as server, smart_http(base, "no", certificate=certificate) as (address, _):
            login = f"-p {server.port} -l {server.user} -i {server.key} -o BatchMode=yes"
            trust = f"-o UserKnownHostsFile={tmp_path / 'known'} -o StrictHostKeyChecking=accept-new"
            # Git adds its own port and user; the first one named counts.
            environ = ENV | {
                "GIT_SSL_CAINFO": os.fspath(tmp_path / "cert.pem"),
                "GIT_SSH_COMMAND": f"ssh {login} {trust} -o User={server.user}",
            }
            place = address.removeprefix("https://")
            sources = GitSources(store, environ=environ)
            repository = await sources.open(f"{place}{base}/repo")
            content = await sources.tree(repository, repository.refs.head(), discard_git_dir=True)

        assert repository.url == f"ssh://git@{place}{base}/repo"
        assert listing(store, content) == {"a": "3"}

    @pytest.mark.parametrize(
        "form", ["{user}@127.0.0.1:{path}", "127.0.0.1:{path}", "ssh://{user}@127.0.0.1{path}"]
    )
    async def test_the_forms_of_ssh_addresses(
        self, store: Store, base: Path, tmp_path: Path, form: str
    ) -> None:
        with ssh_server(tmp_path) as server:
            login = f"-p {server.port} -i {server.key} -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
            environ = ENV | {
                "GIT_SSH_COMMAND": f"ssh {login} -o UserKnownHostsFile={tmp_path / 'known'}",
                "USER": server.user,
            }
            url = form.format(user=server.user, path=base / "repo")
            repository = await GitSources(store, environ=environ).open(url)

        assert repository.url == url
        assert repository.refs.branches() == ["main", "side"]

    async def test_a_host_whose_key_is_another_is_not_spoken_to(
        self, session: Callable[[], GitSources], base: Path, tmp_path: Path
    ) -> None:
        with ssh_server(tmp_path) as server, ssh_agent(tmp_path, server.key) as agent:
            new_key(tmp_path / "other")
            key = " ".join((tmp_path / "other.pub").read_text().split()[:2])
            auth = GitAuth(ssh_socket=os.fspath(agent), known_hosts=f"[127.0.0.1]:{server.port} {key}")
            with pytest.raises(GitFailed) as caught:
                await session().open(f"{server.address}{base}/repo", auth)

        assert str(caught.value).startswith("git error: exit status 128")
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in caught.value.log

    async def test_a_submodule_of_the_same_server_is_fetched_with_the_same_credentials(
        self, session: Callable[[], GitSources], store: Store, base: Path
    ) -> None:
        auth = GitAuth(token="let me in")
        new_repository(base / "outer")
        git(base / "outer", "-c", "protocol.file.allow=always", "submodule", "add", "-q", "../repo", "inner")
        commit(base / "outer", o="outer")

        with smart_http(base, auth.authorization) as (address, _):
            sources = session()
            repository = await sources.open(f"{address}/outer", auth)
            content = await sources.tree(repository, repository.refs.head(), discard_git_dir=True)

        assert listing(store, content)["inner/a"] == "3"

    async def test_credentials_do_not_follow_a_redirect_to_another_host(
        self, session: Callable[[], GitSources], store: Store, base: Path
    ) -> None:
        auth = GitAuth(token="let me in")

        def away(request: Request) -> Answer:
            query = "&".join(f"{name}={value}" for name, (value,) in request.query.items())
            return Answer(status=302, headers={"Location": f"{elsewhere}{request.path}?{query}"})

        with smart_http(base) as (address, sent), serve(away) as server:
            elsewhere = address.replace("127.0.0.1", "localhost")
            sources = session()
            repository = await sources.open(f"http://{server.address}/repo", auth)
            content = await sources.tree(repository, repository.refs.head(), discard_git_dir=True)

            with_header = GitAuth(header="Basic let-me-in")
            with pytest.raises(GitFailed) as caught:
                await sources.open(f"http://{server.address}/repo", with_header)

        assert listing(store, content) == {"a": "3"}
        assert set(sent) == {None}
        assert caught.value.hint is not None

    async def test_a_token_is_not_given_to_the_callers_helper_to_keep(
        self, store: Store, base: Path, tmp_path: Path
    ) -> None:
        log, config = tmp_path / "log", tmp_path / "config"
        config.write_text(f'[credential]\n\thelper = "!f() {{ cat >> {log}; }}; f"\n')
        auth = GitAuth(token="let me in")

        with smart_http(base, auth.authorization) as (address, _):
            sources = GitSources(store, environ=ENV | {"GIT_CONFIG_GLOBAL": os.fspath(config)})
            repository = await sources.open(f"{address}/repo", auth)

        assert repository.refs.branches() == ["main", "side"]
        assert not log.exists()


@pytest.mark.anyio
@pytest.mark.root
class TestLocal:
    """A repository that lies in a tree of the store."""

    async def test_refs_and_trees_of_a_worktree_in_the_store(
        self, session: Callable[[], GitSources], store: Store, base: Path
    ) -> None:
        from pipeline.engine.actions import Filters
        from pipeline.engine.sources.host import HostDirectories

        content = await HostDirectories(store, base).load(".", Filters())
        snapshot = store.index.find_content(content)
        assert snapshot is not None
        sources = session()

        found = [await sources.open_local(snapshot, path) for path in ("/repo", "repo/.git")]
        checked_out = await sources.tree(found[0], found[0].refs.branch("side"), discard_git_dir=True)
        with_git = await sources.tree(found[0], found[0].refs.head(), depth=0)

        assert found[0].refs == found[1].refs
        assert found[0].url is None
        assert listing(store, checked_out) == {"a": "2", "s": "side"}
        with tree(store, with_git) as root:
            assert git(root, "rev-list", "--count", "HEAD") == "3"
            assert git(root, "remote") == ""

    async def test_a_directory_without_a_repository_is_said(
        self, session: Callable[[], GitSources], store: Store
    ) -> None:
        with pytest.raises(RepositoryNotFound, match=r"^repository not found: /nowhere$"):
            await session().open_local(store.snapshots.empty, "/nowhere")
