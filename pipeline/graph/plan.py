"""The graph of stages, checked as a whole, and the plan: what of it is wanted, and why the rest is not.

Leaves the order of starting to `decide`, and what is already known (cached) to `run` and `forecast`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pipeline.errors import RefusedByPolicy, UsageError
from pipeline.graph.annotations import mismatch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pipeline.graph.stage import AnyStage


NOT_SELECTED: Final = "not selected"


class GraphError(UsageError):
    """The stages do not make a graph; `problems` holds every sentence."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            text = f"cannot build the graph: {self.problems[0]}"
        else:
            text = f"cannot build the graph: {len(self.problems)} problems"
            text += "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(text)


class SelectionError(UsageError):
    """What was asked for is not in the graph, or contradicts itself."""


class EffectRefused(RefusedByPolicy):
    """An effect was asked for without an environment."""

    def __init__(self, names: Sequence[str]) -> None:
        listed = ", ".join(f"`{name}`" for name in names)
        super().__init__(f"cannot run {listed}: an effect needs an explicit environment")
        self.names = tuple(names)
        self.hint = "name one with --env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What one stage waits for inside a graph, each in definition order."""

    needs: tuple[str, ...] = ()  # results it cannot do without
    optional: tuple[str, ...] = ()  # results it takes when they are there
    after: tuple[str, ...] = ()  # order only

    @property
    def all(self) -> tuple[str, ...]:
        """Every stage waited for, once."""
        return tuple(dict.fromkeys((*self.needs, *self.optional, *self.after)))


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One stage of the plan; `why` says why it is in or, for a skipped one, why not."""

    stage: AnyStage
    links: Links  # to the stages of the plan that are not skipped
    skipped: bool = False
    chosen: bool = True  # False: only there because a chosen stage needs it
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages of a run in topological order, skipped ones included."""

    rows: Mapping[str, Planned]
    graph: Graph = field(repr=False)

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the stages that are not skipped, in order."""
        return tuple(name for name, row in self.rows.items() if not row.skipped)

    def effects(self) -> tuple[str, ...]:
        """Names of the effects that would run, in order."""
        return tuple(name for name in self.active if self.rows[name].stage.effect)


class Graph:
    """Checked stages in topological order (stable: definition order where the needs leave a choice).

    Raises:
        GraphError: Duplicates, unknown needs, mismatched annotations and cycles, all in one error.
    """

    def __init__(self, stages: Iterable[AnyStage]) -> None:
        listed = list(stages)
        self.stages: dict[str, AnyStage] = {}
        problems = _duplicates(listed)
        for one in listed:
            self.stages.setdefault(one.name, one)
        self.links = {name: _links(one, self.stages) for name, one in self.stages.items()}
        problems += _unknown(self.stages)
        problems += _mismatches(self.stages)
        self.order = _topological(self.links)
        if len(self.order) < len(self.stages):
            problems.append(_cycle(self.links, self.order))
        if problems:
            raise GraphError(problems)

    def select(
        self,
        *,
        only: Sequence[str] = (),
        from_: Sequence[str] = (),
        until: Sequence[str] = (),
        skip: Sequence[str] = (),
        failed: Collection[str] | None = None,
        tags: Sequence[str] = (),
        affected: Collection[str] | None = None,
        environment: str = "",
        unaffected_why: str = "nothing it depends on changed",
    ) -> Plan:
        """Choose stages; what the chosen ones need comes along (from the stage cache, or by running).

        Without any choice all stages are chosen. `only`: these. `from_`: these and all that depend on
        them. `until`: these and all they wait for. `failed`: as `from_`, and an empty one chooses nothing.
        `tags`: stages with one of these tags. Several kinds together choose what every kind chooses.
        `affected` (of `--since`) drops the others. A stage needed by a chosen one (by data, not by
        `after`) stays, with `chosen=False`.

        `skip` wins: a skipped stage is out, those that cannot do without its result are skipped with it
        (the reason names it), those only `after` it or with a default go on without it. A skip that takes
        out a stage named in `only`, `from_` or `until` is an error. Without an `environment` effects are
        skipped, with all that need them; one that is named is refused.

        Raises:
            SelectionError: An unknown name or tag, or a skip that contradicts a choice.
            EffectRefused: An effect is named in `only` or `from_` and there is no environment.
        """
        named = {"--only": only, "--from": from_, "--until": until, "--skip": skip}
        _check_names(named, self.order)
        chosen = self._chosen(only, from_, until, failed, tags)
        whys = dict.fromkeys((name for name in self.order if name not in chosen), NOT_SELECTED)
        if affected is not None:
            whys.update((name, unaffected_why) for name in sorted(chosen - set(affected)))
            chosen &= set(affected)
        kept = self._with_needs(chosen)
        out = {name: why for name, why in whys.items() if name not in kept}
        out |= self._out(kept, skip, environment, explicit=(*only, *from_))
        blocked = [name for name in (*only, *from_, *until) if name in out and out[name] != NOT_SELECTED]
        if blocked and affected is None:
            raise SelectionError(f"cannot select `{blocked[0]}`: {out[blocked[0]]}")
        return self._plan(chosen, out)

    def _chosen(
        self,
        only: Sequence[str],
        from_: Sequence[str],
        until: Sequence[str],
        failed: Collection[str] | None,
        tags: Sequence[str],
    ) -> set[str]:
        chosen = set(self.order)
        if only:
            chosen &= set(only)
        if from_:
            chosen &= self.dependants(from_)
        if until:
            chosen &= self.ancestors(until)
        if failed is not None:
            chosen &= self.dependants(name for name in failed if name in self.stages)
        if tags:
            known = sorted({tag for one in self.stages.values() for tag in one.tags})
            for tag in tags:
                if tag not in known:
                    raise SelectionError(f"cannot select tag `{tag}`: no stage has it{_suggest(tag, known)}")
            chosen &= {name for name, one in self.stages.items() if set(one.tags) & set(tags)}
        return chosen

    def dependants(self, names: Iterable[str]) -> set[str]:
        """These stages and all that wait for them, directly or not."""
        found = set(names)
        for name in self.order:
            if found.intersection(self.links[name].all):
                found.add(name)
        return found

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """These stages and all they wait for, directly or not."""
        found = set(names)
        for name in reversed(self.order):
            if name in found:
                found.update(self.links[name].all)
        return found

    def _with_needs(self, chosen: Collection[str]) -> set[str]:
        kept = set(chosen)
        for name in reversed(self.order):
            if name in kept:
                kept.update(self.links[name].needs, self.links[name].optional)
        return kept

    def _out(
        self, kept: Collection[str], skip: Sequence[str], environment: str, *, explicit: Sequence[str]
    ) -> dict[str, str]:
        out = dict.fromkeys(skip, "skipped on request")
        if not environment:
            refused = [name for name in self.order if name in explicit and self.stages[name].effect]
            if refused:
                raise EffectRefused(refused)
            for name in self.order:
                if self.stages[name].effect and name in kept:
                    out.setdefault(name, "an effect needs an environment (--env)")
        for name in self.order:
            missing = next((need for need in self.links[name].needs if need in out), None)
            if name in kept and name not in out and missing is not None:
                out[name] = f"needs `{missing}`, which is skipped"
        return out

    def _plan(self, chosen: Collection[str], out: Mapping[str, str]) -> Plan:
        # A need that only served stages that are skipped after all is not needed any more.
        kept = self._with_needs({name for name in chosen if name not in out}) - out.keys()
        rows = {}
        for name in self.order:
            links = self.links[name]
            here = Links(
                needs=tuple(n for n in links.needs if n in kept),
                optional=tuple(n for n in links.optional if n in kept),
                after=tuple(n for n in links.after if n in kept),
            )
            row = Planned(stage=self.stages[name], links=here, chosen=name in chosen)
            if name not in kept:
                row = replace(row, skipped=True, why=out.get(name, "only stages that are skipped need it"))
            elif name not in chosen:
                user = next(n for n in self.order if n in kept and name in self.links[n].all)
                row = replace(row, why=f"`{user}` needs it")
            rows[name] = row
        return Plan(rows=rows, graph=self)


def _duplicates(stages: Sequence[AnyStage]) -> list[str]:
    first: dict[str, AnyStage] = {}
    problems = []
    for one in stages:
        other = first.setdefault(one.name, one)
        if other is not one:
            problems.append(f"two stages are named `{one.name}`: {other.where} and {one.where}")
    return problems


def _links(one: AnyStage, stages: Mapping[str, AnyStage]) -> Links:
    return Links(
        needs=tuple(need.name for need in one.needs if need.required and need.name in stages),
        optional=tuple(need.name for need in one.needs if not need.required and need.name in stages),
        after=tuple(name for name in one.after if name in stages),
    )


def _unknown(stages: Mapping[str, AnyStage]) -> list[str]:
    problems = []
    for one in stages.values():
        for need in one.needs:
            if need.required and need.name not in stages:
                hint = _suggest(need.name, stages)
                problems.append(f"`{one.name}` needs `{need.name}`, which is no stage{hint} ({one.where})")
        for name in one.after:
            if name not in stages:
                hint = _suggest(name, stages)
                problems.append(f"`{one.name}` comes after `{name}`, which is no stage{hint} ({one.where})")
    return problems


def _mismatches(stages: Mapping[str, AnyStage]) -> list[str]:
    problems = []
    for one in stages.values():
        for need in one.needs:
            other = stages.get(need.name)
            if other is not None and (wrong := mismatch(one.function, need.name, other.function)):
                expected, returned = wrong
                problems.append(
                    f"`{one.name}` takes `{need.name}` as `{expected}` ({one.where}), "
                    f"but `{need.name}` returns `{returned}` ({other.where})"
                )
    return problems


def _topological(links: Mapping[str, Links]) -> tuple[str, ...]:
    """Kahn's algorithm; of the stages that are ready the one defined first goes first."""
    import heapq

    position = {name: index for index, name in enumerate(links)}
    names = list(links)
    waiting = {name: len(link.all) for name, link in links.items()}
    users: dict[str, list[str]] = {name: [] for name in links}
    for name, link in links.items():
        for other in link.all:
            users[other].append(name)
    ready = [position[name] for name in names if waiting[name] == 0]
    order = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for user in users[name]:
            waiting[user] -= 1
            if waiting[user] == 0:
                heapq.heappush(ready, position[user])
    return tuple(order)


def _cycle(links: Mapping[str, Links], order: Collection[str]) -> str:
    left = [name for name in links if name not in order]
    path = [left[0]]
    while True:
        # Every stage left waits for another one that is left, so this walk must come back to itself.
        step = next(name for name in links[path[-1]].all if name in left)
        if step in path:
            loop = [*path[path.index(step) :], step]
            return "stages wait for each other: " + " → ".join(reversed(loop))
        path.append(step)


def _check_names(named: Mapping[str, Sequence[str]], known: Collection[str]) -> None:
    for option, names in named.items():
        for name in names:
            if name not in known:
                raise SelectionError(f"cannot use `{option} {name}`: no such stage{_suggest(name, known)}")


def _suggest(name: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
