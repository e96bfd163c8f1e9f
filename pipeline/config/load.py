"""Settings are collected layer by layer, checked, and laid over each other; each value remembers its layer.

Later layers win: default, the host's network settings, `pyproject.toml`, `PIPELINE_*`, flag. Whether a stage
of the name in `[tool.pipeline.stages.NAME]` exists is for whoever builds the graph to check.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline.config.host import with_host_network
from pipeline.config.remember import recall, remember
from pipeline.config.values import Config, ConfigInvalid, ConfigUnreadable, Problem, Table, key_of, show

if TYPE_CHECKING:
    from pathlib import Path

# Variable, path of the setting, and how its text is read; text that does not fit stays text for the check.
ENVIRONMENT: Final[Mapping[str, tuple[str, Literal["text", "whole", "truth"]]]] = {
    "PIPELINE_JOBS": ("run.jobs", "whole"),
    "PIPELINE_KEEP_GOING": ("run.keep_going", "truth"),
    "PIPELINE_TIMEOUT": ("run.timeout", "text"),
    "PIPELINE_QUIET_AFTER": ("run.quiet_after", "text"),
    "PIPELINE_CACHE_MAX_BYTES": ("run.cache_max_bytes", "text"),
    "PIPELINE_IMAGE_FALLBACK": ("images.fallback", "text"),
    "PIPELINE_PYTHON": ("images.python", "text"),
    "PIPELINE_ENGINE": ("engine.kind", "text"),  # also "dagger=ADDRESS"
    "PIPELINE_RUNNER": ("engine.runner", "text"),
    "PIPELINE_STORE": ("engine.store", "text"),
    "PIPELINE_STORE_MAX_BYTES": ("engine.max_bytes", "text"),
    "PIPELINE_ENGINE_IDLE": ("engine.idle", "whole"),
    "PIPELINE_OFFLINE": ("network.offline", "truth"),
    "PIPELINE_CA_BUNDLE": ("network.ca_bundle", "text"),
    "PIPELINE_REGISTRY": ("registry.address", "text"),
    "PIPELINE_BUNDLE_SIGNERS": ("bundles.signers", "text"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Values from one source, and how that source calls them: by `names`, else by the path after `prefix`."""

    source: str
    values: Table
    names: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""

    def name_of(self, path: str) -> str:
        return self.names.get(path, self.prefix + path)

    def origin_of(self, path: str) -> str:
        return f"{self.names[path]} ({self.source})" if path in self.names else self.source


