"""Values of secrets, kept beside what runs and named by version: going back to a release restores them too.

A version says whether two values are equal, to nobody who does not have the environment's own key.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.deploy.records import read_record, write_record
from pipeline.deploy.state import StateChanged
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.deploy.state import State

KEY: Final = "secrets/key.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The record of one value, or of the key."""

    value: str = field(repr=False)


class SecretGone(PipelineError):
    """A release needs a value of a secret that is no longer kept."""

    def __init__(self, name: str, version: str) -> None:
        super().__init__(f"cannot read secret `{name}`: its version {version} is not kept any more")
        self.hint = "deploy the release's images with the present values instead"


async def keep_secrets(state: State, values: Mapping[str, str]) -> dict[str, str]:
    """Keep values by name, and return the version of each: `v-` and 12 hexadecimal digits."""
    versions = await find_versions(state, values)
    for name, value in values.items():
        record = _place(name, versions[name])
        data, version = await state.read(record)
        if not data:
            await state.write(record, write_record(Kept(value=value)), version=version)
    return versions


async def find_versions(state: State, values: Mapping[str, str]) -> dict[str, str]:
    """Return the version each value would be kept as, and keep none; makes the key if there is none."""
    if not values:
        return {}
    key = await _key(state)
    return {name: _version(key, name, value) for name, value in values.items()}


async def read_secrets(state: State, versions: Mapping[str, str]) -> dict[str, str]:
    """Return the values of these versions, by name.

    Raises:
        SecretGone: One is not kept any more.
    """
    values = {}
    for name, version in versions.items():
        data, _ = await state.read(_place(name, version))
        if not data:
            raise SecretGone(name, version)
        values[name] = read_record(data, Kept, f"secret {name}").value
    return values


async def _key(state: State) -> bytes:
    """The environment's own key, made when it is first needed."""
    while True:
        data, version = await state.read(KEY)
        if data:
            return bytes.fromhex(read_record(data, Kept, KEY).value)
        try:
            await state.write(KEY, write_record(Kept(value=secrets.token_hex(32))), version=version)
        except StateChanged:
            continue  # somebody else has just made it


def _version(key: bytes, name: str, value: str) -> str:
    return "v-" + hmac.digest(key, f"{name}={value}".encode(), "sha256").hex()[:12]


def _place(name: str, version: str) -> str:
    return f"secrets/{name}/{version}.json"
