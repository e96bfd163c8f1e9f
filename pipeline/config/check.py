"""Tables become a `Config`: nothing is coerced, every problem is found, with its path and what was expected.

Imported only when somebody set something: cattrs costs a third of a `--help`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args, get_origin

from cattrs import (
    BaseValidationError,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
)
from cattrs.gen import make_dict_structure_fn, override

from pipeline.config.delivery_policy import Moment
from pipeline.config.notify import Duration, SecretPlace, Whole, find_notify_problems
from pipeline.config.release import TagPrefix
from pipeline.config.values import (
    FINDING_KINDS,
    Command,
    Config,
    Count,
    Hosts,
    PackageName,
    Percent,
    Port,
    ProjectPath,
    PythonVersion,
    Seconds,
    Shards,
    Share,
    Size,
    Table,
    Times,
    key_of,
    show,
    suggest,
)

if TYPE_CHECKING:
    from pipeline.config.delivery import Environment

T = TypeVar("T")


class Unfit(ValueError):
    """A value's complaint: what should be there, and what is."""

    def __init__(self, what: str, got: object, more: str = "") -> None:
        super().__init__(f"expected {what}, got {show(got)}{more}")


def find_problems(values: Table) -> list[tuple[str, str]]:
    """Check the tables: the path of each problem and its sentence, in the order of the settings."""
    from pipeline.config.services import find_service_problems

    found = []
    try:
        _converter().structure(values, Config)
    except BaseValidationError as error:
        found = list(_complaints(error, ()))
    found += find_service_problems(values.get("services"))
    return found + _kind_problems(values.get("policy")) + find_notify_problems(values.get("notify"))


def _kind_problems(policy: object) -> list[tuple[str, str]]:
    """Names under `[tool.pipeline.policy.kinds]` that no finding has."""
    kinds = policy.get("kinds") if isinstance(policy, dict) else None
    names = [name for name in kinds if name not in FINDING_KINDS] if isinstance(kinds, dict) else []
    return [(f"policy.kinds.{name}", _unknown(name, FINDING_KINDS)) for name in names]


def find_environment_problems(values: Table) -> list[tuple[str, str]]:
    """Check tables of one environment, of one source: the path of each problem and its sentence."""
    if "name" in values:
        return [("name", "an environment is named by its table, or by its file")]
    try:
        parse_environment({**values, "name": "x"})
    except BaseValidationError as error:
        return list(_complaints(error, ()))
    return []


def parse_environment(values: Table) -> Environment:
    """Make an `Environment` of tables in which `find_environment_problems` found none."""
    from pipeline.config.delivery import Environment

    return _converter().structure(values, Environment)


def parse(values: Table) -> Config:
    """Make a `Config` of tables in which `find_problems` found none."""
    return _converter().structure(values, Config)


def find_problems_of(values: Table, kind: type[T]) -> list[tuple[str, str]]:
    """Check tables of a file of their own, which become a `kind`: path and sentence of each problem."""
    try:
        parse_as(values, kind)
    except BaseValidationError as error:
        return list(_complaints(error, ()))
    return []


def parse_as(values: Table, kind: type[T]) -> T:
    """Make a `kind` of tables in which `find_problems_of` found none."""
    return _converter().structure(values, kind)


