"""How tests run in containers: what goes in, side by side and once more, and what came out.

What the containers' answers come to is in `outcomes`, how it is told in `told`, what proves a report in
`notes`.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.coverage import add_coverage, located, parse_coverage, write_coverage
from pipeline.graph.settings import usable_cpus
from pipeline.junit import FLAKY, JUnitUnreadable, read_junit, write_junit
from pipeline.stages.containers import SOURCE, StageBroken
from pipeline.stages.files import files_of
from pipeline.stages.notes import check_shards, parse_notes
from pipeline.stages.outcomes import Ran, add_up, error_of, first_bad, ids_of, seconds_of, without_ids
from pipeline.stages.past_tests import NOTE, PastRun, PastTests, parse_past, write_past
from pipeline.stages.results import TestReport
from pipeline.stages.testing import GUARDED, REPORTS
from pipeline.stages.told import test_name
from pipeline.text import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import dagger

    from pipeline.graph.context import Artifact, Context
    from pipeline.junit import TestResults

NOTES: Final = f"{REPORTS}/.notes"
PLUGIN: Final = "/opt/pipeline"
TAIL_LINES: Final = 200  # of each stream of a runner that broke
MOST_KEPT_BYTES: Final = 4 << 30  # of one file beside the reports
FLAKY_TOLD: Final = 20
SHARD_S: Final = 20.0  # "auto" makes no shard shorter than this
KILLED: Final = 125
# A command that a signal ends would take its container, and all that was noted, with it.
GUARD: Final = f"""\
"$@"
code=$?
[ "$code" -lt 128 ] && exit "$code"
echo "$code" > {NOTES}/killed
exit {KILLED}
"""
# What runs the tests may be something else than pytest, which the plugin of that name would not reach.
LOCALHOST: Final = '[ -z "$PIPELINE_LOCALHOST" ] || python -m pipeline_localhost || exit 1\n'
# Among the installed packages coverage does not measure it, and no variable that tests see has to name it.
PUT_PLUGIN: Final = f"""\
place=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp {PLUGIN}/pipeline_watch.py "$place/" || exit 1
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The container and the command that all containers of a stage's tests start from."""

    ctx: Context
    container: dagger.Container
    argv: tuple[str, ...]

    @property
    def is_pytest(self) -> bool:
        """Whether single tests can be chosen and watched."""
        return self.argv[:3] == ("python", "-m", "pytest")


async def run(ctx: Context, container: dagger.Container, argv: Sequence[str]) -> TestReport:
    """As `testing.run_tests`, which says it all."""
    job = await new_job(ctx, container, argv)
    past = parse_past(ctx.recall(NOTE))
    ran = await run_shards(job, past)
    again = await run_again(job, ran)
    results = add_up(ran, again, past, ctx.key)
    junit = keep_junit(ctx, ran, results)
    error = error_of(job.argv, ran, results)
    if error is None:
        for one in ran:
            one.check()
    if job.is_pytest and all(one.is_complete for one in ran):
        ctx.remember(NOTE, write_past(past.with_run(past_run(ctx, results, ran), seconds_of(ran))))
    if error is not None:
        raise error
    flaky = tell_flaky(ctx, results)
    coverage, rate = keep_coverage(ctx, [*ran, *again])
    covered = f", {rate:.0%} of lines covered" if rate is not None else ""
    ctx.log(f"{some(results.tests, 'test')}, {results.skipped} skipped{covered}\n")
    return TestReport(
        tests=results.tests,
        skipped=results.skipped,
        duration_s=results.duration_s,
        junit=junit,
        coverage=coverage,
        line_rate=rate,
        flaky=flaky,
    )


