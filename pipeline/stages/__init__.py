"""The stages every project gets, fitted to what is found in it."""

from __future__ import annotations

import dataclasses
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipeline.config import Config
    from pipeline.detect.dockerfiles import DockerfileFound
    from pipeline.detect.python import PythonProject
    from pipeline.graph.stage import AnyStage

# Each stage is told what it works by and no more: a fact that changes makes the stage run again.
FACTS_OF_DEPS: Final = (
    *("installer", "requirement_files", "requirements", "requires_python"),
    *("test_extras", "test_groups", "has_dynamic_dependencies", "workspace"),
)
FACTS_OF_BUILD: Final = ("name",)
FACTS_OF_UNIT: Final = (
    *("configures_coverage", "has_tests", "has_unit_tests", "import_roots", "is_package"),
    *("packages", "test_extras", "test_paths", "test_plugins"),
)
FACTS_OF_SUITES: Final = (*FACTS_OF_UNIT, "uses_playwright")
SUITES: Final = ("integration", "e2e", "security_tests")
COMPOSE_INPUTS: Final = ("**/*.yaml", "**/*.yml", "**/*.env", "!.github/**")
FACTS_OF_QUALITY: Final = ("mypy_knows_files", "packages", "tool_pins", "tools")


def default_stages(root: Path, config: Config) -> Sequence[AnyStage]:
    """Return the stages that make sense for the project in `root`, in the order of delivery.

    What does not apply is absent: no wheel without a package, no image without a Dockerfile.

    Raises:
        GitFailed: Git refused to list the project's files.
    """
    from pipeline.detect.dockerfiles import find_dockerfiles, image_name
    from pipeline.detect.python import load_python
    from pipeline.graph.inputs import project_files
    from pipeline.stages.artifacts import artifacts
    from pipeline.stages.checkout import checkout
    from pipeline.stages.secret_scan import secret_scan

    files = list(project_files(root).digests)
    python = load_python(root, files)
    stages: list[AnyStage] = [checkout]
    if python is not None:
        stages += python_stages(root, python, config, files)
    else:
        stages += other_quality(files)
    stages += other_tests(root, config, files, {one.name for one in stages})
    if (scanned := dependency_stage(files, has_python=python is not None)) is not None:
        stages.append(scanned)
    name = image_name(python.name if python is not None and python.name else root.name)
    dockerfiles = find_dockerfiles(files, name, lambda path: _text(root / path))
    if dockerfiles:
        stages += [image_stage(dockerfiles, image_labels(root, python)), image_scan_stage(python)]
    stages.append(secret_scan)
    if python is not None or dockerfiles:
        stages.append(artifacts)
    if (loaded := load_stage(root, config, files, has_image=bool(dockerfiles))) is not None:
        stages.append(loaded)
    if (scanned := running_stage(root, config, files, has_image=bool(dockerfiles))) is not None:
        stages.append(scanned)
    if dockerfiles:
        stages += delivery_stages(root, config, stages)
    return stages


def delivery_stages(root: Path, config: Config, before: Sequence[AnyStage]) -> list[AnyStage]:
    """Return the stages that bring images to environments, for a project that declares some.

    Nothing is pushed before all other stages are good.
    """
    from pipeline.config.delivery import OVERLAYS

    if not config.environments and not any((root / OVERLAYS).glob("*.toml")):
        return []
    from pipeline.stages.health_check import health_check
    from pipeline.stages.production_deploy import production_deploy
    from pipeline.stages.push import push
    from pipeline.stages.smoke import smoke
    from pipeline.stages.staging_deploy import staging_deploy

    needs = {need.name for need in push.needs}
    checks = tuple(one.name for one in before if one.name not in needs)
    return [
        dataclasses.replace(push, after=checks),
        staging_deploy,
        smoke,
        production_deploy,
        health_check,
    ]


def other_quality(files: Sequence[str]) -> list[AnyStage]:
    """Return `quality` for a project that is no Python one but has files some linter reads."""
    from pipeline.stages.quality import lints, quality

    return [quality] if any(one.wants(files) for one in lints()) else []


