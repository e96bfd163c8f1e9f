"""What the stage cache knows of a plan: which stages are cached, and why the others are not.

Used by a run, and by listings and `explain`, which start nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pipeline.graph.code import code_of
from pipeline.graph.context import observed_config
from pipeline.graph.events import PlannedStage
from pipeline.graph.keys import Change, KeyParts, explain, parts_of, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.digest import Digest
    from pipeline.graph.cache import Entry, StageCache
    from pipeline.graph.inputs import ProjectFiles
    from pipeline.graph.plan import Plan


@dataclass(frozen=True, kw_only=True)
class World:
    """What keys depend on besides the plan and the files."""

    environment: str = ""
    commit: str = ""
    dirty: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # over the declared ones
    facts: Mapping[str, str] = field(default_factory=dict)
    image_digest: Callable[[str], str | None] = lambda name: None
    value_now: Callable[[str], str | None] = lambda name: None  # of what stages named in `depend_on`

    def now(self, observed: str) -> str | None:
        """What a stage would observe now under a name it observed before; None when nobody can tell."""
        kind, _, name = observed.partition(" ")
        match kind:
            case "environment":
                return self.environment
            case "commit":
                return self.commit
            case "dirty":
                return str(self.dirty)
            case "config" if name == "names":
                return ",".join(sorted(self.config))
            case "config":
                return observed_config(self.config, name)
            case "image":
                return self.image_digest(name)
            case "value":
                return self.value_now(name)
            case _:
                return None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is known of one stage before it runs."""

    why: str  # why it runs or, with an entry, that it is cached
    parts: KeyParts | None = None  # None: nothing of this stage is ever stored
    entry: Entry | None = None
    changes: tuple[Change, ...] = ()


