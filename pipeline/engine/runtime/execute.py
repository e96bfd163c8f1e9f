"""Carry out one `ops.Exec`: from evaluated trees to an exit code, its output and the trees it changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.digest import Digest
    from pipeline.engine import ops
    from pipeline.engine.events import Observer
    from pipeline.engine.runtime.network import Network
    from pipeline.engine.runtime.services import Services
    from pipeline.engine.runtime.spec import Runner
    from pipeline.engine.store import Store
    from pipeline.engine.store.snapshots import Draft, Snapshot

Expect = Literal["SUCCESS", "FAILURE", "ANY"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the engine adds to every exec and no key knows: declared network settings of the host.

    `env` never overrides what the exec sets; `binds` maps targets to host paths, read-only.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    binds: Mapping[str, Path] = field(default_factory=dict)


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
    by_choice = 1 <= code <= 127 or (expect == "FAILURE" and 192 <= code <= 255)
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
) -> ExecOutcome:
    """Run `exec_` over `trees` (by the digest of each tree node it names) and return what it left.

    Raises:
        ExecFailed: The exit code is not one that was expected, or the command could not be started.
        RunnerFailed: The container could not be set up.
        ServiceExited: A bound service ended meanwhile.
    """
    raise NotImplementedError
