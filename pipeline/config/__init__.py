"""What a user may set: `[tool.pipeline]`, the environment and the flags become one frozen `Config`."""

from pipeline.config.load import load_config, parse_engine, read_toml, redact_url, settings_of
from pipeline.config.values import (
    Config,
    ConfigInvalid,
    ConfigUnreadable,
    EngineSettings,
    ImageSettings,
    NetworkSettings,
    Problem,
    RegistrySettings,
    RunSettings,
    StageSettings,
    suggest,
)

__all__ = [
    "Config",
    "ConfigInvalid",
    "ConfigUnreadable",
    "EngineSettings",
    "ImageSettings",
    "NetworkSettings",
    "Problem",
    "RegistrySettings",
    "RunSettings",
    "StageSettings",
    "load_config",
    "parse_engine",
    "read_toml",
    "redact_url",
    "settings_of",
    "suggest",
]
