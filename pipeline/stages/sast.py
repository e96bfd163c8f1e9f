"""`sast`: what can be seen to be unsafe in the code itself."""

from __future__ import annotations

from pipeline.graph.context import Context, Skip
from pipeline.graph.stage import stage
from pipeline.stages.results import Findings, Source  # noqa: TC001 - read when the graph is checked


@stage(timeout_s=1800)
async def sast(ctx: Context, checkout: Source) -> Findings:
    """Run the static analysers side by side, and judge what they found as one."""
    from pipeline.scan.sast.bandit import Bandit
    from pipeline.scan.sast.ruff import Ruff
    from pipeline.scan.sast.semgrep import Semgrep
    from pipeline.stages.contents import Texts
    from pipeline.stages.looking import run_scanners
    from pipeline.stages.scanning import conclude, read_files

    files = read_files(ctx)
    chosen = set(ctx.config.get("sast", {}).get("scanners", ()))
    known = (Ruff(), Bandit(), Semgrep())
    scanners = [one for one in known if one.name in chosen or not chosen]
    wanted = [one for one in scanners if one.wants(sorted(files))]
    if not wanted:
        raise Skip("the project has no file that a static analyser reads")
    scans = await run_scanners(ctx, wanted, files)
    return conclude(ctx, scans, kinds=frozenset({"sast"}), texts=Texts(files))
