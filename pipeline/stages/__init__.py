"""The stages every project gets, fitted to what is found in it."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.config import Config
    from pipeline.detect.dockerfiles import DockerfileFound
    from pipeline.detect.python import PythonProject
    from pipeline.graph.stage import AnyStage


def default_stages(root: Path, config: Config) -> Sequence[AnyStage]:
    """Return the stages that make sense for the project in `root`, in the order of delivery.

    What does not apply is absent: no wheel without a package, no image without a Dockerfile.

    Raises:
        GitFailed: Git refused to list the project's files.
    """
    from pipeline.detect.dockerfiles import find_dockerfiles, image_name
    from pipeline.detect.python import load_python
    from pipeline.graph.inputs import project_files
    from pipeline.stages.checkout import checkout

    files = list(project_files(root).digests)
    python = load_python(root, files)
    stages: list[AnyStage] = [checkout]
    if python is not None:
        stages += python_stages(python, config)
    name = image_name(python.name if python is not None and python.name else root.name)
    dockerfiles = find_dockerfiles(files, name, lambda path: _text(root / path))
    if dockerfiles:
        stages.append(image_stage(dockerfiles))
    return stages


def python_stages(project: PythonProject, config: Config) -> list[AnyStage]:
    """Return the stages of a Python project, each with the facts it works by."""
    from pipeline.stages.build import build
    from pipeline.stages.deps import deps
    from pipeline.stages.quality import quality
    from pipeline.stages.unit import unit

    facts = dataclasses.asdict(project)
    facts["tools"] = sorted(project.tools)
    installed = {
        name: value
        for name, value in facts.items()
        if name not in ("tools", "test_paths", "has_tests", "uses_unittest", "packages")
    }
    python = {"requires_python": project.requires_python, "python_version": config.images.python}
    tools = ["pytest", "pytest-cov"] if project.has_tests else []
    stages = [_fitted(deps, {"facts": installed, "tools": tools, **python}, inputs=project.dependency_files)]
    if project.is_package:
        stages.append(_fitted(build, {"facts": installed}))
    stages.append(_fitted(unit, {"facts": facts}))
    stages.append(_fitted(quality, {"facts": facts}))
    return stages


def image_stage(dockerfiles: Sequence[DockerfileFound]) -> AnyStage:
    """Return `container_build` for these Dockerfiles."""
    from pipeline.stages.container_build import container_build

    return _fitted(container_build, {"dockerfiles": [dataclasses.asdict(one) for one in dockerfiles]})


def _fitted(one: AnyStage, options: dict[str, Any], inputs: tuple[str, ...] | None = None) -> AnyStage:
    merged = MappingProxyType({**one.options, **options})
    return dataclasses.replace(one, options=merged, inputs=inputs or one.inputs)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
