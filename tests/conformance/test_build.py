"""Builds of Dockerfiles."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import dagger
import pytest

from tests.conformance.test_mounts import tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = [pytest.mark.anyio, pytest.mark.root]


def with_file(context: dagger.Directory, text: str) -> dagger.Directory:
    return context.with_new_file("Dockerfile", text)


# ---- where the file is -----------------------------------------------------------------------


async def test_where_the_dockerfile_is(dag: dagger.Client, image: str) -> None:
    """167. The file is `Dockerfile` unless another path is given; the context is the directory."""
    context = with_file(tree(dag, "f"), f"FROM {image}\nCOPY f /default\n")
    context = context.with_new_file("ci/other", f"FROM {image}\nCOPY f /other\n")

    assert await context.docker_build().file("/default").contents() == "f"
    assert await context.docker_build(dockerfile="ci/other").file("/other").contents() == "f"
    sub = dag.directory().with_directory("sub", context).directory("sub")
    assert await sub.docker_build().file("/default").contents() == "f"
    with pytest.raises(dagger.QueryError, match="none"):
        await context.docker_build(dockerfile="none").id()


async def test_what_is_ignored(dag: dagger.Client, image: str) -> None:
    """167. The file's own ignore file counts before the one of the context."""
    context = tree(dag, "a.log", "b.txt", "c.txt").with_new_file(".dockerignore", "# note\n*.log\n!b.log\n")
    text = f"FROM {image}\nCOPY . /x/\n"
    context = with_file(context, text).with_new_file("own", text).with_new_file("own.dockerignore", "*.txt\n")

    common = await context.docker_build().directory("/x").entries()
    own = await context.docker_build(dockerfile="own").directory("/x").entries()

    assert common == [".dockerignore", "Dockerfile", "b.txt", "c.txt", "own", "own.dockerignore"]
    assert own == [".dockerignore", "Dockerfile", "a.log", "own", "own.dockerignore"]


# ---- stages ----------------------------------------------------------------------------------


STAGES = """
FROM {image} AS first
RUN echo one > /one
FROM {image} AS unused
RUN exit 1
FROM first AS Second
RUN echo two > /two
FROM {image}
COPY --from=first /one /from-stage
COPY --from=0 /one /from-index
COPY --from={image} /etc/passwd /from-image
"""


async def test_stages(dag: dagger.Client, image: str) -> None:
    """168. Stages build on and copy from each other and from images; those nobody needs are not run."""
    context = with_file(dag.directory(), STAGES.format(image=image))

    built = context.docker_build()

    assert await built.file("/from-stage").contents() == "one\n"
    assert await built.file("/from-index").contents() == "one\n"
    assert "auser" in await built.file("/from-image").contents()
    second = context.docker_build(target="second")
    assert await second.file("/two").contents() == "two\n"
    assert await second.file("/one").contents() == "one\n"
    with pytest.raises(dagger.QueryError, match='target stage "none" could not be found'):
        await context.docker_build(target="none").id()


@pytest.mark.differs("there a target has a name")
async def test_a_target_by_its_number(dag: dagger.Client, image: str) -> None:
    """168. A stage can be asked for by its number."""
    built = with_file(dag.directory(), STAGES.format(image=image)).docker_build(target="0")

    assert await built.file("/one").contents() == "one\n"


# ---- variables -------------------------------------------------------------------------------


