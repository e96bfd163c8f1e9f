"""How an image is set up: small rules of our own over its configuration and the modes of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pipeline.scan.advisories.times import DAY_S, age_s, in_days, parse_time
from pipeline.scan.finding import Finding, InFile, Rule, Severity, Witness
from pipeline.scan.image.interest import CACHES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.scan.finding import Level
    from pipeline.scan.image.archive import ImageConfig
    from pipeline.scan.image.inventory import Inventory
    from pipeline.scan.image.layers import Held, ImageRead

SCANNER: Final = "image setup"
MOST_FILES: Final = 20  # told one by one of one rule; the rest is counted
ROOT: Final = ("", "0", "root")
YEAR_OF_NO_TIME: Final = 1990  # what is older is set so that images can be built again the same
MEBIBYTE: Final = 1024**2
# Names of values that are nobody's business; what only points to a file or names a kind is none.
_SECRET: Final = re.compile(
    r"(?:^|[_.-])(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credentials?|auth[_-]?key)(?:$|[_.-](?:id|key|value|access)$|$)",
    re.IGNORECASE,
)
_NO_SECRET: Final = re.compile(
    r"|true|false|none|null|yes|no|\d{1,3}|/.*|\$\{?\w+\}?|\$\(.*|`.*|<.*>|\*+", re.IGNORECASE
)
_ASSIGNED: Final = re.compile(r"(?:^|[\s|;&])([A-Za-z_][\w.-]*)=(\"[^\"]*\"|'[^']*'|[^\s;|&]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule."""

    level: Level
    cwe: int  # 0: none
    title: str
    fix: str  # "": what it says of the place


def _check(level: Level, cwe: int, title: str, fix: str) -> Check:
    return Check(level=level, cwe=cwe, title=title, fix=fix)


CHECKS: Final[dict[str, Check]] = {
    "image-root-user": _check(
        "medium",
        250,
        "the image runs as root",
        "create a user in the Dockerfile and name it: `USER 1000`",
    ),
    "image-no-healthcheck": _check(
        "low",
        0,
        "the image listens and says nothing of its health",
        "add a HEALTHCHECK that asks the port, unless the platform has a probe of its own",
    ),
    "image-secret-env": _check(
        "high",
        798,
        "a variable of the image holds a secret",
        "take it out of the Dockerfile, give it when the container starts, and change the secret",
    ),
    "image-secret-label": _check(
        "high", 798, "a label of the image holds a secret", "take the label out, and change the secret"
    ),
    "image-secret-history": _check(
        "high",
        798,
        "a step of the build holds a secret",
        "give it to the step by `RUN --mount=type=secret`, and change the secret",
    ),
    "image-setuid": _check(
        "medium", 250, "a program that runs as its owner was added", "take the bit away: `chmod a-s`"
    ),
    "image-world-writable": _check(
        "low",
        732,
        "everybody may write here",
        "take the right away: `chmod o-w`; of a folder all may use, set the sticky bit: `chmod +t`",
    ),
    "image-cache-left": _check("info", 0, "a package manager's cache was left in the image", ""),
    "image-base-old": _check(
        "medium",
        0,
        "the base image is old",
        "build on the newest image of that name, without cache: `docker build --pull`",
    ),
}


def judge_setup(
    image: ImageRead, inventory: Inventory, *, name: str, dockerfile: str, now: datetime, max_age_s: float
) -> list[Finding]:
    """All findings about how an image is set up.

    Args:
        name: The image's, for places inside it.
        dockerfile: Its path in the project, for what only the configuration says.
        max_age_s: Age from which the base is old, in seconds.
    """
    at = InFile(path=dockerfile)
    told = _of_config(image.config, now, max_age_s)
    found = [_finding(rule, message, at) for rule, message in told]
    found += _of_files(image, inventory, name)
    return found