def load_config(
    root: Path, environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> Config:
    """Read the settings of the project in `root`; a project without `pyproject.toml` has the defaults.

    Args:
        environ: Variables to read; those of the process when None.
        flags: Command line values by path (`{"run.jobs": 4}`), the last layer; None values are not set.

    Raises:
        ConfigUnreadable: `pyproject.toml` is not TOML, not UTF-8 or not readable.
        ConfigInvalid: Values are wrong; carries all of them.
    """
    environ = os.environ if environ is None else environ
    layers = [_file_layer(root), _environment_layer(environ), _flag_layer(flags or {})]
    merged: Table = {}
    origins: dict[str, str] = {}
    set_layers = [layer for layer in layers if layer.values]
    for layer in set_layers:
        merge_layer(merged, layer, origins)
    config = _checked(root, set_layers, merged) if set_layers else Config()
    if config.network.inherit:
        config, inherited = with_host_network(config, environ, set(origins))
        origins = {**inherited, **origins}
    return replace(config, origins=origins)


def read_toml(path: Path, name: str) -> Table:
    """Read a TOML file, called `name` in messages; {} when there is none.

    Raises:
        ConfigUnreadable: It is no TOML, no UTF-8, or may not be read; says where.
    """
    import tomllib

    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        what = f"it is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {error.start})"
        raise ConfigUnreadable(name, what) from error
    except OSError as error:
        raise ConfigUnreadable(name, (error.strerror or str(error)).lower()) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what = str(error)
        raise ConfigUnreadable(name, f"it is not valid TOML: {what[:1].lower()}{what[1:]}") from error


def parse_engine(text: str) -> dict[str, object]:
    """Read `embedded`, `dagger` or `dagger=ADDRESS` as settings by path."""
    kind, separator, address = text.partition("=")
    return {"engine.kind": kind, "engine.address": address} if separator else {"engine.kind": kind}


def _checked(root: Path, layers: list[Layer], merged: Table) -> Config:
    """Make the settings of layers that fit.

    Raises:
        ConfigInvalid: Something does not fit; carries every problem of every layer.
    """
    made_of = [[layer.source, layer.values] for layer in layers]
    known = recall(root, made_of)
    if known is not None:
        return known
    _check(layers)
    config = _parse(merged)
    remember(root, made_of, config)
    return config


def _check(layers: list[Layer]) -> None:
    """Check each layer by itself, so that a value another layer hides is found too.

    Raises:
        ConfigInvalid: Something does not fit; carries every problem of every layer.
    """
    from pipeline.config import check

    problems = [
        Problem(source=layer.source, path=layer.name_of(path), message=message)
        for layer in layers
        for path, message in check.find_problems(layer.values)
    ]
    if problems:
        raise ConfigInvalid(problems)


def _parse(values: Table) -> Config:
    from pipeline.config import check

    return check.parse(values)


def _file_layer(root: Path) -> Layer:
    """Read `[tool.pipeline]` of `pyproject.toml`."""
    name = "pyproject.toml"
    tool = read_toml(root / name, name).get("tool", {})
    table = tool.get("pipeline", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        message = f"expected a table, got {show(table)}"
        raise ConfigInvalid([Problem(source=name, path="tool.pipeline", message=message)])
    return Layer(source=name, values=table, prefix="tool.pipeline.")


def _environment_layer(environ: Mapping[str, str]) -> Layer:
    """Take the `PIPELINE_*` variables of the table; an empty one counts as not set."""
    values: Table = {}
    names: dict[str, str] = {}
    for name, (path, kind) in ENVIRONMENT.items():
        text = environ.get(name, "")
        if not text:
            continue
        parts = parse_engine(text) if path == "engine.kind" else {path: _read_text(text, kind)}
        for part, value in parts.items():
            _put(values, part, value)
            names[part] = name
    return Layer(source="environment", values=values, names=names)


def _read_text(text: str, kind: Literal["text", "whole", "truth"]) -> object:
    """Read a variable as its kind."""
    if kind == "whole" and re.fullmatch(r"\d{1,9}", text):
        return int(text)
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    return words.get(text.lower(), text) if kind == "truth" else text


def _flag_layer(flags: Mapping[str, object]) -> Layer:
    """Make a layer of the flags that are set."""
    values: Table = {}
    for path, value in flags.items():
        if value is not None:
            _put(values, path, value)
    return Layer(source="command line", values=values)


def _put(table: Table, path: str, value: object) -> None:
    """Set `table["a"]["b"]` for the path "a.b"."""
    *parents, last = path.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
    table[last] = value


def merge_layer(into: Table, layer: Layer, origins: dict[str, str]) -> None:
    """Lay a layer's values over `into`, table by table, and note for each leaf where it came from."""
    _merge(into, layer.values, (), layer, origins)


def _merge(
    into: Table, values: Mapping[str, Any], path: tuple[str, ...], layer: Layer, origins: dict[str, str]
) -> None:
    for key, value in values.items():
        dotted = ".".join((*path, key))
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value, (*path, key), layer, origins)
        else:
            into[key] = value
            origins[dotted] = layer.origin_of(dotted)


def redact_url(text: str) -> str:
    """Hide user and password of a URL."""
    return re.sub(r"(?<=://)[^/@\s]+(?=@)", "***", text)


def settings_of(config: Config) -> Iterator[tuple[str, object, str]]:
    """Every setting: path as in the file, value with passwords of URLs hidden, and where it came from."""
    for section in fields(config):
        value = getattr(config, section.name)
        if is_dataclass(value):
            yield from leaves_of(section.name, value, config.origins)
    for name in sorted(config.stages):
        yield from leaves_of(f"stages.{name}", config.stages[name], config.origins)
    for name in sorted(config.services):
        yield from leaves_of(f"services.{name}", config.services[name], config.origins)


def _plain(part: Any) -> object:
    if is_dataclass(part):
        return asdict(part)  # type: ignore[arg-type]  # an instance: settings hold no classes
    return list(part) if isinstance(part, tuple) else part


def leaves_of(prefix: str, section: Any, origins: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    """The settings of one table: path, value, and where it came from."""
    for item in fields(section):
        if item.name == "origins":
            continue
        path = ".".join(filter(None, (prefix, key_of(item.name))))
        value = getattr(section, item.name)
        if is_dataclass(value):
            yield from leaves_of(path, value, origins)
            continue
        if isinstance(value, str):
            value = redact_url(value)
        elif isinstance(value, tuple):
            value = [redact_url(part) if isinstance(part, str) else part for part in value]
        elif isinstance(value, Mapping):
            value = {key: _plain(part) for key, part in value.items()}
        origin = origins.get(path) or next(
            (o for p, o in origins.items() if p.startswith(path + ".")), "default"
        )
        yield path, value, origin
