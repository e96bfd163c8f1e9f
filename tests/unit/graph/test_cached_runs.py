"""Runs with the stage cache: what is taken, what is run again, and why."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import Artifact, CheckFailed, Context, NeedGone, Skip, stage
from pipeline.graph.cache import StageCache
from pipeline.graph.events import Event, RunStarted
from pipeline.graph.history import load_result
from pipeline.graph.inputs import project_files
from pipeline.graph.plan import Graph, Plan
from pipeline.graph.record import RunFolder
from pipeline.graph.run import RunResult, RunSettings, run
from pipeline.graph.settings import nothing_known

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.graph.conftest import Repository

pytestmark = pytest.mark.anyio

ran: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Wheel:
    file: Artifact
    tags: tuple[str, ...] = ()


@stage(transparent=True)
async def checkout(ctx: Context) -> str:
    ran.append("checkout")
    return ctx.commit


@stage(inputs=["src/**"])
async def build(ctx: Context, checkout: str) -> Wheel:
    ran.append("build")
    ctx.remember_image("python:3.12", "sha256:1")
    data = "".join((ctx.root / path).read_text() for path in ctx.input_files())
    return Wheel(file=ctx.keep("dist/a.whl", data), tags=("py3",))


@stage(inputs=["tests/**"])
async def unit(ctx: Context, build: Wheel) -> int:
    ran.append("unit")
    ctx.log(ctx.path(build.file).read_text())
    return len(build.tags)


@stage(inputs=["README.md"])
async def docs(ctx: Context) -> str:
    ran.append("docs")
    return str(ctx.config.get("docs", {}).get("theme"))


GRAPH = Graph([checkout, build, unit, docs])


class Project:
    """A repository with a stage cache; runs plans in it."""

    def __init__(self, repo: Repository) -> None:
        self.repo = repo
        self.cache = StageCache(repo.root.parent / "cache")
        self.events: list[Event] = []

    async def run(self, plan: Plan | None = None, **settings: Any) -> RunResult:
        """Run a plan (of `GRAPH` unless given) in a fresh run folder."""
        ran.clear()
        self.events.clear()
        folder = RunFolder.create(self.repo.root.parent / "runs", time.time())
        chosen = {"cache": self.cache, "handle_signals": False, **settings}
        return await run(
            plan or GRAPH.select(environment="test"),
            RunSettings(root=self.repo.root, folder=folder, **chosen),
            observers=[self.events.append],
        )


@pytest.fixture
def project(repo: Repository) -> Project:
    """The project."""
    return Project(repo)


def cached(result: RunResult) -> list[str]:
    """Stages taken from the cache."""
    return sorted(name for name, event in result.stages.items() if event.cached)


async def test_a_second_run_takes_everything_from_the_cache(project: Project) -> None:
    """Results and kept files are in the new run folder; the plan said so beforehand."""
    first = await project.run()
    second = await project.run()

    assert (first.exit_code, second.exit_code, ran) == (0, 0, [])
    assert cached(second) == ["build", "checkout", "docs", "unit"]
    assert {event.why for event in second.stages.values()} == {"nothing it depends on changed"}
    assert {name: event.key for name, event in first.stages.items()} == {
        name: event.key for name, event in second.stages.items()
    }
    folder = project.repo.root.parent / "runs" / second.run_id
    assert (folder / "stages/build/files/dist/a.whl").read_text() == (
        "content of src/app.py\ncontent of src/lib/a.py\n"
    )
    assert (load_result(folder, "build") or {})["result"]["tags"] == ["py3"]
    started = project.events[0]
    assert isinstance(started, RunStarted)
    assert {row.name: row.action for row in started.stages} == dict.fromkeys(GRAPH.order, "cached")


async def test_what_ran_without_a_bad_need_is_not_taken_for_what_ran_with_it(project: Project) -> None:
    """Nor the other way round; each is taken for itself, its warning included."""

    @stage(inputs=["src/**"])
    async def image(ctx: Context) -> str:
        if (ctx.root / "broken").exists():
            raise CheckFailed("it does not build")
        return "image"

    @stage(inputs=["README.md"], despite=["image"])
    async def scan(ctx: Context, image: str = "") -> str:
        ran.append(f"scan of {image or 'nothing'}")
        return image

    graph = Graph([image, scan])
    warning = ("ran without `image`, which ended in failure",)
    seen = []
    for is_broken in (True, True, False, True, False):
        (project.repo.root / "broken").touch() if is_broken else (project.repo.root / "broken").unlink(True)
        project.repo.write("src/app.py", f"{is_broken}\n")
        result = await project.run(graph.select(), keep_going=True)
        seen.append((list(ran), result.stages["scan"].cached, result.stages["scan"].warnings))

    assert seen == [
        (["scan of nothing"], False, warning),
        ([], True, warning),
        (["scan of image"], False, ()),
        ([], True, warning),
        ([], True, ()),
    ]


async def test_a_changed_file_runs_what_depends_on_it_and_is_named(project: Project) -> None:
    """The transparent checkout runs, but does not make others run."""
    await project.run()
    project.repo.write("src/app.py", "changed\n")

    result = await project.run()

    assert ran == ["checkout", "build", "unit"]
    assert {name: event.why for name, event in result.stages.items()} == {
        "checkout": "input `src/app.py` changed",
        "build": "input `src/app.py` changed",
        "unit": "`build` changed",
        "docs": "nothing it depends on changed",
    }
    started = project.events[0]
    assert isinstance(started, RunStarted)
    assert {row.name: row.why for row in started.stages}["unit"] == "`build` runs"


async def test_a_change_taken_back_is_a_hit(project: Project) -> None:
    """Old entries stay until there is no room."""
    await project.run()
    project.repo.write("src/app.py", "changed\n")
    await project.run()
    project.repo.write("src/app.py", "content of src/app.py\n")

    await project.run()

    assert ran == []


async def test_a_cached_result_is_read_only_when_somebody_needs_it(project: Project) -> None:
    """`unit` runs again on the stored wheel."""
    await project.run()
    project.repo.write("tests/test_a.py", "changed\n")

    result = await project.run()

    assert (ran, cached(result)) == (["checkout", "unit"], ["build", "docs"])
    log = project.repo.root.parent / "runs" / result.run_id / "stages/unit/log.txt"
    assert log.read_text() == "content of src/app.py\ncontent of src/lib/a.py\n"


async def test_a_selected_stage_takes_its_needs_from_the_cache(project: Project) -> None:
    """Or runs them."""
    plan = GRAPH.select(only=["unit"])

    await project.run(plan)
    first = list(ran)
    project.repo.write("tests/test_a.py", "changed\n")
    result = await project.run(plan)

    assert first == ["checkout", "build", "unit"]
    assert cached(result) == ["build"]
    assert ran == ["checkout", "unit"]


async def test_another_image_digest_runs_the_stage_again(project: Project) -> None:
    """Where the lock file says nothing, what was used last time counts."""
    await project.run()

    same = await project.run(image_digest={"python:3.12": "sha256:1"}.get)
    other = await project.run(image_digest={"python:3.12": "sha256:2"}.get)

    assert cached(same) == ["build", "checkout", "docs", "unit"]
    assert other.stages["build"].why == "used `image python:3.12` changed"
    assert ran == ["build", "unit"] or ran == ["build"]


async def test_only_the_configuration_a_stage_read_counts(project: Project) -> None:
    """`docs` read its table; nobody read the other one."""
    await project.run(config={"docs": {"theme": "a"}, "other": 1})

    await project.run(config={"docs": {"theme": "a"}, "other": 2})
    unread = list(ran)
    result = await project.run(config={"docs": {"theme": "b"}, "other": 2})

    assert (unread, ran) == ([], ["docs"])
    assert result.stages["docs"].why == "used `config docs` changed"


async def test_a_value_a_stage_depends_on_counts_where_somebody_can_tell_it(project: Project) -> None:
    """A version made from tags is no file: the stage names it, the run says what it is now."""

    @stage(inputs=())
    async def wheel(ctx: Context) -> str:
        ran.append("wheel")
        ctx.depend_on("version", "1.0")
        return "1.0"

    plan = Graph([wheel]).select()
    await project.run(plan)
    await project.run(plan)
    unknown = list(ran)
    await project.run(plan, value_now={"version": "1.0"}.get)
    same = list(ran)

    result = await project.run(plan, value_now={"version": "2.0"}.get)

    assert (unknown, same, ran) == ([], [], ["wheel"])
    assert result.stages["wheel"].why == "used `value version` changed"


async def test_options_and_facts_count(project: Project) -> None:
    """Options of one stage, facts of all."""
    await project.run()
    await project.run(options={"docs": {"theme": "dark"}})
    by_option = list(ran)
    await project.run(options={"docs": {"theme": "dark"}}, facts={"engine": "other"})

    assert by_option == ["docs"]
    assert sorted(ran) == ["build", "checkout", "docs", "unit"]


async def test_cached_results_need_not_be_taken(project: Project) -> None:
    """`cache_read=False` runs everything and stores it; without a cache nothing is stored."""
    await project.run()
    await project.run(cache_read=False)
    again = sorted(ran)
    await project.run(cache=None)
    off = sorted(ran)
    await project.run()

    assert (again, off, ran) == (sorted(GRAPH.order), sorted(GRAPH.order), [])


async def test_an_input_that_changes_while_the_stage_runs_is_not_stored(project: Project) -> None:
    """Nor is what was made of it: the next run does both again."""
    root = project.repo.root

    @stage(inputs=["src/**"])
    async def slow(ctx: Context) -> int:
        ran.append("slow")
        if len(ran) == 1 and not (root / "once").exists():
            (root / "once").touch()
            (root / "src/app.py").write_text("edited meanwhile\n")
        return 1

    @stage(inputs=())
    async def user(ctx: Context, slow: int) -> int:
        ran.append("user")
        return slow

    plan = Graph([slow, user]).select()

    await project.run(plan)
    await project.run(plan)
    second = list(ran)
    await project.run(plan)

    assert second == ["slow", "user"]
    assert ran == []


async def test_failures_are_not_stored(project: Project) -> None:
    """Skips neither."""

    @stage(inputs=())
    async def fails(ctx: Context) -> None:
        ran.append("fails")
        raise ValueError

    @stage(inputs=())
    async def skips(ctx: Context) -> None:
        ran.append("skips")
        raise Skip("not today")

    plan = Graph([fails, skips]).select()
    await project.run(plan, keep_going=True)

    await project.run(plan, keep_going=True)

    assert sorted(ran) == ["fails", "skips"]


async def test_a_result_without_an_optional_need_is_stored_as_such(project: Project) -> None:
    """It is made again as soon as the need, which failed softly, has a result."""
    works: list[bool] = []

    @stage(inputs=(), soft_fail=True)
    async def image(ctx: Context) -> str:
        ran.append("image")
        if not works:
            raise CheckFailed("no registry")
        return "built"

    @stage(inputs=["README.md"])
    async def scan(ctx: Context, image: str = "none") -> str:
        ran.append("scan")
        return image

    plan = Graph([image, scan]).select(environment="test")
    seen = []
    for _ in range(3):
        result = await project.run(plan)
        folder = project.repo.root.parent / "runs" / result.run_id
        seen.append((ran[:], (load_result(folder, "scan") or {})["result"]))
        works += [True] * (len(seen) == 2)

    assert seen == [(["image", "scan"], "none"), (["image"], "none"), (["image", "scan"], "built")]


async def test_effects_and_what_comes_after_them_always_run(project: Project) -> None:
    """A green check of yesterday's deployment says nothing about today's."""

    @stage(inputs=(), effect=True)
    async def deploy(ctx: Context) -> str:
        ran.append("deploy")
        return "url"

    @stage(inputs=(), after=[deploy])
    async def smoke(ctx: Context) -> None:
        ran.append("smoke")

    plan = Graph([deploy, smoke]).select(environment="prod")
    await project.run(plan, environment="prod")

    result = await project.run(plan, environment="prod")

    assert ran == ["deploy", "smoke"]
    assert (result.stages["deploy"].why, result.stages["smoke"].why) == (
        "an effect is never cached",
        "comes after the effect `deploy`",
    )


async def test_an_effect_done_in_the_continued_run_is_not_done_twice(project: Project) -> None:
    """`--failed` takes its result from that run; named itself, it is done again."""
    fail = [True]

    @stage(inputs=(), effect=True)
    async def push(ctx: Context) -> str:
        ran.append("push")
        return "registry/app@sha256:1"

    @stage(inputs=(), effect=True)
    async def deploy(ctx: Context, push: str) -> str:
        ran.append("deploy")
        if fail[0]:
            raise ValueError(push)
        return push

    graph = Graph([push, deploy])
    first = await project.run(graph.select(environment="prod"), environment="prod")
    fail[0] = False
    folder = project.repo.root.parent / "runs" / first.run_id

    again = await project.run(
        graph.select(failed=["deploy"], environment="prod"), environment="prod", reuse=folder
    )
    assert (ran, again.exit_code) == (["deploy"], 0)
    assert again.stages["push"].why == f"done in run {first.run_id}"

    other = await project.run(
        graph.select(failed=["deploy"], environment="test"), environment="test", reuse=folder
    )
    assert (ran, other.exit_code) == (["push", "deploy"], 0)


@dataclass(frozen=True)
class Image:
    id: str


gone: set[str] = set()


@stage(inputs=())
async def image(ctx: Context) -> Image:
    ran.append("image")
    return Image(f"image{ran.count('image')}-{time.monotonic_ns()}")


async def _use(name: str, image: Image) -> str:
    ran.append(name)
    if image.id in gone:
        raise NeedGone("image", f"no object {image.id}")
    return image.id


@stage(inputs=["tests/**"])
async def scan(ctx: Context, image: Image) -> str:
    return await _use("scan", image)


@stage(inputs=["tests/**"])
async def sign(ctx: Context, image: Image) -> str:
    return await _use("sign", image)


async def test_a_need_the_engine_lost_is_made_again_once_for_all_who_miss_it(project: Project) -> None:
    """Past its cache; then those who asked run again."""
    plan = Graph([image, scan, sign]).select()
    first = await project.run(plan)
    result = load_result(project.repo.root.parent / "runs" / first.run_id, "image") or {}
    gone.add(result["result"]["id"])
    project.repo.write("tests/test_a.py", "changed\n")

    second = await project.run(plan, slots=2)
    names = list(ran)
    third = await project.run(plan)

    assert second.exit_code == 0
    assert sorted(names) == ["image", "scan", "scan", "sign", "sign"]
    assert second.stages["image"].why.startswith("`s")
    assert "found its result gone" in second.stages["image"].why
    assert (ran, cached(third)) == ([], ["image", "scan", "sign"])


async def test_a_need_that_is_lost_again_is_an_error(project: Project) -> None:
    """Once is enough."""

    @stage(inputs=())
    async def hopeless(ctx: Context, image: Image) -> None:
        raise NeedGone("image", "as always")

    result = await project.run(Graph([image, hopeless]).select())

    failure = result.stages["hopeless"].failure
    assert ran == ["image", "image"]
    assert failure is not None
    assert failure.message == "cannot use the result of `image`: the engine no longer has it: as always"


async def test_an_effect_that_is_lost_is_not_repeated(project: Project) -> None:
    """Whoever needs it ends in an error that says so."""

    @stage(inputs=(), effect=True)
    async def push(ctx: Context) -> str:
        ran.append("push")
        return ""

    @stage(inputs=())
    async def use(ctx: Context, push: str) -> None:
        raise NeedGone("push")

    result = await project.run(Graph([push, use]).select(environment="x"), environment="x")

    failure = result.stages["use"].failure
    assert ran == ["push"]
    assert failure is not None
    assert failure.message == (
        "cannot make the result of `push` again: it is an effect, which is not repeated"
    )


async def test_damaged_entries_and_blobs_are_misses(project: Project) -> None:
    """Whatever happened to the directory, the run is good."""
    await project.run()
    for path in project.cache.folder.rglob("*"):
        if path.is_file() and path.name != "lock":
            path.write_bytes(path.read_bytes()[:-1])

    result = await project.run()
    names = sorted(ran)
    await project.run()

    assert (result.exit_code, names, ran) == (0, ["build", "checkout", "docs", "unit"], [])


async def test_a_lost_blob_alone_is_a_miss(project: Project) -> None:
    """Found out when the files are brought back."""
    await project.run()
    for path in (project.cache.folder / "v1/blobs").rglob("*"):
        if path.is_file():
            path.write_bytes(b"not what it was")

    result = await project.run()

    assert (result.exit_code, ran) == (0, ["build"])
    assert result.stages["build"].why == "its stored files were damaged"


async def test_a_result_that_cannot_be_stored_is_used_but_not_cached(project: Project) -> None:
    """The log says so."""

    @stage(inputs=())
    async def odd(ctx: Context) -> object:
        ran.append("odd")
        return object()

    plan = Graph([odd]).select()
    first = await project.run(plan)
    await project.run(plan)

    log = project.repo.root.parent / "runs" / first.run_id / "stages/odd/log.txt"
    assert (first.exit_code, ran) == (0, ["odd"])
    assert log.read_text().startswith("not cached: cannot store a result of type `object`")


async def test_files_given_by_the_caller_are_used(project: Project) -> None:
    """The command line reads them once for the plan and the run."""
    files = project_files(project.repo.root)

    await project.run(files=files, image_digest=nothing_known)
    await project.run(files=files)

    assert ran == []


SCRIPT = """
import asyncio, sys, time
from pathlib import Path
from pipeline import Context, stage
from pipeline.graph.cache import StageCache
from pipeline.graph.inputs import ProjectFiles
from pipeline.graph.plan import Graph
from pipeline.graph.record import RunFolder
from pipeline.graph.run import RunSettings, run

