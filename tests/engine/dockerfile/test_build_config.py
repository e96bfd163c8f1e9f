"""What a build makes of the instructions that configure a container."""

from __future__ import annotations

import pytest

from pipeline.engine import ops
from pipeline.engine.dockerfile.build import build
from pipeline.engine.dockerfile.instructions import DockerfileError
from pipeline.engine.files import Directory
from pipeline.engine.oci.config import ImageConfig
from tests.engine.dockerfile.helpers import CopyingSession, Files, ImageUnknown, execs

pytestmark = pytest.mark.anyio
PATH = ("PATH", "/usr/bin:/bin")
HEALTHCHECK = ops.Healthcheck(args=("curl -f localhost",), shell=True, interval_s=30.0, retries=2)  # noqa: S604


async def test_every_configuring_instruction_arrives_in_the_result(session: CopyingSession) -> None:
    """As one whole image configuration."""
    container = await session.build(
        """
FROM base
ENV A=1 B="two words"
LABEL org.example.name="the $A" plain=x
WORKDIR /srv
WORKDIR app
USER app:web
EXPOSE 80 53/udp 8000-8001
VOLUME /data "/more"
STOPSIGNAL SIGQUIT
SHELL ["/bin/bash", "-ec"]
HEALTHCHECK --interval=30s --retries=2 CMD curl -f localhost
ENTRYPOINT ["/entry", "$A"]
CMD run --fast
ONBUILD RUN echo later
MAINTAINER somebody
"""
    )

    assert container.config == ImageConfig(  # noqa: S604 - `shell` is the image's
        env=(PATH, ("A", "1"), ("B", "two words")),
        labels=(("org.example.name", "the 1"), ("plain", "x")),
        workdir="/srv/app",
        user="app:web",
        exposed_ports=("53/udp", "80/tcp", "8000/tcp", "8001/tcp"),
        volumes=("/data", "/more"),
        stop_signal="SIGQUIT",
        shell=("/bin/bash", "-ec"),
        healthcheck=HEALTHCHECK,
        entrypoint=("/entry", "$A"),
        cmd=("/bin/bash", "-ec", "run --fast"),
        on_build=("RUN echo later",),
    )
    assert [(p.port, p.protocol) for p in container.ports] == [
        (80, "TCP"),
        (53, "UDP"),
        (8000, "TCP"),
        (8001, "TCP"),
    ]


@pytest.mark.parametrize(
    ("lines", "entrypoint", "cmd"),
    [
        ("", None, ("sh",)),
        ('ENTRYPOINT ["e"]', ("e",), None),
        ('CMD ["c"]\nENTRYPOINT ["e"]', ("e",), ("c",)),
        ('ENTRYPOINT ["e"]\nCMD ["c"]\nENTRYPOINT ["f"]', ("f",), ("c",)),
        ('CMD ["c"]\nCMD ["d"]', None, ("d",)),
        ("ENTRYPOINT e x", ("/bin/sh", "-c", "e x"), None),
        ("CMD []", None, ()),
        ("ENTRYPOINT []", (), None),
    ],
    ids=[
        "inherited",
        "reset",
        "kept",
        "last wins",
        "last cmd",
        "shell form",
        "empty cmd",
        "empty entrypoint",
    ],
)
async def test_an_entrypoint_resets_the_command_of_the_base_only(
    session: CopyingSession, lines: str, entrypoint: tuple[str, ...] | None, cmd: tuple[str, ...] | None
) -> None:
    """A CMD of the stage itself stays, wherever it stands."""
    container = await session.build(f"FROM base\n{lines}")

    assert (container.config.entrypoint, container.config.cmd) == (entrypoint, cmd)


async def test_variables_are_replaced_where_no_shell_does_it(session: CopyingSession) -> None:
    """In the words of every instruction that configures; commands keep them for the shell."""
    container = await session.build(
        """
FROM base
ARG W=web P=8080 S=SIGUSR1
ENV D=/data
EXPOSE $P/udp ${P}-8081
LABEL a=$W "$W"="${W}s" b='$W'
STOPSIGNAL $S
USER app:${W}
VOLUME $D $D/x
VOLUME ["$D/y"]
WORKDIR $D/$W
COPY ${W}.txt \\$W $D/
SHELL ["$W"]
HEALTHCHECK CMD check $W
ENTRYPOINT ["$W"]
CMD ["$W"]
""",
        {"web.txt": "text", "$W": "as it is"},
    )

    assert container.config == ImageConfig(  # noqa: S604 - `shell` is the image's
        env=(PATH, ("D", "/data")),
        labels=(("a", "web"), ("b", "$W"), ("web", "webs")),
        workdir="/data/web",
        user="app:web",
        exposed_ports=("8080/tcp", "8080/udp", "8081/tcp"),
        volumes=("/data", "/data/x", "/data/y"),
        stop_signal="SIGUSR1",
        shell=("$W",),
        healthcheck=ops.Healthcheck(args=("check $W",), shell=True),  # noqa: S604 - the image's
        entrypoint=("$W",),
        cmd=("$W",),
    )
    files = session.files(container)
    assert {name: text for name, text in files.items() if name.startswith("/data")} == {
        "/data/$W": "as it is",
        "/data/web.txt": "text",
    }


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", HEALTHCHECK),
        ("HEALTHCHECK NONE", None),
        ('HEALTHCHECK CMD a\nHEALTHCHECK --retries=3 CMD ["b"]', ops.Healthcheck(args=("b",), retries=3)),
        ('HEALTHCHECK NONE\nHEALTHCHECK CMD ["b"]', ops.Healthcheck(args=("b",))),
    ],
    ids=["inherited", "none", "last", "none and again"],
)
async def test_the_last_health_check_counts(
    session: CopyingSession, lines: str, expected: ops.Healthcheck | None
) -> None:
    """It replaces the one of the base, and nothing of it stays."""
    session.image("checked", ImageConfig(healthcheck=HEALTHCHECK))

    container = await session.build(f"FROM checked\n{lines}")

    assert container.config.healthcheck == expected


