"""The stages from checkout to a built image, run by the command on a small real project."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.pipelines.projects import SHOP, new_repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pipelines.projects import Ran, Repository

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

ALL = ("checkout", "deps", "build", "unit", "coverage", "quality", "container_build")
ONLY = ("--only", ",".join(ALL))  # scans have tests of their own

SCRIPTS = {
    "things.py": "THINGS = 3\n",
    "tests.py": """
import os
import unittest
from things import THINGS


class Things(unittest.TestCase):
    def test_good(self):
        print("index", os.environ["PIP_INDEX_URL"])
        self.assertEqual(THINGS, 3)

    def test_bad(self):
        self.assertEqual(os.environ["GREETING"], "")
""",
    "pyproject.toml": """
[tool.pipeline.stages.unit]
env = { GREETING = "hello from the settings" }
args = ["-rP"]
""",
    ".gitignore": ".pipeline\n",
}

MODULAR = {
    "big.bin": f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n",
    ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    ".gitignore": ".pipeline\n",
    "Dockerfile": """
FROM python:3.13-slim
RUN --mount=target=/context cd /context && echo found: $(find * .[a-z]* -type f | LC_ALL=C sort)
""",
}


BROKEN = {
    "syntax": (
        "RUNN true",
        "cannot parse `Dockerfile` line 2: unknown instruction: RUNN",
        ["2 | RUNN true"],
    ),
    "command": (
        "ENV A=1\nRUN echo said && \\\n  echo oops >&2; exit 3",
        "cannot build `Dockerfile` line 3: `RUN echo said && echo oops >&2; exit 3` ended with exit code 3",
        ["said", "oops"],
    ),
    "copy": (
        "COPY missing /x",
        'cannot build `Dockerfile` line 2: "/missing": not found in the build context',
        ["2 | COPY missing /x"],
    ),
}


@pytest.fixture(scope="session")
def shop_done(tmp_path_factory: pytest.TempPathFactory, store: Path) -> tuple[Repository, Ran]:
    """A small package with everything, after its first run. Do not change it: take a `shop`."""
    made = new_repository(tmp_path_factory.mktemp("shop") / "project", store, SHOP)
    made.git("remote", "add", "origin", "https://me:hunter2@example.com/team/shop.git")
    return made, made.run(*ONLY)


@pytest.fixture
def shop(shop_done: tuple[Repository, Ran], tmp_path: Path) -> Repository:
    """A copy of the small package after its first, green run."""
    done, ran = shop_done
    assert ran.code == 0, ran.stderr
    return done.copy(tmp_path / "project")


def chosen(ran: Ran) -> dict[str, str]:
    """The outcomes of the stages that these tests are about."""
    return {name: outcome for name, outcome in ran.outcomes.items() if name in ALL}


def test_the_first_run_is_green_and_leaves_its_evidence(shop_done: tuple[Repository, Ran]) -> None:
    """Wheel, sdist, JUnit, coverage and the image's archive are in the run folder."""
    _, ran = shop_done

    assert ran.code == 0, ran.stderr
    assert chosen(ran) == dict.fromkeys(ALL, "success")
    kept = {stage: sorted(path.name for path in ran.files(stage).glob("*")) for stage in ALL}
    assert kept == {
        "checkout": [],
        "deps": ["packages.txt"],
        "build": ["shop-1.4.2-py3-none-any.whl", "shop-1.4.2.tar.gz"],
        "unit": ["coverage.xml", "junit.xml"],
        "coverage": ["coverage.json", "coverage.xml"],
        "quality": ["findings.json", "findings.sarif", "ruff.txt"],
        "container_build": ["shop.tar"],
    }
    assert "1 test, 0 skipped, 100% of lines covered" in ran.log("unit")