async def new_job(ctx: Context, container: dagger.Container, argv: Sequence[str]) -> Job:
    """Return what the tests' containers start from.

    Raises:
        StageBroken: Settings ask for what only pytest can do.
    """
    client = await ctx.dagger()
    # A test that runs is never answered from the engine's cache: whether it has to run was decided by
    # the stage's key, and a failure must be tried anew when it is asked for again.
    container = container.with_env_variable("PIPELINE_RUN", f"{ctx.run_id}.{ctx.attempt}")
    container = container.with_directory(NOTES, client.directory()).with_new_file(
        f"{PLUGIN}/guard", LOCALHOST + GUARD
    )
    job = Job(ctx=ctx, container=container, argv=tuple(argv))
    wants = [name for name in ("shards", "rerun_failed") if ctx.options.get(name)]
    if not job.is_pytest:
        if wants:
            raise StageBroken(f"cannot honour `{wants[0]}`: the tests are not run by `python -m pytest`")
        return job
    plugin = Path(__file__).with_name("watch.py").read_text(encoding="utf-8")
    container = container.with_new_file(f"{PLUGIN}/pipeline_watch.py", plugin)
    return replace(job, container=container.with_new_file(f"{PLUGIN}/guard", PUT_PLUGIN + GUARD))


async def run_shards(job: Job, past: PastTests) -> list[Ran]:
    """Run the tests side by side in as many containers as the settings say.

    Raises:
        TestsLost: The shards together are not what was collected.
    """
    import anyio

    count = shard_count(job.ctx.options.get("shards"), past)
    ran: dict[int, Ran] = {}

    async def run_shard(share: int) -> None:
        select: dict[str, Any] = {}
        if count > 1:
            select = {"share": share, "of": count, "known_s": dict(past.seconds)}
        ran[share] = await run_one(job, f"shard {share + 1}" if count > 1 else "", select)

    async with anyio.create_task_group() as tasks:
        for share in range(count):
            tasks.start_soon(run_shard, share)
    in_order = [ran[share] for share in range(count)]
    notes = [one.notes for one in in_order if one.notes is not None]
    if notes and all(one.is_complete for one in in_order):
        check_shards(notes)
    if count > 1:
        shares = ", ".join(
            f"{some(len(one.chosen), 'test')} of {sum(one.seconds.values()):.1f} s" for one in notes
        )
        job.ctx.log(f"{count} shards: {shares}\n")
    return in_order


