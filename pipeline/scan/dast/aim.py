"""What a dynamic scan is aimed at, and how far it may go."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from pipeline.errors import PipelineError
from pipeline.scan.dast.operations import base_path
from pipeline.scan.dast.prober.request import route_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.scanner import Target

SECRETS: Final = re.compile(
    r"(?i)((?:set-)?cookie|authorization|proxy-authorization|x-api-key|[\w-]*(?:token|secret|password)[\w-]*)"
    r"(\"?\s*[:=]\s*\"?)([^\r\n\"'&]+)"
)


METADATA_HOSTS: Final = frozenset({"metadata", "metadata.google.internal", "metadata.goog"})
METADATA: Final = tuple(
    ipaddress.ip_network(one)
    for one in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128", "100.100.100.200/32")
)


class AimRefused(PipelineError):
    """An address may not be scanned."""

    def __init__(self, address: str, what: str, *, hint: str = "") -> None:
        super().__init__(f"cannot scan `{address}`: {what}")
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """The service as the scanners' containers see it."""

    base: str  # scheme, host and port
    start: str = "/"  # the path where pages begin
    description: dict[str, Any] | None = None  # OpenAPI
    writes: bool = False  # requests that may change something are sent
    active: bool = False  # attacks are sent
    rate: int = 200  # requests a second
    limit_s: float = 60.0  # of one scanner
    request_timeout_s: float = 5.0  # of our own checks
    pages: int = 300
    exclude: tuple[str, ...] = ()  # regular expressions of paths that are not asked

    @property
    def templates(self) -> tuple[str, ...]:
        """The routes of the description."""
        if self.description is None:
            return ()
        base = base_path(self.description)
        return tuple(base + path for path in self.description["paths"])

    def route(self, path: str) -> str:
        """The template of a path."""
        return route_of(path, self.templates)


def aim_of(target: Target) -> Aim:
    """The aim that a target carries."""
    return cast("Aim", target.options["aim"])


def refuse_unless_agreed(address: str, *, consent: bool, environment: str | None) -> tuple[str, str]:
    """Scheme with host and port of the address, and its path, if it may be scanned.

    Raises:
        AimRefused: It is no web address, holds a password, is a cloud's metadata service, or nobody agreed.
    """
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_address = False
    if not is_address:
        raise AimRefused(address, "it is no http or https address")
    if parts.username or parts.password:
        raise AimRefused(f"{parts.scheme}://{parts.hostname}", "it holds a user name")
    if not consent:
        hint = "if its owner does, state `consent = true` in [tool.pipeline.dast]"
        raise AimRefused(address, "nobody stated that its owner agrees", hint=hint)
    if environment == "production":
        raise AimRefused(address, "this run is for production")
    refuse_metadata(address, [str(parts.hostname)])
    return f"{parts.scheme}://{parts.netloc}", parts.path or "/"


def refuse_metadata(address: str, hosts: Sequence[str]) -> None:
    """Refuse what no owner can agree to: the service that hands a machine's credentials out.

    Args:
        hosts: The host of the address, or what its name resolves to.

    Raises:
        AimRefused: One of them is that service.
    """
    for host in hosts:
        try:
            number = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            is_metadata = host.rstrip(".").lower() in METADATA_HOSTS
        else:
            number = getattr(number, "ipv4_mapped", None) or number
            is_metadata = any(number in network for network in METADATA)
        if is_metadata:
            raise AimRefused(address, f"{host} hands out the credentials of the machine it is asked from")


def redacted(text: str) -> str:
    """Without the values of cookies, credentials and what is called like them."""
    return SECRETS.sub(r"\1\2***", text)


def description_of(data: bytes) -> dict[str, Any] | None:
    """An OpenAPI description in JSON or YAML; None when it is something else."""
    import yaml

    try:
        found = json.loads(data)
    except ValueError:
        try:
            found = yaml.safe_load(data)
        except (yaml.YAMLError, ValueError):
            return None
    is_description = isinstance(found, dict) and isinstance(found.get("paths"), dict)
    return found if is_description else None
