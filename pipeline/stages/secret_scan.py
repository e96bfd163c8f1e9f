"""`secret_scan`: secrets in the working tree, the change's commits, the built images and the run's logs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pipeline.graph.context import Context  # noqa: TC001 - read when the graph is checked
from pipeline.graph.stage import stage
from pipeline.stages.results import Findings, Images, Source  # noqa: TC001 - read when the graph is checked

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from pipeline.scan.scanner import Scan
    from pipeline.scan.secrets.report import Located

KINDS: Final = frozenset({"secret"})
CLEAN: Final = "clean.txt"  # the note: digest of the rules, then what they found nothing in
MOST_CLEAN: Final = 20_000  # commits and layers that are remembered


@dataclass(kw_only=True)
class Looked:
    """What was looked at, and what was found there."""

    scans: list[Scan] = field(default_factory=list)
    found: list[Located] = field(default_factory=list)
    clean: set[str] = field(default_factory=set)  # commits and layers without a secret

    def add(self, scan: Scan, found: Sequence[Located], clean: Collection[str] = ()) -> None:
        """Take a scanner's answer; findings are made in the end, when all places of a secret are known."""
        self.scans.append(scan)
        self.found += found
        self.clean.update(clean)


@stage(timeout_s=1800, despite=["container_build"])
async def secret_scan(ctx: Context, checkout: Source, container_build: Images | None = None) -> Findings:
    """Find secrets in files, commits, image layers and logs; no report holds one."""
    import anyio.to_thread

    from pipeline.scan.secrets.report import GITLEAKS, IMAGE
    from pipeline.stages.scanning import absent_scans, conclude
    from pipeline.stages.standing import value_now

    images = [(one.name, ctx.path(one.archive)) for one in container_build.images] if container_build else []
    base = _base(ctx) if ctx.commit else None
    known = _known_clean(ctx)
    program = f"program {GITLEAKS}"  # once it is installed, it is asked too
    ctx.depend_on(program, value_now(ctx.root, program) or "")
    names = ctx.input_files()
    looked = await anyio.to_thread.run_sync(look, ctx.root, names, base, images, _logs(ctx), known)
    _remember_clean(ctx, known, looked.clean)
    scans = [*scans_of(looked, ctx.root), *absent_scans(ctx, IMAGE, "layers")]
    return conclude(ctx, scans, kinds=KINDS)


def look(
    root: Path,
    names: Sequence[str],
    base: str | None,
    images: Sequence[tuple[str, Path]],
    logs: Sequence[tuple[str, Path]],
    known_clean: frozenset[str],
) -> Looked:
    """Look everywhere, one place after the other.

    Args:
        base: What the change is compared with; "" for all commits, None where there is no git.
        images: Names and archives.
        logs: Names and files.
        known_clean: Commits and layers that need no second look.
    """
    from pipeline.scan.secrets.gitleaks import find_gitleaks, scan_with_gitleaks
    from pipeline.scan.secrets.sources import (
        look_at_commits,
        look_at_images,
        look_at_logs,
        look_at_tree,
    )

    looked = Looked()
    looked.add(*look_at_tree(root, names))
    if base is not None:
        looked.add(*look_at_commits(root, base, known_clean))
    if images:
        looked.add(*look_at_images(images, known_clean))
    if logs:
        looked.add(*look_at_logs(logs))
    if (program := find_gitleaks()) is not None:
        looked.add(*scan_with_gitleaks(program, root, frozenset(names)))
    return looked


def scans_of(looked: Looked, root: Path) -> list[Scan]:
    """The answers with their findings."""
    from pipeline.scan.secrets.gitleaks import merge_hits
    from pipeline.scan.secrets.report import GITLEAKS, findings_of, key_of

    own = [one for one in looked.found if one.scanner != GITLEAKS]
    others = [one for one in looked.found if one.scanner == GITLEAKS]
    findings = findings_of(merge_hits(own, others), key_of(root))
    return [replace(scan, findings=tuple(findings.get(scan.scanner, ()))) for scan in looked.scans]


def _base(ctx: Context) -> str:
    """The commit the change starts from; "" when nobody can tell, and then every commit is looked at.

    On the branch that changes go to, the change is the last commit, with all that it merged.
    """
    from pipeline.graph.inputs import GitFailed, git
    from pipeline.stages.standing import value_now

    base = value_now(ctx.root, "base") or ""
    ctx.depend_on("base", base)
    if base != ctx.commit:
        return base
    try:
        found = git(
            ctx.root, "rev-parse", "--verify", "--quiet", "HEAD^", what="find the last commit's parent"
        )
    except GitFailed:
        return ""  # the first commit has none
    return found.decode().strip()


def _logs(ctx: Context) -> list[tuple[str, Path]]:
    """The logs that other stages of this run have written so far, by the stage's name."""
    folder = ctx.root / ".pipeline" / "runs" / ctx.run_id / "stages"
    logs = sorted(folder.glob("*/log.txt"))
    return [(path.parent.name, path) for path in logs if path.parent.name != ctx.stage]


def _known_clean(ctx: Context) -> frozenset[str]:
    """The commits and layers that these very rules found nothing in."""
    from pipeline.scan.secrets.engine import rules_digest

    lines = (ctx.recall(CLEAN) or b"").decode("ascii", "replace").split()
    return frozenset(lines[1:]) if lines[:1] == [rules_digest()] else frozenset()


def _remember_clean(ctx: Context, known: frozenset[str], clean: Collection[str]) -> None:
    from pipeline.scan.secrets.engine import rules_digest

    kept = [*sorted(clean), *sorted(known.difference(clean))][:MOST_CLEAN]
    ctx.remember(CLEAN, "\n".join([rules_digest(), *kept]).encode())
