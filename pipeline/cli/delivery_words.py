"""How plans and ends of deployments are written, for people at 80 columns and as JSON of a stable shape."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.cli.output import table, write, write_json
from pipeline.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.deploy.outcome import Result, Told
    from pipeline.deploy.release import Release
    from pipeline.deploy.steps import Step
    from pipeline.deploy.target import Deployment

WIDTH: Final = 79
INTERRUPTED: Final = "it was interrupted"


def line_of(told: Told) -> str:
    """Return the line people read; "" for what needs none."""
    from pipeline.report.words import duration

    match told.what:
        case "open":
            return f"deployment {told.deployment}: {told.text}"
        case "done":
            reason = str(told.numbers.get("reason") or "")
            return f"  {told.step:<14} {duration(told.seconds):>6}  {reason}".rstrip()
        case "failed":
            return f"  {told.step:<14} failed: {told.text}"
        case "undo":
            return f"  undoing {told.step}"
        case "stuck":
            return f"  cannot undo {told.step}: {told.text}"
        case "warn":
            return f"  warning: {told.text}"
        case "wait":
            return told.text
        case _:
            return ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a deployment would do now, and what stands in its way."""

    deployment: Deployment
    steps: Sequence[Step]
    digest: str
    refused: str = ""
    exit_code: int = EXIT_OK

    def as_table(self) -> dict[str, Any]:
        """The plan as JSON: what an approval is given for."""
        new, old = self.deployment.new, self.deployment.old
        return {
            "environment": self.deployment.environment.name,
            "release": new.id,
            "version": new.version,
            "commit": new.commit,
            "old": old.id if old is not None else "",
            "images": {name: one.image_digest for name, one in new.services.items()},
            "changes": changes(old, new),
            "strategy": self.deployment.environment.deploy.strategy,
            "steps": [step.name for step in self.steps],
            "plan": self.digest,
            "refused": self.refused,
        }


def changes(old: Release | None, new: Release) -> dict[str, list[str]]:
    """Return what differs by service: "image", "settings", "secrets"; or "added", "removed"."""
    before = old.services if old is not None else {}
    found: dict[str, list[str]] = {}
    for name in sorted({*before, *new.services}):
        if name not in before or name not in new.services:
            found[name] = ["added" if name in new.services else "removed"]
            continue
        one, other = before[name], new.services[name]
        pairs = {
            "image": (one.image_digest, other.image_digest),
            "settings": (one.settings, other.settings),
            "secrets": (one.secrets, other.secrets),
        }
        if differ := [key for key, (first, second) in pairs.items() if first != second]:
            found[name] = differ
    return found


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a deployment ended. `result` is None when it was interrupted before it changed anything."""

    environment: str
    result: Result | None

    @property
    def exit_code(self) -> int:
        if self.result is None:
            return EXIT_INTERRUPTED
        was_interrupted = (self.result.reason, self.result.exit_code) == (INTERRUPTED, EXIT_FAILED)
        return EXIT_INTERRUPTED if was_interrupted else self.result.exit_code

    def as_table(self) -> dict[str, Any]:
        """The end as JSON."""
        one = self.result
        return {
            "environment": self.environment,
            "deployment": one.deployment if one else "",
            "outcome": str(one.outcome) if one else "interrupted",
            "release": one.release if one else "",
            "reason": one.reason if one else INTERRUPTED,
            "problems": list(one.problems) if one else [],
            "exit_code": self.exit_code,
        }


def show_plan(plan: Plan, *, as_json: bool) -> int:
    """Write a plan, and return the exit code: that of the refusal, if there is one."""
    if as_json:
        write_json(plan.as_table())
        return plan.exit_code
    new, old = plan.deployment.new, plan.deployment.old
    environment = plan.deployment.environment
    place = f"{environment.name} ({environment.target}, {environment.deploy.strategy})"
    write(f"{title(new)} to {place}")
    write(f"in place of {title(old)}" if old is not None else "the first release there")
    differing = plan.as_table()["changes"]
    rows = [
        (f"  {name}", short_image(one.image), ", ".join(differing.get(name, ["as before"])))
        for name, one in new.services.items()
    ]
    write(table([*rows, *((f"  {name}", "", "removed") for name in differing if name not in new.services)]))
    if old is not None and old.id == new.id:
        write("it is there already: nothing would be done")
    write("steps: " + _wrapped([step.name for step in plan.steps]))
    write(f"plan: {plan.digest}")
    if plan.refused:
        write(f"refused: {plan.refused}")
    return plan.exit_code


def _wrapped(names: Sequence[str]) -> str:
    return textwrap.fill(", ".join(names), WIDTH, initial_indent=" " * 7, subsequent_indent=" " * 7).strip()


def title(release: Release) -> str:
    """Return what people call a release: "r-… 1.2.0"."""
    return f"{release.id} {release.version}".strip()


def short_image(reference: str) -> str:
    """Return a reference with the beginning of its digest."""
    name, _, digest = reference.partition("@")
    return f"{name}@{digest[:19]}"


def show_end(ended: Ended, *, as_json: bool) -> int:
    """Write how a deployment ended, and return its exit code."""
    if as_json:
        write_json(ended.as_table())
        return ended.exit_code
    one = ended.result
    if one is None:
        write(f"{ended.environment}: interrupted; nothing was changed")
        return ended.exit_code
    runs = f"{ended.environment} runs {one.release or 'no single release'}"
    write(f"{one.outcome}: {one.reason}" if one.reason else str(one.outcome))
    for problem in one.problems:
        write(f"  cannot undo {problem}")
    write(runs)
    return ended.exit_code
