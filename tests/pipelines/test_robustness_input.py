"""Bad projects and odd files: one clear sentence and the right exit code, or simply the right result."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.pipelines.robust import RobustProject

HEAD = 'import sys, time\nfrom pipeline import Context, stage\ndrop = ["*"]\n'
STAGE = '@stage(inputs=[])\nasync def {name}(ctx: Context{needs}) -> str:\n    """It."""\n    {body}\n'

TRAVELLER = '''
from pipeline import Context, stage

drop = ["*"]


@stage(inputs=["src/**"])
async def travel(ctx: Context) -> int:
    """Takes a folder into a container and back."""
    client = await ctx.dagger()
    source = client.host().directory(str(ctx.root / "src"))
    container = client.container().with_rootfs(client.host().directory("ROOTFS"))
    made = container.with_directory("/src", source).with_exec(["cp", "-a", "/src", "/out"])
    await made.directory("/out").export(str(ctx.root / "out"))
    return len(ctx.input_files())
'''


def one(body: str, *, name: str = "a", needs: str = "") -> str:
    """A project of one stage."""
    return HEAD + STAGE.format(name=name, needs=needs, body=body)


CYCLE = one("return ''", needs=", b: str") + STAGE.format(name="b", needs=", a: str", body="return ''")


@pytest.mark.root
@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        pytest.param(CYCLE, "cannot build the graph: stages wait for each other: a → b → a", id="cycle"),
        pytest.param(
            one("return ''", needs=", bb: str"),
            "cannot build the graph: `a` needs `bb`, which is no stage (ROOT/ci/stages.py:4)",
            id="unknown need",
        ),
        pytest.param(HEAD + "def (\n", "cannot load `ci/stages.py:4`: invalid syntax", id="syntax"),
        pytest.param(
            HEAD + "raise ValueError('x')", "cannot load `ci/stages.py:4`: ValueError: x", id="raises"
        ),
        pytest.param(HEAD + "sys.exit(7)", "cannot load `ci/stages.py:4`: SystemExit: 7", id="exits"),
    ],
)
def test_a_project_that_cannot_be_read_is_one_sentence(
    bare: RobustProject, stages: str, sentence: str
) -> None:
    """Exit code 2, and nothing was run."""
    bare.write({"ci/stages.py": stages})

    done = bare("run")

    assert done.stderr.replace(str(bare.root), "ROOT") == f"error: {sentence}\n"
    assert (done.code, done.stdout) == (2, "")
    assert not (bare.root / ".pipeline/runs").exists()


@pytest.mark.root
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(b"[tool\n", "it is not valid TOML: expected ']'", id="toml"),
        pytest.param(
            b"[tool.pipeline]\nx = '\xff'\n", "it is not UTF-8 (byte 0xff at offset 21)", id="bytes"
        ),
        pytest.param(
            b'[tool.pipeline.run]\njobs = "many"\ntimeout = []\n',
            'tool.pipeline.run.jobs: expected a whole number of at least 1, got "many"\n'
            '  tool.pipeline.run.timeout: expected a duration such as "30s" or "5m", got an array\n',
            id="types",
        ),
    ],
)
def test_a_configuration_that_is_wrong_names_each_problem(
    bare: RobustProject, text: bytes, sentence: str
) -> None:
    """Exit code 2, and nothing was run."""
    bare.write({"ci/stages.py": one("return ''"), "pyproject.toml": text})

    done = bare("run")

    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert (done.code, done.stdout) == (2, "")


@pytest.mark.root
@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param("raise ValueError('x')", "ValueError: x (ROOT/ci/stages.py:7)", id="raises"),
        pytest.param("sys.exit(7)", "SystemExit: 7 (ROOT/ci/stages.py:7)", id="exits"),
        pytest.param("raise KeyboardInterrupt", "KeyboardInterrupt (ROOT/ci/stages.py:7)", id="interrupts"),
    ],
)
def test_a_stage_that_breaks_is_an_error_of_that_stage(bare: RobustProject, body: str, message: str) -> None:
    """Its sentence, no traceback, exit code 1; the record is whole."""
    bare.write({"ci/stages.py": one(body)})

    done = bare("run", "-q")

    shown = done.stdout.replace(str(bare.root), "ROOT").splitlines()
    assert shown[:4] == ["error a", f"  {message}", "  reproduce: pipeline run --only a", ""]
    assert (done.code, done.stderr) == (1, "")
    assert bare.record()["outcome"] == "error"


@pytest.mark.root
def test_a_stage_that_returns_another_type_than_it_promises_is_an_error(bare: RobustProject) -> None:
    """Stages that need it rely on the annotation: it is named, with what was returned."""
    bare.write({"ci/stages.py": one("return 5")})

    done = bare("run", "-q")

    assert done.stdout.splitlines()[:5] == [
        "error a",
        "  cannot use the result of `a`: it returned `int`, its annotation says `str`",
        "  reproduce: pipeline run --only a",
        "  hint: correct the annotation, or what the function returns",
        "",
    ]
    assert (done.code, done.stderr) == (1, "")


@pytest.mark.root
def test_a_stage_that_blocks_the_loop_is_ended_by_the_runs_limit(bare: RobustProject) -> None:
    """By force after the time for cleaning up; it is said what went on, and recorded."""
    bare.write({"ci/stages.py": one("time.sleep(60); return ''")})

    began = time.monotonic()
    done = bare("run", "--timeout", "1s")

    assert time.monotonic() - began < 30
    assert done.code == 124
    assert done.stderr.startswith(
        "error: the run's limit was over, and stages did not stop within 10 s; `a` ran ("
    )
    assert bare.record()["outcome"] == "timeout"


@pytest.mark.root
def test_odd_files_travel_and_count(bare: RobustProject) -> None:
    """Names that are no UTF-8, hold line ends or look like options; links in circles; pipes are left out."""
    bare.write({"ci/stages.py": TRAVELLER})
    source = os.fsencode(bare.root / "src")
    os.mkdir(source)
    names = [
        b"\xff\xfe",
        b"new\nline",
        b"-rf",
        b"a" * 255,
        "ü".encode(),
        b" ",
        b"'\"",
        b"back\\slash",
        b"*",
        b"[a]",
    ]
    for name in names:
        with open(source + b"/" + name, "wb") as stream:
            stream.write(name)
    os.symlink(b".", source + b"/loop")
    os.symlink(b"itself", source + b"/itself")
    os.mkfifo(source + b"/pipe")

    first, second = bare("run"), bare("run")
    with open(source + b"/new\nline", "wb") as stream:
        stream.write(b"changed")
    with open(source + b"/\xff\xfe", "wb") as stream:
        stream.write(b"changed")
    strict = bare("explain", "travel", "--json", PYTHONIOENCODING="utf-8")

    out = os.fsencode(bare.root / "out")
    assert (first.code, second.code) == (0, 0), first
    assert second.stderr.split()[:2] == ["cached", "travel"]
    assert sorted(os.listdir(out)) == sorted([*names, b"loop", b"itself"])
    assert bare.result("travel") == len(names) + 2
    assert strict.code == 0, strict
    assert "\\udcff\\udcfe" in strict.stdout
    assert "new\\nline" in strict.stdout


@pytest.mark.root
def test_ten_thousand_files_travel(bare: RobustProject) -> None:
    """Each is there after the way into a container and back."""
    bare.write({"ci/stages.py": TRAVELLER})
    for folder in range(100):
        (bare.root / f"src/{folder}").mkdir(parents=True)
        for number in range(100):
            (bare.root / f"src/{folder}/{number}").write_text(f"{folder} {number}")

    done = bare("run")

    assert done.code == 0, done
    assert bare.result("travel") == 10_000
    assert sum(len(files) for _, _, files in os.walk(bare.root / "out")) == 10_000
    assert (bare.root / "out/99/98").read_text() == "99 98"


@pytest.mark.root
def test_without_a_network_an_image_is_one_sentence_and_other_stages_work(bare: RobustProject) -> None:
    """The room has loopback alone; a stage that needs no image runs to its end."""
    image = 'client = await ctx.dagger(); return await client.container().from_("alpine:3").stdout()'
    bare.write({"ci/stages.py": one(image) + STAGE.format(name="b", needs="", body="return 'fine'")})

    environ = {"PIPELINE_CA_BUNDLE": ""}
    done = bare("run", "-q", "--keep-going", **environ)
    offline = bare("run", "-q", "--offline", "--keep-going", **environ)
    untrusting = bare("run", "-q", "--keep-going", PIPELINE_CA_BUNDLE=os.devnull)

    runs = (done, offline, untrusting)
    sentences = [run.stdout.splitlines()[1] for run in runs]
    assert [run.code for run in runs] == [1, 1, 1]
    assert sentences[0].startswith(
        "  cannot get the image `docker.io/library/alpine:3`: cannot reach registry"
    )
    assert sentences[1].endswith("`docker.io/library/alpine:3`: working offline")
    assert sentences[2] == "  cannot use the certificates in `/dev/null`: it holds no certificate"
    assert all("  hint: " in run.stdout for run in runs), runs
    assert all("Traceback" not in run.stdout + run.stderr for run in runs), runs
    assert bare.result("b") == "fine"


@pytest.mark.root
def test_with_a_warm_store_an_offline_run_works(project: RobustProject) -> None:
    """Everything is taken from the store, or made without a network."""
    warm = project("run")

    cold = project("run", "--offline", "--no-cache")

    assert (warm.code, cold.code) == (0, 0), cold
    assert project.result("join") == project.expected("first")
