"""RUN: its command line, environment, mounts and label; and that nothing of them stays."""

from __future__ import annotations

import pytest

from pipeline.engine import ops
from pipeline.engine.dockerfile.instructions import DockerfileError
from tests.engine.dockerfile.helpers import CopyingSession, execs, secret

pytestmark = pytest.mark.anyio
SHELL = ("/bin/sh", "-c")
ENV = (("PATH", "/usr/bin:/bin"),)


async def _run(session: CopyingSession, lines: str, **options: object) -> ops.Exec:
    """Return the last command of a build on `base`."""
    container = await session.build(f"FROM base\n{lines}", {"dir/f": "f", "g": "g", "h": "h"}, **options)  # type: ignore[arg-type]
    return execs(container)[-1]


COMMANDS = {
    "shell form": ("RUN echo  'a' $X", (*SHELL, "echo  'a' $X")),
    "exec form": ('RUN ["echo", "$X"]', ("echo", "$X")),
    "own shell": ('SHELL ["bash", "-e", "-c"]\nRUN a', ("bash", "-e", "-c", "a")),
    "not quite json": ("RUN ['a']", (*SHELL, "['a']")),
    "continued": ("RUN a \\\n  && b", (*SHELL, "a   && b")),
    "heredoc": ("RUN <<EOF\na $X\n  b\nEOF", (*SHELL, "a $X\n  b\n")),
    "heredoc without tabs": ("RUN <<-EOF\n\ta\n\tEOF", (*SHELL, "a\n")),
    "heredoc of a command": ("RUN cat <<EOF >f\nx\nEOF", (*SHELL, "cat <<EOF >f\nx\nEOF")),
    "two heredocs": ("RUN cat <<A <<-B\na\nA\n\tb\n\tB", (*SHELL, "cat <<A <<-B\na\nA\n\tb\nB")),
}


@pytest.mark.parametrize(("line", "argv"), COMMANDS.values(), ids=COMMANDS.keys())
async def test_a_command_line_is_put_together(
    session: CopyingSession, line: str, argv: tuple[str, ...]
) -> None:
    """Variables are the shell's, a lone document is the script, another is the shell's to read."""
    assert (await _run(session, line)).argv == argv


async def test_a_document_can_name_its_own_interpreter(session: CopyingSession) -> None:
    """It is a program then, mounted for this command only."""
    node = await _run(session, "RUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF")

    (mount,) = node.mounts
    assert node.argv == (*SHELL, "/run/heredoc/EOF")
    assert isinstance(mount, ops.TreeMount)
    assert (mount.path, mount.read_only) == ("/run/heredoc", True)
    script = session.evaluate(mount.tree) / "EOF"
    assert script.read_text() == "#!/usr/bin/env python3\nprint(1)\n"
    assert script.stat().st_mode & 0o777 == 0o755


async def test_a_command_runs_as_the_stage_is_set_up(session: CopyingSession) -> None:
    """User, directory, environment, network, privileges, init and platform."""
    node = await _run(
        session,
        "ENV A=1\nUSER app\nWORKDIR /w\nRUN --network=none --security=insecure x",
        no_init=True,
        platform="linux/arm64",
    )

    assert (node.env, node.user, node.workdir) == ((*ENV, ("A", "1")), "app", "/w")
    assert (node.network, node.insecure, node.init, node.platform) == ("none", True, False, "linux/arm64")


async def test_a_command_is_labelled_with_where_it_stands(session: CopyingSession) -> None:
    """The label begins the text of its failure; it is on one line, short, and in no key."""
    first = await _run(session, "RUN a \\\n  b")
    moved = await _run(session, "\n\nRUN a   b")
    long = await _run(session, "RUN " + "x" * 500)

    assert first.label == "Dockerfile line 2: RUN a b"
    assert moved.label == "Dockerfile line 4: RUN a b"
    assert first.digest == moved.digest
    assert len(long.label) == len("Dockerfile line 2: ") + 200


