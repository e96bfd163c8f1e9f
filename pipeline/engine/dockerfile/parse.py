"""From the text of a Dockerfile to its instructions as values. Pure; meaning is given elsewhere."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

from pipeline.engine.dockerfile import instructions as ins
from pipeline.engine.dockerfile.flags import Flags, parse_flags, parse_mount
from pipeline.engine.dockerfile.instructions import CommandLine, Dockerfile, DockerfileError, Heredoc
from pipeline.engine.dockerfile.lines import LogicalLine, parse_heredoc, split_lines
from pipeline.engine.dockerfile.words import (
    parse_json_form,
    split_flags,
    split_instruction,
    split_pairs,
    split_words,
)

_WORD_LIMIT: Final = 5_000  # arguments of one instruction
_STAGE_NAME: Final = re.compile(r"[a-z][a-z0-9\-_.]*\Z")


def parse_dockerfile(text: str, *, file: str = "Dockerfile") -> Dockerfile:
    """Return the file's directives and instructions; `file` is the name errors give.

    Raises:
        DockerfileError: Something cannot be read; it carries the line.
    """
    source = split_lines(text, file=file)
    found = tuple(_parse_line(line, escape=source.escape, file=file) for line in source.lines)
    if not found:
        raise DockerfileError("parse", file, 0, "file with no instructions")
    return Dockerfile(
        instructions=found,
        escape=source.escape,
        syntax=source.syntax,
        syntax_line=source.syntax_line,
        check=source.check,
        file=file,
    )


def parse_trigger(trigger: str, *, escape: str = "\\", file: str, line: int) -> ins.Instruction:
    """Return the instruction that an ONBUILD recorded; it takes `line` as its own.

    Raises:
        DockerfileError: It cannot be read, or holds more than one instruction.
    """
    source = split_lines(trigger, file=file, escape=escape)
    if len(source.lines) != 1:
        raise DockerfileError("parse", file, line, f"ONBUILD trigger `{trigger}` is not one instruction")
    return _parse_line(replace(source.lines[0], number=line), escape=escape, file=file)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What an instruction's parser is given."""

    keyword: str
    rest: str
    flags: Flags
    line: LogicalLine
    escape: str
    file: str

    @property
    def where(self) -> ins.Where:
        return ins.Where(line=self.line.number, text=self.line.text.strip())

    def words(self, at_least: int = 1) -> list[str]:
        words = self.rest.split()
        self.check_count(len(words))
        if len(words) < at_least:
            raise ValueError(f"{self.keyword} requires at least one argument")
        return words

    def check_count(self, count: int) -> None:
        if count > _WORD_LIMIT:
            raise ValueError(f"more than {_WORD_LIMIT:,} arguments")

    def one(self) -> str:
        if not self.rest:
            raise ValueError(f"{self.keyword} requires exactly one argument")
        return self.rest

    def command(self) -> CommandLine:
        words = parse_json_form(self.rest)
        if words is not None:
            return CommandLine(args=words, is_shell=False)
        return CommandLine(args=(self.rest,) if self.rest else (), is_shell=bool(self.rest))

    def pairs(self) -> tuple[tuple[str, str], ...]:
        try:
            pairs = split_pairs(self.rest, self.escape)
        except ValueError as error:
            raise ValueError(
                f"{self.keyword} {error}" if str(error).startswith("must") else str(error)
            ) from error
        if not pairs:
            raise ValueError(f"{self.keyword} requires at least one argument")
        self.check_count(len(pairs))
        if any(not name for name, _ in pairs):
            raise ValueError(f"{self.keyword} names can not be blank")
        return tuple(pairs)


def _parse_line(line: LogicalLine, *, escape: str, file: str) -> ins.Instruction:
    keyword, rest = split_instruction(line.text)
    parser = _PARSERS.get(keyword)
    if parser is None:
        close = difflib.get_close_matches(keyword, _PARSERS, n=1)
        error = DockerfileError("parse", file, line.number, f"unknown instruction: {keyword}")
        error.hint = f"did you mean {close[0]}?" if close else None
        raise error
    try:
        words, rest = split_flags(rest)
        flags = parse_flags(keyword, words)
        return parser(_Request(keyword=keyword, rest=rest, flags=flags, line=line, escape=escape, file=file))
    except ValueError as error:
        raise DockerfileError("parse", file, line.number, str(error)) from error


def _from(request: _Request) -> ins.From:
    words = request.rest.split()
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE_NAME.match(name):
            raise ValueError(
                f"invalid name for build stage: {words[2]!r}, it must begin with a letter"
                " and hold letters, digits, `-`, `_` and `.`"
            )
    elif len(words) != 1:
        raise ValueError("FROM requires either one or three arguments")
    return ins.From(image=words[0], platform=request.flags.text("platform"), name=name, at=request.where)


def _arg(request: _Request) -> ins.Arg:
    found: list[tuple[str, str | None]] = []
    for word in split_words(request.rest, request.escape):
        name, equals, value = word.partition("=")
        if not name:
            raise ValueError("ARG names can not be blank")
        found.append((name, value if equals else None))
    request.check_count(len(found))
    if not found:
        raise ValueError("ARG requires at least one argument")
    return ins.Arg(args=tuple(found), at=request.where)


def _run(request: _Request) -> ins.Run:
    command = request.command()
    if not command.args:
        raise ValueError("RUN requires at least one argument")
    network = request.flags.text("network") or "default"
    if network not in ("default", "none", "host"):
        raise ValueError(f"unsupported network mode {network!r}")
    security = request.flags.text("security") or "sandbox"
    if security not in ("sandbox", "insecure"):
        raise ValueError(f"unsupported security mode {security!r}")
    return ins.Run(
        command=command,
        heredocs=request.line.heredocs,
        mounts=tuple(parse_mount(text) for text in request.flags.texts("mount")),
        network=cast("Literal['default', 'none', 'host']", network),
        insecure=security == "insecure",
        at=request.where,
    )


