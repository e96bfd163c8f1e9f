"""Our parser against BuildKit's own, on Dockerfiles of the shapes people write and on made ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dockerfile as oracle  # type: ignore[import-not-found]
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.engine.dockerfile import instructions as ins
from pipeline.engine.dockerfile.flags import parse_mount
from pipeline.engine.dockerfile.instructions import DockerfileError, Heredoc
from pipeline.engine.dockerfile.lines import parse_heredoc
from pipeline.engine.dockerfile.parse import parse_dockerfile, parse_trigger
from pipeline.engine.durations import BadDuration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.Dockerfile"))
KEYWORDS = {
    "FROM", "ARG", "ENV", "LABEL", "RUN", "COPY", "ADD", "CMD", "ENTRYPOINT", "SHELL", "WORKDIR",
    "USER", "EXPOSE", "VOLUME", "STOPSIGNAL", "HEALTHCHECK", "ONBUILD", "MAINTAINER",
}  # fmt: skip
# BuildKit's parser knows words, not what they mean: that much is refused later there, at once here.
MEANING = re.compile(
    r"unknown (instruction|flag|type)|requires|must|cannot|can not|invalid|unsupported|missing|duplicate"
    r"|needs|isn't allowed|expecting|takes no|unexpected key|no duration|not allowed|is not one instruction"
)
TIMES = ("interval", "timeout", "start-period", "start-interval")
NOTHING = (("HEALTHCHECK", "NONE"), ("HEALTHCHECK", "none"))
Row = tuple[str, int, dict[str, Any], tuple[str, ...], tuple[tuple[str, str], ...]]


def _text(path: Path) -> str:
    return path.read_bytes().decode()


def read_as_buildkit(text: str) -> list[Row]:
    """Return keyword, line, flags, words and documents of each instruction, as BuildKit reads them."""
    return [
        (
            keyword := (each.cmd or "").upper(),
            each.start_line,
            # HEALTHCHECK NONE has no use for its flags.
            {} if (keyword, *each.value[:1]) in NOTHING else _their_flags(each.flags),
            _their_words(keyword, each.value, is_json=each.json),
            tuple((doc.name, doc.content) for doc in each.heredocs),
        )
        for each in oracle.parse_string(text)
        if each.cmd  # a continuation of nothing is an instruction without a name there, and nothing here
    ]


def _their_flags(words: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if name == "mount":
            found.setdefault(name, []).append(parse_mount(value))
        elif name == "exclude":
            found.setdefault(name, []).append(value)
        elif name in ("link", "parents", "keep-git-dir", "unpack"):
            found[name] = not equals or value.lower() == "true"
        elif name in TIMES:
            found[name] = _seconds(value)
        elif name == "retries":
            found[name] = int(value)
        else:
            found[name] = value
    defaults = {"network": "default", "security": "sandbox"}
    return {
        name: value
        for name, value in found.items()
        if name == "unpack" or value not in (False, 0, defaults.get(name))
    }


def _seconds(text: str) -> float | str:
    """Return a duration, or the text that is none: there a parser does not look at it."""
    try:
        return parse_duration(text)
    except BadDuration:
        return text


def _their_words(keyword: str, words: tuple[str, ...], *, is_json: bool) -> tuple[str, ...]:
    if keyword == "FROM" and len(words) == 3:
        return (words[0], "AS", words[2].lower())
    if keyword == "HEALTHCHECK":
        return (words[0].upper(), *words[1:])
    if keyword in ("COPY", "ADD") and not is_json:
        marks = [parse_heredoc(word) for word in words]
        return tuple(
            word if mark is None else f"<<{mark.name}" for word, mark in zip(words, marks, strict=True)
        )
    return tuple(words)


def read_here(text: str) -> list[Row]:
    """Return the same of the instructions that are read here."""
    file = parse_dockerfile(text)
    return [_row(each, file.escape) for each in file.instructions]


def _row(each: ins.Instruction, escape: str) -> Row:
    keyword = type(each).__name__.upper()
    if isinstance(each, ins.Onbuild):  # the oracle tells neither flags nor documents of what is inside
        inner = _row(parse_trigger(each.trigger, escape=escape, file="Dockerfile", line=each.at.line), escape)
        return (keyword, each.at.line, {}, inner[3], ())
    return (keyword, each.at.line, _flags(each), _WORDS[type(each)](each), _documents(each))


def _documents(each: ins.Instruction) -> tuple[tuple[str, str], ...]:
    if isinstance(each, ins.Run):
        return tuple((doc.name, doc.raw) for doc in each.heredocs)
    if isinstance(each, ins.Copy | ins.Add):
        return tuple((doc.name, doc.raw) for doc in each.sources if isinstance(doc, Heredoc))
    return ()


def _flags(each: ins.Instruction) -> dict[str, Any]:
    """Return what the flags of an instruction set; defaults are left out."""
    match each:
        case ins.From():
            found: dict[str, Any] = {"platform": each.platform}
        case ins.Run():
            network = "" if each.network == "default" else each.network
            found = {"mount": list(each.mounts), "network": network, "security": each.insecure and "insecure"}
        case ins.Copy():
            found = {"from": each.from_, "parents": each.parents}
        case ins.Add():
            found = {"checksum": each.checksum, "keep-git-dir": each.keep_git_dir}
            if each.unpack is not None:
                found["unpack"] = each.unpack
        case ins.Healthcheck():
            found = {name: getattr(each, f"{name.replace('-', '_')}_s") for name in TIMES}
            found["retries"] = each.retries
        case _:
            found = {}
    if isinstance(each, ins.Copy | ins.Add):
        found |= {"chown": each.chown, "chmod": each.chmod, "link": each.link, "exclude": list(each.exclude)}
    return {name: value for name, value in found.items() if value or name == "unpack"}


_WORDS: dict[type[ins.Instruction], Callable[[Any], tuple[str, ...]]] = {
    ins.From: lambda each: (each.image, "AS", each.name) if each.name else (each.image,),
    ins.Arg: lambda each: tuple(name if value is None else f"{name}={value}" for name, value in each.args),
    ins.Env: lambda each: tuple(part for pair in each.pairs for part in pair),
    ins.Label: lambda each: tuple(part for pair in each.pairs for part in pair),
    ins.Run: lambda each: each.command.args,
    ins.Cmd: lambda each: each.command.args,
    ins.Entrypoint: lambda each: each.command.args,
    ins.Copy: lambda each: (*map(_source, each.sources), each.destination),
    ins.Add: lambda each: (*map(_source, each.sources), each.destination),
    ins.Shell: lambda each: each.args,
    ins.Expose: lambda each: each.ports,
    ins.Volume: lambda each: each.paths,
    ins.Healthcheck: lambda each: ("CMD", *each.command.args) if each.command else ("NONE",),
    ins.Workdir: lambda each: (each.path,),
    ins.User: lambda each: (each.user,),
    ins.StopSignal: lambda each: (each.signal,),
    ins.Maintainer: lambda each: (each.author,),
}


def _source(source: str | Heredoc) -> str:
    return source if isinstance(source, str) else f"<<{source.name}"


def _compare(text: str) -> None:
    """Check that both read the same, and that what BuildKit refuses is refused here."""
    try:
        theirs = read_as_buildkit(text)
    except oracle.GoParseError:
        with pytest.raises(DockerfileError):
            parse_dockerfile(text)
        return
    try:
        ours = read_here(text)
    except DockerfileError as error:
        assert MEANING.search(error.reason), error  # noqa: PT017 - what is refused is what is looked at
        assume(False)
    assert ours == theirs


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name.split(".")[0])
def test_every_instruction_is_the_one_buildkit_reads(path: Path) -> None:
    """Keyword, first line, flags, words and documents agree for each instruction."""
    text = _text(path)

    ours = read_here(text)

    assert ours == read_as_buildkit(text)


_PIECES = st.sampled_from(
    [
        *("RUN ", "COPY ", "ENV ", "CMD ", "ARG ", "a", "b=c", " ", "\t", "\n", "\n", "\\\n", "\\"),
        *('"', "'", "#", "# x\n", "<<E", "<<-F", '<<"E"', "E", "F", "\nE\n", '["a"]', "["),
        *("--link=true ", "--from=a ", "$X", "1<<2", ","),
    ]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(_PIECES, max_size=14).map("".join))
def test_odd_lines_are_read_or_refused_as_buildkit_does(body: str) -> None:
    """Whatever BuildKit's reader takes, ours takes the same way; what it refuses is refused."""
    _compare("FROM x\n" + body + "\n")


