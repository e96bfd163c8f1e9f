"""Builds carried out by the engine: files, commands, mounts and what is not done twice."""

from __future__ import annotations

import functools
import http.server
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from pipeline.digest import digest_bytes
from pipeline.engine.dockerfile.git import CommitMismatch
from pipeline.engine.runtime.errors import ExecFailed
from pipeline.engine.sources.http import ChecksumMismatch
from tests.engine.dockerfile.helpers import Files, secret
from tests.gitservers import commit, daemon, git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.dockerfile.workshop import Workshop


pytestmark = [pytest.mark.anyio, pytest.mark.root]
PYTHON_APP = """
FROM base AS deps
WORKDIR /app
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked <<EOF
set -eu
echo run >> /root/.cache/pip/log
mkdir -p /venv/lib
cp requirements.txt /venv/lib/installed
EOF
FROM base AS unused
RUN exit 9
FROM base
ARG FLAVOUR=plain
WORKDIR /srv/app
COPY --from=deps --chown=bob:wheel /venv /venv
COPY --chmod=u=rwX,go=rX src ./src
RUN echo "$FLAVOUR" > flavour
USER bob
EXPOSE 8000
HEALTHCHECK --interval=5s CMD wget -q -O- http://localhost:8000/
ENTRYPOINT ["/bin/sh", "src/main.sh"]
CMD ["--serve"]
"""


async def test_an_application_is_built_in_stages(workshop: Workshop) -> None:
    """Its parts arrive, a stage that nobody needs never runs, and the result runs as its user."""
    files: Files = {"requirements.txt": "flask\n", "src/main.sh": "echo started $*; id -un; pwd\n"}

    container = await workshop.build(PYTHON_APP, files, build_args=[("FLAVOUR", "sweet")])

    run = container.with_exec([], use_entrypoint=True)
    assert await workshop.engine.output(run, "stdout") == "started --serve\nbob\n/srv/app\n"
    assert await workshop.text(container, "flavour") == "sweet\n"
    listing = await workshop.sh(container, "stat -c '%a %U %G' /venv/lib/installed /srv/app/src /srv/app")
    assert listing == "644 bob wheel\n755 root root\n755 root root\n"
    assert container.config.cmd == ("--serve",)
    assert [port.port for port in container.ports] == [8000]


async def test_nothing_is_run_again_when_nothing_changed(workshop: Workshop) -> None:
    """A changed file runs again only what comes after the COPY or mount that covers it."""
    text = (
        "FROM base\nWORKDIR /w\nCOPY lock ./\nRUN cat lock > one\nCOPY src src\nRUN cat src/a > two\n"
        "RUN --mount=source=lock,target=/lock cat /lock > three"
    )
    changes: list[Files] = [
        {"lock": "1", "src/a": "a", "README": "x"},
        {},
        {"README": "y"},
        {"src/a": "b"},
        {"lock": "2"},
    ]
    counts: list[int] = []

    for change in changes:
        workshop.started.clear()
        await workshop.engine.sync(await workshop.build(text, change))
        counts.append(len(workshop.started))

    assert counts == [3, 0, 0, 2, 3]


async def test_a_command_that_fails_says_where_it_stands(workshop: Workshop) -> None:
    """The text names file, line and instruction before the exit code."""
    container = await workshop.build("FROM base\nRUN true\n\nRUN echo oops >&2; \\\n  exit 3\n")

    with pytest.raises(ExecFailed) as caught:
        await workshop.engine.sync(container)

    assert str(caught.value) == "Dockerfile line 7: RUN echo oops >&2; exit 3: exit code: 3"
    assert (caught.value.exit_code, caught.value.stderr_tail) == (3, "oops")


async def test_a_stage_that_fails_is_told_by_the_build(workshop: Workshop) -> None:
    """When a later one copies from it, as itself and not as a group of errors."""
    with pytest.raises(ExecFailed, match=r"^Dockerfile line 5: RUN exit 4: exit code: 4$"):
        await workshop.build("FROM base AS a\nRUN exit 4\nFROM base\nCOPY --from=a /x /x")


