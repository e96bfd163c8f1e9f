"""Services at `localhost`: tests that were written for a server on the same machine find it there too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.stages.containers import VENV

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dagger

    from pipeline.config import ServiceSettings

PLUGIN: Final = "pipeline_localhost"
PLUGIN_FILE: Final = Path(__file__).with_name("localhost_plugin.py")


def local_ports(services: Mapping[str, ServiceSettings]) -> dict[int, str]:
    """Return which service has each port of localhost: the first of those that declare it."""
    found: dict[int, str] = {}
    for name, one in services.items():
        for port in one.ports:
            found.setdefault(int(port), name)
    return found


async def with_localhost(
    container: dagger.Container, services: Mapping[str, ServiceSettings]
) -> dagger.Container:
    """Let tests in a container of ours reach the declared ports of its services at localhost."""
    ports = local_ports(services)
    if not ports or await container.env_variable("VIRTUAL_ENV") != VENV:
        return container
    text = PLUGIN_FILE.read_text(encoding="utf-8")
    for python in await container.directory(f"{VENV}/lib").entries():
        place = f"{VENV}/lib/{python.rstrip('/')}/site-packages/{PLUGIN}.py"
        container = container.with_new_file(place, text)
    own = await container.env_variable("PYTEST_ADDOPTS") or ""
    pairs = ",".join(f"{port}={name}" for port, name in ports.items())
    container = container.with_env_variable("PIPELINE_LOCALHOST", pairs)
    return container.with_env_variable("PYTEST_ADDOPTS", f"{own} -p {PLUGIN}".lstrip())
