"""What parsing makes of each instruction, and what it refuses."""

from __future__ import annotations

import pytest

from pipeline.engine.dockerfile import instructions as ins
from pipeline.engine.dockerfile.instructions import CommandLine, DockerfileError, Heredoc, RunMount, Where
from pipeline.engine.dockerfile.parse import parse_dockerfile, parse_trigger


def _one(text: str) -> ins.Instruction:
    """Parse one instruction, on line 2 of a file."""
    return parse_dockerfile(f"FROM alpine\n{text}").instructions[1]


def _at(text: str, line: int = 2) -> Where:
    return Where(line=line, text=text)


CASES: dict[str, tuple[str, ins.Instruction]] = {
    "from": (
        "FROM --platform=$P golang:1 AS Build",
        ins.From(
            at=_at("FROM --platform=$P golang:1 AS Build"), image="golang:1", platform="$P", name="build"
        ),
    ),
    "arg": ("ARG A B=c D=", ins.Arg(at=_at("ARG A B=c D="), args=(("A", None), ("B", "c"), ("D", "")))),
    "env": (
        'ENV A="b c" D=e\\ f',
        ins.Env(at=_at('ENV A="b c" D=e\\ f'), pairs=(("A", '"b c"'), ("D", "e\\ f"))),
    ),
    "env old": ("ENV A b  c", ins.Env(at=_at("ENV A b  c"), pairs=(("A", "b  c"),))),
    "label": ("LABEL a=b", ins.Label(at=_at("LABEL a=b"), pairs=(("a", "b"),))),
    "run shell": (
        "RUN echo  a",
        ins.Run(at=_at("RUN echo  a"), command=CommandLine(args=("echo  a",), is_shell=True)),
    ),
    "run exec": (
        'RUN ["a", "b c"]',
        ins.Run(at=_at('RUN ["a", "b c"]'), command=CommandLine(args=("a", "b c"), is_shell=False)),
    ),
    "run flags": (
        "RUN --network=none --security=insecure --mount=type=cache,target=/c,id=x,sharing=locked,uid=1 x",
        ins.Run(
            at=_at(
                "RUN --network=none --security=insecure"
                " --mount=type=cache,target=/c,id=x,sharing=locked,uid=1 x"
            ),
            command=CommandLine(args=("x",), is_shell=True),
            network="none",
            insecure=True,
            mounts=(RunMount(type="cache", target="/c", id="x", sharing="locked", uid="1"),),
        ),
    ),
    "run secret": (
        "RUN --mount=type=secret,id=t,env=TOKEN,required --mount=type=secret,id=u,dst=/u,mode=0440 x",
        ins.Run(
            at=_at(
                "RUN --mount=type=secret,id=t,env=TOKEN,required --mount=type=secret,id=u,dst=/u,mode=0440 x"
            ),
            command=CommandLine(args=("x",), is_shell=True),
            mounts=(
                RunMount(type="secret", id="t", env="TOKEN", required=True),
                RunMount(type="secret", id="u", target="/u", mode="0440"),
            ),
        ),
    ),
    "run bind": (
        "RUN --mount=source=a,target=/b,rw --mount=from=x,target=/c,ro=true x",
        ins.Run(
            at=_at("RUN --mount=source=a,target=/b,rw --mount=from=x,target=/c,ro=true x"),
            command=CommandLine(args=("x",), is_shell=True),
            mounts=(
                RunMount(source="a", target="/b", read_only=False),
                RunMount(from_="x", target="/c", read_only=True),
            ),
        ),
    ),
    "run quoted mount": (
        "RUN --mount='type=bind,\"source=a,b\",target=/t' x",
        ins.Run(
            at=_at("RUN --mount='type=bind,\"source=a,b\",target=/t' x"),
            command=CommandLine(args=("x",), is_shell=True),
            mounts=(RunMount(source="a,b", target="/t"),),
        ),
    ),
    "run heredoc": (
        "RUN <<EOF\na\n\n# b\nEOF",
        ins.Run(
            at=_at("RUN <<EOF"),
            command=CommandLine(args=("<<EOF",), is_shell=True),
            heredocs=(Heredoc(name="EOF", content="a\n\n# b\n", raw="a\n\n# b\n"),),
        ),
    ),
    "copy": (
        "COPY --from=b --chown=u:g --chmod=755 --link --parents=false --exclude=a --exclude=b c d e/",
        ins.Copy(
            at=_at(
                "COPY --from=b --chown=u:g --chmod=755 --link --parents=false --exclude=a --exclude=b c d e/"
            ),
            sources=("c", "d"),
            destination="e/",
            from_="b",
            chown="u:g",
            chmod="755",
            link=True,
            exclude=("a", "b"),
        ),
    ),
    "copy json": (
        'COPY ["a b", "c d/"]',
        ins.Copy(at=_at('COPY ["a b", "c d/"]'), sources=("a b",), destination="c d/"),
    ),
    "copy heredocs": (
        "COPY <<-'A' x <<B /d/\n\ta\n\tA\nb\nB",
        ins.Copy(
            at=_at("COPY <<-'A' x <<B /d/"),
            sources=(
                Heredoc(name="A", content="a\n", expand=False, chomp=True, raw="\ta\n"),
                "x",
                Heredoc(name="B", content="b\n", raw="b\n"),
            ),
            destination="/d/",
        ),
    ),
    "add": (
        "ADD --checksum=sha256:1 --keep-git-dir --unpack=false a /b",
        ins.Add(
            at=_at("ADD --checksum=sha256:1 --keep-git-dir --unpack=false a /b"),
            sources=("a",),
            destination="/b",
            checksum="sha256:1",
            keep_git_dir=True,
            unpack=False,
        ),
    ),
    "cmd": ('CMD ["a"]', ins.Cmd(at=_at('CMD ["a"]'), command=CommandLine(args=("a",), is_shell=False))),
    "cmd empty": ("CMD []", ins.Cmd(at=_at("CMD []"), command=CommandLine(args=(), is_shell=False))),
    "entrypoint": (
        "ENTRYPOINT exec a",
        ins.Entrypoint(at=_at("ENTRYPOINT exec a"), command=CommandLine(args=("exec a",), is_shell=True)),
    ),
    "shell": ('SHELL ["a", "-c"]', ins.Shell(at=_at('SHELL ["a", "-c"]'), args=("a", "-c"))),
    "workdir": ("WORKDIR /a b", ins.Workdir(at=_at("WORKDIR /a b"), path="/a b")),
    "user": ("USER a:b", ins.User(at=_at("USER a:b"), user="a:b")),
    "expose": ("EXPOSE 80 90/udp", ins.Expose(at=_at("EXPOSE 80 90/udp"), ports=("80", "90/udp"))),
    "volume": ("VOLUME /a /b", ins.Volume(at=_at("VOLUME /a /b"), paths=("/a", "/b"))),
    "volume json": ('VOLUME ["/a b"]', ins.Volume(at=_at('VOLUME ["/a b"]'), paths=("/a b",))),
    "stopsignal": ("STOPSIGNAL SIGINT", ins.StopSignal(at=_at("STOPSIGNAL SIGINT"), signal="SIGINT")),
    "healthcheck": (
        "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1s --start-interval=2s"
        " --retries=4 CMD curl x",
        ins.Healthcheck(
            at=_at(
                "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1s --start-interval=2s"
                " --retries=4 CMD curl x"
            ),
            command=CommandLine(args=("curl x",), is_shell=True),
            interval_s=90.0,
            timeout_s=0.5,
            start_period_s=1.0,
            start_interval_s=2.0,
            retries=4,
        ),
    ),
    "healthcheck odd times": (
        "HEALTHCHECK --interval=1h2m3.5s --timeout=+1ms --start-period=0 --start-interval=-0s"
        " --retries=+3 CMD x",
        ins.Healthcheck(
            at=_at(
                "HEALTHCHECK --interval=1h2m3.5s --timeout=+1ms --start-period=0 --start-interval=-0s"
                " --retries=+3 CMD x"
            ),
            command=CommandLine(args=("x",), is_shell=True),
            interval_s=3723.5,
            timeout_s=0.001,
            retries=3,
        ),
    ),
    "no healthcheck": (
        "HEALTHCHECK NONE",
        ins.Healthcheck(at=_at("HEALTHCHECK NONE"), command=None),
    ),
    "onbuild": ("ONBUILD RUN a  b", ins.Onbuild(at=_at("ONBUILD RUN a  b"), trigger="RUN a  b")),
    "onbuild heredoc": (
        "ONBUILD COPY <<-E /x\n\ta\n\tE",
        ins.Onbuild(at=_at("ONBUILD COPY <<-E /x"), trigger="COPY <<-E /x\n\ta\nE"),
    ),
    "maintainer": ("MAINTAINER a b", ins.Maintainer(at=_at("MAINTAINER a b"), author="a b")),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES.keys())