async def test_caches_are_shared_between_builds(workshop: Workshop) -> None:
    """A later build with another command finds what an earlier one left; the image has nothing of it."""
    mount = "--mount=type=cache,target=/c"
    first = await workshop.build(f"FROM base\nRUN {mount} echo one >> /c/log")
    await workshop.engine.sync(first)

    second = await workshop.build(f"FROM base\nRUN {mount} cp /c/log /found; echo two >> /c/log")

    assert await workshop.text(second, "/found") == "one\n"
    assert await workshop.sh(second, "ls -d /c 2>&1 || true") == "ls: /c: No such file or directory\n"


async def test_caches_can_have_owner_and_mode(workshop: Workshop) -> None:
    """Of the directory when it is made."""
    mount = "--mount=type=cache,target=/c,uid=1000,gid=10,mode=0770"

    container = await workshop.build(f"FROM base\nRUN {mount} stat -c '%a %u %g' /c > /stat")

    assert await workshop.text(container, "/stat") == "770 1000 10\n"


async def test_bind_mounts_are_read_only_or_forgotten(workshop: Workshop) -> None:
    """Writing fails, or with `rw` is dropped."""
    container = await workshop.build(
        """FROM base
WORKDIR /w
RUN --mount=source=d,target=/d (touch /d/new || echo refused) >/one 2>/dev/null
RUN --mount=source=d,target=/d,rw touch /d/new && ls /d >/two
RUN --mount=source=d,target=/d ls /d >/three
RUN --mount=source=d/f,target=f cat f >/four
RUN --mount=from=base,source=/etc,target=/m ls /m >/five
""",
        {"d/f": "content"},
    )

    found = await workshop.texts(container, "/one", "/two", "/three", "/four", "/five")
    assert found == ["refused\n", "f\nnew\n", "f\n", "content", "group\npasswd\n"]


async def test_secrets_reach_commands_and_the_result(workshop: Workshop) -> None:
    """As files and variables, readable by whom was named, and in no layer."""
    container = await workshop.build(
        """FROM base
RUN --mount=type=secret,id=token cat /run/secrets/token | tr a-z A-Z > /one
RUN --mount=type=secret,id=token,env=TOKEN printf "$TOKEN" | tr a-z A-Z > /two
RUN --mount=type=secret,id=token,target=/t,uid=1000,mode=0440 stat -c '%a %u' /t > /three
RUN (ls /run/secrets /t; echo "[$TOKEN]") > /four 2>/dev/null
""",
        secrets=[secret("token", b"hush")],
    )

    found = await workshop.texts(container, "/one", "/two", "/three", "/four")
    assert found == ["HUSH", "HUSH", "440 1000\n", "[]\n"]
    assert await workshop.sh(container, "tr a-z A-Z < /run/secrets/token") == "HUSH"


async def test_temporary_mounts_and_networks_are_the_commands_own(workshop: Workshop) -> None:
    """A tmpfs is gone again, and without a network there is the loopback only."""
    container = await workshop.build(
        """FROM base
RUN --mount=type=tmpfs,target=/x,size=1m touch /x/f && df -k /x | tail -n1 | awk '{print $2}' > /one
RUN --network=none tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' > /two
RUN (ls /x || echo none) > /three 2>/dev/null
"""
    )

    assert await workshop.texts(container, "/one", "/two", "/three") == ["1024\n", "lo\n", "none\n"]


async def test_scripts_are_run_from_the_file(workshop: Workshop) -> None:
    """By the shell of the stage, by their own interpreter, or read by the shell as written."""
    container = await workshop.build(
        """FROM base
SHELL ["/bin/sh", "-eu", "-c"]
ENV WHO=me
RUN <<EOF
echo "$0 $WHO" > /one
EOF
RUN <<"EOF"
#!/bin/awk -f
BEGIN { print "awk" > "/two" }
EOF
RUN cat <<A > /three && cat <<-"B" > /four
for $WHO
A
	for $WHO
	B
COPY <<one <<"two" /inline/
$WHO
one
$WHO
two
"""
    )

    found = await workshop.texts(container, "/one", "/two", "/three", "/four", "/inline/one", "/inline/two")
    assert found == ["/bin/sh me\n", "awk\n", "for me\n", "for $WHO\n", "me\n", "$WHO\n"]