async def test_arguments(dag: dagger.Client, image: str) -> None:
    """169. ARG before FROM is for FROM; later ones can be set from outside; ENV goes before ARG."""
    text = f"""
ARG BASE={image}
ARG OUTER=outer
FROM $BASE
ARG GIVEN=default
ARG OUTER
ARG BOTH=arg
ENV BOTH=env
ARG TARGETPLATFORM
ARG TARGETARCH
RUN echo $GIVEN $OUTER $BOTH "<$BASE>" $TARGETPLATFORM $TARGETARCH > /out
"""
    context = with_file(dag.directory(), text)

    plain = context.docker_build()
    given = context.docker_build(
        build_args=[dagger.BuildArg(name="GIVEN", value="given"), dagger.BuildArg(name="NO", value="x")]
    )

    assert await plain.file("/out").contents() == "default outer env <> linux/amd64 amd64\n"
    assert await given.file("/out").contents() == "given outer env <> linux/amd64 amd64\n"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("$V", "a.b.c"),
        ("${V}", "a.b.c"),
        ("${N:-w}", "w"),
        ("${E:-w}", "w"),
        ("${E-w}", ""),
        ("${N-w}", "w"),
        ("${V:+w}", "w"),
        ("${E:+w}", ""),
        ("${E+w}", "w"),
        ("${V#*.}", "b.c"),
        ("${V##*.}", "c"),
        ("${V%.*}", "a.b"),
        ("${V%%.*}", "a"),
        ("${V/./-}", "a-b.c"),
        ("${V//./-}", "a-b-c"),
        (r"\$V", "$V"),
        (r"\${V}", "${V}"),
    ],
)
async def test_forms_of_variables(dag: dagger.Client, image: str, written: str, expected: str) -> None:
    """169. Variables are put in by all the forms of the shell that Dockerfiles know."""
    text = f"FROM {image}\nENV V=a.b.c E=\nENV OUT={written}\n"

    assert await with_file(dag.directory(), text).docker_build().env_variable("OUT") == expected


async def test_a_variable_that_must_be_set(dag: dagger.Client, image: str) -> None:
    """169. `${V:?text}` fails with the text."""
    text = f'FROM {image}\nENV OUT="${{N:?it is missing}}"\n'

    with pytest.raises(dagger.QueryError, match="it is missing"):
        await with_file(dag.directory(), text).docker_build().id()


# ---- RUN -------------------------------------------------------------------------------------


async def test_caches_of_run(dag: dagger.Client, image: str, unique: str) -> None:
    """170. A cache mount is shared between builds and not part of the image."""
    mount = f"--mount=type=cache,id={unique},target=/cache"
    first = f"FROM {image}\nRUN {mount} echo {unique} > /cache/f\n"
    second = f"FROM {image}\nRUN {mount} cat /cache/f > /out\n"

    await with_file(dag.directory(), first).docker_build().sync()
    built = with_file(dag.directory(), second).docker_build()

    assert await built.file("/out").contents() == f"{unique}\n"
    assert await built.exists("/cache/f") is False


async def test_mounts_of_run(dag: dagger.Client, image: str) -> None:
    """170. The context or a stage is mounted read-only, and a tmpfs for the step alone."""
    text = f"""
FROM {image} AS other
RUN echo stage > /stage
FROM {image}
RUN --mount=type=bind,target=/ctx cat /ctx/f > /out && ! touch /ctx/new
RUN --mount=type=bind,from=other,source=/stage,target=/s cat /s >> /out
RUN --mount=type=tmpfs,target=/tmpfs grep ' /tmpfs ' /proc/mounts | cut -d' ' -f3 >> /out; touch /tmpfs/f
"""
    built = with_file(tree(dag, "f"), text).docker_build()

    assert await built.file("/out").contents() == "fstage\ntmpfs\n"
    assert await built.exists("/tmpfs/f") is False


@pytest.mark.differs("there the engine's process ends")
async def test_a_bind_mount_that_is_written_to(dag: dagger.Client, image: str) -> None:
    """170. What is written to a bind mount with `rw` is dropped after the step."""
    text = f"FROM {image}\nRUN --mount=type=bind,target=/ctx,rw touch /ctx/new && ls /ctx > /out\n"

    built = with_file(tree(dag, "f"), text).docker_build()

    assert await built.file("/out").contents() == "Dockerfile\nf\nnew\n"
    assert await built.exists("/ctx/new") is False


async def test_secrets_of_run(dag: dagger.Client, image: str) -> None:
    """170. A secret is a file of the step or a variable; one that is required has to be there."""
    text = f"""
FROM {image}
RUN --mount=type=secret,id=token wc -c < /run/secrets/token > /out; stat -c %a /run/secrets/token >> /out
RUN --mount=type=secret,id=token,target=/t,mode=0440 stat -c %a /t >> /out
RUN --mount=type=secret,id=token,env=TOKEN echo ${{#TOKEN}} >> /out
RUN --mount=type=secret,id=absent ls /run/secrets/absent >> /out 2>&1 || echo absent >> /out
"""
    secret = dag.set_secret("token", "12345")
    context = with_file(dag.directory(), text)

    assert (await context.docker_build(secrets=[secret]).file("/out").contents()).splitlines() == [
        "5", "400", "440", "5", "ls: /run/secrets/absent: No such file or directory", "absent",
    ]  # fmt: skip
    required = f"FROM {image}\nRUN --mount=type=secret,id=absent,required=true true\n"
    with pytest.raises(dagger.QueryError, match="absent"):
        await with_file(dag.directory(), required).docker_build().sync()


