"""Pulling and pushing, against a real registry; against scripted ones where it has to misbehave."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from pipeline.digest import Digest, digest_bytes
from pipeline.engine.oci.credentials import Credential, Credentials
from pipeline.engine.oci.errors import (
    ImagePullFailed,
    ImagePushFailed,
    PlatformNotOffered,
    RegistryOffline,
    RegistryUnreachable,
)
from pipeline.engine.oci.image import publish
from pipeline.engine.oci.model import OCI_INDEX, OCI_MANIFEST, Descriptor
from pipeline.engine.oci.reference import InvalidReference, parse_reference
from pipeline.engine.oci.registry import Registry, RegistryLayers
from pipeline.engine.oci.tokens import Challenge, TokenRefused, answer
from tests.engine.oci.samples import directory, entry, image, put_layer
from tests.engine.oci.servers import (
    IDENTITY_TOKEN,
    PASSWORD,
    USER,
    Answer,
    RealRegistry,
    Request,
    TokenServer,
    forward,
    free_port,
    make_certificate,
    real_registry,
    serve,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pipeline.engine.store import Store

pytestmark = pytest.mark.anyio

AMD64 = "linux/amd64"
LOGIN = Credential(username=USER, password=PASSWORD)


@asynccontextmanager
async def client(
    store: Store, *, login: tuple[str, Credential] | None = None, **options: Any
) -> AsyncIterator[Registry]:
    """Lend a client that knows nothing of this machine's credentials and is quick to try again."""
    credentials = Credentials({"XDG_RUNTIME_DIR": "/nowhere"})
    if login is not None:
        credentials.add(*login)
    registry = Registry(store, credentials=credentials, backoff_s=0.01, **options)
    try:
        yield registry
    finally:
        await registry.aclose()


async def push(store: Store, address: str, *, login: Credential | None = None) -> str:
    """Push a small image and return its pinned reference."""
    pushed = image(put_layer(store, directory("d"), entry("d/f", b"content")))
    async with client(store, login=(address.partition("/")[0], login) if login else None) as registry:
        return await publish(registry, store, address, [pushed])


async def test_what_was_pushed_can_be_pulled(
    open_registry: RealRegistry, store: Store, other_store: Store
) -> None:
    """Configuration, platform, layers and digests are the same on the other side."""
    layers = [put_layer(store, entry("a", b"1")), put_layer(store, entry("b", b"2"))]
    pushed = image(*layers, cmd="serve")
    address = f"{open_registry.address}/team/app:v1"

    async with client(store) as registry:
        reference = await publish(registry, store, address, [pushed])
    async with client(other_store) as registry:
        resolved = await registry.resolve(address, AMD64)
        source = RegistryLayers(registry, resolved)
        paths = [await source.fetch(layer.diff_id) for layer in layers]

    assert reference == str(resolved.reference)
    assert reference.startswith(f"{address}@sha256:")
    assert resolved.image.config == pushed.config
    assert resolved.image.platform == AMD64
    assert resolved.image.diff_ids == tuple(layer.diff_id for layer in layers)
    assert [layer.digest for layer in resolved.layers] == [layer.digest for layer in layers]
    assert [path.name for path in paths] == [layer.digest.removeprefix("sha256:") for layer in layers]


@pytest.mark.parametrize("media_types", ["OCIMediaTypes", "DockerMediaTypes"])
async def test_an_index_leads_to_the_platform(
    open_registry: RealRegistry, store: Store, other_store: Store, media_types: Any
) -> None:
    """The tag is pinned to the index, the manifest is the platform's own; others are refused by name."""
    layer = put_layer(store, entry("a", b"1"))
    images = [image(layer, platform=each, cmd=each) for each in (AMD64, "linux/arm64")]
    address = f"{open_registry.address}/multi"

    async with client(store) as registry:
        reference = await publish(registry, store, address, images, media_types)
    async with client(other_store) as registry:
        resolved = await registry.resolve(address, "linux/arm64/v8")
        with pytest.raises(PlatformNotOffered) as caught:
            await registry.resolve(address, "linux/s390x")

    assert reference == str(resolved.reference)
    assert resolved.image.config.cmd == ("linux/arm64",)
    assert resolved.manifest.digest != resolved.reference.digest
    assert caught.value.offered == ("linux/amd64", "linux/arm64")