async def test_proxies_that_are_passed_reach_commands_without_being_in_a_key(session: CopyingSession) -> None:
    """Unless the stage sets the variable itself or declares the argument."""
    passed = {"HTTP_PROXY": "http://p", "no_proxy": "x", "OTHER": "y"}

    plain = await _run(session, "RUN x")
    through = await _run(session, "RUN x", build_args=passed)
    own = await _run(session, "ENV HTTP_PROXY=mine\nARG no_proxy\nRUN x", build_args=passed)

    assert through.volatile_env == (("HTTP_PROXY", "http://p"), ("no_proxy", "x"))
    assert through.digest == plain.digest
    assert own.volatile_env == ()
    assert own.env == (*ENV, ("HTTP_PROXY", "mine"), ("no_proxy", "x"))


async def test_cache_mounts_become_volumes_named_by_id_or_target(session: CopyingSession) -> None:
    """Relative targets join the work directory; the volume is shared by all builds that name it."""
    node = await _run(
        session,
        "ARG ID=pip\nWORKDIR /w\nRUN --mount=type=cache,target=/root/.cache"
        " --mount=type=cache,id=$ID,target=c,sharing=locked,uid=7,mode=0700 true",
    )

    assert node.mounts == (
        ops.CacheMount(
            path="/root/.cache", volume=ops.CacheVolume(key="/root/.cache", namespace="dockerfile")
        ),
        ops.CacheMount(
            path="/w/c",
            volume=ops.CacheVolume(
                key="pip", namespace="dockerfile", owner="7:0", mode=0o700, sharing="LOCKED"
            ),
        ),
    )


async def test_a_cache_can_be_seeded_from_a_stage(session: CopyingSession) -> None:
    """With just the directory that is named."""
    container = await session.build(
        "FROM base AS seed\nFROM base\nRUN --mount=type=cache,target=/c,from=seed,source=/etc true"
    )

    (mount,) = execs(container)[0].mounts
    assert isinstance(mount, ops.CacheMount)
    assert mount.volume.source is not None
    assert sorted(path.name for path in session.evaluate(mount.volume.source).iterdir()) == [
        "group",
        "passwd",
    ]


async def test_bind_mounts_hold_just_what_they_name(session: CopyingSession) -> None:
    """Files and directories of the context, read-only unless told otherwise."""
    lines = (
        "WORKDIR /w\nRUN --mount=type=bind,source=g,target=g --mount=source=dir,target=/d,rw"
        " --mount=target=. true"
    )

    file, folder, whole = (await _run(session, lines)).mounts

    assert isinstance(file, ops.TreeMount)
    assert (file.path, file.source_path, file.is_file, file.read_only) == ("/w/g", "/g", True, True)
    assert isinstance(folder, ops.TreeMount)
    assert (folder.path, folder.source_path, folder.is_file, folder.read_only) == ("/d", "/", False, False)
    assert isinstance(whole, ops.TreeMount)
    assert (whole.path, whole.read_only) == ("/w", True)
    names = [
        sorted(path.name for path in session.evaluate(mount.tree).iterdir())
        for mount in (file, folder, whole)
    ]
    assert names == [["g"], ["f"], ["Dockerfile", "dir", "g", "h"]]


async def test_a_bind_mount_of_an_image_is_the_image_itself(session: CopyingSession) -> None:
    """Nothing is copied out of it."""
    session.image("uv:1", files={"uv": "binary"})

    node = await _run(session, "RUN --mount=from=uv:1,source=/uv,target=/bin/uv true")

    tree = session.images["uv:1"][1]
    assert node.mounts == (
        ops.TreeMount(path="/bin/uv", tree=tree, source_path="/uv", is_file=True, read_only=True),
    )


async def test_secrets_are_found_by_name(session: CopyingSession) -> None:
    """As a file at the usual place, or where and as asked, or as a variable alone."""
    token, key = secret("token"), secret("key")

    node = await _run(
        session,
        "RUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN"
        " --mount=type=secret,target=/etc/key,mode=0444,uid=5 --mount=type=secret,id=absent"
        " --mount=type=secret,id=key,env=KEY,target=/k true",
        secrets=[token, key],
    )

    assert node.mounts == (
        ops.SecretMount(path="/run/secrets/token", secret=token[1]),
        ops.SecretMount(path="/etc/key", secret=key[1], owner="5:0", mode=0o444),
        ops.SecretMount(path="/k", secret=key[1]),
    )
    assert node.secret_env == (("TOKEN", token[1]), ("KEY", key[1]))


