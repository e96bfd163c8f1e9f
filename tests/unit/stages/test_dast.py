"""Which scanners look, how far they may go, and what is said of those that cannot."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.config import DastSettings, load_config
from pipeline.config.values import PerformanceSettings
from pipeline.scan.dast.aim import Aim
from pipeline.stages import default_stages
from pipeline.stages.dast import cannot_look, wanted_scanners
from pipeline.stages.dast_target import Aimed, aim_at, service_settings

if TYPE_CHECKING:
    from pathlib import Path


class Told:
    """What the stage's context is asked for here."""

    def __init__(self, **tables: Any) -> None:
        self.config = tables
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (DastSettings(), ["passive", "schemathesis"]),
        (DastSettings(active=True), ["passive", "schemathesis", "wapiti"]),
        (DastSettings(zap="http://zap"), ["passive", "schemathesis", "zap"]),
        (DastSettings(scanners=("wapiti", "passive")), ["passive", "wapiti"]),
    ],
    ids=["by default", "attacks", "zap", "as set"],
)
def test_which_scanners_look(settings: DastSettings, expected: list[str]) -> None:
    assert wanted_scanners(settings) == expected


@pytest.mark.parametrize(
    ("settings", "name", "state"),
    [
        (DastSettings(), "schemathesis", None),
        (DastSettings(scanners=("schemathesis",)), "schemathesis", "unavailable"),
        (DastSettings(openapi="/openapi.json"), "schemathesis", "error"),
        (DastSettings(scanners=("wapiti",)), "wapiti", "unavailable"),
        (DastSettings(active=True), "wapiti", None),
        (DastSettings(scanners=("zap",)), "zap", "unavailable"),
        (DastSettings(zap="http://zap"), "zap", "unavailable"),
        (DastSettings(zap="http://zap", address="http://a", consent=True), "zap", None),
        (DastSettings(), "passive", None),
    ],
)
def test_a_scanner_that_cannot_look_says_so(settings: DastSettings, name: str, state: str | None) -> None:
    """What was asked for is never left out in silence; what was not, is with a warning."""
    told: Any = Told()
    target = Aimed(ctx=told, aim=Aim(base="http://service"), container=told, ready=None)

    scan = cannot_look(told, target, settings, name)

    assert (scan.state if scan is not None else None) == state
    assert bool(told.warnings) == (name == "schemathesis" and state is None)


@pytest.mark.parametrize(
    ("settings", "is_own", "writes", "limit_s"),
    [
        (DastSettings(), True, True, 60.0),
        (DastSettings(), False, False, 60.0),
        (DastSettings(active=True), False, True, 600.0),
        (DastSettings(writes=False), True, False, 60.0),
    ],
    ids=["own", "agreed", "attacks", "as set"],
)
def test_how_far_scanners_go(settings: DastSettings, is_own: bool, writes: bool, limit_s: float) -> None:
    aim = aim_at(settings, "http://service", None, is_own=is_own)

    assert (aim.writes, aim.active, aim.limit_s) == (writes, settings.active, limit_s)


def test_a_service_is_started_as_for_the_load_test_where_nothing_else_is_said() -> None:
    from dataclasses import asdict

    load = PerformanceSettings(image="web", port=8000, env={"A": "1", "B": "1"}, health="/up")  # type: ignore[arg-type]
    told: Any = Told(performance=asdict(load))

    settings = service_settings(told, DastSettings(port=9000, env={"B": "2"}))  # type: ignore[arg-type]

    assert (settings.image, settings.port, settings.health) == ("web", 9000, "/up")
    assert settings.env == {"A": "1", "B": "2"}


def test_it_looks_at_the_image_whatever_became_of_the_dependencies(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "pyproject.toml").write_text("[tool.pipeline.dast]\nport = 80\n")
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)

    stages = {one.name: one for one in default_stages(tmp_path, load_config(tmp_path))}

    assert [need.name for need in stages["dast"].needs] == ["checkout", "container_build"]