@pytest.mark.parametrize("levels", [1, 4])
async def test_an_index_in_an_index_leads_to_the_platform(
    open_registry: RealRegistry, store: Store, other_store: Store, levels: int
) -> None:
    """Down to the fourth level; what has no platform of its own has that of the index around it."""
    layer = put_layer(store, entry("a", b"1"))
    address = f"{open_registry.address}/nested-{levels}"
    async with client(store) as registry:
        for platform in (AMD64, "linux/arm64"):
            made = image(layer, platform=platform, cmd=platform)
            await publish(registry, store, f"{address}:{platform.rpartition('/')[2]}", [made])
        entries = []
        for name in ("amd64", "arm64"):
            digest, data = await registry.find_manifest(parse_reference(f"{address}:{name}"))
            bare = {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(data)}
            told = {"platform": {"os": "linux", "architecture": name}}
            entries.append({**await _put_index(registry, address, [bare]), **told})
        for _level in range(levels - 1):
            entries = [await _put_index(registry, address, entries)]
        await _put_index(registry, address, entries, tag="latest")

    async with client(other_store) as registry:
        resolved = await registry.resolve(address, "linux/arm64")
        with pytest.raises(PlatformNotOffered) as caught:
            await registry.resolve(address, "linux/s390x")

    assert resolved.image.config.cmd == ("linux/arm64",)
    assert caught.value.offered == ("linux/amd64", "linux/arm64")


async def _put_index(
    registry: Registry, address: str, entries: list[dict[str, Any]], *, tag: str = ""
) -> dict[str, Any]:
    """Push an index of these entries and return its own entry."""
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    digest = digest_bytes(data)
    await registry.push_manifest(parse_reference(address), tag or digest, OCI_INDEX, data)
    return {"mediaType": OCI_INDEX, "digest": digest, "size": len(data)}


async def test_what_is_there_is_not_sent_again_and_other_repositories_lend(
    open_registry: RealRegistry, store: Store
) -> None:
    """A blob is sent once per registry: then it is found, or mounted from where it was pushed to."""
    digest = put_layer(store, entry("a", os.urandom(5000))).digest
    first = parse_reference(f"{open_registry.address}/first")
    second = parse_reference(f"{open_registry.address}/second")

    async with client(store) as registry:
        sent = await registry.push_blob(first, digest)
        again = await registry.push_blob(first, digest)
        mounted = await registry.push_blob(second, digest)
        path = await registry.fetch_blob(second, Descriptor(media_type="", digest=digest, size_bytes=1))

    assert (sent, again, mounted) == (True, False, False)
    assert path == store.blobs.path(digest)


async def test_a_big_blob_passes_in_pieces(
    open_registry: RealRegistry, store: Store, other_store: Store
) -> None:
    """Forty megabytes go there and back, unharmed."""
    data = os.urandom(1 << 20) * 40
    digest = store.blobs.put_bytes(data)
    reference = parse_reference(f"{open_registry.address}/big")

    async with client(store) as registry:
        await registry.push_blob(reference, digest)
    async with client(other_store) as registry:
        found = Descriptor(media_type="", digest=digest, size_bytes=len(data))
        path = await registry.fetch_blob(reference, found)

    assert digest_bytes(path.read_bytes()) == digest


# ---- who we are ----


@pytest.mark.parametrize("kind", ["locked_registry", "token_registry"])
async def test_with_credentials_both_directions_work(
    request: pytest.FixtureRequest, store: Store, other_store: Store, kind: str
) -> None:
    """Basic and bearer authentication, each with a session's credential."""
    server: RealRegistry = request.getfixturevalue(kind)
    reference = await push(store, f"{server.address}/app", login=LOGIN)

    async with client(other_store, login=(f"{server.address}/app", LOGIN)) as registry:
        resolved = await registry.resolve(reference, AMD64)
        await RegistryLayers(registry, resolved).fetch(resolved.image.diff_ids[0])

    assert str(resolved.reference) == reference