def test_the_archive_loads_elsewhere_with_the_told_digest_and_labels(
    shop_done: tuple[Repository, Ran],
) -> None:
    """skopeo reads it; the labels tell title, version and source, and no credentials of the remote."""
    _, ran = shop_done
    image = ran.result("container_build")["result"]["images"][0]
    archive = ran.files("container_build") / "shop.tar"

    told = subprocess.run(
        ["skopeo", "inspect", f"oci-archive:{archive}"], check=True, capture_output=True, text=True
    ).stdout

    inspected = json.loads(told)
    assert (inspected["Digest"], inspected["Os"]) == (image["digest"], "linux")
    assert inspected["Labels"] == {
        "org.opencontainers.image.title": "shop",
        "org.opencontainers.image.version": "1.4.2",
        "org.opencontainers.image.description": "Sells things",
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.source": "https://example.com/team/shop",
        "org.opencontainers.image.url": "https://example.com/team/shop",
    }


def test_the_second_run_takes_everything_from_the_cache_and_starts_no_engine(shop: Repository) -> None:
    """A store that cannot be opened does not matter: nothing opens it."""
    ran = shop.run(*ONLY, PIPELINE_STORE="/dev/null/store")

    assert (ran.code, chosen(ran)) == (0, dict.fromkeys(ALL, "cached"))
    assert (ran.files("container_build") / "shop.tar").stat().st_size > 1_000_000


def test_a_changed_source_file_runs_what_depends_on_it_and_explain_names_it(shop: Repository) -> None:
    """The dependencies are not installed again."""
    shop.write({"src/shop/__init__.py": "def price(count: int) -> int:\n    return count * 7\n"})

    told = shop.command("explain", "unit")
    ran = shop.run(*ONLY)

    assert "unit would run: input `src/shop/__init__.py` changed" in told.stdout
    expected = {**dict.fromkeys(ALL, "success"), "deps": "cached"}
    assert (ran.code, chosen(ran)) == (0, expected)


def test_a_failing_test_is_told_by_name_and_failed_runs_that_stage_alone(shop: Repository) -> None:
    """After the repair, `--failed` runs the tests again, what waited for them, and nothing else."""
    good = (shop.root / "tests/test_shop.py").read_text()
    shop.write({"tests/test_shop.py": good + "\n\ndef test_free() -> None:\n    assert price(1) == 0\n"})

    failed = shop.run(*ONLY, "--keep-going")
    shop.write({"tests/test_shop.py": good + "\n# mended\n"})
    again = shop.run("--failed")

    failure = failed.result("unit")["failure"]
    assert (failed.code, failed.outcomes["unit"]) == (1, "failure")
    assert failure["message"] == ("1 of 2 tests failed; first: tests/test_shop.py::test_free: assert 7 == 0")
    assert "FAILED tests/test_shop.py::test_free (tests/test_shop.py:9)" in failure["tail"]
    assert "assert price(1) == 0" in failed.stdout
    ran = {name for name, outcome in again.outcomes.items() if outcome == "success"}
    assert (again.code, ran) == (
        0,
        {"checkout", "unit", "coverage"},
    )  # the files differ from those of the failed run


def test_equal_inputs_give_an_equal_wheel_and_image_on_another_machine(
    shop: Repository, shop_done: tuple[Repository, Ran], tmp_path: Path
) -> None:
    """Another commit, another folder and a store that has nothing: digests are the same.

    On that store the tests run too, although `deps` is cached: it is described again, because its
    container is gone.
    """
    _, first = shop_done
    shop.git("commit", "-q", "--allow-empty", "-m", "nothing")
    good = (shop.root / "tests/test_shop.py").read_text()
    other = shop.copy(tmp_path / "other", store=tmp_path / "store")

    built = other.run("--only", "build,container_build", "--no-cache")
    other.write({"tests/test_shop.py": good + "\n"})
    empty = other.copy(tmp_path / "third", store=tmp_path / "emptied")
    tested = empty.run("--only", "unit")

    assert built.code == 0, built.stderr
    assert built.result("build")["result"]["wheel"] == first.result("build")["result"]["wheel"]
    assert built.result("container_build")["result"] == first.result("container_build")["result"]
    assert (tested.code, tested.outcomes["unit"]) == (0, "success"), tested.stderr
    assert tested.stages["deps"]["why"].startswith("`unit` found its result gone")


