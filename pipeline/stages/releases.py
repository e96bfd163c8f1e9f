"""Makes releases: an environment's services with the images they run and the versions of their secrets.

Images are named as settings name them: `built`, `built:NAME`, or a reference. Leaves bringing a release
anywhere to `delivery`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.config.delivery import DeployedService
from pipeline.deploy.release import ImageNotPinned, Release, ReleasedService
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.config.delivery import Environment

BUILT: Final = "built"


class ImageMissing(UsageError):
    """A service runs an image that nobody has given."""

    def __init__(self, service: str, wanted: str, known: Sequence[str]) -> None:
        names = f"; there are: {', '.join(known)}" if known else ""
        super().__init__(f"cannot release `{service}`: there is no image `{wanted}`{names}")
        self.hint = "name it with `--image NAME=REFERENCE`, or let `pipeline run --env` build and push it"


class SecretsMissing(UsageError):
    """Secrets of a release have no value here."""

    def __init__(self, environment: str, names: Sequence[str]) -> None:
        super().__init__(f"cannot release to `{environment}`: no value here for {', '.join(sorted(names))}")
        self.hint = "set variables of these names"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a release is made of besides an environment's settings.

    `images` maps names as settings have them to references; `pins` names of other images to their digests.
    """

    images: Mapping[str, str]
    pins: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""
    version: str = ""


def services_of(environment: Environment) -> Mapping[str, DeployedService]:
    """Return the services of an environment: without settings one, `app`, of the only built image."""
    return environment.deploy.services or {"app": DeployedService()}


def keyed(built: Mapping[str, str]) -> dict[str, str]:
    """Return built images by the names settings have for them; the only one is `built` too."""
    named = {f"{BUILT}:{name}": reference for name, reference in built.items()}
    if len(built) == 1:
        named[BUILT] = next(iter(built.values()))
    return named


def images_of(release: Release) -> dict[str, str]:
    """Return the images of a release by the names its settings have for them."""
    named = {one.settings.image: one.image for one in release.services.values()}
    own = {image for name, image in named.items() if name.partition(":")[0] == BUILT}
    if len(own) == 1:
        named.setdefault(BUILT, own.pop())
    return named


def make_release(environment: Environment, parts: Parts, versions: Mapping[str, str]) -> Release:
    """Return the release that an environment would get.

    Args:
        versions: Of all secrets that its services name.

    Raises:
        ImageMissing: A service runs what was built, and that is not among the images.
        ImageNotPinned: An image is named by a tag that nothing pins.
    """
    return Release(
        services={
            name: ReleasedService(
                image=_image_of(name, one.image, parts),
                settings=one,
                secrets={secret: versions[secret] for secret in one.secrets},
            )
            for name, one in services_of(environment).items()
        },
        commit=parts.commit,
        version=parts.version,
    )


def _image_of(service: str, wanted: str, parts: Parts) -> str:
    if wanted in parts.images:
        return parts.images[wanted]
    if wanted.partition(":")[0] == BUILT:
        raise ImageMissing(service, wanted, [name for name in parts.images if name.startswith(BUILT)])
    if "@" in wanted:
        return wanted
    for name in (wanted, f"docker.io/library/{wanted}", f"docker.io/{wanted}"):
        if name in parts.pins:
            return f"{wanted}@{parts.pins[name]}"
    refused = ImageNotPinned(service, wanted)
    refused.hint = f"pin it: `pipeline lock {wanted}`, or name it with its digest"
    raise refused


def secret_values(environment: Environment, secret: Callable[[str], str | None]) -> dict[str, str]:
    """Return the values of all secrets that an environment's services name.

    Raises:
        SecretsMissing: Some have none here.
    """
    names = {name for one in services_of(environment).values() for name in one.secrets}
    found = {name: secret(name) for name in names}
    if missing := [name for name, value in found.items() if value is None]:
        raise SecretsMissing(environment.name, missing)
    return {name: value for name, value in sorted(found.items()) if value is not None}
