"""What the load test decides before anything runs."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from pipeline.config import load_config
from pipeline.config.values import LimitSettings, Percent, PerformanceSettings, ProjectPath, Seconds
from pipeline.digest import Digest
from pipeline.graph.context import Artifact
from pipeline.stages import default_stages
from pipeline.stages.load_service import (
    HEALTH_GUESSES,
    ServiceUnknown,
    chosen_image,
    descriptions,
    health_paths,
)
from pipeline.stages.performance import NotMeasured, limits_of, locustfile_of, requests_for, workloads_of
from pipeline.stages.results import Image, Images
from pipeline.testing import fake_context

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.graph.stage import AnyStage


def project(root: Path, **files: str) -> Path:
    """A repository with these files."""
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    for name, text in files.items():
        (root / name.replace("_", ".")).write_text(text)
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    return root


def load_stage_of(root: Path) -> AnyStage | None:
    found = [one for one in default_stages(root, load_config(root)) if one.name == "performance"]
    return found[0] if found else None


def test_only_a_locustfile_or_settings_put_it_into_the_graph(tmp_path: Path) -> None:
    for name, files, is_there in (
        ("none", {"app_py": ""}, False),
        ("locustfile", {"locustfile_py": ""}, True),
        ("settings", {"pyproject_toml": "[tool.pipeline.performance]\nrate = 5\n"}, True),
    ):
        root = tmp_path / name
        root.mkdir()
        assert (load_stage_of(project(root, **files)) is not None) is is_there, name


def test_it_runs_alone_and_needs_the_image_rather_than_the_dependencies(tmp_path: Path) -> None:
    stage = load_stage_of(
        project(tmp_path, Dockerfile="FROM x\n", locustfile_py="", pyproject_toml="[project]\n")
    )

    assert stage is not None
    assert [(need.name, need.required) for need in stage.needs] == [
        ("checkout", True),
        ("container_build", False),
    ]
    assert stage.weight > 100


def image(name: str) -> Image:
    archive = Artifact(name=name, digest=Digest("sha256:" + "0" * 64), size_bytes=1)
    return Image(
        name=name, dockerfile="Dockerfile", platform="linux/amd64", digest="", size_bytes=1, archive=archive
    )


def test_the_only_image_is_loaded_or_the_one_that_is_named() -> None:
    one, two = image("api"), image("worker")

    assert chosen_image(Images(images=(one,)), PerformanceSettings()) == one
    assert chosen_image(Images(images=(one, two)), PerformanceSettings(image="worker")) == two
    with pytest.raises(ServiceUnknown, match=r"there are several images \(api, worker\)"):
        chosen_image(Images(images=(one, two)), PerformanceSettings())
    with pytest.raises(ServiceUnknown, match=r"`web` is not among the images \(api\)"):
        chosen_image(Images(images=(one,)), PerformanceSettings(image="web"))


@pytest.mark.parametrize(
    ("dockerfile", "paths"),
    [
        ("HEALTHCHECK CMD curl -f http://localhost:8000/up?full=1 || exit 1\n", ("/up?full=1",)),
        ('HEALTHCHECK CMD ["python", "-c", "urlopen(\'http://127.0.0.1:80/live\', 2)"]\n', ("/live",)),
        ("RUN curl http://localhost/setup\n", HEALTH_GUESSES),
        ("HEALTHCHECK CMD pg_isready\n", HEALTH_GUESSES),
    ],
    ids=["curl", "python", "no health check", "no address"],
)
def test_the_health_check_of_the_dockerfile_says_where_to_ask(
    tmp_path: Path, dockerfile: str, paths: tuple[str, ...]
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\n" + dockerfile)
    context = fake_context(tmp_path)

    assert health_paths(context, PerformanceSettings(), "Dockerfile") == paths
    assert health_paths(context, PerformanceSettings(health="/mine"), "Dockerfile") == ("/mine",)
    assert health_paths(context, PerformanceSettings(), None) == HEALTH_GUESSES


def test_a_locustfile_adds_the_closed_workload(tmp_path: Path) -> None:
    context = fake_context(tmp_path)
    before = workloads_of(context, PerformanceSettings())
    (tmp_path / "locustfile.py").write_text("")

    assert (before, workloads_of(context, PerformanceSettings())) == (["open"], ["open", "closed"])
    assert workloads_of(context, PerformanceSettings(workloads=("closed",))) == ["closed"]


def test_files_that_are_named_must_be_there(tmp_path: Path) -> None:
    context = fake_context(tmp_path)

    with pytest.raises(NotMeasured, match=r"cannot run `load.py`: there is no such file"):
        locustfile_of(context, PerformanceSettings(locustfile=ProjectPath("load.py")))
    with pytest.raises(NotMeasured, match=r"cannot read `api.json`: "):
        requests_for(context, PerformanceSettings(openapi="api.json"), {"paths": {}})


def test_a_description_is_a_file_of_the_project_or_a_path_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "api.json").write_text('{"paths": {"/a": {"get": {}}}}')
    context = fake_context(tmp_path)

    requests = requests_for(context, PerformanceSettings(openapi="api.json"), None)

    assert [one.name for one in requests] == ["GET /a"]
    assert (
        descriptions(PerformanceSettings(openapi="api.json")),
        descriptions(PerformanceSettings(openapi="/d")),
    ) == (
        (),
        ("/d",),
    )


def test_limits_are_shares_where_settings_are_percentages() -> None:
    limits = limits_of(
        PerformanceSettings(
            errors_warning=Percent(0.5),
            window_s=Seconds(10.4),
            limits={"GET /a": LimitSettings(errors_critical=Percent(20), response_critical_s=Seconds(9))},
        )
    )

    assert (limits.errors_warning, limits.cpu_critical, limits.window_s) == (0.005, 0.9, 10)
    own = limits.of("GET /a")
    assert (own.errors_critical, own.response_critical_s, own.response_warning_s) == (0.2, 9, 2)
    assert limits_of(PerformanceSettings(cpu=False)).cpu_critical is None