def test_tests_of_unittest_run_and_configured_variables_reach_them_while_secrets_stay_secret(
    tmp_path: Path, store: Path
) -> None:
    """A project of scripts with a `tests.py`; the password of the package index is shown nowhere."""
    scripts = new_repository(tmp_path / "project", store, SCRIPTS)
    scripts.run("--until", "deps")

    ran = scripts.run("--only", "unit", PIP_INDEX_URL="https://me:hunter2@index.example.com/simple")

    failure = ran.result("unit")["failure"]
    assert failure["message"].startswith("1 of 2 tests failed; first: tests.py::Things::test_bad: ")
    assert "'hello from the settings'" in failure["message"]
    assert "index https://***@index.example.com/simple" in ran.log("unit")
    shown = [path for path in scripts.root.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert shown == []
    assert "hunter2" not in ran.stdout + ran.stderr


def test_the_checkout_holds_submodules_and_tells_of_pointers(tmp_path: Path, store: Path) -> None:
    """Files of a submodule are the project's; what is untracked in it is not. LFS pointers are warned of."""
    inner = new_repository(tmp_path / "inner", store, {"data.txt": "data"})
    outer = new_repository(tmp_path / "project", store, MODULAR)
    outer.git("submodule", "add", "-q", str(inner.root), "vendor/inner")
    outer.commit()
    outer.write({"vendor/inner/junk.txt": "junk", "junk.txt": "junk"})

    ran = outer.run("--until", "container_build")

    assert ran.code == 0, ran.stderr
    assert "submodules: vendor/inner" in ran.log("checkout")
    assert "1 LFS files are pointers only: big.bin" in ran.log("checkout")
    assert "not checked out" not in ran.log("checkout")
    assert "found: .gitattributes .gitignore .gitmodules Dockerfile big.bin vendor/inner/data.txt" in ran.log(
        "container_build"
    )

    outer.git("submodule", "deinit", "-q", "-f", "vendor/inner")
    assert "submodules that are not checked out: vendor/inner" in outer.run("--only", "checkout").log(
        "checkout"
    )


@pytest.mark.parametrize(("text", "message", "tail"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_dockerfile_is_a_failure_that_names_the_line_and_others_go_on_without_the_image(
    tmp_path: Path, store: Path, text: str, message: str, tail: list[str]
) -> None:
    """It is the project's fault, not ours; what goes on without the image says that it saw none."""
    files = {"Dockerfile": f"FROM python:3.13-slim\n{text}\n", ".gitignore": ".pipeline\n"}
    made = new_repository(tmp_path / "project", store, files)

    ran = made.run("--only", "container_build,secret_scan,artifacts", "--keep-going")

    failure = ran.result("container_build")["failure"]
    assert (ran.code, ran.outcomes["container_build"]) == (1, "failure"), ran.stderr
    assert (failure["message"], failure["tail"]) == (message, tail)
    assert ran.outcomes["secret_scan"] == "success"
    assert ran.result("secret_scan")["warnings"] == [
        "secrets-image is unavailable: `container_build` ended in failure, nothing of it was looked at"
    ]
    assert ran.outcomes["artifacts"] == "skip"
    assert ran.stages["artifacts"]["why"] == (
        "nothing was built, and no package is installed; `container_build` ended in failure"
    )


def test_a_build_that_fails_or_leaves_nothing_is_a_failure_in_the_backends_own_words(
    shop: Repository,
) -> None:
    """The project's build is what is checked."""
    text = SHOP["pyproject.toml"]
    shop.write({"pyproject.toml": text.replace("setuptools.build_meta", "nosuch.backend")})
    broken = shop.run("--only", "build")
    shop.write({"pyproject.toml": text + '[tool.pipeline.stages.build]\ncommand = ["true"]\n'})
    empty = shop.run("--only", "build")

    assert (broken.outcomes["build"], empty.outcomes["build"]) == ("failure", "failure"), empty.stderr
    assert broken.result("build")["failure"]["message"] == (
        "the build ended with exit code 1: Backend 'nosuch.backend' is not available"
    )
    assert empty.result("build")["failure"]["message"] == (
        "cannot find what was built: `dist` has no wheel and no source distribution"
    )
