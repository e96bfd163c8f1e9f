"""What happened between two directories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.engine.actions import OnConflict
    from pipeline.engine.files import Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Changeset:
    """Two directories, compared when something is asked."""

    before: Directory
    after: Directory

    def merged(self, others: Sequence[Changeset], on_conflict: OnConflict) -> Changeset:
        """Return this with the changes of others, over all that any of them began with, `.git` apart."""
        if not others:
            return self
        before = self.before
        for other in others:
            if other.before != self.before:
                before = before.with_directory("/", other.before)
        before = before.without([".git"])
        # A `.git` directory is no content: git itself would not let it in.
        pairs = [(c.before.without([".git"]), c.after.without([".git"])) for c in (self, *others)]
        return Changeset(before=before, after=before.merged(pairs, on_conflict))
