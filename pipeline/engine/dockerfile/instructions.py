"""What a Dockerfile says, as values: one class per instruction. Parsing and meaning are elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pipeline.errors import EngineError

MountType = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
Sharing = Literal["shared", "private", "locked"]


_REASON_LIMIT: Final = 500


class DockerfileError(EngineError):
    """A Dockerfile cannot be read or carried out; `line` counts from 1, 0 means the whole file.

    What it quotes of the file is cut where it is long, and can be printed.
    """

    def __init__(self, act: str, file: str, line: int, reason: str) -> None:
        where = f" line {line}" if line else ""
        short = reason if len(reason) <= _REASON_LIMIT else reason[: _REASON_LIMIT - 1] + "…"
        self.file = file
        self.line = line
        self.reason = "".join(
            char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in short
        )
        super().__init__(f"cannot {act} `{file}`{where}: {self.reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """An inline document; `content` has lost its leading tabs when the mark was `<<-`."""

    name: str
    content: str
    expand: bool = True  # False when the word was quoted
    chomp: bool = False  # `<<-`
    raw: str = ""  # the body as written


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """A command: `args` as given in JSON form, or one string for the shell."""

    args: tuple[str, ...]
    is_shell: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMount:
    """One `--mount` of a RUN; texts are as written, variables not expanded."""

    type: MountType = "bind"
    id: str = ""
    source: str = ""
    target: str = ""
    from_: str = ""
    env: str | None = None
    sharing: str = ""
    mode: str = ""
    uid: str = ""
    gid: str = ""
    size: str = ""
    required: bool = False
    read_only: bool | None = None  # None where nothing was said


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where an instruction stands: its first line, and the logical line without heredocs."""

    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What every instruction has."""

    at: Where


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Line):
    """Begin a stage; `name` is lower case, "" when it has none."""

    image: str
    platform: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Line):
    """Declare build arguments with their defaults, quotes and variables as written."""

    args: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Line):
    """Set variables; names and values as written."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Line):
    """Set labels; names and values as written."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Line):
    """Run a command; its variables are the shell's."""

    command: CommandLine
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[RunMount, ...] = ()
    network: Literal["default", "none", "host"] = "default"
    insecure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Line):
    """What COPY and ADD share; a source is a path or an inline file."""

    sources: tuple[str | Heredoc, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Transfer):
    """Copy files from the context, a stage or an image."""

    from_: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Transfer):
    """Copy files, archives, downloads and repositories."""

    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None  # None: archives of the context are unpacked, downloads are not


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Line):
    """Set the default arguments."""

    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Line):
    """Set the entrypoint."""

    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Line):
    """Set the shell of the commands that follow."""

    args: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Line):
    """Change to a directory and make it."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Line):
    """Set the user."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Line):
    """Expose ports, as written: `80`, `53/udp`, `8000-8010`."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Line):
    """Declare volumes."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Line):
    """Set the signal that stops the container."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Line):
    """Set the health check; `command` is None for NONE; times in seconds, 0 where unset."""

    command: CommandLine | None
    interval_s: float = 0.0
    timeout_s: float = 0.0
    start_period_s: float = 0.0
    start_interval_s: float = 0.0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Line):
    """Record an instruction for the builds that start from this image."""

    trigger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Line):
    """Set the author."""

    author: str


Instruction = (
    From
    | Arg
    | Env
    | Label
    | Run
    | Copy
    | Add
    | Cmd
    | Entrypoint
    | Shell
    | Workdir
    | User
    | Expose
    | Volume
    | StopSignal
    | Healthcheck
    | Onbuild
    | Maintainer
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A parsed file: its directives and its instructions in order."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"
    syntax: str = ""
    syntax_line: int = 0
    check: str = ""
    file: str = "Dockerfile"
