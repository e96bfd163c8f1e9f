"""What has to hold between the settings of services; each value by itself is checked in `check`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pipeline.config.values import show, suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HTTP_CHECK: Final = re.compile(r"(?::(\d{1,5}))?(/[\x21-\x7e]*)")


def find_service_problems(services: object) -> list[tuple[str, str]]:
    """Check `[tool.pipeline.services]` as a whole: path and sentence of each problem.

    What has the wrong type is passed over: the check of single values tells it.
    """
    if not isinstance(services, dict):
        return []
    tables = {name: one for name, one in services.items() if isinstance(one, dict)}
    found = []
    for name, table in tables.items():
        problems = [*_own_problems(name, table), *_need_problems(name, table, tables)]
        found += [(".".join(filter(None, ("services", name, key))), text) for key, text in problems]
    if (
        circle := find_circle({name: _strings(one.get("needs")) for name, one in tables.items()})
    ) is not None:
        found.append((f"services.{circle[0]}.needs", f"they need each other: {' → '.join(circle)}"))
    return found


def _own_problems(name: str, table: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    if not HOST_NAME.fullmatch(name):
        found.append(("", f"expected a host name of letters, digits and `-` as its name, got {show(name)}"))
    if ("image" in table) == ("dockerfile" in table):
        found.append(("", "expected one of `image` and `dockerfile`"))
    for key in ("context", "target", "build_args"):
        if key in table and "dockerfile" not in table:
            found.append((key, "it belongs to a `dockerfile`, and there is none"))
    found += [
        ("secrets", f"expected names of variables, got {show(one)}")
        for one in _strings(table.get("secrets"))
        if not VARIABLE.fullmatch(one)
    ]
    for key in ("tmp", "volumes"):
        found += [
            (key, f"expected absolute paths inside the service, got {show(path)}")
            for path in _strings(list(table[key]) if isinstance(table.get(key), dict) else table.get(key))
            if not path.startswith("/") or ".." in path.split("/")
        ]
    return found + _health_problems(table)


def _health_problems(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    health = table.get("healthcheck")
    if not isinstance(health, dict):
        return []
    kinds = [key for key in ("command", "http", "tcp") if key in health]
    found = []
    if len(kinds) != 1:
        found.append(("healthcheck", "expected one of `command`, `http` and `tcp`"))
    http = health.get("http")
    if isinstance(http, str):
        match = HTTP_CHECK.fullmatch(http)
        if match is None:
            found.append(("healthcheck.http", f'expected a path such as ":8000/health", got {show(http)}'))
        elif match[1] is None and not table.get("ports"):
            found.append(("healthcheck.http", 'which port is not said: expected ":8000/health", or `ports`'))
    return found


def _need_problems(name: str, table: Mapping[str, Any], tables: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("needs", f"there is no service {show(need)}{suggest(need, list(tables))}")
        for need in _strings(table.get("needs"))
        if need not in tables
    ]


def find_circle(needs: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """Return the first circle of services that need each other, its first name twice; None without one."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done or name not in needs:
            return None
        done.add(name)
        return next((c for need in needs[name] if (c := walk(need, [*path, name]))), None)

    return next((circle for name in needs if (circle := walk(name, []))), None)


def _strings(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list | tuple) else ()