class Lookup:
    """Answers for one plan and one state of the files; each stage is looked up once."""

    def __init__(
        self, plan: Plan, files: ProjectFiles, world: World, cache: StageCache | None, *, read: bool = True
    ) -> None:
        self.plan = plan
        self.files = files
        self.world = world
        self.cache = cache
        self.read = read
        self.keys: dict[str, Digest] = {}
        self.untrusted: dict[str, str] = {}  # stages whose results must not be stored, and why
        self._found: dict[str, Found] = {}
        self._after_effect = _after_effects(plan)
        # Taken now: stages may change module-level lists and tables while they run.
        names = () if cache is None else plan.active
        self._code = {name: code_of(plan.rows[name].stage.function) for name in names}

    def look(self, name: str, absent: Mapping[str, str] | None = None) -> Found:
        """What is known of a stage. Its needs must have been looked up, and run if they were not cached.

        Args:
            absent: Needs that ended badly and that it goes without, and how they ended: part of its key.
        """
        found = None if absent else self._found.get(name)
        if found is None:
            found = self._look(name, absent or {})
            self._found[name] = found
            if found.entry is not None:
                self.keys[name] = found.entry.parts.key
        return found

    def forget(self, name: str, why: str) -> Found:
        """Drop a stage's entry that proved useless; it runs for the reason given."""
        known = self._found[name]
        self._found[name] = Found(why=why, parts=known.parts)
        return self._found[name]

    def can_look(self, name: str) -> bool:
        """Whether the keys of all needs are known."""
        return all(need in self.keys for need in self._key_needs(name))

    def options(self, name: str) -> dict[str, Any]:
        """The options in force for a stage."""
        return {**self.plan.rows[name].stage.options, **self.world.options.get(name, {})}

    def distrust(self, name: str) -> str | None:
        """Why a result of this stage must not be stored, if so; also when one it waits for is distrusted."""
        waits = (*self.plan.rows[name].links.all, name)
        return next((self.untrusted[other] for other in waits if other in self.untrusted), None)

    def _key_needs(self, name: str) -> list[str]:
        links = self.plan.rows[name].links
        stages = self.plan.graph.stages
        return [need for need in (*links.needs, *links.optional) if not stages[need].transparent]

    def _look(self, name: str, absent: Mapping[str, str]) -> Found:
        row = self.plan.rows[name]
        if row.stage.effect:
            return Found(why="an effect is never cached")
        if name in self._after_effect:
            return Found(why=f"comes after the effect `{self._after_effect[name]}`")
        if self.cache is None:
            return Found(why="the stage cache is off")
        if (doubt := self.distrust(name)) is not None:
            return Found(why=doubt)
        # An optional need that failed softly, or skipped itself, has no key: as if it were not in the graph.
        optional = set(row.links.optional) - self.keys.keys()
        known = {need: self.keys[need] for need in self._key_needs(name) if need not in optional}
        parts = self._parts(name, {**known, **absent})
        if not self.read:
            return Found(why="cached results are not taken", parts=parts)
        return self._compare(parts, self.cache)

    def own_changes(self, name: str) -> tuple[Change, ...]:
        """What differs from the entry stored last, the keys of needs that are not known aside."""
        last = None if self.cache is None or name not in self._code else self.cache.last(name)
        if last is None:
            return ()
        known = {need: self.keys.get(need, last.needs.get(need, "")) for need in self._key_needs(name)}
        parts = self._parts(name, known)
        seen = {other: self._seen(other, was) for other, was in last.observed.items()}
        return explain(last, with_observed(parts, seen))

    def _parts(self, name: str, needs: Mapping[str, str]) -> KeyParts:
        return parts_of(
            self.plan.rows[name].stage,
            code=self._code[name],
            files=self.files,
            needs=needs,
            options=self.options(name),
            facts=self.world.facts,
        )

    def _compare(self, parts: KeyParts, cache: StageCache) -> Found:
        entry = cache.find(parts.stage, parts.base)
        last = cache.last(parts.stage) if entry is None else entry.parts
        if last is None:
            return Found(why="nothing is stored for it yet", parts=parts)
        seen = {name: self._seen(name, was) for name, was in last.observed.items()}
        changes = explain(last, with_observed(parts, seen))
        if changes:
            return Found(why=say(changes), parts=parts, changes=changes)
        if entry is None:
            return Found(why="its stored result is gone", parts=parts)
        return Found(why="nothing it depends on changed", parts=parts, entry=entry)

    def _seen(self, name: str, was: str) -> str:
        now = self.world.now(name)
        return was if now is None else now


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why one stage would run or not: every difference, and the needs that run before it."""

    action: Literal["run", "cached", "skip"]
    why: str
    changes: tuple[Change, ...] = ()
    running_needs: tuple[str, ...] = ()  # explain these for the rest of the story


def explain_stage(lookup: Lookup, name: str) -> Explanation:
    """Explain one stage of the plan. Starts nothing.

    When a need runs, its new key is not known; the stage's own differences are told all the same.

    Raises:
        KeyError: The plan has no such stage.
    """
    rows = {row.name: row for row in forecast(lookup, {})}
    row = rows[name]
    if row.action == "skip" or lookup.can_look(name):
        changes = () if row.action == "skip" else lookup.look(name).changes
        return Explanation(action=row.action, why=row.why, changes=changes)
    running = tuple(need for need in row.needs if rows[need].action == "run" and need not in lookup.keys)
    changes = lookup.own_changes(name)
    why = ", ".join([row.why, say(changes)] if changes else [row.why])
    return Explanation(action=row.action, why=why, changes=changes, running_needs=running)


def forecast(lookup: Lookup, expected_s: Mapping[str, float]) -> tuple[PlannedStage, ...]:
    """The plan's rows with what would happen to each: run, cached or skip, and why. Starts nothing.

    A stage that needs one that runs is said to run, since its key is not known before.
    """
    rows = []
    running: set[str] = set()
    for name, row in lookup.plan.rows.items():
        links = row.links
        blocked = next((need for need in (*links.needs, *links.optional) if need in running), None)
        action: Literal["run", "cached", "skip"]
        if row.skipped:
            action, why = "skip", row.why
        elif lookup.can_look(name):
            found = lookup.look(name)
            action, why = ("run" if found.entry is None else "cached"), found.why
        else:
            action, why = "run", f"`{blocked}` runs"
        if action == "run" and not row.stage.transparent:
            running.add(name)
        rows.append(
            PlannedStage(
                name=name,
                needs=(*links.needs, *links.optional),
                after=links.after,
                action=action,
                why=why,
                effect=row.stage.effect,
                expected_s=expected_s.get(name),
            )
        )
    return tuple(rows)


def with_observed(parts: KeyParts, observed: Mapping[str, str]) -> KeyParts:
    """The parts of a stage that has run: with what it observed."""
    return replace(parts, observed=dict(sorted(observed.items())))


def _after_effects(plan: Plan) -> dict[str, str]:
    """Stages that wait for an effect, directly or not, and the effect: what they see depends on the world."""
    graph = plan.graph
    found: dict[str, str] = {}
    for name in graph.order:
        for other in graph.links[name].all:
            effect = other if graph.stages[other].effect else found.get(other)
            if effect is not None:
                found.setdefault(name, effect)
    return found