async def test_a_work_directory_belongs_to_its_user(workshop: Workshop) -> None:
    """When it is made by WORKDIR; an existing one is left as it is."""
    container = await workshop.build(
        "FROM base\nUSER bob\nWORKDIR /home/bob/a/b\nRUN touch mine\nWORKDIR /tmp"
    )

    names = "/home/bob/a /home/bob/a/b /home/bob/a/b/mine /tmp"
    listing = await workshop.sh(container, f"stat -c '%a %U' {names}")
    assert listing == "755 bob\n755 bob\n644 bob\n1777 root\n"


async def test_a_site_is_copied_from_the_stage_that_made_it(workshop: Workshop) -> None:
    """Links inside are kept, and a destination that is a link is followed."""
    container = await workshop.build(
        """FROM base AS site
WORKDIR /site
COPY . .
RUN mkdir dist && cp -r pages/* dist/ && ln -s index.html dist/home.html
FROM base
RUN mkdir -p /usr/share/html && ln -s /usr/share/html /www
COPY --from=site /site/dist /www
COPY --from=site /site/dist/*.html /www/again/
""",
        {"pages/index.html": "hello"},
    )

    script = "cd /usr/share/html && find . -type f -o -type l | sort; readlink home.html"
    listing = await workshop.sh(container, script)
    assert listing == "./again/home.html\n./again/index.html\n./home.html\n./index.html\nindex.html\n"


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder on the loopback; return the address and the folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Handler, directory=str(folder))
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", folder
    httpd.shutdown()
    thread.join()
    httpd.server_close()


async def test_downloads_are_added_with_their_checksum(workshop: Workshop, server: tuple[str, Path]) -> None:
    """Mode 0600, not unpacked unless asked; another content than the checksum's is refused."""
    address, folder = server
    (folder / "base.tar").write_bytes(workshop.base_tar)
    (folder / "note.txt").write_text("note")
    good = digest_bytes(b"note")

    container = await workshop.build(
        f"FROM base\nADD --checksum={good} {address}/note.txt /d/\nADD {address}/base.tar /d/\n"
        f"ADD --unpack {address}/base.tar /u/\nADD --chmod=644 {address}/note.txt /d/other"
    )

    listing = await workshop.sh(container, "cd /d && stat -c '%a %n' *; cat note.txt; ls /u/etc")
    assert listing == "600 base.tar\n600 note.txt\n644 other\nnotegroup\npasswd\n"
    with pytest.raises(ChecksumMismatch):
        await workshop.build(f"FROM base\nADD --checksum=sha256:{'0' * 64} {address}/note.txt /d/")


async def test_repositories_are_added_at_a_ref(workshop: Workshop, tmp_path: Path) -> None:
    """A directory of it alone, with `.git` when asked; a commit that the ref is not is refused."""
    work = tmp_path / "served/repo.git"
    work.mkdir(parents=True)
    git(work, "init", "-q", "-b", "main")
    (work / "sub").mkdir()
    (work / "sub/file").write_text("sub")
    first = commit(work, top="1")
    git(work, "tag", "v1")
    commit(work, top="2")

    with daemon(tmp_path / "served") as address:
        url = f"{address}/repo.git"
        container = await workshop.build(
            f"FROM base\nADD {url} /head\nADD {url}#v1 /one\nADD {url}#v1:sub /sub\n"
            f"ADD --keep-git-dir {url}?tag=v1&commit={first} /kept"
        )
        listing = await workshop.sh(container, "cat /head/top /one/top; ls -A /head /sub /kept")
        with pytest.raises(CommitMismatch):
            await workshop.build(f"FROM base\nADD {url}?branch=main&commit={first} /x")

    assert listing == "21/head:\nsub\ntop\n\n/kept:\n.git\nsub\ntop\n\n/sub:\nfile\n"