async def test_without_credentials_the_refusal_tells_how_to_log_in(
    locked_registry: RealRegistry, store: Store
) -> None:
    """Status 401, the reason, and the command."""
    address = f"{locked_registry.address}/app"

    async with client(store) as registry:
        with pytest.raises(ImagePullFailed) as pull:
            await registry.resolve(address, AMD64)
    with pytest.raises(ImagePushFailed) as pushed:
        await push(store, address)

    assert pull.value.status == pushed.value.status == 401
    assert str(pull.value) == (
        f"cannot pull `{address}:latest`: the registry answered 401 (UNAUTHORIZED: authentication required)"
    )
    assert f"docker login {locked_registry.address}" in (pull.value.hint or "")
    assert f"docker login {locked_registry.address}" in (pushed.value.hint or "")


@pytest.mark.parametrize("kind", ["locked_registry", "token_registry"])
async def test_a_wrong_password_is_refused_and_not_shown(
    request: pytest.FixtureRequest, store: Store, kind: str
) -> None:
    """One refusal, no repetition, no password in what is said."""
    server: RealRegistry = request.getfixturevalue(kind)
    wrong = Credential(username=USER, password="not-the-password")

    async with client(store, login=(server.address, wrong)) as registry:
        with pytest.raises(ImagePullFailed) as caught:
            await registry.resolve(f"{server.address}/app", AMD64)

    assert caught.value.status == 401
    assert "not-the-password" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__!r}"


async def test_an_anonymous_token_may_pull_but_not_push(
    token_registry: RealRegistry, tokens: TokenServer, store: Store, other_store: Store
) -> None:
    """Public images need no login; a push without one is refused with 401."""
    address = f"{token_registry.address}/public/app"
    await push(store, address, login=LOGIN)
    tokens.granted.clear()

    async with client(other_store) as registry:
        await registry.resolve(address, AMD64)
    with pytest.raises(ImagePushFailed) as caught:
        await push(other_store, address)

    assert set(tokens.granted) == {"repository:public/app:pull"}
    assert caught.value.status == 401


async def test_an_identity_token_is_exchanged(
    token_registry: RealRegistry, tokens: TokenServer, store: Store
) -> None:
    """It is sent by POST, as OAuth2 asks."""
    login = Credential(identity_token=IDENTITY_TOKEN)

    await push(store, f"{token_registry.address}/app", login=login)

    assert tokens.posts > 0
    assert "repository:app:pull,push" in tokens.granted


async def test_tokens_are_kept_and_renewed(
    token_registry: RealRegistry, tokens: TokenServer, store: Store
) -> None:
    """One token serves many requests of one scope; an expired one is replaced without a failure."""
    address = f"{token_registry.address}/app"
    await push(store, address, login=LOGIN)
    tokens.granted.clear()
    tokens.lifetime_s = 4  # of which we use the first half

    async with client(store, login=(token_registry.address, LOGIN)) as registry:
        await registry.resolve(address, AMD64)
        await registry.resolve(address, AMD64)
        kept = len(tokens.granted)
        await anyio.sleep(2.1)
        await registry.resolve(address, AMD64)

    assert (kept, len(tokens.granted)) == (1, 2)


async def test_an_expired_credential_in_the_middle_is_renewed_once(store: Store) -> None:
    """A 401 for a token that we thought good asks for a new one; a second 401 is the answer."""
    asked: list[str] = []

    def script(request: Request) -> Answer:
        if request.path == "/token":
            return Answer(body=json.dumps({"token": f"t{len(asked)}"}).encode())
        asked.append(request.headers.get("authorization", ""))
        realm = f'Bearer realm="http://{server.address}/token",service="s",scope="repository:app:pull"'
        return Answer(status=401, headers={"WWW-Authenticate": realm})

    with serve(script) as server:
        async with client(store) as registry:
            with pytest.raises(ImagePullFailed) as caught:
                await registry.resolve(f"{server.address}/app", AMD64)

    assert asked == ["", "Bearer t1"]
    assert caught.value.status == 401


# ---- trouble on the way ----


