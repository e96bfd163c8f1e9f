"""The settings of releases: `[tool.pipeline.release]`."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time by the check
from dataclasses import dataclass, field
from typing import Literal, NewType, TypeAlias

SignKind: TypeAlias = Literal["none", "ssh", "gpg"]
ForgeKind: TypeAlias = Literal["none", "github", "gitlab"]
Prerelease: TypeAlias = Literal["alpha", "beta", "rc", "dev"]
TagPrefix = NewType("TagPrefix", str)  # what git takes in the name of a tag; "" for none


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSettings:
    """`[tool.pipeline.release]`: when a version is released, what of it is signed, and where it goes."""

    when: Literal["after_health", "before_deploy"] = "after_health"  # `before_deploy` for libraries
    sign: SignKind = "none"
    key: str | None = None  # ssh: path of a key; gpg: its id; None: git's own `user.signingkey`
    allowed_signers: str | None = None  # path of the ssh keys whose signatures count; None: git's own
    tag_prefix: TagPrefix = TagPrefix("v")
    prerelease: Mapping[str, Prerelease] = field(
        default_factory=dict
    )  # pattern of a branch's name to the kind
    floating: tuple[Literal["major", "minor"], ...] = ()  # tags that follow the newest: `v1`, `v1.2`
    remote: str = "origin"
    files: tuple[str, ...] = ("dist/*.whl", "dist/*.tar.gz")  # globs of what is delivered
    changelog: str | None = None  # its section of the version comes first in the notes
    forge: ForgeKind = "none"
    forge_api: str | None = None  # URL; None: made of the remote's host
    forge_repository: str | None = None  # "owner/name"; None: the remote's
    index: str | None = None  # URL that packages are uploaded to; None: no package index
    index_simple: str | None = None  # URL of its simple API; None: known for PyPI alone
