"""Which image names have a recipe: a stand-in for an official image, made of signed packages.

Pure. Building one is in `build`; where packages come from and who vouches for them is in `archive`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, get_args

from pipeline.digest import Digest, digest_json
from pipeline.engine.recipes.releases import (
    ALIASES,
    DEBIAN,
    RELEASES,
    UBUNTU,
    Distribution,
    Release,
    releases_of,
)
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Family = Literal["debian", "ubuntu", "python", "node", "postgres", "redis"]

RECIPES_VERSION: Final = 2
"""Part of every recipe's digest: raised when the way recipes are built changes."""

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HUBS: Final = (
    *("docker.io/library/", "docker.io/", "index.docker.io/library/", "index.docker.io/", "library/"),
    "public.ecr.aws/docker/library/",
)
_WORDS: Final = frozenset({"slim", "latest", "lts", "current", "rolling"})
_SUITES: Final = frozenset(
    {*(release.suite for release in RELEASES), *(alias for alias in ALIASES if alias.isalpha())}
)
_WITH_ADDUSER: Final = frozenset({"bullseye", "bookworm"})  # Debian's own images of later releases lack it
_OTHER_PYTHONS: Final = ("3.8", "3.7")

_SLIM_PYTHON: Final = (
    "ca-certificates", "libpython3-dev", "netbase", "python-is-python3", "python3", "python3-dev",
    "python3-pip", "python3-venv", "tzdata",
)  # fmt: skip
_SLIM_NODE: Final = ("ca-certificates", "nodejs", "npm")
_FULL: Final = (
    "build-essential", "ca-certificates", "curl", "git", "libbz2-dev", "libffi-dev", "libjpeg-dev",
    "liblzma-dev", "libpq-dev", "libreadline-dev", "libsqlite3-dev", "libssl-dev", "libxml2-dev",
    "libxslt1-dev", "libyaml-dev", "openssh-client", "patch", "pkg-config", "procps", "unzip", "wget",
    "xz-utils", "zlib1g-dev",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a stand-in is made of. `note` says in one sentence how it differs from the image it stands for."""

    name: str  # the family and its version, such as "python 3.11"
    family: Family
    suite: str
    packages: tuple[str, ...]  # beside the minimal base; sorted
    is_slim: bool
    distribution: Distribution = DEBIAN
    env: tuple[tuple[str, str], ...] = (("PATH", _PATH),)
    cmd: tuple[str, ...] = ("bash",)
    entrypoint: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()  # such as "80/tcp"
    workdir: str = ""
    note: str

    @property
    def digest(self) -> Digest:
        """Name the recipe by what it says; the packages' versions are not known to it."""
        return digest_json(
            [
                *(RECIPES_VERSION, self.family, self.suite, self.packages),
                *(self.is_slim, self.env, self.cmd, self.entrypoint),
            ]
        )


class BadPythonRequirement(UsageError):
    """A `requires-python` is not a version specifier, or no Python satisfies it."""

    def __init__(self, requires_python: str, reason: str) -> None:
        super().__init__(f"cannot pick a Python for `requires-python = {requires_python!r}`: {reason}")
        self.requires_python = requires_python


def find_recipe(reference: str) -> Recipe | None:
    """Return the stand-in for an image name; None where there is none (`why_no_recipe` says why)."""
    found = _decide(reference)
    return found if isinstance(found, Recipe) else None


def why_no_recipe(reference: str) -> str:
    """Say in one clause why `reference` has no recipe; "" when it has one."""
    found = _decide(reference)
    return found if isinstance(found, str) else ""


def python_image_for(requires_python: str) -> str:
    """Return the slim Python image for a `requires-python`, such as "python:3.13-slim".

    The newest Python that Debian releases carry goes first, so that a recipe can stand in for the image;
    only when none of those satisfies are others looked at. An empty text takes any.

    Raises:
        BadPythonRequirement: It is no version specifier, or nothing satisfies it.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        wanted = SpecifierSet(requires_python)
    except InvalidSpecifier as error:
        raise BadPythonRequirement(requires_python, "it is not a version specifier") from error
    for release in RELEASES:
        if wanted.contains(release.python):
            return f"python:{_minor(release.python)}-slim"
    others = (_minor(release.python) for release in RELEASES)
    for minor in (*others, *_OTHER_PYTHONS):
        if any(wanted.contains(f"{minor}.{patch}") for patch in range(40)):
            return f"python:{minor}-slim"
    raise BadPythonRequirement(requires_python, "no Python from 3.7 to 3.14 satisfies it")


def _decide(reference: str) -> Recipe | str:
    if "@" in reference:
        return "it is pinned by digest, which only the registry's own image has"
    name, _, tag = _short(reference).partition(":")
    tag = tag or "latest"
    words = tag.split("-")
    from pipeline.engine.recipes.servers import SERVERS, server_recipe  # it needs `Recipe`

    if name in SERVERS:
        return server_recipe(name, words)
    if "/" in name or name not in get_args(Family):
        return f"recipes exist for the official {_listed(get_args(Family))} images alone"
    if other := [word for word in words if word.startswith(("alpine", "windows"))]:
        return f"recipes are Debian and Ubuntu, not {other[0]}"
    is_slim = "slim" in words
    if name in ("debian", "ubuntu"):
        return _system(DEBIAN if name == "debian" else UBUNTU, words, is_slim=is_slim or name == "ubuntu")
    return _runtime("python" if name == "python" else "node", words, is_slim=is_slim)


def _short(reference: str) -> str:
    for hub in _HUBS:
        if reference.startswith(hub):
            return reference.removeprefix(hub)
    return reference


def _system(distribution: Distribution, words: list[str], *, is_slim: bool) -> Recipe | str:
    """Return the stand-in for a distribution's own image."""
    known = releases_of(distribution)
    wanted = words[0].partition(".")[0] if distribution == DEBIAN else words[0]
    suite = known[0].suite if wanted in _WORDS else ALIASES.get(wanted, wanted)
    if suite not in {release.suite for release in known}:
        names = _listed([release.suite for release in known])
        return f"recipes know the {distribution.name} releases {names}, not `{words[0]}`"
    return Recipe(
        name=f"{distribution.name.lower()} {suite}",
        family="debian" if distribution == DEBIAN else "ubuntu",
        suite=suite,
        packages=distribution.extra_packages,
        is_slim=is_slim,
        distribution=distribution,
        note=f"{distribution.name} {suite} from its packages of today, not the registry's image",
    )


def _runtime(family: Family, words: list[str], *, is_slim: bool) -> Recipe | str:
    wanted = words[0]
    if wanted in _WORDS | _SUITES:
        wanted = ""
    elif re.fullmatch(r"\d+(\.\d+){0,2}", wanted) is None:
        return f"no recipe knows the version `{wanted}`"
    release = _nearest(family, wanted)
    if release is None:
        return f"recipes know {family} {_carried(family)}, not {wanted}"
    version = _version(release, family)
    different = "" if _is_version(version, wanted) else f", not the {wanted} asked for,"
    note = f"{family} {version}{different} from {release.distribution.name} {release.suite}"
    base = _python(version) if family == "python" else _node(version)
    packages = {*base.packages, *([] if is_slim else _FULL), *release.distribution.extra_packages}
    if release.suite not in _WITH_ADDUSER and _WITH_ADDUSER.intersection(words):
        packages.add("adduser")
    return replace(
        base,
        suite=release.suite,
        distribution=release.distribution,
        packages=tuple(sorted(packages)),
        is_slim=is_slim,
        note=note,
    )


def _python(version: str) -> Recipe:
    return Recipe(
        name=f"python {_minor(version)}",
        family="python",
        suite="",
        packages=_SLIM_PYTHON,
        is_slim=True,
        env=(("PATH", _PATH), ("LANG", "C.UTF-8"), ("PYTHON_VERSION", version)),
        cmd=("python3",),
        note="",
    )


def _node(version: str) -> Recipe:
    return Recipe(
        name=f"node {version.partition('.')[0]}",
        family="node",
        suite="",
        packages=_SLIM_NODE,
        is_slim=True,
        cmd=("node",),
        entrypoint=("docker-entrypoint.sh",),
        note="",
    )


def _nearest(family: Family, wanted: str) -> Release | None:
    """Pick the release with the version asked for, else the one with the next newer of the same kind.

    Where less is asked for than tells versions apart (`python:3`, `node`), the preferred release will do.
    """
    depth = _depth(family)
    asked = _numbers(wanted)[:depth]
    fitting = [each for each in RELEASES if _numbers(_version(each, family))[:depth] >= asked]
    if family == "python" and asked:
        fitting = [release for release in fitting if _numbers(release.python)[:1] == asked[:1]]
    if len(asked) < depth:
        return fitting[0] if fitting else None
    # Of equals the first.
    return min(fitting, key=lambda each: _numbers(_version(each, family))[:depth], default=None)


def _version(release: Release, family: Family) -> str:
    return release.python if family == "python" else release.node


def _depth(family: Family) -> int:
    """Return how many numbers tell versions apart."""
    return 2 if family == "python" else 1


def _carried(family: Family) -> str:
    """Return the versions that there are stand-ins for, such as "3.9, 3.10 and 3.11"."""
    found = {_numbers(_version(each, family))[: _depth(family)] for each in RELEASES}
    return _listed([".".join(map(str, version)) for version in sorted(found)])


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _is_version(version: str, wanted: str) -> bool:
    return _numbers(version)[: len(_numbers(wanted))] == _numbers(wanted)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")) if version else ()


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
