"""`push`: the built images in the project's registry, by digest; what is delivered from here on is those.

Without a registry images stay in the archives that `container_build` kept: environments of this machine
take them from there.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from pipeline.graph.context import Context, SecretUnknown
from pipeline.graph.history import load_result
from pipeline.graph.stage import stage
from pipeline.stages.containers import StageBroken
from pipeline.stages.releases import Parts, keyed
from pipeline.stages.results import Image, Images, PushedImage, PushedImages, Source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import dagger

USER: Final = "PIPELINE_REGISTRY_USER"
PASSWORD: Final = "PIPELINE_REGISTRY_PASSWORD"  # noqa: S105 - the name of a variable
MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
)
LONGEST_TAG: Final = 128
ASK_LIMIT_S: Final = 10.0


class PushFailed(StageBroken):
    """The registry did not take an image."""

    def __init__(self, address: str, what: str) -> None:
        super().__init__(f"cannot push `{address}`: {what}")
        self.hint = f"log in with `docker login`, or set {USER} and {PASSWORD}" if _is_denied(what) else None


def _is_denied(what: str) -> bool:
    return any(word in what.lower() for word in ("401", "403", "unauthorized", "denied", "credentials"))


@stage(effect=True, inputs=["pyproject.toml"], timeout_s=1800, secrets=[PASSWORD])
async def push(ctx: Context, checkout: Source, container_build: Images) -> PushedImages:
    """Push every image by digest, under tags of its commit and version; say which were there already."""
    registry = str(ctx.config["registry"].get("address") or "")
    tags = tags_of(checkout)
    pushed = [await push_image(ctx, image, registry, tags) for image in container_build.images]
    return PushedImages(images=tuple(pushed), commit=checkout.commit, version=checkout.version)


def tags_of(source: Source) -> tuple[str, ...]:
    """Return the tags of an image: its commit, marked when files differ from it, and its version so far."""
    names = [f"sha-{source.commit[:12]}" if source.commit else f"tree-{source.digest.partition(':')[2][:12]}"]
    if source.version and not source.dirty:
        names.append(re.sub(r"[^\w.-]", "-", source.version, flags=re.ASCII)[:LONGEST_TAG])
    elif source.dirty:
        names = [f"{names[0]}-dirty"]
    return tuple(names)


async def push_image(ctx: Context, image: Image, registry: str, tags: Sequence[str]) -> PushedImage:
    """Push one image, unless all of its tags name it already.

    Raises:
        PushFailed: The registry refused, or does not answer.
    """
    if not registry:
        ctx.log(f"{image.name}@{image.digest} stays in its archive: there is no registry\n")
        return PushedImage(name=image.name, reference=f"{image.name}@{image.digest}", digest=image.digest)
    repository = f"{registry.rstrip('/')}/{image.name}"
    password = _password(ctx)
    if await _are_there(repository, image.digest, tags, password):
        ctx.log(f"{repository}@{image.digest} is there already, as {', '.join(tags)}\n")
        digest, was_there = image.digest, True
    else:
        digest, was_there = await _publish(ctx, image, repository, tags, password), False
        ctx.log(f"pushed {repository}@{digest} as {', '.join(tags)}\n")
    return PushedImage(
        name=image.name,
        reference=f"{repository}@{digest}",
        digest=digest,
        tags=tuple(tags),
        was_there=was_there,
    )


def _password(ctx: Context) -> str:
    """The password of the registry's user; "" leaves it to Docker's configuration."""
    try:
        return ctx.secret(PASSWORD) if os.environ.get(USER) else ""
    except SecretUnknown:
        return ""


async def _publish(ctx: Context, image: Image, repository: str, tags: Sequence[str], password: str) -> str:
    """Push under every tag, and return the digest the registry has it by."""
    import dagger

    client = await ctx.dagger()
    container = client.container()
    if password:
        secret = client.set_secret(f"password of {repository}", password)
        container = container.with_registry_auth(repository, os.environ[USER], secret)
    container = container.import_(client.host().file(os.fspath(ctx.path(image.archive))))
    digests: dict[str, str] = {}
    for tag in tags:
        try:
            reference = await container.publish(f"{repository}:{tag}")
        except dagger.QueryError as error:
            raise PushFailed(f"{repository}:{tag}", _said(error)) from error
        digests[tag] = reference.rpartition("@")[2]
    if len(set(digests.values())) > 1:
        raise PushFailed(repository, f"its tags got different digests: {digests}")
    digest = digests[tags[0]]
    if digest != image.digest:
        ctx.log(f"the registry has {image.name} as {digest}; its archive is {image.digest}\n")
    return digest


def _said(error: dagger.QueryError) -> str:
    return str(error).partition(" (hint: ")[0]


async def _are_there(repository: str, digest: str, tags: Sequence[str], password: str) -> bool:
    """Whether the registry says that each tag names the image; False where it does not tell us."""
    import httpx

    host, _, name = repository.partition("/")
    scheme = "http" if host.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    auth = (os.environ[USER], password) if password else None
    try:
        async with httpx.AsyncClient(auth=auth, timeout=ASK_LIMIT_S) as client:
            for tag in tags:
                url = f"{scheme}://{host}/v2/{name}/manifests/{tag}"
                answer = await client.head(url, headers={"Accept": MANIFESTS})
                if answer.status_code != 200 or answer.headers.get("docker-content-digest") != digest:
                    return False
    except httpx.HTTPError:
        return False  # whoever pushes gets the reason
    return True


def parts_of_run(run: Path) -> Parts | None:
    """Return what a run pushed, for a release; None when it pushed nothing."""
    found: dict[str, Any] | None = load_result(run, "push")
    if found is None or found["outcome"] != "success" or not isinstance(found.get("result"), dict):
        return None
    pushed = found["result"]
    images = {str(one["name"]): str(one["reference"]) for one in pushed["images"]}
    return Parts(images=keyed(images), commit=str(pushed["commit"]), version=str(pushed["version"]))
