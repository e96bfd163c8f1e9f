"""What the client does when a Trivy server refuses, breaks, drops the connection or says nonsense."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from pipeline.scan.trivy.client import TrivyAddress, TrivyClient, TrivyVersion
from pipeline.scan.trivy.errors import (
    TrivyFailed,
    TrivyMisspoke,
    TrivyPanicked,
    TrivyRefused,
    TrivyRouteUnknown,
    TrivyUnreachable,
)
from tests.unit.scan.trivy.fake import TOKEN, Fake, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio
INFO = {"schema_version": 2, "diff_id": "sha256:a"}


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving(Fake()) as fake:
        yield fake


def client(fake: Fake, waits: list[float] | None = None, **more: str) -> TrivyClient:
    """A client that does not really wait; `waits` takes down for how long it would."""

    async def sleep(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    return TrivyClient(TrivyAddress(**{"url": fake.url, "token": TOKEN, **more}), sleep=sleep)


async def test_the_version_says_how_old_the_data_is(fake: Fake) -> None:
    async with client(fake) as trivy:
        told = (await trivy.is_healthy(), await trivy.version())

    assert told == (True, TrivyVersion(version="dev", updated_at="2026-11-23T22:00:00Z"))


async def test_a_wrong_token_is_tried_once_and_told_without_the_token(fake: Fake) -> None:
    """Neither the error nor the address in it holds what was sent."""
    address = fake.url.replace("://", "://me:hunter2@")

    async with client(fake, url=address, token="wrong-token") as trivy:
        with pytest.raises(TrivyRefused) as caught:
            await trivy.put_blob("a", INFO)

    assert str(caught.value) == (
        f"cannot ask the Trivy server `{fake.url}`: it refused the token: invalid token"
    )
    assert fake.asked == ["PutBlob"]


async def test_what_the_server_repeats_of_the_token_is_left_out(fake: Fake) -> None:
    fake.speaks = json.dumps({"msg": f"token {TOKEN}\n is known"}).encode()
    fake.token = "another"

    async with client(fake) as trivy:
        with pytest.raises(TrivyFailed) as caught:
            await trivy.put_blob("a", INFO)

    assert TOKEN not in str(caught.value)
    assert "token *** is known" in str(caught.value)
    assert TOKEN not in repr(TrivyAddress(url=fake.url, token=TOKEN))


async def test_another_prefix_is_asked_under(fake: Fake) -> None:
    """As servers started with `--path-prefix` want it; with the usual one the call is not known."""
    fake.prefix = "/scan/v1"

    async with client(fake, prefix="/scan/v1") as trivy:
        await trivy.put_blob("a", INFO)
    async with client(fake) as trivy:
        with pytest.raises(TrivyRouteUnknown):
            await trivy.put_blob("b", INFO)

    assert list(fake.blobs) == ["a"]


async def test_a_server_that_is_not_ready_is_asked_again_and_less_and_less_often(fake: Fake) -> None:
    fake.not_ready = 3
    waits: list[float] = []

    async with client(fake, waits) as trivy:
        await trivy.put_blob("a", INFO)

    assert (waits, list(fake.blobs)) == ([0.5, 1.0, 2.0], ["a"])


async def test_a_server_that_is_never_ready_is_given_up(fake: Fake) -> None:
    fake.not_ready = 100
    waits: list[float] = []

    async with client(fake, waits) as trivy:
        with pytest.raises(TrivyUnreachable, match="it is not ready: not ready"):
            await trivy.put_blob("a", INFO)

    assert (waits, len(fake.asked)) == ([0.5, 1.0, 2.0, 4.0], 5)


async def test_a_dropped_connection_is_made_anew_once(fake: Fake) -> None:
    """A kept connection may be gone without a word; the request is then sent on a new one."""
    async with client(fake) as trivy:
        await trivy.put_blob("a", INFO)
        fake.drops = 1
        await trivy.put_blob("b", INFO)

    assert (list(fake.blobs), fake.connections) == (["a", "b"], 2)


async def test_after_a_panic_the_next_call_takes_a_new_connection(fake: Fake) -> None:
    secret = {"secrets": [{"filepath": "a", "findings": [{"rule_id": "r"}]}]}

    async with client(fake) as trivy:
        with pytest.raises(TrivyPanicked):
            await trivy.put_blob("a", {**INFO, **secret})
        await trivy.put_blob("b", INFO)

    assert (list(fake.blobs), fake.connections) == (["b"], 2)


async def test_nothing_that_listens_is_told_as_unreachable(fake: Fake) -> None:
    async with client(fake, url="http://127.0.0.1:9") as trivy:
        with pytest.raises(TrivyUnreachable):
            await trivy.version()


@pytest.mark.parametrize(
    "said",
    [b"", b"<html>hello</html>", b"[]", b"3", b"\xff\xfe", b"[" * 100_000],
    ids=lambda one: repr(one[:9]),
)
async def test_nonsense_is_no_answer(fake: Fake, said: bytes) -> None:
    fake.speaks = said

    async with client(fake) as trivy:
        with pytest.raises(TrivyMisspoke):
            await trivy.missing_blobs("artifact", ["a"])


async def test_blobs_that_were_not_asked_for_are_no_answer(fake: Fake) -> None:
    fake.speaks = b'{"missing_artifact": false, "missing_blob_ids": ["another"]}'

    async with client(fake) as trivy:
        with pytest.raises(TrivyMisspoke, match="it names blobs that it was not asked for"):
            await trivy.missing_blobs("artifact", ["a"])


async def test_blobs_can_be_removed(fake: Fake) -> None:
    async with client(fake) as trivy:
        await trivy.put_blob("a", INFO)
        await trivy.delete_blobs(["a"])

    assert fake.blobs == {}


async def test_no_proxy_of_the_environment_is_used(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings say how the network is reached, nothing else."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async with client(fake) as trivy:
        assert await trivy.is_healthy()

    assert httpx.URL(fake.url).host == "127.0.0.1"
