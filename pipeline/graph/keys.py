"""The key of a stage, in parts, so that a difference can be named down to a file."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pipeline.digest import Digest, digest_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.graph.inputs import ProjectFiles
    from pipeline.graph.stage import AnyStage

How = Literal["added", "removed", "changed"]
LABELS: dict[str, str] = {
    "code": "code",
    "options": "option",
    "inputs": "input",
    "needs": "need",
    "facts": "setting",
    "observed": "used",
}


@dataclass(frozen=True, kw_only=True)
class KeyParts:
    """Everything a stage's result depends on; each mapping holds name to digest or short text."""

    stage: str
    version: str
    code: Mapping[str, str]
    options: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    observed: Mapping[str, str] = field(default_factory=dict)  # known only after a run

    @cached_property
    def base(self) -> Digest:
        """The digest of all that is known before the stage runs: finds the stored entry."""
        return digest_json({**self.plain(), "observed": {}})

    @cached_property
    def key(self) -> Digest:
        """The digest of all parts: what dependants' keys hold."""
        return digest_json(self.plain())

    def plain(self) -> dict[str, Any]:
        """The parts as JSON can hold them."""
        return {
            "stage": self.stage,
            "version": self.version,
            "code": dict(self.code),
            "options": dict(self.options),
            "inputs": dict(self.inputs),
            "needs": dict(self.needs),
            "secrets": list(self.secrets),
            "facts": dict(self.facts),
            "observed": dict(self.observed),
        }


def parts_from_plain(data: Mapping[str, Any]) -> KeyParts:
    """The parts `plain` wrote.

    Raises:
        TypeError, KeyError: They are not of this version's shape.
    """
    return KeyParts(**{**data, "secrets": tuple(data["secrets"])})


def parts_of(
    stage: AnyStage,
    *,
    code: Mapping[str, str],
    files: ProjectFiles,
    needs: Mapping[str, str],
    options: Mapping[str, Any],
    facts: Mapping[str, str],
) -> KeyParts:
    """The parts of `stage`'s key that are known before it runs.

    Args:
        code: What `code_of` said of its function before anything ran.
        needs: The keys of its needs, transparent ones left out.
        options: The options in force, declared ones included.
        facts: What every result depends on besides: platform, engine kind.
    """
    from pipeline import __version__

    return KeyParts(
        stage=stage.name,
        version=f"{__version__} python{sys.version_info[0]}.{sys.version_info[1]}",
        code=code,
        options={name: _option_text(value) for name, value in sorted(options.items())},
        inputs=files.matching(stage.inputs),
        needs=dict(sorted(needs.items())),
        secrets=tuple(sorted(stage.secrets)),
        facts=dict(sorted(facts.items())),
    )


def _option_text(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=repr)
    return text if len(text) <= 100 else str(digest_json(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two keys."""

    part: str
    name: str
    how: How

    def __str__(self) -> str:
        """The difference as people say it."""
        if self.part == "version":
            return f"pipeline or Python is another version ({self.name})"
        if self.part == "secrets":
            return "the names of its secrets changed"
        if self.part == "needs":
            return f"`{self.name}` changed" if self.how == "changed" else f"need `{self.name}` {self.how}"
        return f"{LABELS[self.part]} `{self.name}` {self.how}"


def explain(before: KeyParts | None, now: KeyParts) -> tuple[Change, ...]:
    """Every difference between the last stored key and this one, inputs first; empty without a last one."""
    if before is None:
        return ()
    changes = []
    if before.version != now.version:
        name = f"{before.version} to {now.version}"
        changes.append(Change(part="version", name=name, how="changed"))
    for part in ("inputs", "code", "options", "needs", "facts", "observed"):
        old: Mapping[str, str] = getattr(before, part)
        new: Mapping[str, str] = getattr(now, part)
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                how: How = "added" if name not in old else "removed" if name not in new else "changed"
                changes.append(Change(part=part, name=name, how=how))
    if before.secrets != now.secrets:
        changes.append(Change(part="secrets", name="", how="changed"))
    return tuple(changes)


def say(changes: tuple[Change, ...], *, most: int = 3) -> str:
    """The first `most` changes as one clause, and how many more there are."""
    text = ", ".join(str(change) for change in changes[:most])
    return text if len(changes) <= most else f"{text} and {len(changes) - most} more"