def dependency_stage(files: Sequence[str], *, has_python: bool) -> AnyStage | None:
    """Return `dependency_scan` for a project that names packages; it reads what names them, and imports."""
    from pipeline.scan.packages.found import find_locks
    from pipeline.stages.dependency_scan import dependency_scan

    locks = find_locks(files)
    if not locks and not has_python:
        return None
    return _fitted(dependency_scan, {}, (*locks, *(("**/*.py",) if has_python else ()), "pyproject.toml"))


def load_stage(root: Path, config: Config, files: Sequence[str], *, has_image: bool) -> AnyStage | None:
    """Return `performance` for a project that has a locustfile, or settings for it; None for others."""
    from pipeline.stages.performance import LOCUSTFILE, performance

    settings = config.performance
    locustfile = settings.locustfile or LOCUSTFILE
    is_set = any(name.startswith("performance.") for name in config.origins)
    if not is_set and locustfile not in files:
        return None
    # What a locustfile reads lies beside it; a command of the project may read anything.
    named = [one for one in (settings.openapi, settings.baseline) if one and not one.startswith("/")]
    reads_all = settings.service is not None or locustfile in files
    one = _fitted(performance, {}, None if reads_all else ("pyproject.toml", *named))
    if has_image:  # it brings its dependencies along
        one = _without_deps(one)
    return with_own_services(one, root, config, files, only_named=not config.services)


def running_stage(root: Path, config: Config, files: Sequence[str], *, has_image: bool) -> AnyStage | None:
    """Return `dast` for a project that has settings for it; None for others."""
    settings = config.dast
    if not any(name.startswith("dast.") for name in config.origins):
        return None
    from pipeline.stages.dast import dast

    named = [settings.openapi] if settings.openapi and not settings.openapi.startswith("/") else []
    reads_all = (settings.service or config.performance.service) is not None
    one = _fitted(dast, {}, None if reads_all else ("pyproject.toml", *named))
    if has_image:  # it brings its dependencies along
        one = _without_deps(one)
    return with_own_services(one, root, config, files, only_named=not config.services)


def python_stages(root: Path, project: PythonProject, config: Config, files: Sequence[str]) -> list[AnyStage]:
    """Return the stages of a Python project, each with the facts it works by."""
    from pipeline.stages.build import build
    from pipeline.stages.deps import deps
    from pipeline.stages.git import described_version
    from pipeline.stages.quality import quality
    from pipeline.stages.sast import sast
    from pipeline.stages.unit import unit

    build_version = unit_version = {}
    if project.version_from_git:
        # Each commit has another version. Tests are spared that, or each commit would repeat them.
        build_version = {"version": described_version(root)}
        unit_version = {"version": described_version(root, exact=False)}
    python = {"requires_python": project.requires_python, "python_version": config.images.python}
    tools = ["pytest", "pytest-cov", *project.test_plugins] if project.has_tests else []
    stages = [
        _fitted(
            deps, {"facts": facts(project, FACTS_OF_DEPS), "tools": tools, **python}, project.dependency_files
        )
    ]
    if project.is_package:
        stages.append(_fitted(build, {"facts": facts(project, FACTS_OF_BUILD), **build_version}))
    suites = {"suites": [dataclasses.asdict(one) for one in project.suites]} if project.suites else {}
    unit_options = {"facts": facts(project, FACTS_OF_UNIT), **unit_version, **suites}
    stages.append(with_own_services(_fitted(unit, unit_options), root, config, files, only_named=True))
    found = [one.stage for one in project.suites]
    for name in (*found, *(name for name in SUITES if name not in found and _has_command(config, name))):
        options = {"facts": facts(project, FACTS_OF_SUITES), **unit_version, **suites}
        stages.append(with_own_services(_fitted(_suite_stage(name), options), root, config, files))
    if project.has_tests:
        stages.append(coverage_stage(root, config))
    stages.append(_fitted(sast, python))
    stages.append(_fitted(quality, {"facts": facts(project, FACTS_OF_QUALITY), **python}))
    return stages


def coverage_stage(root: Path, config: Config) -> AnyStage:
    """Return `coverage` with the limits of the settings, and the commit that changed lines are changes of."""
    from pipeline.stages.coverage import base_options, coverage

    wanted = config.coverage
    options: dict[str, Any] = {"total": wanted.total, "changed": wanted.changed}
    if wanted.changed is not None:
        options |= base_options(root, wanted.base, os.environ)
    return _fitted(coverage, {name: value for name, value in options.items() if value is not None})