def test_an_instruction_becomes_its_value(text: str, expected: ins.Instruction) -> None:
    """Flags, forms and inline documents all arrive in the value, words as they were written."""
    assert _one(text) == expected


REFUSED = {
    "unknown instruction": ("FROM a\nFOO bar", 2, "unknown instruction: FOO"),
    "heredoc without end": ("FROM a\n\nRUN <<EOF\na\n", 3, "unterminated heredoc `EOF`"),
    "unknown flag": ("FROM a\nCOPY --form=x a b", 2, "unknown flag: --form (did you mean from?)"),
    "flag twice": ("FROM a\nCOPY --from=x --from=y a b", 2, "duplicate flag specified: --from"),
    "flag without value": ("FROM a\nCOPY --chown a b", 2, "missing a value on flag: --chown"),
    "switch": ("FROM a\nCOPY --link=yes a b", 2, "expecting boolean value for --link, not: yes"),
    "flag on env": ("FROM a\nENV --x=y a=b", 2, "unknown flag: --x"),
    "from words": ("FROM a b", 1, "FROM requires either one or three arguments"),
    "stage name": (
        "FROM a AS 1x",
        1,
        "invalid name for build stage: '1x', it must begin with a letter"
        " and hold letters, digits, `-`, `_` and `.`",
    ),
    "env without value": ("FROM a\nENV A", 2, "ENV must have two arguments"),
    "env without equals": (
        "FROM a\nENV A=b c",
        2,
        'can\'t find = in "c". Must be of the form: name=value',
    ),
    "env blank": ("FROM a\nENV =b", 2, "ENV names can not be blank"),
    "arg nothing": ("FROM a\nARG", 2, "ARG requires at least one argument"),
    "run nothing": ("FROM a\nRUN", 2, "RUN requires at least one argument"),
    "run network": ("FROM a\nRUN --network=x a", 2, "unsupported network mode 'x'"),
    "copy one": (
        "FROM a\nCOPY a",
        2,
        "COPY requires at least two arguments, but only one was provided."
        " Destination could not be determined",
    ),
    "copy into heredoc": ("FROM a\nCOPY a <<E\nE", 2, "COPY cannot accept a heredoc as a destination"),
    "json of numbers": (
        "FROM a\nCMD [1]",
        2,
        "when using JSON array syntax, arrays must be comprised of strings only",
    ),
    "shell form of shell": ("FROM a\nSHELL bash -c", 2, "SHELL requires the arguments to be in JSON form"),
    "healthcheck kind": (
        "FROM a\nHEALTHCHECK curl",
        2,
        "unknown type 'CURL' in HEALTHCHECK: use CMD or NONE",
    ),
    "healthcheck interval": (
        "FROM a\nHEALTHCHECK --interval=5 CMD x",
        2,
        '--interval: time: missing unit in duration "5"',
    ),
    "healthcheck unit": (
        "FROM a\nHEALTHCHECK --timeout=1d CMD x",
        2,
        '--timeout: time: unknown unit "d" in duration "1d"',
    ),
    "healthcheck negative": (
        "FROM a\nHEALTHCHECK --start-period=-5s CMD x",
        2,
        "--start-period cannot be less than 1ms, got -5s",
    ),
    "healthcheck interval empty": (
        "FROM a\nHEALTHCHECK --interval= CMD x",
        2,
        "missing a value on flag: --interval",
    ),
    "healthcheck retries": (
        "FROM a\nHEALTHCHECK --retries=-1 CMD x",
        2,
        "--retries must be a whole number, got '-1'",
    ),
    "healthcheck many retries": (
        "FROM a\nHEALTHCHECK --retries=2147483648 CMD x",
        2,
        "--retries must be a whole number, got '2147483648'",
    ),
    "mount type": ("FROM a\nRUN --mount=type=x,target=/a b", 2, "unsupported mount type 'x'"),
    "mount key": (
        "FROM a\nRUN --mount=type=cache,taget=/a b",
        2,
        "unexpected key 'taget' in 'taget=/a' (did you mean target?)",
    ),
    "mount target": ("FROM a\nRUN --mount=type=cache b", 2, "a mount of type cache needs a target"),
    "mount sharing": (
        "FROM a\nRUN --mount=type=cache,target=/a,sharing=x b",
        2,
        "unsupported sharing value 'x'",
    ),
    "mount option that does not fit": (
        "FROM a\nRUN --mount=type=bind,target=/a,size=5 b",
        2,
        "'size' is not allowed for a mount of type bind",
    ),
    "onbuild onbuild": (
        "FROM a\nONBUILD ONBUILD RUN a",
        2,
        "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
    ),
    "onbuild from": ("FROM a\nONBUILD FROM b", 2, "FROM isn't allowed as an ONBUILD trigger"),
    "onbuild of nonsense": ("FROM a\nONBUILD FOO b", 2, "unknown instruction: FOO"),
    "two escapes": ("# escape=`\n# escape=`\nFROM a", 2, "only one escape parser directive can be used"),
    "odd escape": ("# escape=x\nFROM a", 1, "invalid ESCAPE 'x': it must be ` or \\"),
    "workdir nothing": ("FROM a\nWORKDIR", 2, "WORKDIR requires exactly one argument"),
    "expose nothing": ("FROM a\nEXPOSE", 2, "EXPOSE requires at least one argument"),
    "label nothing": ("FROM a\nLABEL", 2, "LABEL requires at least one argument"),
    "arg blank": ("FROM a\nARG =x", 2, "ARG names can not be blank"),
    "run security": ("FROM a\nRUN --security=x a", 2, "unsupported security mode 'x'"),
    "shell empty": ("FROM a\nSHELL []", 2, "SHELL requires at least one argument"),
    "volume nothing": ("FROM a\nVOLUME []", 2, "VOLUME requires at least one argument"),
    "volume blank": ('FROM a\nVOLUME [""]', 2, "VOLUME specified can not be an empty string"),
    "healthcheck nothing": ("FROM a\nHEALTHCHECK", 2, "HEALTHCHECK requires at least one argument"),
    "healthcheck none and more": ("FROM a\nHEALTHCHECK NONE x", 2, "HEALTHCHECK NONE takes no arguments"),
    "healthcheck without command": ("FROM a\nHEALTHCHECK CMD", 2, "missing command after HEALTHCHECK CMD"),
    "healthcheck too often": (
        "FROM a\nHEALTHCHECK --interval=1us CMD x",
        2,
        "--interval cannot be less than 1ms, got 1us",
    ),
    "onbuild nothing": ("FROM a\nONBUILD", 2, "ONBUILD requires at least one argument"),
    "mount without value": (
        "FROM a\nRUN --mount=type=bind,target a",
        2,
        "invalid field 'target': it must be a key=value pair",
    ),
    "mount switch": (
        "FROM a\nRUN --mount=target=/a,ro=maybe b",
        2,
        "expecting boolean value for ro, not: maybe",
    ),
    "mount required": (
        "FROM a\nRUN --mount=type=cache,target=/a,required b",
        2,
        "'required' is not allowed for a mount of type cache",
    ),
    "mount uid": ("FROM a\nRUN --mount=type=cache,target=/a,uid=bob b", 2, "invalid value bob for uid"),
    "line after a continuation": ("FROM a\nRUN a \\\n\n  b\nFOO", 5, "unknown instruction: FOO"),
}