@contextlib.contextmanager
def echo_server(path: Path) -> Iterator[None]:
    """Answer each line sent to a socket with itself and a mark."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()

        def work() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(b"agent: " + connection.recv(100))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


async def test_the_agent_of_run(
    dag: dagger.Client, base: dagger.Container, registry: str, socket_client: Path, tmp_path: Path
) -> None:
    """170. A step with an ssh mount speaks to the socket that was given, and finds it by a variable."""
    address = f"{registry}/build-agent:v1"
    await base.with_file("/bin/ask", dag.host().file(str(socket_client))).publish(address)
    text = f"FROM {address}\nRUN --mount=type=ssh ask $SSH_AUTH_SOCK hello > /out\n"

    with echo_server(tmp_path / "agent"):
        agent = dag.host().unix_socket(str(tmp_path / "agent"))
        built = with_file(dag.directory(), text).docker_build(ssh=agent)
        assert await built.file("/out").contents() == "agent: hello\n"
    required = f"FROM {address}\nRUN --mount=type=ssh,required=true true\n"
    with pytest.raises(dagger.QueryError):
        await with_file(dag.directory(), required).docker_build().sync()


HEREDOCS = r"""
FROM {image}
ENV V=value
RUN <<EOF
echo "run $V" > /out
echo second >> /out
EOF
RUN <<'EOF' sh
echo "quoted $V" >> /out
EOF
RUN <<EOF
#!/bin/sh -e
echo "$0" | grep -c / >> /out
EOF
RUN <<-EOF
	echo tabs >> /out
	EOF
COPY <<EOF <<"RAW" /d/
copy $V
EOF
raw $V
RAW
ADD <<EOF /added
add $V
EOF
"""


async def test_heredocs(dag: dagger.Client, image: str) -> None:
    """171. Texts in the file are scripts for RUN and files for COPY and ADD; a quoted mark keeps them."""
    built = with_file(dag.directory(), HEREDOCS.replace("{image}", image)).docker_build()

    assert (await built.file("/out").contents()).splitlines() == [
        "run value", "second", "quoted value", "1", "tabs",
    ]  # fmt: skip
    assert await built.file("/d/EOF").contents() == "copy value\n"
    assert await built.file("/d/RAW").contents() == "raw $V\n"
    assert await built.file("/added").contents() == "add value\n"
    assert await built.stat("/added").permissions() == 0o644


# ---- configuration ---------------------------------------------------------------------------


CONFIGURATION = """
FROM {image}
ENV A=1 B="two words"
LABEL l=v "with space"="x"
EXPOSE 80 53/udp
VOLUME /data
WORKDIR /w
WORKDIR sub
USER auser
STOPSIGNAL SIGUSR1
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --interval=7s --retries=2 CMD true
ONBUILD RUN echo triggered > /tmp/triggered
ENTRYPOINT ["echo"]
CMD ["hello"]
"""


async def test_configuration(dag: dagger.Client, image: str, registry: str, unique: str) -> None:
    """174. What a file configures is the container's, and published with it."""
    built = with_file(dag.directory(), CONFIGURATION.format(image=image)).docker_build()

    assert (await built.env_variable("A"), await built.env_variable("B")) == ("1", "two words")
    assert (await built.label("l"), await built.label("with space")) == ("v", "x")
    assert (await built.workdir(), await built.user()) == ("/w/sub", "auser")
    assert (await built.entrypoint(), await built.default_args()) == (["echo"], ["hello"])
    ports = {(await p.port(), (await p.protocol()).value) for p in await built.exposed_ports()}
    assert ports == {(80, "TCP"), (53, "UDP")}
    health = built.docker_healthcheck()
    assert (await health.interval(), await health.retries()) == ("7s", 2)
    assert await built.with_exec([], use_entrypoint=True).stdout() == "hello\n"


