"""What a stage gets: its context, the artifacts it keeps, and the words it may raise.

Leaves opening the engine, writing files and telling events to the `Services` the scheduler hands in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.digest import Digest, digest_json
from pipeline.errors import PipelineError, UsageError
from pipeline.graph.outcome import Failure

if TYPE_CHECKING:
    from pathlib import Path

    import dagger

LONGEST_NAME = 200


class CheckFailed(PipelineError):
    """What a stage checked is bad: its outcome is failure, not error."""

    def __init__(self, failure: Failure | str) -> None:
        self.failure = Failure(message=failure) if isinstance(failure, str) else failure
        super().__init__(self.failure.message)
        self.hint = self.failure.hint or None


class Skip(PipelineError):
    """Raised by a stage that has nothing to do, or may not check here: its outcome is skip."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NeedGone(PipelineError):
    """A needed result names something the engine no longer has: that stage is run again, once."""

    def __init__(self, stage_name: str, what: str = "") -> None:
        detail = f": {what}" if what else ""
        super().__init__(f"cannot use the result of `{stage_name}`: the engine no longer has it{detail}")
        self.stage_name = stage_name


class BadArtifactName(UsageError):
    """The name of a file to keep would leave the run folder or is not portable."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"cannot keep `{name}`: {why}")
        self.name = name


class SecretUnknown(UsageError):
    """A secret has no value here, or the stage did not declare it."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"cannot read the secret `{name}`: {why}")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file a stage kept, by its content; `name` may hold `/`."""

    name: str
    digest: Digest
    size_bytes: int


class Services(Protocol):
    """What the scheduler does for a context; `testing.fake_context` has one of its own."""

    def log(self, stage: str, text: str) -> None:
        """Tell people `text`; secrets are scrubbed."""

    def keep(self, stage: str, name: str, data: bytes | Path) -> Artifact:
        """Store a file for a stage."""

    def path(self, artifact: Artifact) -> Path:
        """Where an artifact's content can be read."""

    def remember(self, stage: str, name: str, data: bytes) -> None:
        """Leave a note for the stage's later runs."""

    def recall(self, stage: str, name: str) -> bytes | None:
        """The note an earlier run left; None when there is none."""

    def secret(self, name: str) -> str | None:
        """The value of a secret, remembered for scrubbing; None when there is none."""

    async def client(self) -> Any:
        """The one client of this run, opened on first use."""


@dataclass(kw_only=True)
class Context:
    """What a stage may know and do; one for each attempt.

    Reading `environment`, `commit`, `dirty` or a table of `config` makes that value part of the stage's key.
    """

    root: Path  # the project
    run_id: str
    stage: str
    services: Services = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] | None = None  # the declared globs
    files: Sequence[str] = field(default=(), repr=False)
    secrets: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)  # environment, commit, dirty
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the configuration's tables
    attempt: int = 1
    key: str = ""  # of all that is known before the stage runs; equal keys are equal inputs; "" unknown
    span_id: str = ""  # 16 hex digits: engine output with this span is this stage's
    absent: Mapping[str, str] = field(default_factory=dict)  # needs that ended badly, and how; see `despite`
    observed: dict[str, str] = field(default_factory=dict, repr=False)  # what else the key depends on

    @property
    def environment(self) -> str:
        """The chosen environment, or "" without one."""
        return str(self._fact("environment", ""))

    @property
    def commit(self) -> str:
        """The commit checked out: 40 hex digits, or "" outside git."""
        return str(self._fact("commit", ""))

    @property
    def dirty(self) -> bool:
        """Whether tracked files differ from the commit."""
        return bool(self._fact("dirty", False))

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration's tables by name; reading one makes it part of this stage's key."""
        return _Watched(self.settings, self.observed)

    def _fact(self, name: str, default: object) -> object:
        value = self.facts.get(name, default)
        self.observed[name] = str(value)
        return value

    def input_files(self) -> tuple[str, ...]:
        """The tracked files that match `inputs`, sorted, relative to `root`."""
        return tuple(self.files)

    def log(self, text: str) -> None:
        """Tell people something; shown live and kept in the stage's log."""
        self.services.log(self.stage, text)

    def keep(self, name: str, data: str | bytes | Path) -> Artifact:
        """Keep a file in the run folder, `stages/<stage>/files/<name>`; the same name again replaces it.

        Args:
            data: Text (UTF-8), bytes, or the path of a file to copy.

        Raises:
            BadArtifactName: `name` is absolute, escapes the folder, or is not portable.
            OSError: The file cannot be read or written.
        """
        check_artifact_name(name)
        return self.services.keep(self.stage, name, data.encode() if isinstance(data, str) else data)

    def path(self, artifact: Artifact) -> Path:
        """Where the artifact's content can be read; do not write there.

        Raises:
            ArtifactGone: Neither this run nor the stage cache has it any more.
        """
        return self.services.path(artifact)

    def remember(self, name: str, data: bytes) -> None:
        """Leave a note for later runs of this stage, such as how long each test took; replaces the last one.

        It lies beside the stage cache and may be lost at any time. It is in no key: what a stage returns must
        not depend on it.

        Raises:
            BadArtifactName: `name` is not portable.
        """
        check_artifact_name(name)
        self.services.remember(self.stage, name, data)

    def recall(self, name: str) -> bytes | None:
        """The note `remember` left in an earlier run; None when there is none."""
        check_artifact_name(name)
        return self.services.recall(self.stage, name)

    def secret(self, name: str) -> str:
        """The value of a declared secret; scrubbed from all that is told from now on.

        Raises:
            SecretUnknown: The stage did not declare `name`, or there is no value for it.
        """
        if name not in self.secrets:
            raise SecretUnknown(name, f"stage `{self.stage}` does not declare it in `secrets=[...]`")
        value = self.services.secret(name)
        if value is None:
            raise SecretUnknown(name, "it has no value here")
        return value

    def remember_image(self, name: str, digest: str) -> None:
        """Note that image `name` was `digest`: another digest next time makes the stage run again."""
        self.observed[f"image {name}"] = digest

    def remember_stand_in(self, name: str, note: str) -> None:
        """Note that image `name` was not the registry's but a stand-in; the run says so, cached or not."""
        self.observed[f"stand-in {name}"] = note

    def warn(self, text: str) -> None:
        """Say what must be seen beside a success, such as a check that was only made in part.

        Told whenever the result is used, from the cache too.
        """
        self.log(f"warning: {text}\n")
        self.observed[f"warning {text}"] = ""

    def tell_absent(self) -> None:
        """Warn of each `absent` need that no warning names: a partial success never looks whole."""
        for need, how in self.absent.items():
            if not any(f"`{need}`" in text for text in warnings_of(self.observed)):
                self.warn(f"ran without `{need}`, which {how}")

    def note_flaky(self, what: str) -> None:
        """Note that `what` was good and bad on the same inputs: the success is flagged, cached or not."""
        self.log(f"flaky: {what}\n")
        self.observed[f"flaky {what}"] = ""

    def depend_on(self, name: str, value: str) -> None:
        """Note that the result depends on `value`: another one next time makes the stage run again.

        What it is next time is asked of the run's `value_now`; where that cannot tell, nothing has changed.
        """
        self.observed[f"value {name}"] = value

    async def dagger(self) -> dagger.Client:
        """The run's one Dagger client; opened at the first call of the run, closed by the scheduler."""
        client: dagger.Client = await self.services.client()
        return client