async def test_triggers_of_a_stage_run_where_it_is_used(workshop: Workshop) -> None:
    """Right after FROM, with the context of the build."""
    container = await workshop.build(
        "FROM base AS parent\nONBUILD COPY app /app\nONBUILD RUN tr a-z A-Z < /app > /APP\n"
        "FROM parent\nRUN cat /app /APP > /both",
        {"app": "app"},
    )

    assert await workshop.text(container, "/both") == "appAPP"
    assert container.config.on_build == ()


async def test_an_agent_socket_reaches_commands(workshop: Workshop, tmp_path: Path) -> None:
    """Where the usual variable says, for root alone, and for this command alone."""
    path = str(tmp_path / "agent.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        container = await workshop.build(
            "FROM base\nRUN --mount=type=ssh stat -c '%F %a %u' $SSH_AUTH_SOCK > /one\n"
            "RUN echo [$SSH_AUTH_SOCK] > /two",
            ssh=path,
        )
        found = await workshop.texts(container, "/one", "/two")

    assert found == ["socket 600 0\n", "[]\n"]


async def test_independent_stages_run_side_by_side(workshop: Workshop) -> None:
    """Two stages that each wait for the other through a shared cache both finish."""
    wait = "touch /c/{0}; for i in $(seq 100); do test -e /c/{1} && exit 0; sleep 0.1; done; exit 1"

    container = await workshop.build(
        f"""FROM base AS a
RUN --mount=type=cache,target=/c {wait.format("a", "b")}
FROM base AS b
RUN --mount=type=cache,target=/c {wait.format("b", "a")}
FROM base
COPY --from=a /etc/passwd /a
COPY --from=b /etc/passwd /b
"""
    )

    assert await workshop.sh(container, "ls /a /b") == "/a\n/b\n"


async def test_an_argument_is_in_the_key_of_the_commands_that_see_it(workshop: Workshop) -> None:
    """And a command above it is not run again for another value."""
    text = "FROM base\nRUN echo above > /above\nARG V\nRUN echo $V > /v"
    counts: list[int] = []
    values: list[str] = []

    for value in ("1", "2", "1"):
        workshop.started.clear()
        container = await workshop.build(text, build_args=[("V", value)])
        values.append(await workshop.text(container, "/v"))
        counts.append(len(workshop.started))

    assert values == ["1\n", "2\n", "1\n"]
    assert counts == [2, 1, 0]


async def test_a_proxy_reaches_commands_and_another_one_runs_nothing_again(workshop: Workshop) -> None:
    """It is how the network is reached, not what is built; it does not stay."""
    text = "FROM base\nRUN echo $HTTP_PROXY $https_proxy > /proxy"
    passed = [("HTTP_PROXY", "http://one.test"), ("https_proxy", "http://two.test")]
    first = await workshop.build(text, build_args=passed)
    found = await workshop.text(first, "/proxy")

    second = await workshop.build(text, build_args=[("HTTP_PROXY", "http://other.test"), ("https_proxy", "")])

    assert found == "http://one.test http://two.test\n"
    assert await workshop.text(second, "/proxy") == found
    assert first.config.env == (("PATH", "/bin"),)


async def test_a_stage_made_again_with_equal_files_changes_nothing_after_it(workshop: Workshop) -> None:
    """What a COPY takes is known by its content, whatever ran to make it."""
    text = """FROM base AS made
COPY number /n
RUN echo same > /out
FROM base
COPY --from=made /out /in
RUN cat /in > /used
"""
    await workshop.engine.sync(await workshop.build(text, {"number": "1"}))
    workshop.started.clear()

    await workshop.engine.sync(await workshop.build(text, {"number": "2"}))

    assert workshop.started == ["echo same > /out"]
