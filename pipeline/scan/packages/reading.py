"""What readers of lock files share: their one error, and parsing that turns damage into it."""

from __future__ import annotations

import json
import tomllib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.scan.yamls import load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator


class LockBroken(PipelineError):
    """A file that names packages cannot be read."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"cannot read the packages of `{path}`: {why}")
        self.path = path
        self.why = why


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what goes wrong on a file that is not in its format into `LockBroken`."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError) as error:
        said = str(error).splitlines()
        raise LockBroken(path, f"{type(error).__name__}: {said[0][:200] if said else ''}") from error


def parse_toml(path: str, text: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        LockBroken: It is none.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise LockBroken(path, f"it is not valid TOML: {str(error)[:200]}") from error


def parse_json(path: str, text: str) -> dict[str, Any]:
    """Read a JSON table.

    Raises:
        LockBroken: It is none.
    """
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LockBroken(path, f"it is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(table, dict):
        raise LockBroken(path, "it is no table")
    return table


def parse_yaml(path: str, text: str) -> dict[str, Any]:
    """Read a YAML table.

    Raises:
        LockBroken: It is none.
    """
    import yaml

    try:
        table = load_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise LockBroken(path, f"it is not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(table, dict):
        raise LockBroken(path, "it is no table")
    return table
