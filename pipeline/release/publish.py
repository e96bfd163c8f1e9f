"""A release is carried out in steps. Each looks at the world first, and does what is not done.

Nothing else is remembered: a release that ended half done, however and wherever, is completed by running it
again. What could stand in the way of any step is looked for before the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias

from pipeline.digest import digest_bytes
from pipeline.errors import EXIT_RESUMABLE, PipelineError, RefusedByPolicy, UsageError
from pipeline.release.api import ApiDenied
from pipeline.release.history import TagElsewhere
from pipeline.release.index import NothingUploaded
from pipeline.release.plan import ATTESTATION_FILE, Delivered
from pipeline.release.provenance import envelope_of, is_of, statement_of
from pipeline.release.tag import TagRejected, create_tag, has_tag, is_pushed, push_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pipeline.release.forge import Forge
    from pipeline.release.index import Index
    from pipeline.release.plan import ReleasePlan
    from pipeline.release.repository import Repository
    from pipeline.release.signing import Signer

Moment: TypeAlias = Literal["found", "begins", "done"]
RECORD: Final = "release.json"
UNCHANGED: Final = (
    RefusedByPolicy,
    UsageError,
    ApiDenied,
    NothingUploaded,
)  # errors of a step that did nothing


class ReleaseUnfinished(PipelineError):
    """A step failed after something was changed; running the release again goes on there."""

    exit_code: ClassVar[int] = EXIT_RESUMABLE

    def __init__(self, tag: str, step: str, error: PipelineError) -> None:
        super().__init__(f"the release `{tag}` is unfinished: {error}")
        self.hint = f"{error.hint}; then run it again" if error.hint else "run it again"
        self.hint += f": it goes on at the step `{step}`"
        self.step = step


class ReleaseAtWork(RefusedByPolicy):
    """Another process carries out this release."""

    def __init__(self, tag: str) -> None:
        super().__init__(f"cannot release `{tag}`: another process is at it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a release goes."""

    repository: Repository
    folder: Path  # for what the release keeps here; may be lost at any time
    remote: str | None  # None: the tag stays here
    signer: Signer | None = None
    forge: Forge | None = None
    index: Index | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do."""

    name: str
    is_done: Callable[[], bool]
    do: Callable[[], None]
    changes: bool = field(default=True, kw_only=True)  # what others could see, or has to be finished


def steps_of(plan: ReleasePlan, places: Places) -> tuple[Step, ...]:
    """Return the steps in their order. Nothing is looked at yet."""
    own = _Own(plan=plan, places=places)
    repository, forge, index, signer = places.repository, places.forge, places.index, places.signer
    steps = [Step("notes", own.are_notes_kept, own.keep_notes, changes=False)]
    if forge is not None:
        steps.append(
            Step(
                "files",
                lambda: forge.is_prepared(plan, plan.files),
                lambda: forge.prepare(plan, plan.files),
            )
        )
    if index is not None:
        steps.append(Step("packages", lambda: not index.missing(plan), lambda: index.publish(plan)))
    steps.append(Step("attestation", own.is_attested, own.attest, changes=forge is not None))
    steps.append(
        Step(
            "tag",
            lambda: has_tag(repository, plan, signer),
            lambda: create_tag(repository, plan, signer),
        )
    )
    if (remote := places.remote) is not None:
        steps.append(
            Step(
                "push",
                lambda: is_pushed(repository, plan, remote),
                lambda: push_tag(repository, plan, remote),
            )
        )
    if forge is not None:
        steps.append(
            Step(
                "release",
                lambda: forge.is_published(plan),
                lambda: forge.publish(plan, own.all_files()),
            )
        )
    return (*steps, Step("close", own.is_closed, own.close, changes=False))


def check(plan: ReleasePlan, places: Places) -> None:
    """Look for what stands in the way of any step; nothing is changed.

    Raises:
        TagElsewhere: The tag is on another commit.
        NotOurTag: The tag is there and not of this plan.
        ForgeConflict: The forge has such a release that is not ours.
        IndexConflict: The index has a package of that name with other content.
        PipelineError: The remote, the forge or the index cannot be asked.
    """
    has_tag(places.repository, plan, places.signer)
    if places.remote is not None:
        is_pushed(places.repository, plan, places.remote)
    if places.forge is not None:
        places.forge.check(plan)
    if places.index is not None:
        places.index.missing(plan)


def publish(
    plan: ReleasePlan, places: Places, observe: Callable[[str, Moment], None] = lambda _, __: None
) -> dict[str, Moment]:
    """Carry out the release, or what is left of it; return what became of each step.

    Args:
        observe: Told of each step by name: that it was done already, that it begins, that it is done.

    Raises:
        ReleaseUnfinished: A step failed, and something was changed; run it again.
        ReleaseAtWork: Another process is at it.
        PipelineError: What stands in the way, as `check` tells it; or a step failed and nothing was changed.
    """
    with _alone(places.folder, plan.tag):
        check(plan, places)
        told: dict[str, Moment] = {}
        changed: set[str] = set()
        for step in steps_of(plan, places):
            try:
                if step.is_done():
                    told[step.name] = "found"
                    observe(step.name, "found")
                else:
                    observe(step.name, "begins")
                    step.do()
                    told[step.name] = "done"
                    observe(step.name, "done")
            except PipelineError as error:
                if isinstance(error, TagRejected | TagElsewhere):
                    changed.discard("tag")  # it was removed again
                elif step.changes and not isinstance(error, UNCHANGED):
                    changed.add(step.name)
                if changed:
                    raise ReleaseUnfinished(plan.tag, step.name, error) from error
                raise
            if step.changes:
                changed.add(step.name)
        return told


@contextlib.contextmanager
def _alone(folder: Path, tag: str) -> Iterator[None]:
    """Keep others of this machine out; whatever ends the process lets them in again."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = open(folder / ".lock", "w", encoding="ascii")  # noqa: SIM115 - closed below
    except OSError as error:
        raise NotKept(folder.name, error.strerror or str(error)) from error
    with stream as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ReleaseAtWork(tag) from error
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """The steps that keep files of the release."""

    plan: ReleasePlan
    places: Places

    def are_notes_kept(self) -> bool:
        return all(self._has(name, data) for name, data in self._kept().items())

    def keep_notes(self) -> None:
        for name, data in self._kept().items():
            write(self.places.folder / name, data)

    def _kept(self) -> Mapping[str, bytes]:
        bill = {one.name: one.source for one in self.plan.files if isinstance(one.source, bytes)}
        return {"notes.md": self.plan.notes.encode(), **bill}

    def is_attested(self) -> bool:
        kept = self._attestation()
        if kept is None:
            return False
        return self.places.forge is None or self.places.forge.is_prepared(self.plan, self._with(kept))

    def attest(self) -> None:
        """Make the attestation, unless one of this plan is there: a second signature may differ."""
        data = self._attestation()
        if data is None and self.places.forge is not None:
            there = self.places.forge.download(self.plan.tag, ATTESTATION_FILE)
            if there is not None and is_of(there, self.plan, signed=self.places.signer is not None):
                data = there
        if data is None:
            data = envelope_of(statement_of(self.plan), self.places.signer)
        write(self.places.folder / ATTESTATION_FILE, data)
        if self.places.forge is not None:
            self.places.forge.prepare(self.plan, self._with(data))

    def all_files(self) -> tuple[Delivered, ...]:
        return self._with(self._attestation() or b"")

    def is_closed(self) -> bool:
        return self._has(RECORD, self._record())

    def close(self) -> None:
        """Look once more whether all is as it should be, and keep that it is."""
        check(self.plan, self.places)
        write(self.places.folder / RECORD, self._record())

    def _record(self) -> bytes:
        plan = self.plan
        table = {
            "tag": plan.tag,
            "version": str(plan.version),
            "commit": plan.commit,
            "plan": plan.digest,
            "files": {one.name: one.digest for one in plan.files},
            "images": dict(plan.images),
        }
        return (json.dumps(table, indent=2, sort_keys=True) + "\n").encode()

    def _attestation(self) -> bytes | None:
        """Return the one that is kept here, if it is of this plan."""
        try:
            data = (self.places.folder / ATTESTATION_FILE).read_bytes()
        except FileNotFoundError:
            return None
        return data if is_of(data, self.plan, signed=self.places.signer is not None) else None

    def _with(self, data: bytes) -> tuple[Delivered, ...]:
        made = Delivered(name=ATTESTATION_FILE, digest=digest_bytes(data), size_bytes=len(data), source=data)
        return (*self.plan.files, made)

    def _has(self, name: str, data: bytes) -> bool:
        try:
            return (self.places.folder / name).read_bytes() == data
        except FileNotFoundError:
            return False


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        NotKept: The disk is full, or the folder may not be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(draft, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise NotKept(path.name, error.strerror or str(error)) from error


class NotKept(PipelineError):
    """A file of the release cannot be written here."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"cannot keep `{name}`: {why.lower()}")