def shard_count(wanted: object, past: PastTests) -> int:
    """Return in how many shards to run: "auto" is one for each CPU, unless they would be very short."""
    if wanted != "auto":
        return int(str(wanted or 1))
    worth = max(int(sum(past.seconds.values()) // SHARD_S), 1) if past.seconds else usable_cpus()
    return min(usable_cpus(), worth)


async def run_again(job: Job, ran: Sequence[Ran]) -> list[Ran]:
    """Run the failed tests again, and only those, each time in a fresh container.

    Nothing is repeated where more is broken than single tests.
    """
    times = int(job.ctx.options.get("rerun_failed", 0))
    if not all(one.can_be_repeated() or one.chose_none for one in ran):
        return []
    failing = set(first_bad(ran))
    again: list[Ran] = []
    while failing and len(again) < times:
        job.ctx.log(f"running {some(len(failing), 'failed test')} again ({len(again) + 1} of {times})\n")
        one = await run_one(job, f"rerun {len(again) + 1}", {"only": sorted(failing)})
        if not one.can_be_repeated():
            break
        again.append(one)
        failing -= {test for test, case in one.cases().items() if case.kind == "passed"}
    return again


async def run_one(job: Job, label: str, select: Mapping[str, Any]) -> Ran:
    """Run the tests in one container, keep what they left beside reports, and return the reports.

    Args:
        label: Of this container among those of the stage; "" when it is the only one.
        select: Which tests to run, as `watch.wanted` reads it.
    """
    import dagger

    container, argv = job.container, list(job.argv)
    if job.is_pytest:
        asked = json.dumps({**select, "notes": NOTES})
        container = container.with_new_file(f"{PLUGIN}/select.json", asked)
        container = container.with_env_variable("PIPELINE_SELECT", f"{PLUGIN}/select.json")
        argv[3:3] = ["-p", "pipeline_watch"]
    container = container.with_env_variable("PIPELINE_PART", label)
    ran = container.with_exec([*GUARDED, *argv], expect=dagger.ReturnType.ANY)
    try:
        code = await ran.exit_code()
    except dagger.ExecError as error:  # it took the guard with it: nothing is left but its last words
        tail = (error.stdout + error.stderr).splitlines()[-TAIL_LINES:]
        return Ran(code=error.exit_code, tail=tuple(tail))
    with tempfile.TemporaryDirectory() as folder:
        await ran.directory(REPORTS).export(folder)
        left = read_left(job, code, files_of(Path(folder)), label)
    return left if left.is_complete else replace(left, tail=await last_lines(ran))


def read_left(job: Job, code: int, files: Mapping[str, Path], label: str) -> Ran:
    """Read the reports that a container left; what is none is kept as it is."""
    notes = {name: path for name, path in files.items() if name.startswith(".notes/")}
    killed = notes.pop(".notes/killed", None)
    if code == KILLED and killed is not None:
        said = killed.read_text("ascii", "replace").strip()
        code = int(said) if said.isdecimal() and 128 <= int(said) <= 255 else code
    results, problem = None, ""
    if "junit.xml" in files:
        try:
            results = read_junit(files["junit.xml"])
        except JUnitUnreadable as error:
            problem = f"its report cannot be read: {error.what}"
    folder = f"{label.replace(' ', '-')}/" if label else ""
    for name, path in files.items():
        is_report = name == "coverage.xml" or (name == "junit.xml" and results is not None)
        if name.startswith(".notes/") or is_report:
            continue
        if path.stat().st_size > MOST_KEPT_BYTES:
            job.ctx.log(f"{name} is not kept: it has more than {MOST_KEPT_BYTES >> 30} GiB\n")
        else:
            job.ctx.keep(f"{folder}{name}", path)
    coverage = files["coverage.xml"].read_bytes() if "coverage.xml" in files else None
    left = Ran(code=code, results=results, problem=problem, coverage=coverage)
    if job.is_pytest:
        texts = [path.read_text("utf-8", "replace") for path in notes.values()]
        return replace(left, notes=parse_notes(texts))
    return left if results is None else replace(left, report=files["junit.xml"].read_bytes())


async def last_lines(ran: dagger.Container) -> tuple[str, ...]:
    """The last lines a command wrote, standard error last; none where it wrote more than an answer takes."""
    import dagger

    lines: list[str] = []
    for read in (ran.stdout, ran.stderr):
        try:
            lines += (await read()).splitlines()[-TAIL_LINES:]
        except dagger.QueryError:  # hundreds of megabytes: the log has the end of them
            continue
    return tuple(lines)


def past_run(ctx: Context, results: TestResults, ran: Sequence[Ran]) -> PastRun:
    """What later runs should know of this one."""
    flaky = ids_of(results.flaky)
    return PastRun(run_id=ctx.run_id, key=ctx.key, tests=results.tests, bad=first_bad(ran), flaky=flaky)


def keep_junit(ctx: Context, ran: Sequence[Ran], results: TestResults) -> Artifact | None:
    """Keep the report of all tests; that of another runner than pytest is kept as it wrote it."""
    if ran[0].report is not None:
        return ctx.keep("junit.xml", ran[0].report)
    return ctx.keep("junit.xml", write_junit({ctx.stage: without_ids(results)})) if results.cases else None


def tell_flaky(ctx: Context, results: TestResults) -> tuple[str, ...]:
    """Flag the stage as flaky when a test is, and name those that are."""
    names = tuple(test_name(case) for case in results.flaky)
    for name, case in list(zip(names, results.flaky, strict=True))[:FLAKY_TOLD]:
        ctx.note_flaky(f"{name} {case.properties.get(FLAKY, 'passed when it was tried again')}")
    if len(names) > FLAKY_TOLD:
        ctx.note_flaky(f"and {len(names) - FLAKY_TOLD} more tests")
    return names


def keep_coverage(ctx: Context, ran: Sequence[Ran]) -> tuple[Artifact | None, float | None]:
    """Keep what all containers measured as one file; also the share of covered lines, 0 to 1.

    Raises:
        CoverageUnreadable: A file is no Cobertura XML.
    """
    measured = [parse_coverage(one.coverage) for one in ran if one.coverage is not None]
    if not measured:
        return None, None

    def known(name: str) -> bool:
        return (ctx.root / name).is_file()

    whole = add_coverage([located(one, SOURCE, known) for one in measured])
    return ctx.keep("coverage.xml", write_coverage(whole)), whole.line_rate