def other_tests(root: Path, config: Config, files: Sequence[str], names: set[str]) -> list[AnyStage]:
    """Return the stages of tests that are not Python's: Node's, and those whose command the settings give."""
    from pipeline.detect.node import find_node
    from pipeline.stages.command_tests import unit as command_tests
    from pipeline.stages.node_tests import unit as node_unit

    stages: list[AnyStage] = []
    node = find_node(files, lambda path: _text(root / path))
    if node is not None and not _has_command(config, "unit", with_image=True):
        one = dataclasses.replace(node_unit, name="unit_node" if "unit" in names else "unit")
        fitted = _fitted(one, {"facts": dataclasses.asdict(node)})
        stages.append(with_own_services(fitted, root, config, files, only_named=True))
    for name in ("unit", *SUITES):
        if _has_command(config, name) and name not in names | {one.name for one in stages}:
            asked = dataclasses.replace(command_tests, name=name)
            stages.append(with_own_services(asked, root, config, files, only_named=name == "unit"))
    return stages


def _has_command(config: Config, name: str, *, with_image: bool = False) -> bool:
    settings = config.stages.get(name)
    return settings is not None and settings.command is not None and bool(settings.image or not with_image)


def _suite_stage(name: str) -> AnyStage:
    from pipeline.stages.integration import e2e, integration, security_tests

    stages: dict[str, AnyStage] = {one.name: one for one in (integration, e2e, security_tests)}
    return stages[name]


def with_own_services(
    one: AnyStage, root: Path, config: Config, files: Sequence[str], *, only_named: bool = False
) -> AnyStage:
    """Return the stage with what it must know of services; with `only_named`, if its settings name some."""
    from pipeline.stages.service_settings import service_options, service_secrets

    settings = config.stages.get(one.name)
    if only_named and (settings is None or not settings.services):
        return one
    options = service_options(root, files, config)
    # What the compose file includes, extends and takes variables from may lie anywhere.
    inputs = (*one.inputs, *COMPOSE_INPUTS) if one.inputs and "compose" in options else None
    fitted = _fitted(one, options, inputs)
    return dataclasses.replace(fitted, secrets=(*one.secrets, *service_secrets(config)))


def facts(project: PythonProject, names: Sequence[str]) -> dict[str, Any]:
    """Return these facts as a stage's options hold them."""
    found = {name: getattr(project, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def image_labels(root: Path, project: PythonProject | None) -> dict[str, str]:
    """Return the labels an image says what it is by; nothing in them changes with each commit."""
    from pipeline.stages.git import web_address

    prefix = "org.opencontainers.image."
    source = web_address(root)
    labels = {f"{prefix}source": source, f"{prefix}url": source}
    if project is not None:
        labels |= {f"{prefix}version": project.version, f"{prefix}description": project.description}
        labels[f"{prefix}licenses"] = project.license
    return {name: value for name, value in labels.items() if value}


def image_stage(dockerfiles: Sequence[DockerfileFound], labels: Mapping[str, str]) -> AnyStage:
    """Return `container_build` for these Dockerfiles."""
    from pipeline.stages.container_build import container_build

    found = [dataclasses.asdict(one) for one in dockerfiles]
    inputs = None  # the root is a build context: any file may be in an image
    if all(one.context != "." for one in dockerfiles):
        inputs = tuple(dict.fromkeys(f"{one.context}/" for one in dockerfiles))
    return _fitted(container_build, {"dockerfiles": found, "labels": dict(labels)}, inputs)


def image_scan_stage(project: PythonProject | None) -> AnyStage:
    """Return `image_scan`: it looks at images and at no file of the project, but knows its package."""
    from pipeline.scan.advisories.names import normal_name
    from pipeline.stages.image_scan import image_scan

    own = normal_name("PyPI", project.name) if project is not None and project.name else ""
    return _fitted(image_scan, {"own": own} if own else {}, ("pyproject.toml",))


def _fitted(one: AnyStage, options: dict[str, Any], inputs: tuple[str, ...] | None = None) -> AnyStage:
    merged = MappingProxyType({**one.options, **options})
    return dataclasses.replace(one, options=merged, inputs=inputs or one.inputs)


def _without_deps(one: AnyStage) -> AnyStage:
    return dataclasses.replace(one, needs=tuple(need for need in one.needs if need.name != "deps"))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