async def test_published_configuration(dag: dagger.Client, image: str, tmp_path: Path) -> None:
    """174. Health check, triggers, stop signal, shell and volumes are in the image's configuration."""
    import json
    import subprocess

    built = with_file(dag.directory(), CONFIGURATION.format(image=image)).docker_build()
    path = await built.export(str(tmp_path / "image.tar"))

    done = subprocess.run(
        ["skopeo", "inspect", "--config", "--raw", f"oci-archive:{path}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip

    config = json.loads(done.stdout)["config"]
    names = ("StopSignal", "Shell", "OnBuild", "Volumes", "Healthcheck")
    assert {name: config[name] for name in names} == {
        "StopSignal": "SIGUSR1",
        "Shell": ["/bin/sh", "-ec"],
        "OnBuild": ["RUN echo triggered > /tmp/triggered"],
        "Volumes": {"/data": {}},
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 7_000_000_000, "Retries": 2},
    }


async def test_triggers_of_the_base(dag: dagger.Client, image: str, registry: str, unique: str) -> None:
    """174. ONBUILD of an image runs in the build that begins with it."""
    text = CONFIGURATION.format(image=image)
    await with_file(dag.directory(), text).docker_build().publish(f"{registry}/{unique}")

    built = with_file(dag.directory(), f"FROM {registry}/{unique}\n").docker_build()

    assert await built.file("/tmp/triggered").contents() == "triggered\n"


# ---- caching, secrets, errors ----------------------------------------------------------------


async def test_what_a_changed_file_repeats(dag: dagger.Client, image: str, unique: str) -> None:
    """175. A change of the context repeats the steps after the copy that it concerns, no others."""
    text = f"""
FROM {image}
RUN echo {unique}; cat /proc/sys/kernel/random/uuid > /before
COPY a /
RUN cat /proc/sys/kernel/random/uuid > /after-a
COPY b /
RUN cat /proc/sys/kernel/random/uuid > /after-b
"""

    async def ran(context: dagger.Directory) -> list[str]:
        built = with_file(context, text).docker_build()
        return [await built.file(path).contents() for path in ("/before", "/after-a", "/after-b")]

    first = await ran(tree(dag, "a", "b", "other"))
    other = await ran(tree(dag, "a", "b", "other").with_new_file("other", "changed"))
    second = await ran(tree(dag, "a", "b").with_new_file("b", "changed"))
    third = await ran(tree(dag, "a", "b").with_new_file("a", "changed"))

    assert other == first
    assert (second[:2], second[2] != first[2]) == (first[:2], True)
    assert (third[0], third[1] != first[1], third[2] != first[2]) == (first[0], True, True)


async def test_build_secrets_afterwards(dag: dagger.Client, image: str) -> None:
    """176. The secrets of a build are mounted in the container that it returns."""
    secret = dag.set_secret("token", "12345")

    built = with_file(dag.directory(), f"FROM {image}\n").docker_build(secrets=[secret])

    assert await built.with_exec(["wc", "-c", "/run/secrets/token"]).stdout() == "5 /run/secrets/token\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM scratch\nNOPE x\n", "(?s)line 2.*NOPE|NOPE.*line 2"),
        ("FROM scratch\n\n# note\nCOPY onlyone\n", "line 4"),
        ("# syntax=example.org/frontend:1\nFROM scratch\n", 'syntax frontend "example.org/frontend:1"'),
        ("", "Dockerfile"),
        ("FROM scratch\nRUN --mount=type=nope,target=/x true\n", "nope"),
    ],
    ids=["instruction", "arguments", "frontend", "empty", "mount"],
)
async def test_files_that_are_refused(dag: dagger.Client, text: str, message: str) -> None:
    """177. A syntax error is told with its line; a frontend that is not built in is refused."""
    with pytest.raises(dagger.QueryError, match=message):
        await with_file(dag.directory(), text).docker_build().sync()


async def test_the_usual_frontend_is_accepted(dag: dagger.Client, image: str) -> None:
    """177. The frontend that everybody names is the one that is built in."""
    text = f"# syntax=docker/dockerfile:1.7\n# escape=`\nFROM {image}\nRUN echo `\n  continued > /out\n"

    assert await with_file(dag.directory(), text).docker_build().file("/out").contents() == "continued\n"