def _finding(rule: str, message: str, place: InFile, fix: str = "") -> Finding:
    check = CHECKS[rule]
    return Finding(
        id="",
        kind="misconfiguration",
        rule=Rule(id=rule, name=rule),
        title=check.title,
        message=message,
        severity=Severity(level=check.level, basis=f"rule {rule}"),
        place=place,
        confidence="high",
        cwe=(check.cwe,) if check.cwe else (),
        fix=fix or check.fix,
        witnesses=(Witness(tool=SCANNER, version="", rule=rule),),
    )


def _of_config(config: ImageConfig, now: datetime, max_age_s: float) -> Iterator[tuple[str, str]]:
    """Rules and what they say, of the configuration alone; values are never told."""
    if config.user.partition(":")[0] in ROOT:
        said = f"its user is `{config.user[:60]}`" if config.user else "it names no user"
        yield "image-root-user", f"{said}: whoever breaks out of the process is root in the container"
    if config.ports and not config.has_healthcheck:
        yield "image-no-healthcheck", f"it exposes {', '.join(config.ports[:5])} without a health check"
    for line in config.env:
        variable, _, value = line.partition("=")
        if is_secret(variable, value):
            yield "image-secret-env", f"`{variable[:100]}` is set in the image, for all who have it to read"
    for label, value in config.labels.items():
        if is_secret(label, value):
            yield "image-secret-label", f"the label `{label[:100]}` can be read by all who have the image"
    variables = {line.partition("=")[0] for line in config.env}
    steps = {name for _, step in config.history for name in _secrets_in(step)} - variables
    for variable in sorted(steps):
        yield "image-secret-history", f"the history of the image tells the value of `{variable[:100]}`"
    age = base_age_s(config, now)
    if age is not None and age > max_age_s:
        yield "image-base-old", f"the base was made {in_days(age)} ago; {in_days(max_age_s)} are allowed"


def is_secret(name: str, value: str) -> bool:
    """Whether a variable's name promises a secret and its value could be one."""
    return _SECRET.search(name) is not None and _NO_SECRET.fullmatch(value.strip("\"'")) is None


def _secrets_in(step: str) -> Iterator[str]:
    for name, value in _ASSIGNED.findall(step):
        if is_secret(name, value):
            yield name


def base_age_s(config: ImageConfig, now: datetime) -> float | None:
    """How old the oldest step of an image is; None where it does not say."""
    told = [when for when, _ in config.history if when] or [config.created]
    made = parse_time(told[0])
    if made is None or made < datetime(YEAR_OF_NO_TIME, 1, 1, tzinfo=UTC):
        return None
    return age_s(told[0], now)


def _of_files(image: ImageRead, inventory: Inventory, name: str) -> Iterator[Finding]:
    files = sorted(image.files.values(), key=lambda one: one.path)
    added = [one for one in files if one.is_setuid and one.path not in inventory.owned]
    yield from _told(image, name, "image-setuid", added, "no package of the distribution brought it")
    writable = [one for one in files if one.is_world_writable]
    yield from _told(image, name, "image-world-writable", writable, "any process may change what others use")
    for manager, (_, fix) in CACHES.items():
        left = [one for one in files if one.cache == manager]
        size = sum(one.size for one in left)
        if size >= MEBIBYTE:
            place = _place(image, name, left[0])
            message = f"{len(left)} files of {manager}, {size / MEBIBYTE:.1f} MiB"
            yield _finding("image-cache-left", message, place, fix)


def _told(image: ImageRead, name: str, rule: str, files: Iterable[Held], why: str) -> Iterator[Finding]:
    """A finding for each file, up to a number; the last one counts the rest."""
    listed = list(files)
    for one in listed[:MOST_FILES]:
        yield _finding(rule, f"mode {one.mode:04o}: {why}", _place(image, name, one))
    if rest := listed[MOST_FILES:]:
        message = f"{len(rest)} more files, such as `{rest[0].path[:200]}`: {why}"
        yield _finding(rule, message, InFile(path=f"{name}!/"))


def _place(image: ImageRead, name: str, held: Held) -> InFile:
    return InFile(path=f"{name}!/{held.path}", layer=image.layers[held.layer].diff_id)


DEFAULT_AGE_S: Final = 180 * DAY_S
