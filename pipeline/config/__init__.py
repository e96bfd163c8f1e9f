"""What a user may set: `[tool.pipeline]`, the environment and the flags become one frozen `Config`."""

from pipeline.config.load import load_config, parse_engine, read_toml, redact_url, settings_of
from pipeline.config.values import (
    Config,
    ConfigInvalid,
    ConfigUnreadable,
    EngineSettings,
    HealthSettings,
    ImageSettings,
    NetworkSettings,
    PerformanceSettings,
    Problem,
    RegistrySettings,
    RunSettings,
    ServiceSettings,
    StageSettings,
    service_of,
    suggest,
)

__all__ = [
    "Config",
    "ConfigInvalid",
    "ConfigUnreadable",
    "EngineSettings",
    "HealthSettings",
    "ImageSettings",
    "NetworkSettings",
    "PerformanceSettings",
    "Problem",
    "RegistrySettings",
    "RunSettings",
    "ServiceSettings",
    "StageSettings",
    "load_config",
    "parse_engine",
    "read_toml",
    "redact_url",
    "service_of",
    "settings_of",
    "suggest",
]