_WORD = st.sampled_from(
    ["a", "b/c", "$A", "${B:-x y}", '"d e"', "'f g'", "h\\ i", "=", "k=l", "#", "é", "--", "a\\"]
)
_LINE = st.lists(_WORD, min_size=1, max_size=4).map(" ".join)
_NAME = st.sampled_from(["A", "b.c", "D"])
_PAIR = st.builds("{}={}".format, _NAME, st.sampled_from(['"x y"', "z", "'q'", "\\ ", ""]))
_PAIRS = st.lists(_PAIR, min_size=1).map(" ".join)
_JSON = st.sampled_from(
    ['["a", "b c"]', '["a"]  ', '["a",1]', "[]", '["é\\n"]', "['a']", '["a"', '["a"] && b']
)
_COMMAND = st.one_of(_LINE, _JSON)
_MARK = st.sampled_from(["<<E", "<<-E", "<<'E'", '<<"E"', "3<<E"])
_BODY = st.lists(st.sampled_from(["x\n", "\ty $A\n", "# z\n", "\n", "RUN no\n", "w \\\n"]), max_size=3).map(
    "".join
)


def _flagged(*flags: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(flags), max_size=2, unique_by=lambda flag: flag.split("=")[0]).map(
        lambda chosen: "".join(f"{flag} " for flag in chosen)
    )