current_context: ContextVar[Context | None] = ContextVar("current_context", default=None)
"""The context of the stage this task works for; what carries spans to the engine reads it."""

EngineOpener = Callable[[Callable[[Any], None]], Any]
"""Given a function that takes events (to be called in the event loop's thread), an async context manager that
lends the run's `dagger.Client`."""


class _Watched(Mapping[str, Any]):
    """A mapping that notes the digest of each table that is read."""

    def __init__(self, tables: Mapping[str, Any], observed: dict[str, str]) -> None:
        self._tables = tables
        self._observed = observed

    def __getitem__(self, name: str) -> Any:
        self._observed[f"config {name}"] = observed_config(self._tables, name)
        return self._tables[name]

    def __iter__(self) -> Iterator[str]:
        for name in self._tables:
            self._observed[f"config {name}"] = observed_config(self._tables, name)
        self._observed["config names"] = ",".join(sorted(self._tables))
        return iter(self._tables)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def observed_config(tables: Mapping[str, Any], name: str) -> str:
    """The digest of one table of the configuration; "" when it is absent."""
    if name not in tables:
        return ""
    return str(digest_json(json.loads(json.dumps(tables[name], default=repr, sort_keys=True))))


def stand_ins_of(observed: Mapping[str, str]) -> tuple[str, ...]:
    """What a stage noted of stand-ins, one line an image."""
    kind = "stand-in "
    return tuple(
        f"{key.removeprefix(kind)}: {note}" for key, note in sorted(observed.items()) if key.startswith(kind)
    )


def is_flaky(observed: Mapping[str, str]) -> bool:
    """Whether a stage noted that something was flaky."""
    return any(key.startswith("flaky ") for key in observed)


def warnings_of(observed: Mapping[str, str]) -> tuple[str, ...]:
    """What a stage warned of, in order."""
    kind = "warning "
    return tuple(key.removeprefix(kind) for key in observed if key.startswith(kind))


def check_artifact_name(name: str) -> None:
    """Refuse names that would leave their folder or could not be carried to another machine.

    Raises:
        BadArtifactName: Says what is wrong.
    """
    if not name or len(name) > LONGEST_NAME:
        raise BadArtifactName(name, f"a name has 1 to {LONGEST_NAME} characters")
    if name.startswith("/") or "\\" in name or "\0" in name or not name.isprintable():
        raise BadArtifactName(name, "a name is a relative path of printable characters with `/`")
    if any(part in {"", ".", ".."} for part in name.split("/")):
        raise BadArtifactName(name, "a name has no empty, `.` or `..` parts")
