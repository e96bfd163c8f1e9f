"""A request with inputs that can be exchanged one by one."""

from __future__ import annotations

import json
import re
import urllib.parse
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

Spot: TypeAlias = Literal["path", "query", "header", "cookie", "form", "json"]
FORM: Final = "application/x-www-form-urlencoded"
_IDS: Final = re.compile(r"\d+|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{12,}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One value a request carries."""

    spot: Spot
    name: str
    value: Any
    kind: str = "string"  # as JSON schema calls it


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What can be sent; `route` is the path with `{name}` for inputs of the path."""

    method: str
    route: str  # as it is told
    path: str  # as it is filled; of a page without description the path itself
    inputs: tuple[Input, ...] = ()
    answers: dict[str, Any] = field(default_factory=dict, compare=False)  # status to JSON schema

    @property
    def name(self) -> str:
        """Method and route."""
        return f"{self.method} {self.route}"

    def having(self, changed: Input, value: Any) -> Request:
        """The request with another value of one input."""
        inputs = tuple(replace(one, value=value) if one == changed else one for one in self.inputs)
        return replace(self, inputs=inputs)

    def of(self, spot: Spot) -> dict[str, Any]:
        """The inputs of a spot, by name."""
        return {one.name: one.value for one in self.inputs if one.spot == spot}

    @property
    def target(self) -> str:
        """Path and query as they are sent."""
        path = self.path
        for name, value in self.of("path").items():
            path = path.replace("{" + name + "}", urllib.parse.quote(as_text(value), safe=""))
        query = urllib.parse.urlencode({name: as_text(value) for name, value in self.of("query").items()})
        return f"{path}?{query}" if query else path

    @property
    def headers(self) -> dict[str, str]:
        """The headers as they are sent."""
        sent = {name: _in_header(value) for name, value in self.of("header").items()}
        if cookies := self.of("cookie"):
            sent["Cookie"] = "; ".join(f"{name}={_in_header(value)}" for name, value in cookies.items())
        if self.of("form"):
            sent["Content-Type"] = FORM
        elif self.of("json"):
            sent["Content-Type"] = "application/json"
        return sent

    @property
    def body(self) -> bytes | None:
        """The body as it is sent."""
        if form := self.of("form"):
            return urllib.parse.urlencode({name: as_text(value) for name, value in form.items()}).encode()
        if table := self.of("json"):
            return json.dumps(table).encode()
        return None


def as_text(value: Any) -> str:
    """A value as it stands in an address."""
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _in_header(value: Any) -> str:
    return urllib.parse.quote(as_text(value), safe=" '\"<>()/;:=,.")


def route_of(path: str, known: tuple[str, ...]) -> str:
    """The template a path belongs to: of the description, else with `{id}` for what looks like one."""
    for template in known:
        pattern = re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and ("{" not in path):
            return template
    return "/".join("{id}" if _IDS.fullmatch(part) else part for part in path.split("/"))


def page_request(target: str, known: tuple[str, ...]) -> Request:
    """A GET of an address that a page links to; what its query holds are inputs."""
    parts = urllib.parse.urlsplit(target)
    pairs = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    inputs = tuple(
        Input(spot="query", name=name, value=value, kind="integer" if value.isdecimal() else "string")
        for name, value in dict(pairs).items()
    )
    path = parts.path or "/"
    return Request(method="GET", route=route_of(path, known), path=path, inputs=inputs)
