"""Settings that were checked before: read back without the library that checks them, which is slow to load.

What is kept is named by all it was made of, so that it can only be missed, never wrong. It lies in the
project's state folder and is written only where that is there already.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

from pipeline.config.notify import AuditSettings, ChannelSettings, NotifySettings, notify_of
from pipeline.config.values import (
    AdvisorySettings,
    Config,
    DependencyScanSettings,
    HealthSettings,
    LimitSettings,
    PerformanceSettings,
    PolicyRules,
    PolicySettings,
    RequestSettings,
    ServiceSettings,
    StageSettings,
    dependency_scan_of,
    performance_of,
    policy_of,
    service_of,
)

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = ".pipeline/config.json"
FORMAT: Final = 1
NESTED: Final = ("performance", "policy", "dependency_scan", "notify")  # tables with tables in them
RAW: Final = ("deploy", "environments")  # tables that are kept as they were written


def recall(root: Path, made_of: object) -> Config | None:
    """Return the settings that were made of the same values; None when there are none."""
    try:
        kept = json.loads((root / FILE).read_text(encoding="utf-8"))
        if kept["made_of"] != _plain(made_of):
            return None
        return _rebuild(kept["config"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # missing, damaged or of another version: it is made anew


def remember(root: Path, made_of: object, config: Config) -> None:
    """Keep checked settings, if the project has a state folder that can be written."""
    target = root / FILE
    if not target.parent.is_dir():
        return
    text = json.dumps({"made_of": _plain(made_of), "config": asdict(config)})
    fresh = target.with_name(f".config.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(0o600)  # an address of a package index may hold a password
        fresh.replace(target)
    except OSError:
        fresh.unlink(missing_ok=True)  # a full or read-only disk: the next command checks again


def _plain(made_of: object) -> Any:
    """The values as JSON gives them back, with the shape of the settings that they are for."""
    classes = (
        *(Config, StageSettings, ServiceSettings, HealthSettings),
        *(PerformanceSettings, RequestSettings, LimitSettings, PolicySettings, PolicyRules),
        *(DependencyScanSettings, AdvisorySettings, NotifySettings, ChannelSettings, AuditSettings),
    )
    shape = {f"{cls.__name__}.{item.name}": str(item.type) for cls in classes for item in fields(cls)}
    return json.loads(json.dumps([FORMAT, shape, made_of], default=str, sort_keys=True))


def _rebuild(table: dict[str, Any]) -> Config:
    default = Config()
    sections = {
        item.name: type(getattr(default, item.name))(**_frozen(table[item.name]))
        for item in fields(Config)
        if item.name not in ("stages", "services", *NESTED, *RAW, "origins")
    }
    stages = {name: StageSettings(**_frozen(one)) for name, one in table["stages"].items()}
    services = {name: service_of(_frozen(one)) for name, one in table["services"].items()}
    performance = performance_of(_frozen(table["performance"]))
    policy = policy_of(_frozen(table["policy"]))
    nested: dict[str, Any] = {name: table[name] for name in RAW}
    nested |= {"services": services, "performance": performance, "policy": policy}
    nested["dependency_scan"] = dependency_scan_of(_frozen(table["dependency_scan"]))
    nested["notify"] = notify_of(_frozen(table["notify"]))
    return Config(**sections, stages=stages, **nested)


def _frozen(value: Any) -> Any:
    """Arrays as tuples: no setting is a list."""
    if isinstance(value, dict):
        return {key: _frozen(each) for key, each in value.items()}
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