@pytest.mark.parametrize(
    ("lines", "workdir"),
    [
        ("WORKDIR a", "/base/a"),
        ("WORKDIR /x\nWORKDIR y/../z\nWORKDIR ./w/", "/x/z/w"),
        ("WORKDIR ..\nWORKDIR ../..", "/"),
    ],
    ids=["relative to the base's", "joined", "not above the root"],
)
async def test_work_directories_are_joined(session: CopyingSession, lines: str, workdir: str) -> None:
    """A relative one goes on from the one before it, across FROM."""
    session.image("placed", ImageConfig(workdir="/base"))

    container = await session.build(f"FROM placed\n{lines}")

    assert container.config.workdir == workdir


async def test_keywords_can_be_written_in_any_case_and_lines_be_broken(session: CopyingSession) -> None:
    """Comments and empty lines inside a broken instruction are no part of it."""
    container = await session.build(
        "from base as Last\nenV A=1 \\\n  # a comment\n\n\n  B=2 \\\n# another\n  C=3\nWorkdir /w\n",
        target="LAST",
    )

    assert container.config.env == (PATH, ("A", "1"), ("B", "2"), ("C", "3"))
    assert container.config.workdir == "/w"


async def test_values_of_one_env_line_see_what_was_before_it(session: CopyingSession) -> None:
    """And ENV wins over an ARG of the same name, wherever the ARG stands."""
    container = await session.build(
        """
FROM base
ARG WHO=arg
ENV ABC=hello
ENV ABC=bye DEF=$ABC WHO=env
ARG WHO=again
ENV GHI=$ABC-$WHO PATH=/opt:$PATH
"""
    )

    assert container.config.env == (
        ("PATH", "/opt:/usr/bin:/bin"),
        ("ABC", "bye"),
        ("DEF", "hello"),
        ("WHO", "env"),
        ("GHI", "bye-env"),
    )


async def test_args_are_seen_by_run_from_their_line_on_and_do_not_stay(session: CopyingSession) -> None:
    """What is passed wins over defaults; a global one needs its own line in the stage."""
    container = await session.build(
        """
ARG GLOBAL=g
ARG UNDECLARED=u
FROM base
RUN one
ARG GLOBAL
ARG DEFAULT=d PASSED=x NOTHING
ARG DERIVED=$DEFAULT-$GLOBAL
ARG TARGETARCH
RUN two
""",
        build_args={"PASSED": "p", "UNKNOWN": "?"},
        platform="linux/arm64",
    )

    one, two = execs(container)
    assert one.env == (PATH,)
    assert two.env == (
        PATH,
        ("GLOBAL", "g"),
        ("DEFAULT", "d"),
        ("PASSED", "p"),
        ("DERIVED", "d-g"),
        ("TARGETARCH", "arm64"),
    )
    assert container.config.env == (PATH,)


async def test_a_stage_on_a_stage_inherits_its_arguments_and_configuration(session: CopyingSession) -> None:
    """But its CMD counts as the base's."""
    container = await session.build(
        'FROM base AS a\nARG X=1\nENV Y=$X\nCMD ["c"]\nFROM a\nRUN see\nENTRYPOINT ["e"]'
    )

    assert execs(container)[0].env == (PATH, ("Y", "1"), ("X", "1"))
    assert (container.config.entrypoint, container.config.cmd) == (("e",), None)


async def test_only_needed_stages_are_built(session: CopyingSession) -> None:
    """The image of another stage is not even asked for; platforms are those of the FROM lines."""
    session.image("tools")
    text = """
FROM missing AS unused
FROM --platform=linux/s390x tools AS tools
FROM base AS final
COPY --from=tools / /tools
"""

    await session.build(text, target="FINAL", platform="linux/arm64")

    assert sorted(session.pulled) == [("base", "linux/arm64"), ("tools", "linux/s390x")]


