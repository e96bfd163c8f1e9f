"""Our own checks on an app with one flaw of each kind, and sound routes that look alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.scan.dast.prober.main import alive, describe
from tests.unit.scan.dast.serving import seen
from tests.unit.scan.dast.test_states import free_port
from tests.vulnapp.flaws import FLAWS, false_alarms, found_flaws

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[4]
ONLY_BY_ATTACKS = ["V02", "V04", "V10"]


@pytest.fixture
def app() -> Iterator[str]:
    """The app, on loopback."""
    port = free_port()
    argv = ["-m", "uvicorn", "tests.vulnapp.app:app", "--port", str(port), "--log-level", "critical"]
    base = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, *argv], cwd=ROOT) as process:
        try:
            assert alive(base, "/", 30)["alive"]
            yield base
        finally:
            process.terminate()


def test_flaws_are_found_and_sound_routes_left_alone(app: str) -> None:
    description = describe(app, ["/openapi.json"])["description"]

    quiet = seen(app, description=description)
    active = seen(app, description=description, active=True, limit_s=60.0)

    every = [flaw.id for flaw in FLAWS]
    assert found_flaws(quiet.findings) == [one for one in every if one not in ONLY_BY_ATTACKS]
    assert found_flaws(active.findings) == every
    assert false_alarms([*quiet.findings, *active.findings]) == []
    assert (quiet.state, active.state) == ("complete", "complete")


def test_without_a_description_links_lead_to_most_flaws(app: str) -> None:
    scan = seen(app, active=True, limit_s=60.0)

    assert len(found_flaws(scan.findings)) >= 12
    assert false_alarms(scan.findings) == []
