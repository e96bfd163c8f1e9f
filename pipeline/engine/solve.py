"""Evaluates nodes: finds what was made before, makes the rest, each thing once at a time.

Two keys are tried. The description key is the node's digest. On a miss the inputs are evaluated and
the content key is formed: the same node with each input tree replaced by the identity of its
snapshot, so that equal content under another description hits as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, assert_never

from pipeline.digest import Digest, digest_text
from pipeline.engine import edit, ops
from pipeline.engine.bycontent import action_by_content, exec_by_content, exec_inputs, sources_of
from pipeline.engine.direct import apply_to_draft
from pipeline.engine.events import ExecEvent, current_span
from pipeline.engine.store import StoredResult
from pipeline.engine.store.values import told_when_full
from pipeline.engine.threads import in_thread, settled
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

    from pipeline.engine.events import Observer
    from pipeline.engine.runtime.execute import ExecOutcome
    from pipeline.engine.store import Draft, Snapshot, Store

R = TypeVar("R")
CANCEL_LIMIT_S = 30.0


class ContentGone(EngineError):
    """A tree is known by its content digest only, and the store no longer has it."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"cannot use `{digest}`: it is no longer in the engine's store")
        self.digest = digest
        self.hint = "run again: the source is read anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """What an accepted exec left: exit code, output blobs, and a snapshot per tree ("" the root)."""

    exit_code: int
    stdout: Digest
    stderr: Digest
    combined: Digest
    trees: Mapping[str, Snapshot]


class Executor(Protocol):
    """Carries out one exec over evaluated trees; `runtime.execute` in production."""

    async def __call__(self, node: ops.Exec, trees: Mapping[Digest, Snapshot]) -> ExecOutcome:
        """Run `node`; the caller commits or discards the drafts of the outcome."""


@dataclass(slots=True)
class _Flight:
    """Work that several callers wait for; it is cancelled when the last of them has gone."""

    key: str
    task: asyncio.Task[Any]
    span: str  # of whoever asked first, and is told what happens
    waiters: int = 0


class Solver:
    """Evaluates nodes over one store."""

    def __init__(self, store: Store, executor: Executor, *, observer: Observer | None = None) -> None:
        self.store = store
        self._executor = executor
        self._observer = observer
        self._flights: dict[str, _Flight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Cancel what is under way and wait for its end, at most `CANCEL_LIMIT_S`."""
        for task in self._tasks:
            task.cancel()
        await settled(*self._tasks, within_s=CANCEL_LIMIT_S)

    # ---- trees -----------------------------------------------------------------------------

    async def tree(self, node: ops.Tree) -> Snapshot:
        """Return the snapshot of a tree, made now if it was not before.

        Raises:
            EngineError: Something it is made of failed; the message says what.
        """
        if isinstance(node, ops.Scratch):
            return self.store.snapshots.empty
        if isinstance(node, ops.Pinned):
            return self._pinned(node)
        if isinstance(node, ops.ExecTree):
            return (await self.exec(node.exec)).trees[node.mount]
        if found := self._find(node.digest):
            return found
        return await self._once(node.digest, lambda: self._make_tree(node))

    def _pinned(self, node: ops.Pinned) -> Snapshot:
        found = self.store.index.find_content(node.content)
        if found is None:
            raise ContentGone(node.content)
        return found

    def _find(self, key: Digest) -> Snapshot | None:
        result = self.store.index.find_result(key)
        return self.store.snapshots.get(result.trees[""]) if result else None

    async def _make_tree(self, node: ops.Edit | ops.Difference | ops.Layers) -> Snapshot:
        if isinstance(node, ops.Edit):
            return await self._edit(node)
        if isinstance(node, ops.Difference):
            return await self._difference(node)
        if isinstance(node, ops.Layers):
            return await self._layers(node)
        assert_never(node)

    async def _edit(self, node: ops.Edit) -> Snapshot:
        sources = sources_of(node.action)
        snapshots = await self.trees([node.base, *sources])
        base = snapshots[node.base.digest]
        async with self._views(snapshots[s.digest] for s in sources) as paths:
            views = {source.digest: path for source, path in zip(sources, paths, strict=True)}
            action = await action_by_content(node.action, views, snapshots)
            key = ops.Edit(base=ops.Pinned(content=base.identity), action=action).digest
            if found := self._alias(node.digest, key):
                return found
            snapshot = await self._commit_draft(
                base,
                key,
                lambda draft: apply_to_draft(
                    node.action, self.store.snapshots, draft, lambda tree: views[tree.digest]
                ),
            )
        self._save({node.digest, key}, snapshot)
        return snapshot

    async def _difference(self, node: ops.Difference) -> Snapshot:
        snapshots = await self.trees([node.lower, node.upper])
        lower, upper = snapshots[node.lower.digest], snapshots[node.upper.digest]
        key = ops.Difference(
            lower=ops.Pinned(content=lower.identity), upper=ops.Pinned(content=upper.identity)
        ).digest
        if found := self._alias(node.digest, key):
            return found
        async with self._views([lower, upper]) as (below, above):
            snapshot = await self._commit_draft(
                self.store.snapshots.empty, key, lambda draft: edit.difference(below, above, draft.upper)
            )
        self._save({node.digest, key}, snapshot)
        return snapshot

    async def _layers(self, node: ops.Layers) -> Snapshot:
        """Unpack an image's layers, one snapshot each, known by their chain id."""
        snapshot = self.store.snapshots.empty
        chain = ""
        missing: list[tuple[Digest, Digest]] = []
        for diff_id in node.diff_ids:
            chain = str(diff_id) if not chain else str(digest_text(f"{chain} {diff_id}"))
            found = None if missing else self._find(Digest(chain))
            if found:
                snapshot = found
            else:
                missing.append((diff_id, Digest(chain)))
        fetches = [asyncio.ensure_future(node.source.fetch(diff_id)) for diff_id, _ in missing]
        try:
            for (diff_id, chain_id), fetch in zip(missing, fetches, strict=True):
                blob = await fetch
                snapshot = await self._once(
                    chain_id, functools.partial(self._unpack, snapshot, blob, diff_id, chain_id)
                )
        finally:
            for fetch in fetches:
                fetch.cancel()
            await settled(*fetches)
        self._save({node.digest}, snapshot)
        return snapshot

    async def _unpack(self, parent: Snapshot, blob: Path, diff_id: Digest, chain_id: Digest) -> Snapshot:
        from pipeline.engine.oci.image import add_layer

        if found := self._find(chain_id):
            return found
        snapshot = await in_thread(lambda: add_layer(self.store, parent, blob, diff_id, chain_id))
        self._save({chain_id}, snapshot)
        return snapshot

    async def _commit_draft(
        self, base: Snapshot, identity: Digest, fill: Callable[[Draft], None]
    ) -> Snapshot:
        """Make a snapshot over `base` by filling a draft, in a thread."""
        snapshots = self.store.snapshots

        def work() -> Snapshot:
            draft = snapshots.prepare(base)
            try:
                with told_when_full(self.store.root):
                    fill(draft)
                return snapshots.commit(draft, identity=identity)
            except BaseException:
                snapshots.discard(draft)
                raise

        return await in_thread(work)

    @contextlib.asynccontextmanager
    async def _views(self, snapshots: Iterable[Snapshot]) -> AsyncIterator[list[Path]]:
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.store.snapshots.view(s)) for s in snapshots]

    async def trees(self, nodes: Iterable[ops.Tree]) -> dict[Digest, Snapshot]:
        """Evaluate several trees side by side; the first failure cancels the others."""
        wanted = {node.digest: node for node in nodes}
        results: dict[Digest, Snapshot] = {}

        async def one(node: ops.Tree) -> None:
            results[node.digest] = await self.tree(node)

        if len(wanted) == 1:
            await one(next(iter(wanted.values())))
            return results
        tasks = [asyncio.ensure_future(one(node)) for node in wanted.values()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await settled(*tasks)
        return results

    # ---- execs -----------------------------------------------------------------------------

    async def exec(self, node: ops.Exec) -> ExecResult:
        """Return an exec's result, run now if it was not before.

        Raises:
            ExecFailed: The exit code is not among those expected. Failures are never kept.
        """
        if found := self._find_exec(node.digest):
            self._tell_cached(node, found)
            return found
        flight = self._join(node.digest, lambda: self._run(node))
        result: ExecResult = await self._wait(flight)
        if flight.span != current_span.get():
            self._tell_cached(node, result)
        return result

    async def _run(self, node: ops.Exec) -> ExecResult:
        inputs = await self.trees(exec_inputs(node))
        key = exec_by_content(node, inputs).digest
        if key != node.digest and (found := self._find_exec(key)):
            self.store.index.save_results({node.digest}, _stored(found))
            self._tell_cached(node, found)
            return found
        outcome = await self._executor(node, inputs)
        result = await in_thread(lambda: self._commit(outcome, key))
        self.store.index.save_results({node.digest, key}, _stored(result))
        return result

    def _commit(self, outcome: ExecOutcome, key: Digest) -> ExecResult:
        drafts: dict[str, Draft] = {"": outcome.rootfs, **outcome.mounts}
        try:
            trees = {
                mount: self.store.snapshots.commit(draft, identity=digest_text(f"{key} {mount}"))
                for mount, draft in drafts.items()
            }
        except BaseException:
            for draft in drafts.values():
                self.store.snapshots.discard(draft)
            raise
        return ExecResult(
            exit_code=outcome.exit_code,
            stdout=outcome.stdout,
            stderr=outcome.stderr,
            combined=outcome.combined,
            trees=trees,
        )

    def _find_exec(self, key: Digest) -> ExecResult | None:
        stored = self.store.index.find_result(key)
        if stored is None:
            return None
        data = stored.data
        return ExecResult(
            exit_code=int(data["exit_code"]),
            stdout=Digest(data["stdout"]),
            stderr=Digest(data["stderr"]),
            combined=Digest(data["combined"]),
            trees={mount: self.store.snapshots.get(n) for mount, n in stored.trees.items()},
        )

    def _tell_cached(self, node: ops.Exec, found: ExecResult) -> None:
        if self._observer is not None:
            self._observer(
                ExecEvent(
                    kind="cached",
                    exec_digest=node.digest,
                    span_id=current_span.get(),
                    argv=node.argv,
                    exit_code=found.exit_code,
                )
            )

    # ---- keys and flights ------------------------------------------------------------------

    def _alias(self, description: Digest, key: Digest) -> Snapshot | None:
        """Return what the content key has, known from now on by the description too."""
        if key == description or (found := self._find(key)) is None:
            return None
        self._save({description}, found)
        return found

    def _save(self, keys: set[Digest], snapshot: Snapshot) -> None:
        self.store.index.save_results(keys, StoredResult(trees={"": snapshot.id}))

    async def _once(self, key: str, make: Callable[[], Awaitable[R]]) -> R:
        """Share one evaluation among all who ask for it now."""
        result: R = await self._wait(self._join(key, make))
        return result

    def _join(self, key: str, make: Callable[[], Awaitable[Any]]) -> _Flight:
        flight = self._flights.get(key)
        if flight is None or flight.task.done():
            task: asyncio.Task[Any] = asyncio.ensure_future(make())
            flight = self._flights[key] = _Flight(key, task, span=current_span.get())
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._landed, flight))
        flight.waiters += 1
        return flight

    async def _wait(self, flight: _Flight) -> Any:
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                flight.task.cancel()
                self._forget(flight)  # who asks now starts anew
                # A cancelled caller does not go on before the container is gone; bounded, or a stuck
                # unmount would hang the session.
                await settled(flight.task, within_s=CANCEL_LIMIT_S)

    def _forget(self, flight: _Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _landed(self, flight: _Flight, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._forget(flight)
        if not task.cancelled():
            task.exception()  # read here, so that a failure nobody waits for any more is not logged


def _stored(result: ExecResult) -> StoredResult:
    blobs = (result.stdout, result.stderr, result.combined)
    data = {
        "exit_code": result.exit_code,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "combined": result.combined,
    }
    return StoredResult(trees={m: s.id for m, s in result.trees.items()}, data=data, blobs=blobs)