def _paths(request: _Request) -> tuple[tuple[str | Heredoc, ...], str]:
    words = parse_json_form(request.rest)
    plain = words is None
    words = tuple(request.rest.split()) if words is None else words
    if len(words) < 2:
        problem = "no arguments were" if not words else "only one was"
        raise ValueError(
            f"{request.keyword} requires at least two arguments, but {problem} provided."
            " Destination could not be determined"
        )
    request.check_count(len(words))
    if plain and parse_heredoc(words[-1]) is not None:
        raise ValueError(f"{request.keyword} cannot accept a heredoc as a destination")
    bodies = {heredoc.name: heredoc for heredoc in request.line.heredocs}

    def source(word: str) -> str | Heredoc:
        mark = parse_heredoc(word) if plain else None
        if mark is None:
            return word
        if mark.name not in bodies:  # quotes that do not end keep documents from being looked for
            raise ValueError(f"the document `{mark.name}` is missing: check the quotes of the line")
        return bodies[mark.name]

    return tuple(source(word) for word in words[:-1]), words[-1]


def _copy(request: _Request) -> ins.Copy:
    sources, destination = _paths(request)
    flags = request.flags
    return ins.Copy(
        sources=sources,
        destination=destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        parents=bool(flags.switch("parents")),
        exclude=flags.texts("exclude"),
        from_=flags.text("from"),
        at=request.where,
    )


def _add(request: _Request) -> ins.Add:
    sources, destination = _paths(request)
    flags = request.flags
    return ins.Add(
        sources=sources,
        destination=destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        exclude=flags.texts("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=bool(flags.switch("keep-git-dir")),
        unpack=flags.switch("unpack"),
        at=request.where,
    )


def _shell(request: _Request) -> ins.Shell:
    words = parse_json_form(request.rest)
    if words is None:
        raise ValueError("SHELL requires the arguments to be in JSON form")
    if not words:
        raise ValueError("SHELL requires at least one argument")
    return ins.Shell(args=words, at=request.where)


def _volume(request: _Request) -> ins.Volume:
    words = parse_json_form(request.rest)
    paths = tuple(request.words()) if words is None else words
    request.check_count(len(paths))
    if not paths:
        raise ValueError("VOLUME requires at least one argument")
    if any(not path.strip() for path in paths):
        raise ValueError("VOLUME specified can not be an empty string")
    return ins.Volume(paths=paths, at=request.where)


def _healthcheck(request: _Request) -> ins.Healthcheck:
    if not request.rest:
        raise ValueError("HEALTHCHECK requires at least one argument")
    kind, rest = split_instruction(request.rest)
    if kind == "NONE":
        if rest:
            raise ValueError("HEALTHCHECK NONE takes no arguments")
        return ins.Healthcheck(command=None, at=request.where)
    if kind != "CMD":
        raise ValueError(f"unknown type {kind!r} in HEALTHCHECK: use CMD or NONE")
    command = replace(request, rest=rest).command()
    if not command.args:
        raise ValueError("missing command after HEALTHCHECK CMD")
    flags = request.flags
    return ins.Healthcheck(
        command=command,
        interval_s=flags.seconds("interval"),
        timeout_s=flags.seconds("timeout"),
        start_period_s=flags.seconds("start-period"),
        start_interval_s=flags.seconds("start-interval"),
        retries=flags.count("retries"),
        at=request.where,
    )


def _onbuild(request: _Request) -> ins.Onbuild:
    if not request.rest:
        raise ValueError("ONBUILD requires at least one argument")
    keyword, _ = split_instruction(request.rest)
    if keyword == "ONBUILD":
        raise ValueError("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in ("FROM", "MAINTAINER"):
        raise ValueError(f"{keyword} isn't allowed as an ONBUILD trigger")
    _parse_line(replace(request.line, text=request.rest), escape=request.escape, file=request.file)
    bodies = "".join(f"\n{doc.raw}{doc.name}" for doc in request.line.heredocs)
    return ins.Onbuild(trigger=request.rest + bodies, at=request.where)


_Parser = Callable[[_Request], ins.Instruction]
_PARSERS: Final[dict[str, _Parser]] = {
    "FROM": _from,
    "ARG": _arg,
    "ENV": lambda request: ins.Env(pairs=request.pairs(), at=request.where),
    "LABEL": lambda request: ins.Label(pairs=request.pairs(), at=request.where),
    "RUN": _run,
    "COPY": _copy,
    "ADD": _add,
    "CMD": lambda request: ins.Cmd(command=request.command(), at=request.where),
    "ENTRYPOINT": lambda request: ins.Entrypoint(command=request.command(), at=request.where),
    "SHELL": _shell,
    "WORKDIR": lambda request: ins.Workdir(path=request.one(), at=request.where),
    "USER": lambda request: ins.User(user=request.one(), at=request.where),
    "EXPOSE": lambda request: ins.Expose(ports=tuple(request.words()), at=request.where),
    "VOLUME": _volume,
    "STOPSIGNAL": lambda request: ins.StopSignal(signal=request.one(), at=request.where),
    "HEALTHCHECK": _healthcheck,
    "ONBUILD": _onbuild,
    "MAINTAINER": lambda request: ins.Maintainer(author=request.one(), at=request.where),
}