_PLACED = _flagged("--chown=1:1", "--chmod=755", "--link", "--link=false", "--exclude=a")
_RUN_FLAGS = _flagged("--network=none", "--mount=type=cache,target=/c", "--security=insecure")
_TRIGGERS = st.one_of(_COMMAND.map("RUN {}".format), _LINE.map("COPY {} d/".format), st.just("USER a"))
_HEALTH = st.one_of(st.just("NONE"), st.just("none"), _COMMAND.map("CMD {}".format))
_TIMED = _flagged(
    "--interval=1m30s", "--timeout=.5s", "--start-period=+2h", "--start-interval=250ms", "--retries=3",
    "--interval=0s", "--timeout=-1s", "--start-period=5",
)  # fmt: skip
_PROCESS = st.sampled_from(["CMD", "ENTRYPOINT", "cmd"])
_SINGLE = st.sampled_from(["WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER"])
_INSTRUCTIONS = st.one_of(
    st.builds("ARG {}".format, st.one_of(_PAIR, st.just("A"), st.just("A B=c"))),
    st.builds("{} {}".format, st.sampled_from(["ENV", "LABEL", "env"]), _PAIRS),
    st.builds("ENV A {}".format, _LINE),
    st.builds("RUN {}{}".format, _RUN_FLAGS, _COMMAND),
    st.builds("RUN cat {} > o\n{}E".format, _MARK, _BODY),
    st.builds("{} {}{} d/".format, st.sampled_from(["COPY", "ADD", "Copy"]), _PLACED, _LINE),
    st.builds("COPY --from=x {}".format, st.one_of(_LINE, _JSON)),
    st.builds("ADD --unpack=true --checksum=sha256:0 {}".format, _LINE),
    st.builds("COPY {}{} /f\n{}E".format, _PLACED, _MARK, _BODY),
    st.builds("{} {}".format, _PROCESS, st.one_of(_COMMAND, st.just(""))),
    st.builds("SHELL {}".format, _JSON),
    st.builds("{} {}".format, _SINGLE, _LINE),
    st.builds("EXPOSE {}".format, st.sampled_from(["80", "80 443/tcp", "$P", "1-2/udp"])),
    st.builds("VOLUME {}".format, _COMMAND),
    st.builds("HEALTHCHECK {}{}".format, _TIMED, _HEALTH),
    st.builds("ONBUILD {}".format, _TRIGGERS),
)


@st.composite
def _files(draw: st.DrawFn) -> str:
    """Draw up to three stages, comments and continuations in between, with either escape and line end."""
    escape = draw(st.sampled_from(["\\", "\\", "`"]))
    lines = [f"# escape={escape}"] if escape == "`" or draw(st.booleans()) else []
    for number in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(["", f" AS s{number}", f" as S{number}"]))
        lines.append(f"FROM {draw(_flagged('--platform=linux/amd64'))}a{name}")
        for instruction in draw(st.lists(_INSTRUCTIONS, max_size=4)):
            lines.append(draw(st.sampled_from(["", "# c", "  # c", "\t"])))
            broken = f" {escape}\n" + draw(st.sampled_from(["", "# c\n", "\n", "  "]))
            first, *rest = instruction.split("\n", 1)
            lines += [first.replace(" ", broken, 1) if draw(st.booleans()) else first, *rest]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return end.join("\n".join(lines).split("\n")) + draw(st.sampled_from(["", end]))


@settings(max_examples=600, deadline=None, derandomize=True)
@given(_files())
def test_whole_files_are_read_or_refused_as_buildkit_does(text: str) -> None:
    """All eighteen instructions in their forms, several stages, documents, both escapes, both line ends."""
    _compare(text)


def test_the_corpus_is_large_enough_to_mean_something() -> None:
    """At least twenty files, and every instruction that exists occurs in one of them."""
    keywords = {row[0] for path in CORPUS for row in read_here(_text(path))}

    assert len(CORPUS) >= 20
    assert keywords == KEYWORDS