async def test_a_download_that_breaks_off_goes_on_where_it_was(
    open_registry: RealRegistry, store: Store, other_store: Store
) -> None:
    """Three breaks, three resumptions by range, one verified blob."""
    data = os.urandom(3_000_000)
    digest = store.blobs.put_bytes(data)
    async with client(store) as registry:
        await registry.push_blob(parse_reference(f"{open_registry.address}/app"), digest)
    ranges: list[str] = []

    def script(request: Request) -> Answer:
        answer = forward(open_registry.address, request)
        ranges.append(request.headers.get("range", ""))
        cut = 900_000 if len(ranges) <= 3 else None
        return Answer(status=answer.status, headers=answer.headers, body=answer.body, cut=cut)

    with serve(script) as proxy:
        async with client(other_store) as registry:
            found = Descriptor(media_type="", digest=digest, size_bytes=len(data))
            path = await registry.fetch_blob(parse_reference(f"{proxy.address}/app"), found)

    assert path.read_bytes() == data
    assert ranges == ["", "bytes=900000-", "bytes=1800000-", "bytes=2700000-"]


async def test_a_server_without_ranges_is_read_again_from_the_start(store: Store) -> None:
    """What is here already is passed over."""
    data = os.urandom(200_000)
    answers = [Answer(body=data, cut=150_000), Answer(body=data)]

    with serve(lambda _: answers.pop(0)) as server:
        async with client(store) as registry:
            found = Descriptor(media_type="", digest=digest_bytes(data), size_bytes=len(data))
            path = await registry.fetch_blob(parse_reference(f"{server.address}/app"), found)

    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("body", "what"),
    [
        pytest.param(b"other", "the content of its blob {digest} has another digest", id="other"),
        pytest.param(b"longer than told", "its blob {digest} is longer than it should be", id="longer"),
    ],
)
async def test_other_bytes_than_asked_for_are_never_kept(store: Store, body: bytes, what: str) -> None:
    """The store stays without the blob."""
    digest = digest_bytes(b"right")
    found = Descriptor(media_type="", digest=digest, size_bytes=5)

    with serve(lambda _: Answer(body=body)) as server:
        async with client(store) as registry:
            with pytest.raises(ImagePullFailed) as caught:
                await registry.fetch_blob(parse_reference(f"{server.address}/app"), found)

    expected = f"cannot pull `{server.address}/app:latest`: {what.format(digest=digest)}"
    assert str(caught.value) == expected
    assert not store.blobs.has(digest)


async def test_a_redirect_to_a_storage_server_goes_without_the_authorization(store: Store) -> None:
    """The other host is given the request but not who we are."""
    data = b"layer"
    found = Descriptor(media_type="", digest=digest_bytes(data), size_bytes=len(data))

    with serve(lambda _: Answer(body=data), host="localhost") as storage:

        def script(request: Request) -> Answer:
            if "authorization" not in request.headers:
                return Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            return Answer(status=307, headers={"Location": f"http://{storage.address}/data"})

        with serve(script) as server:
            async with client(store, login=(server.address, LOGIN)) as registry:
                await registry.fetch_blob(parse_reference(f"{server.address}/app"), found)

    assert [request.path for request in storage.requests] == ["/data"]
    assert "authorization" not in storage.requests[0].headers
    assert "authorization" in server.requests[-1].headers


async def test_a_busy_registry_is_asked_again(
    open_registry: RealRegistry, store: Store, other_store: Store
) -> None:
    """429 with Retry-After, 503 and a dropped connection pass unnoticed, in both directions."""
    troubles = [Answer(status=429, headers={"Retry-After": "0"}), Answer(status=503)]
    troubles += [Answer(drop=True)] * 2

    def script(request: Request) -> Answer:
        if troubles:
            return troubles.pop()
        return forward(open_registry.address, request)

    with serve(script) as server:
        address = f"{server.address}/app"
        reference = await push(store, address)
        troubles += [Answer(status=500), Answer(status=502)]
        async with client(other_store) as registry:
            resolved = await registry.resolve(reference, AMD64)

    assert troubles == []
    assert str(resolved.reference) == reference


async def test_a_registry_that_stays_broken_is_an_error_with_its_words(store: Store) -> None:
    """After five attempts its own message is passed on."""
    body = json.dumps({"errors": [{"code": "UNKNOWN", "message": "disk\nfull"}]}).encode()

    with serve(lambda _: Answer(status=500, body=body)) as server:
        async with client(store) as registry:
            with pytest.raises(ImagePullFailed) as caught:
                await registry.resolve(f"{server.address}/app:1", AMD64)

    assert len(server.requests) == 5
    assert str(caught.value) == (
        f"cannot pull `{server.address}/app:1`: the registry answered 500 (UNKNOWN: disk full)"
    )