async def test_the_agent_socket_is_forwarded_whatever_its_id(session: CopyingSession) -> None:
    """With the variable that programs look for; without a socket the mount is left out."""
    line = "RUN --mount=type=ssh,id=any true"

    with_agent = await _run(session, line, ssh="/run/agent.sock")
    without = await _run(session, line)

    path = "/run/buildkit/ssh_agent.0"
    assert with_agent.mounts == (ops.SocketMount(path=path, host_path="/run/agent.sock"),)
    assert with_agent.env == (*ENV, ("SSH_AUTH_SOCK", path))
    assert (without.mounts, without.env) == ((), ENV)


async def test_temporary_mounts_take_a_size(session: CopyingSession) -> None:
    """In the units Docker knows."""
    node = await _run(session, "RUN --mount=type=tmpfs,target=/a --mount=type=tmpfs,target=/b,size=64m true")

    assert node.mounts == (ops.TempMount(path="/a"), ops.TempMount(path="/b", size_bytes=64 << 20))


async def test_nothing_that_a_command_was_given_stays(session: CopyingSession) -> None:
    """Later commands and the result have neither its mounts nor its secrets, sockets and arguments."""
    container = await session.build(
        "FROM base\nARG X=1\nRUN --mount=type=secret,id=token,env=TOKEN --mount=type=ssh"
        " --mount=type=cache,target=/c one\nRUN two",
        secrets=[secret("token")],
        ssh="/agent",
    )

    one, two = execs(container)
    assert len(one.mounts) == 2
    assert (two.mounts, two.secret_env, two.env) == ((), (), (*ENV, ("X", "1")))
    assert (container.secret_env, container.config.env) == ((), ENV)
    assert container.last_exec == two


REFUSED = {
    "required secret": (
        "RUN --mount=type=secret,id=t,required=true x",
        "secret `t` is required and was not given",
    ),
    "required agent": (
        "RUN --mount=type=ssh,required x",
        "ssh agent `default` is required and was not given",
    ),
    "agent mode": (
        "RUN --mount=type=ssh,mode=0666 x",
        "mode 0666 of an ssh mount is unsupported: it is 0600",
    ),
    "nameless secret": ("RUN --mount=type=secret x", "a secret mount needs an id or a target"),
    "missing source": (
        "RUN --mount=source=nope,target=/x y",
        '"/nope": not found in the build context',
    ),
    "owner": (
        "ARG U=bob\nRUN --mount=type=cache,target=/x,uid=$U y",
        "`bob` is no user or group number",
    ),
    "mode": ("ARG M=rw\nRUN --mount=type=cache,target=/x,mode=$M y", "`rw` is no octal mode"),
    "sharing": (
        "ARG S=all\nRUN --mount=type=cache,target=/x,sharing=$S y",
        "unsupported sharing value `all`",
    ),
    "several sources": (
        "RUN --mount=source=?,target=/x y",
        "the mount source `?` means several paths",
    ),
    "file as a seed": (
        "RUN --mount=type=cache,target=/x,from=base,source=/etc/passwd y",
        "the cache source `/etc/passwd` is no directory",
    ),
    "size": ("RUN --mount=type=tmpfs,target=/x,size=big y", "`big` is no size: write it as 64m or 1g"),
}


@pytest.mark.parametrize(("line", "reason"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_mount_that_cannot_be_is_refused_with_its_line(
    session: CopyingSession, line: str, reason: str
) -> None:
    """What is missing is named."""
    with pytest.raises(DockerfileError) as caught:
        await _run(session, line)

    assert str(caught.value) == f"cannot build `Dockerfile` line {2 + line.count(chr(10))}: {reason}"


async def test_a_build_runs_only_what_it_has_to_look_into(session: CopyingSession) -> None:
    """The commands of the target wait until somebody asks; those of a stage that is copied from do not."""
    await session.build(
        "FROM base AS made\nRUN make\nFROM base AS unused\nRUN never\nFROM base\n"
        "COPY --from=made /bin /b\nRUN later"
    )

    assert [node.argv[-1] for node in session.ran] == ["make"]
