"""What an engine is told when it is opened; passed between processes as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """What of the host's network set-up every exec sees; never in an image, never in a key.

    `ca_bundle` is a file of PEM certificates ("" for none) that execs find at `CA_PATH`; `env` are
    variables set where the container does not set them itself; `secrets` are texts in them (such as
    a password in an index address) that no log may show.
    """

    ca_bundle: str = ""
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()


CA_PATH = "/run/pipeline/ca-certificates.crt"
"""Where execs find the host's certificates."""

CA_VARIABLES = (
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
)
"""The variables by which the usual tools find a bundle."""


IDLE_S = 300.0
"""How long an engine stays after its last session, in seconds, where nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Where the engine keeps its state and how it may work."""

    store: str = ""  # "" = the default place
    runner: Literal["", "launcher", "runc", "bwrap"] = ""  # "" = the first that works
    offline: bool = False
    image_fallback: Literal["none", "recipe"] = "none"
    mirrors: tuple[tuple[str, str], ...] = ()  # registry host, address to use instead
    pins: tuple[tuple[str, str], ...] = ()  # image name in canonical form, digest it stands for
    stand_in_pins: tuple[tuple[str, str], ...] = ()  # the same of names that stand for a stand-in
    is_locked: bool = False  # refuse images that are not pinned
    plain_http: tuple[str, ...] = ()  # registry hosts to speak http to, beside loopback
    max_execs: int = 0  # 0 = four per CPU
    max_bytes: int | None = None  # of the store; None: as its disk allows (`store.usage.limits_of`)
    min_free_bytes: int | None = None  # of the store's disk; None: as there
    exec_memory_bytes: int | None = None  # of one exec, where there are control groups; None: no limit
    exec_pids: int | None = None  # processes of one exec, likewise
    idle_s: float | None = None  # how long the engine stays after its last session; None: nobody says
    network: NetworkSettings = NetworkSettings()

    def store_path(self) -> Path:
        """Return the directory of the engine's state."""
        return Path(self.store) if self.store else default_store()


SETTINGS_VARIABLE = "PIPELINE_ENGINE_SETTINGS"
"""The environment variable by which an engine's process is told its settings, as JSON."""


def default_store() -> Path:
    """Return `$XDG_DATA_HOME/pipeline`, or `/var/lib/pipeline` for root."""
    if chosen := os.environ.get("PIPELINE_STORE"):
        return Path(chosen)
    if os.geteuid() == 0 and "XDG_DATA_HOME" not in os.environ:
        return Path("/var/lib/pipeline")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "pipeline"


def settings_to_json(settings: EngineSettings) -> str:
    """Return the text `settings_from_json` reads."""
    return json.dumps(asdict(settings))


def settings_from_json(text: str) -> EngineSettings:
    """Read engine settings.

    Raises:
        UsageError: The text is not what `settings_to_json` writes.
    """
    try:
        table = json.loads(text)
        network = table.pop("network", {})
        return EngineSettings(
            **{
                **table,
                **{name: _pairs(table.get(name, ())) for name in ("mirrors", "pins", "stand_in_pins")},
                "plain_http": tuple(table.get("plain_http", ())),
            },
            network=NetworkSettings(
                ca_bundle=network.get("ca_bundle", ""),
                env=_pairs(network.get("env", ())),
                secrets=tuple(network.get("secrets", ())),
            ),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"cannot read the engine settings: {error}") from error


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"expected pairs, got {value!r}")
    return tuple((str(name), str(text)) for name, text in value)