async def test_an_upload_that_breaks_off_is_begun_anew(open_registry: RealRegistry, store: Store) -> None:
    """The registry drops the first upload; the second one succeeds."""
    digest = store.blobs.put_bytes(os.urandom(100_000))
    puts: list[str] = []

    def script(request: Request) -> Answer:
        if request.method == "PUT":
            puts.append(request.path)
            if len(puts) == 1:
                return Answer(status=503)
        answer = forward(open_registry.address, request)
        headers = {
            name: value.replace(open_registry.address, server.address)
            for name, value in answer.headers.items()
        }
        return Answer(status=answer.status, headers=headers, body=answer.body)

    with serve(script) as server:
        async with client(store) as registry:
            sent = await registry.push_blob(parse_reference(f"{server.address}/app"), digest)

    assert sent
    assert len(set(puts)) == 2


async def test_an_image_that_is_not_there_is_404(open_registry: RealRegistry, store: Store) -> None:
    """The status tells a caller that another source may be tried."""
    async with client(store) as registry:
        with pytest.raises(ImagePullFailed) as caught:
            await registry.resolve(f"{open_registry.address}/nothing:here", AMD64)

    assert caught.value.status == 404
    assert caught.value.hint == "check the image's name and tag"


async def test_nobody_at_the_address_is_unreachable(store: Store) -> None:
    """The host is named; nothing else is claimed."""
    host = f"127.0.0.1:{free_port()}"

    async with client(store) as registry:
        with pytest.raises(RegistryUnreachable) as caught:
            await registry.resolve(f"{host}/app", AMD64)

    assert caught.value.host == host
    assert str(caught.value).startswith(f"cannot reach registry `{host}`: ")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>", id="html"),
        pytest.param(b'{"schemaVersion": 1, "fsLayers": []}', id="schema-1"),
        pytest.param(b'{"schemaVersion": 2, "config": {"digest": "../x", "size": 1}}', id="path-as-digest"),
        pytest.param(b"[]", id="list"),
    ],
)
async def test_what_is_no_image_is_refused(store: Store, body: bytes) -> None:
    """Nonsense, old formats and names that are no digests."""
    with serve(lambda _: Answer(body=body)) as server:
        async with client(store) as registry:
            with pytest.raises(ImagePullFailed, match="it is no image"):
                await registry.resolve(f"{server.address}/app", AMD64)


async def test_a_registry_with_tls_is_trusted_by_its_authority_only(
    tmp_path: Path, store: Store, other_store: Store
) -> None:
    """Without the certificate nothing is sent, and not tried without TLS either."""
    certificate, key = make_certificate(tmp_path)

    with real_registry(tmp_path / "tls", certificate=(certificate, key)) as server:
        address = f"{server.address}/app"
        async with client(store, ca_file=certificate) as registry:
            pushed = image(put_layer(store, entry("a", b"1")))
            reference = await publish(registry, store, address, [pushed])
            resolved = await registry.resolve(address, AMD64)
        async with client(other_store) as registry:
            with pytest.raises(RegistryUnreachable) as caught:
                await registry.resolve(address, AMD64)

    assert str(resolved.reference) == reference
    assert str(caught.value) == f"cannot reach registry `{server.address}`: its certificate is not trusted"
    assert caught.value.hint == "give the certificate of the authority that signed the registry's own"


async def test_a_password_is_not_sent_to_a_token_server_without_tls() -> None:
    """Unless the registry itself is spoken to without."""
    challenge = Challenge(scheme="bearer", realm="http://tokens.example/token")

    async with httpx.AsyncClient() as http:
        with pytest.raises(TokenRefused, match="not reached over https, so no password is sent there"):
            await answer(http, challenge, LOGIN, [], may_be_plain=False)