@pytest.mark.parametrize(("text", "line", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_read_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    """The message names the file, the line on which the instruction starts, and what is wrong."""
    with pytest.raises(DockerfileError) as caught:
        parse_dockerfile(text, file="docker/Dockerfile")

    assert str(caught.value) == f"cannot parse `docker/Dockerfile` line {line}: {reason}"
    assert caught.value.line == line


def test_an_empty_file_has_no_instructions() -> None:
    """Comments and blank lines are no instructions."""
    with pytest.raises(DockerfileError, match=r"^cannot parse `Dockerfile`: file with no instructions$"):
        parse_dockerfile("# a comment\n\n")


def test_a_mistyped_instruction_is_answered_with_a_hint() -> None:
    """The nearest instruction is named."""
    with pytest.raises(DockerfileError) as caught:
        parse_dockerfile("FROM a\nCPOY a b")

    assert caught.value.hint == "did you mean COPY?"


def test_directives_are_read_from_the_top_only() -> None:
    """A directive after anything else is a comment; names are case-insensitive, others are ignored."""
    top = parse_dockerfile("# Syntax = docker/dockerfile:1\n# other=x\n# escape=`\n#check=skip=all\nFROM a")
    late = parse_dockerfile("# a comment\n# escape=`\nFROM a\nRUN a \\\n b")

    assert (top.syntax, top.escape, top.check) == ("docker/dockerfile:1", "`", "skip=all")
    assert (late.syntax, late.escape, late.check) == ("", "\\", "")


def test_an_onbuild_trigger_is_read_again_as_it_was_recorded() -> None:
    """Its inline document is part of the recorded text, and the line is that of the FROM that runs it."""
    recorded = _one("ONBUILD COPY <<-E /x\n\ta\n\tE")
    assert isinstance(recorded, ins.Onbuild)

    trigger = parse_trigger(recorded.trigger, file="Dockerfile", line=7)

    assert trigger == ins.Copy(
        at=_at("COPY <<-E /x", 7),
        sources=(Heredoc(name="E", content="a\n", chomp=True, raw="\ta\n"),),
        destination="/x",
    )


def test_a_recorded_trigger_is_one_instruction() -> None:
    """An image can hold anything in its configuration; its line is that of the FROM."""
    with pytest.raises(DockerfileError) as caught:
        parse_trigger("RUN a\nRUN b", file="Dockerfile", line=3)

    assert str(caught.value) == (
        "cannot parse `Dockerfile` line 3: ONBUILD trigger `RUN a\nRUN b` is not one instruction"
    )


def test_marks_that_are_no_heredocs_are_left_alone() -> None:
    """Shifts, quoted marks, and words a shell alone understands."""
    lines = ("RUN echo $((1<<2))", "RUN cat '<<x'", 'RUN echo "${x<<y}"', 'RUN ["cat", "<<E"]', "CMD cat <<E")

    found = [_one(line) for line in lines]

    assert [each.heredocs for each in found if isinstance(each, ins.Run)] == [(), (), (), ()]
    assert isinstance(found[-1], ins.Cmd)
