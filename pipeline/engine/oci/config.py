"""The configuration of an image: the value, and its JSON both ways.

The JSON is the OCI image configuration, of which Docker's is a superset. What it says of layers
(`diff_ids`) is read and written here; the layers themselves are the business of others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.digest import Digest
from pipeline.engine import ops
from pipeline.engine.oci.platform import make_platform, parse_platform
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NANOSECONDS: Final = 1_000_000_000


class InvalidImage(EngineError):
    """An image's JSON is not what the format says."""

    def __init__(self, what: str) -> None:
        super().__init__(f"cannot read an image's configuration: {what}")
        self.what = what


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image says about how its containers run; everything is empty by default.

    `entrypoint` and `cmd` tell None (not set) from an empty list. `labels` are sorted by name,
    `exposed_ports` ("80/tcp") and `volumes` are sorted; `env` keeps its order.
    """

    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    user: str = ""
    workdir: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    healthcheck: ops.Healthcheck | None = None
    shell: tuple[str, ...] | None = None
    on_build: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One step of how an image came to be; times are RFC 3339 text, "" where not told."""

    created_by: str = ""
    created: str = ""
    comment: str = ""
    author: str = ""
    is_empty: bool = False  # it made no layer


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedImage:
    """An image's configuration, its platform (normal form) and its layers' digests, bottom first."""

    config: ImageConfig
    platform: str
    diff_ids: tuple[Digest, ...]
    created: str | None = None
    history: tuple[History, ...] = ()


def parse_image(data: bytes) -> ParsedImage:
    """Read the JSON that an image's config descriptor points to.

    Raises:
        InvalidImage: It is no JSON object, or a field has the wrong shape.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidImage(f"it is not JSON ({error})") from error
    try:
        return _parse_document(document)
    except (TypeError, AttributeError, KeyError, ValueError, OverflowError) as error:
        raise InvalidImage(f"a field has the wrong shape ({error})") from error


def image_json(
    config: ImageConfig,
    platform: str,
    diff_ids: Sequence[Digest],
    created: str | None = None,
    history: Sequence[History] = (),
) -> bytes:
    """Return canonical JSON: equal arguments give equal bytes.

    `created` (RFC 3339) is left out when None, so that an image is a function of its inputs.

    Raises:
        InvalidPlatform: `platform` names none.
    """
    target = parse_platform(platform)
    document: dict[str, Any] = {
        "architecture": target.architecture,
        "os": target.os,
        "config": config_document(config),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    if target.variant:
        document["variant"] = target.variant
    if created is not None:
        document["created"] = created
    if history:
        document["history"] = [_history_document(step) for step in history]
    return canonical_json(document)


def canonical_json(document: object) -> bytes:
    """Return the one JSON text of `document`: sorted names, no white space, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def config_document(config: ImageConfig) -> dict[str, Any]:
    """Return the `config` object of an image's JSON; what is empty is left out."""
    fields: dict[str, Any] = {
        "User": config.user,
        "WorkingDir": config.workdir,
        "StopSignal": config.stop_signal,
        "Env": [f"{name}={value}" for name, value in config.env],
        "Labels": dict(sorted(config.labels)),
        "ExposedPorts": {port: {} for port in sorted(config.exposed_ports)},
        "Volumes": {path: {} for path in sorted(config.volumes)},
        "OnBuild": list(config.on_build),
    }
    document = {name: value for name, value in fields.items() if value}
    for name, words in (("Entrypoint", config.entrypoint), ("Cmd", config.cmd), ("Shell", config.shell)):
        if words is not None:
            document[name] = list(words)
    if config.healthcheck is not None:
        document["Healthcheck"] = _healthcheck_document(config.healthcheck)
    return document


def _parse_document(document: Mapping[str, Any]) -> ParsedImage:
    root = document.get("rootfs") or {}
    history = document.get("history") or []
    system = str(document.get("os") or "linux")
    architecture = str(document.get("architecture") or "amd64")
    return ParsedImage(
        config=_parse_config(document.get("config") or {}),
        platform=str(make_platform(system, architecture, str(document.get("variant") or ""))),
        diff_ids=tuple(Digest(text) for text in _words(root.get("diff_ids")) or ()),
        created=document.get("created"),
        history=tuple(_parse_history(step) for step in history),
    )


def _parse_config(table: Mapping[str, Any]) -> ImageConfig:
    health = table.get("Healthcheck")
    return ImageConfig(
        env=_parse_env(_words(table.get("Env")) or ()),
        entrypoint=_words(table.get("Entrypoint")),
        cmd=_words(table.get("Cmd")),
        user=str(table.get("User") or ""),
        workdir=str(table.get("WorkingDir") or ""),
        labels=tuple(sorted((str(k), str(v)) for k, v in (table.get("Labels") or {}).items())),
        exposed_ports=tuple(sorted({_port(port) for port in table.get("ExposedPorts") or {}})),
        volumes=tuple(sorted(table.get("Volumes") or {})),
        stop_signal=str(table.get("StopSignal") or ""),
        healthcheck=_parse_healthcheck(health) if health else None,
        shell=_words(table.get("Shell")),
        on_build=_words(table.get("OnBuild")) or (),
    )


def _words(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not all(isinstance(word, str) for word in value):
        raise TypeError(f"expected a list of texts, got {value!r}")
    return tuple(value)


def _parse_env(lines: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}  # a repeated name keeps its first place and its last value
    for line in lines:
        name, _, value = line.partition("=")
        found[name] = value
    return tuple(found.items())


def _port(text: str) -> str:
    return text if "/" in text else f"{text}/tcp"


def _parse_healthcheck(table: Mapping[str, Any]) -> ops.Healthcheck | None:
    test = _words(table.get("Test")) or ()
    if not test or test[0] == "NONE":
        return None
    return ops.Healthcheck(
        args=test[1:] if test[0] in {"CMD", "CMD-SHELL"} else test,
        shell=test[0] == "CMD-SHELL",
        interval_s=int(table.get("Interval") or 0) / _NANOSECONDS,
        timeout_s=int(table.get("Timeout") or 0) / _NANOSECONDS,
        start_period_s=int(table.get("StartPeriod") or 0) / _NANOSECONDS,
        start_interval_s=int(table.get("StartInterval") or 0) / _NANOSECONDS,
        retries=int(table.get("Retries") or 0),
    )


def _healthcheck_document(health: ops.Healthcheck) -> dict[str, Any]:
    times = {
        "Interval": health.interval_s,
        "Timeout": health.timeout_s,
        "StartPeriod": health.start_period_s,
        "StartInterval": health.start_interval_s,
    }
    document: dict[str, Any] = {"Test": ["CMD-SHELL" if health.shell else "CMD", *health.args]}
    document |= {name: round(seconds * _NANOSECONDS) for name, seconds in times.items() if seconds}
    if health.retries:
        document["Retries"] = health.retries
    return document


def _parse_history(step: Mapping[str, Any]) -> History:
    return History(
        created_by=str(step.get("created_by") or ""),
        created=str(step.get("created") or ""),
        comment=str(step.get("comment") or ""),
        author=str(step.get("author") or ""),
        is_empty=bool(step.get("empty_layer")),
    )


def _history_document(step: History) -> dict[str, Any]:
    document: dict[str, Any] = {
        "created": step.created,
        "created_by": step.created_by,
        "comment": step.comment,
        "author": step.author,
        "empty_layer": step.is_empty,
    }
    return {name: value for name, value in document.items() if value}