async def test_a_missing_image_is_the_sessions_own_error(session: CopyingSession) -> None:
    """Also from a stage that is built beside others."""
    with pytest.raises(ImageUnknown, match="cannot pull `nope`: not found"):
        await session.build(
            "FROM nope AS a\nFROM base AS b\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /"
        )


async def test_scratch_is_empty(session: CopyingSession) -> None:
    """No file and no configuration."""
    container = await session.build("FROM scratch")

    assert container.config == ImageConfig()
    assert session.files(container) == {}


async def test_triggers_of_the_base_run_right_after_from(session: CopyingSession) -> None:
    """They see the context of this build, and are not inherited any further."""
    triggers = ("COPY app.txt /app/", "RUN compile", "ENV READY=$WHO", "COPY <<E /note\nfor $WHO\nE")
    session.image("parent", ImageConfig(on_build=triggers, env=(("WHO", "me"),)))

    container = await session.build("FROM parent\nENV LAST=$READY", {"app.txt": "app"})

    assert session.files(container) == {"/app/app.txt": "app", "/note": "for me\n"}
    assert [each.argv for each in execs(container)] == [("/bin/sh", "-c", "compile")]
    assert container.config == ImageConfig(env=(("WHO", "me"), ("READY", "me"), ("LAST", "me")))


async def test_secrets_are_mounted_in_the_result(session: CopyingSession) -> None:
    """At `/run/secrets/<name>`, for what the caller runs in it."""
    from tests.engine.dockerfile.helpers import secret

    token = secret("token")

    container = await session.build("FROM base\nRUN x", secrets=[token])

    assert container.mounts == (ops.SecretMount(path="/run/secrets/token", secret=token[1]),)
    assert execs(container)[0].mounts == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM base\nEXPOSE http",
         "cannot build `Dockerfile` line 2: `http` is no port: write 80, 53/udp or 8000-8010"),
        ("FROM base\nEXPOSE 70000",
         "cannot build `Dockerfile` line 2: `70000` is no port: write 80, 53/udp or 8000-8010"),
        ('FROM base\n\nENV A="${B:?set B}"', "cannot build `Dockerfile` line 3: B: set B"),
        ("FROM base\nWORKDIR $NOPE",
         "cannot build `Dockerfile` line 2: WORKDIR is empty once its variables are replaced"),
        ('FROM base\nLABEL a="b', "cannot build `Dockerfile` line 2: unexpected end of statement"
         " while looking for matching double-quote"),
    ],
    ids=["port", "port range", "required", "workdir", "quote"],
)  # fmt: skip
async def test_what_cannot_be_carried_out_is_refused_with_its_line(
    session: CopyingSession, text: str, message: str
) -> None:
    """The message names the file, the line and the reason."""
    with pytest.raises(DockerfileError) as caught:
        await session.build(text)

    assert str(caught.value) == message


@pytest.mark.parametrize("path", ["Dockerfile", "docker/app.Dockerfile"])
async def test_the_dockerfile_is_read_before_it_is_ignored(session: CopyingSession, path: str) -> None:
    """It can be anywhere in the context, and be left out of it."""
    container = await session.build(
        "FROM scratch\nCOPY . /", {".dockerignore": f"{path}\n.dockerignore\n", "a": "a"}, dockerfile=path
    )

    assert session.files(container) == {"/a": "a"}


async def test_a_missing_dockerfile_is_named(session: CopyingSession) -> None:
    """With the path that was asked for."""
    with pytest.raises(DockerfileError, match=r"^cannot read `x/Dockerfile`: no such file or directory$"):
        await build(session, Directory(), dockerfile="x/Dockerfile")


async def test_a_lower_case_dockerfile_is_taken_where_there_is_no_other(session: CopyingSession) -> None:
    """In any folder; a file of another name is not looked for under two."""
    lower: Files = {"sub/dockerfile": "FROM scratch\nCOPY a /lower", "a": "a"}
    both: Files = {**lower, "sub/Dockerfile": "FROM scratch\nCOPY a /upper"}

    found = [
        session.files(await build(session, Directory(tree=session.tree(files)), dockerfile="sub/Dockerfile"))
        for files in (lower, both)
    ]

    assert found == [{"/lower": "a"}, {"/upper": "a"}]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([""], "cannot build `Dockerfile`: a build secret has no name"),
        (["a", "a"], "cannot build `Dockerfile`: two build secrets have the name `a`"),
    ],
    ids=["no name", "same name"],
)
async def test_build_secrets_need_names_of_their_own(
    session: CopyingSession, names: list[str], message: str
) -> None:
    """Since mounts find them by name; the same secret twice is fine."""
    handles = [(name, ops.SecretHandle(handle=str(i), read=bytes)) for i, name in enumerate(names)]

    with pytest.raises(DockerfileError) as caught:
        await session.build("FROM base", secrets=handles)

    assert str(caught.value) == message