def _complaints(error: BaseException, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Walk the validation errors: the path of each and its sentence."""
    if isinstance(error, ForbiddenExtraKeysError):
        known = [key_of(item.name) for item in fields(error.cl)]
        known = [key for key in known if key not in ("origins", "name")]
        for extra in sorted(error.extra_fields):
            yield ".".join((*path, extra)), _unknown(extra, known)
    elif isinstance(error, ClassValidationError):
        noted, other = error.group_exceptions()
        for inner, note in noted:
            yield from _complaints(inner, (*path, key_of(note.name)))
        for inner in other:
            yield from _complaints(inner, path)
    elif isinstance(error, IterableValidationError):
        noted_items, other = error.group_exceptions()
        for inner, item in noted_items:
            yield from _complaints(inner, (*path, str(item.index)))
        for inner in other:
            yield from _complaints(inner, path)
    else:
        missing = isinstance(error, KeyError)  # a key without a default
        yield ".".join(path), "expected a value, got none" if missing else str(error)


def _unknown(key: str, known: Sequence[str]) -> str:
    """Say that a key is unknown, and which one may have been meant."""
    return f"unknown key{suggest(key, known) or '; known: ' + ', '.join(known)}"


@lru_cache(maxsize=1)
def _converter() -> Converter:
    """Make the converter that turns tables into the classes of `values` and coerces nothing."""
    converter = Converter(detailed_validation=True, forbid_extra_keys=True)

    def table_of(cls: Any) -> Callable[[Any, Any], Any]:
        changes = {f.name: override(rename=key_of(f.name)) for f in fields(cls) if key_of(f.name) != f.name}
        if any(f.name == "origins" for f in fields(cls)):
            changes["origins"] = override(omit=True)
        make: Any = make_dict_structure_fn
        inner = make(
            cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True, **changes
        )
        return lambda value, of: inner(_table(value), of)

    def mapping_of(of: Any) -> Callable[[Any, Any], Any]:
        plain: Any = dict[str, get_args(of)[1]]  # type: ignore[misc]  # the type is made at run time
        return lambda value, _: converter.structure(_table(value), plain)

    def literal_of(of: Any) -> Callable[[Any, Any], Any]:
        return lambda value, _: _one_of(value, get_args(of))

    converter.register_structure_hook_factory(is_dataclass, table_of)
    converter.register_structure_hook_factory(_is_mapping, mapping_of)
    converter.register_structure_hook_factory(_is_literal, literal_of)
    converter.register_structure_hook_func(lambda of: of == tuple[str, ...], lambda value, _: _strings(value))
    for of, hook in _HOOKS.items():
        converter.register_structure_hook(of, _ignoring_type(hook))
    return converter


def _is_literal(of: Any) -> bool:
    return get_origin(of) is Literal


def _is_mapping(of: Any) -> bool:
    origin: Any = get_origin(of)
    return origin is Mapping


def _ignoring_type(hook: Callable[[object], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: hook(value)


def _table(value: object) -> Table:
    if not isinstance(value, dict):
        raise Unfit("a table", value)
    return value


def _one_of(value: object, choices: tuple[str, ...]) -> object:
    """Take one of a few words."""
    if value not in choices:
        what = " or ".join(f'"{choice}"' for choice in choices)
        raise Unfit(what, value, suggest(value, choices) if isinstance(value, str) else "")
    return value


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise Unfit("true or false", value)
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise Unfit("a string", value)
    return value


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Unfit("an array of strings", value)
    return tuple(value)


def _command(value: object) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return ("sh", "-c", value)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise Unfit("a command line or an array of strings", value)
    return tuple(value)


def _hosts(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) and value else _strings(value)


def _whole(least: int) -> Callable[[object], int]:
    def parse_whole(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise Unfit(f"a whole number of at least {least}", value)
        return value

    return parse_whole


def _seconds(value: object) -> float:
    seconds = parse_duration(value) if isinstance(value, str) else None
    if seconds is None:
        raise Unfit('a duration such as "30s" or "5m"', value)
    return seconds


def parse_duration(text: str) -> float | None:
    """Read "250ms", "30s", "5m", "1h30m" as seconds; None when it is none of these or not more than zero."""
    part = r"(\d+(?:\.\d+)?)(ms|s|m|h|d)"
    if not re.fullmatch(f"(?:{part})+", text):
        return None
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    return float(sum(float(number) * units[unit] for number, unit in re.findall(part, text))) or None


def _moment(value: object) -> datetime:
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime):
        raise Unfit('a time such as "2026-12-18T18:00"', value)
    return moment


def _size(value: object) -> int:
    size = parse_size(value) if isinstance(value, str) else value
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise Unfit('a size such as "500MB" or "2GiB"', value)
    return size


def parse_size(text: str) -> int | None:
    """Read "1000", "500MB", "2GiB" as bytes; None when it is none of these."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kKMGT]?)(i?)B?", text)
    if not match or (match[3] and not match[2]):
        return None
    base = 1024 if match[3] else 1000
    exponent = ["", "K", "M", "G", "T"].index(match[2].upper())
    return int(float(match[1]) * base**exponent)


def _percent(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise Unfit("a percentage such as 5 or 0.5", value)
    return float(value)


def _shards(value: object) -> str:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise Unfit('"auto" or a whole number of at least 1', value)
    return str(value)


def _share(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 100:
        raise Unfit("a number from 0 to 100", value)
    return float(value)


def _port(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise Unfit("a port from 1 to 65535", value)
    return value


def _project_path(value: object) -> str:
    """Take a path that stays in the project, as written there."""
    parts = value.split("/") if isinstance(value, str) else [".."]
    if not value or ".." in parts or (isinstance(value, str) and value.startswith("/")):
        raise Unfit("a path inside the project", value)
    return "/".join(part for part in parts if part not in ("", ".")) or "."


def _python_version(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"3\.\d{1,2}", value):
        raise Unfit('a Python version such as "3.12"', value)
    return value


def _tag_prefix(value: object) -> str:
    """Take what git allows at the beginning of a tag's name."""
    pattern = r"(?:[A-Za-z0-9_][A-Za-z0-9_+-]*(?:[./][A-Za-z0-9_+-]+)*/?)?"
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise Unfit('what tags begin with, such as "v"', value)
    return value


def _secret_place(value: object) -> str:
    """Take where a secret is; the value itself would be shown with the settings."""
    if not isinstance(value, str) or not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+", value):
        raise ValueError('expected "env:NAME" or "file:PATH"; what is there is not shown: it may be a secret')
    return value


def _package_name(value: object) -> str:
    """Take a name of a Debian package; nothing that apt would read as an option or as a removal."""
    pattern = r"[a-z0-9][a-z0-9.+-]*[a-z0-9.+](?::[a-z0-9-]+)?(?:[=/][A-Za-z0-9.+~:-]+)?"
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise Unfit('a Debian package such as "git"', value)
    return value


_HOOKS: Final[Mapping[Any, Callable[[object], Any]]] = {
    bool: _bool,
    str: _string,
    Seconds: _seconds,
    Moment: _moment,
    Size: _size,
    Count: _whole(1),
    Times: _whole(0),
    Shards: _shards,
    Share: _share,
    Command: _command,
    Hosts: _hosts,
    PythonVersion: _python_version,
    Percent: _percent,
    Port: _port,
    ProjectPath: _project_path,
    PackageName: _package_name,
    TagPrefix: _tag_prefix,
    SecretPlace: _secret_place,
    Whole: _whole(1),
    Duration: _seconds,
}