def make(index):
    @stage(name=f"s{index}", inputs=(), options={"index": index})
    async def one(ctx: Context) -> str:
        ctx.keep("file.txt", "x" * 1000 + str(ctx.options["index"]))
        await asyncio.sleep(0)
        return ctx.stage
    return one

base = Path(sys.argv[1])
for _ in range(3):
    settings = RunSettings(
        root=base, folder=RunFolder.create(base / "runs", time.time()), slots=4,
        files=ProjectFiles(digests={}, from_git=False), cache=StageCache(base / "cache", max_bytes=40_000),
    )
    result = asyncio.run(run(Graph([make(i) for i in range(30)]).select(), settings))
    assert result.exit_code == 0 and not result.problems, result
    for i in range(30):
        kept = settings.folder.path / f"stages/s{i}/files/file.txt"
        assert kept.read_text() == "x" * 1000 + str(i)
print("good")
"""


def test_two_runs_at_once_share_a_cache(tmp_path: Path) -> None:
    """Each in a process of its own, with a cache too small for all: both are good, in their own folders."""
    argv = [sys.executable, "-c", SCRIPT, str(tmp_path)]

    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    said = [process.communicate(timeout=60) for process in both]

    assert said == [("good\n", ""), ("good\n", "")]
    assert len(list((tmp_path / "runs").iterdir())) == 6


@stage(inputs=["src/**"])
async def verified(ctx: Context) -> str:
    """Is flaky, and remembers under which keys it ran, and the password."""
    before = (ctx.recall("keys") or b"").decode().split()
    ctx.remember("keys", "\n".join([*before, ctx.key]).encode())
    ctx.secret("PASSWORD")
    ctx.remember("words", b"it was hunter2hunter2")
    ctx.note_flaky("test_a")
    return ",".join(before)


async def test_a_flaky_success_is_flagged_also_when_it_is_cached(project: Project) -> None:
    """It never passes for a clean one."""
    plan = Graph([replace(verified, secrets=("PASSWORD",))]).select(environment="test")
    settings = {"secret": lambda name: "hunter2hunter2"}

    first = await project.run(plan, **settings)
    second = await project.run(plan, **settings)

    flags = [(run.stages["verified"].flaky, run.stages["verified"].cached) for run in (first, second)]
    assert flags == [(True, False), (True, True)]


async def test_what_a_stage_remembers_reaches_its_later_runs_and_is_in_no_key(project: Project) -> None:
    """Equal inputs have an equal key, also when results are not taken; secrets are not written down."""
    plan = Graph([replace(verified, secrets=("PASSWORD",))]).select(environment="test")
    settings = {"secret": lambda name: "hunter2hunter2"}

    for _ in range(2):
        await project.run(plan, cache_read=False, **settings)
    cached = await project.run(plan, **settings)
    project.repo.write("src/app.py", "changed\n")
    await project.run(plan, **settings)

    first, second, third = (project.cache.note("verified", "keys") or b"").decode().split()
    assert cached.stages["verified"].cached
    assert first == second != third
    assert project.cache.note("verified", "words") == b"it was ***"
    project.cache.prune(0)
    assert project.cache.note("verified", "keys") is None
