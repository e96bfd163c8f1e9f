"""Carry out one `ops.Exec`: from evaluated trees to an exit code, its output and the trees it changed."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.engine.events import ExecEvent, current_span
from pipeline.engine.runtime.assemble import assembled
from pipeline.engine.runtime.capture import Capture
from pipeline.engine.runtime.cgroups import in_leaf
from pipeline.engine.runtime.errors import ExecFailed, RedirectFailed
from pipeline.engine.runtime.surroundings import Surroundings
from pipeline.engine.runtime.users import UnknownUser

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from pipeline.digest import Digest
    from pipeline.engine import ops
    from pipeline.engine.events import Observer
    from pipeline.engine.runtime.assemble import Assembled
    from pipeline.engine.runtime.network import Network
    from pipeline.engine.runtime.services import Services
    from pipeline.engine.runtime.spec import Runner, Running
    from pipeline.engine.store import Draft, Snapshot, Store

__all__ = ["ExecOutcome", "Expect", "Surroundings", "execute", "is_accepted", "open_stdin"]

Expect = Literal["SUCCESS", "FAILURE", "ANY"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOutcome:
    """What an exec left behind; the drafts are the caller's to commit or discard."""

    exit_code: int
    stdout: Digest
    stderr: Digest
    combined: Digest
    rootfs: Draft
    mounts: Mapping[str, Draft]
    duration_s: float = 0.0


def is_accepted(expect: Expect, code: int) -> bool:
    """Say whether `code` is what was expected; 128-191 (death by a signal) never is."""
    if expect == "SUCCESS":
        return code == 0
    by_choice = 1 <= code <= 127 or 192 <= code <= 255
    return by_choice or (expect == "ANY" and code == 0)


async def execute(
    store: Store,
    runner: Runner,
    network: Network,
    exec_: ops.Exec,
    trees: Mapping[Digest, Snapshot],
    *,
    observer: Observer,
    services: Services,
    surroundings: Surroundings | None = None,
    slot: AbstractAsyncContextManager[object] | None = None,
) -> ExecOutcome:
    """Run `exec_` over `trees` (by the digest of each tree node it names) and return what it left.

    `slot` bounds how many run at once. It is taken last, when the bound services are healthy and the locks
    are held: what they wait for may need a slot itself.

    Raises:
        ExecFailed: The exit code is not one that was expected, or the command could not be started.
        RunnerFailed: The container could not be set up.
        OutputLost: What it wrote could not be kept.
        NetworkFailed: There is no network namespace to be had.
        ServiceExited: A bound service ended meanwhile.
    """
    around = surroundings or Surroundings()
    teller = _Teller(observer, exec_)
    async with services.bind(exec_.bindings) as bound:
        try:
            async with assembled(
                store, network, exec_, trees, hosts=bound.hosts, surroundings=around, slot=slot
            ) as parts:
                return await _run(store, runner, exec_, parts, teller)
        except (UnknownUser, RedirectFailed) as error:
            raise ExecFailed(exec_.argv, -1, message=_labelled(exec_, str(error))) from error


async def _run(
    store: Store, runner: Runner, exec_: ops.Exec, parts: Assembled, teller: _Teller
) -> ExecOutcome:
    with Capture(store.blobs, parts.forms, teller.output) as capture, open_stdin(exec_.stdin) as stdin:

        def started(running: Running) -> None:
            os.close(running.pidfd)
            capture.stdout.copy_to = running.redirect_stdout
            capture.stderr.copy_to = running.redirect_stderr

        redirects = bool(exec_.redirect_stdout or exec_.redirect_stderr)
        teller.started()
        with in_leaf(runner.cgroups, parts.spec) as (spec, leaf):
            code = await capture.while_running(
                runner.run(
                    spec,
                    stdin=stdin,
                    stdout=capture.stdout.write_end,
                    stderr=capture.stderr.write_end,
                    started=started if redirects else None,
                )
            )
            out_of_memory = leaf is not None and leaf.ran_out_of_memory()
        parts.tidy()
        teller.finished(code)
        if not is_accepted(exec_.expect, code):
            raise ExecFailed(
                exec_.argv,
                code,
                stdout=capture.stdout.kept.tail(),
                stderr=capture.stderr.kept.tail(),
                message=_labelled(exec_, f"exit code: {code}" + " (out of memory)" * out_of_memory),
            )
        return ExecOutcome(
            exit_code=code,
            stdout=await capture.stdout.kept.keep(),
            stderr=await capture.stderr.kept.keep(),
            combined=await capture.combined.keep(),
            rootfs=parts.rootfs,
            mounts=dict(parts.mounts),
            duration_s=teller.duration_s,
        )


@contextmanager
def open_stdin(text: str) -> Iterator[int]:
    """Lend a descriptor that reads `text` and then ends."""
    if not text:
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    else:
        descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        rest = memoryview(text.encode("utf-8", "surrogateescape"))
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if text:
            os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


class _Teller:
    """Tells an observer about one exec."""

    def __init__(self, observer: Observer, exec_: ops.Exec) -> None:
        self._observer = observer
        self._exec = exec_
        self._span = current_span.get()
        self._began = time.monotonic()
        self.duration_s = 0.0

    def started(self) -> None:
        self._began = time.monotonic()
        self._observer(
            ExecEvent(kind="started", exec_digest=self._exec.digest, span_id=self._span, argv=self._exec.argv)
        )

    def output(self, stream: Literal["stdout", "stderr"], text: str) -> None:
        self._observer(
            ExecEvent(
                kind="output", exec_digest=self._exec.digest, span_id=self._span, stream=stream, text=text
            )
        )

    def finished(self, code: int) -> None:
        self.duration_s = time.monotonic() - self._began
        self._observer(
            ExecEvent(
                kind="finished",
                exec_digest=self._exec.digest,
                span_id=self._span,
                argv=self._exec.argv,
                exit_code=code,
                duration_s=self.duration_s,
            )
        )


def _labelled(exec_: ops.Exec, text: str) -> str:
    return f"{exec_.label}: {text}" if exec_.label else text