async def test_an_unchanged_tag_is_only_asked_about(
    open_registry: RealRegistry, store: Store, other_store: Store
) -> None:
    """HEAD does not count as a pull; a tag that moved is fetched, also where HEAD is not known."""
    methods: list[str] = []

    def script(request: Request) -> Answer:
        methods.append(request.method)
        if request.method == "HEAD" and len(methods) == 5:
            return Answer(status=405)
        return forward(open_registry.address, request)

    with serve(script) as server:
        address = f"{server.address}/app"
        first = await push(store, f"{open_registry.address}/app")
        async with client(other_store) as registry:
            before = await registry.resolve(address, AMD64)
            same = await registry.resolve(address, AMD64)
            async with client(store) as other:
                changed = image(put_layer(store, entry("a", b"2")))
                await publish(other, store, f"{open_registry.address}/app", [changed])
            methods.append("moved")
            after = await registry.resolve(address, AMD64)

    assert methods == ["GET", "GET", "HEAD", "moved", "HEAD", "GET", "GET"]
    assert before == same
    assert str(before.reference.digest) in first
    assert after.image.diff_ids == tuple(layer.diff_id for layer in changed.layers)


async def test_a_registry_that_is_a_service_is_reached_by_its_route(
    locked_registry: RealRegistry, store: Store
) -> None:
    """The name in the reference, and the credential for it, stay those of the host that is meant."""
    pushed = image(put_layer(store, entry("a", b"1")))

    async with client(store, login=("registry.invalid", LOGIN)) as registry:
        registry.route("registry.invalid", locked_registry.address)
        reference = await publish(registry, store, "registry.invalid/app", [pushed])
        resolved = await registry.resolve("registry.invalid/app", AMD64)
        registry.route("registry.invalid", None)
        with pytest.raises(RegistryUnreachable):
            await registry.resolve("registry.invalid/app", AMD64)

    assert str(resolved.reference) == reference
    assert reference.startswith("registry.invalid/app:latest@sha256:")


# ---- mirrors and working offline ----


async def test_a_mirror_is_asked_first_and_the_registry_when_it_cannot(
    open_registry: RealRegistry, store: Store, other_store: Store
) -> None:
    """A mirror that is gone costs nothing but a moment; one that works spares the registry."""
    reference = await push(store, f"{open_registry.address}/proxied/app")
    digest = reference.partition("@")[2]
    gone = f"127.0.0.1:{free_port()}"
    mirrors = {"registry.invalid": [gone, f"{open_registry.address}/proxied"]}

    async with client(other_store, mirrors=mirrors) as registry:
        resolved = await registry.resolve("registry.invalid/app", AMD64)
        await RegistryLayers(registry, resolved).fetch(resolved.image.diff_ids[0])
    async with client(store, mirrors={"*": [gone]}) as registry:
        direct = await registry.resolve(f"{open_registry.address}/proxied/app", AMD64)

    assert str(resolved.reference) == f"registry.invalid/app:latest@{digest}"
    assert direct.reference.digest == digest


async def test_offline_what_was_fetched_is_there_and_nothing_is_asked(
    open_registry: RealRegistry, store: Store, other_store: Store
) -> None:
    """A tag means what it last led to; what was never fetched is a clear error."""
    address = f"{open_registry.address}/app"
    await push(store, address)
    async with client(other_store) as registry:
        online = await registry.resolve(address, AMD64)

    async with client(other_store, offline=True) as registry:
        offline = await registry.resolve(address, AMD64)
        with pytest.raises(RegistryOffline) as layer:
            await RegistryLayers(registry, offline).fetch(offline.image.diff_ids[0])
        with pytest.raises(RegistryOffline) as unknown:
            await registry.resolve(f"{open_registry.address}/unknown", AMD64)
        with pytest.raises(RegistryOffline):
            await publish(registry, store, address, [image(put_layer(store, entry("x")))])

    assert offline == online
    assert layer.value.reference == str(online.reference)
    assert str(unknown.value) == (
        f"cannot ask a registry for `{open_registry.address}/unknown:latest`: working offline"
    )


async def test_an_image_cannot_be_pushed_to_a_digest(store: Store) -> None:
    """The digest is the result, not the address."""
    async with client(store) as registry:
        with pytest.raises(InvalidReference, match="an image cannot be pushed to a digest"):
            await publish(registry, store, "r.example/a@" + Digest("sha256:" + "0" * 64), [])
