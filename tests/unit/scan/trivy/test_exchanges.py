"""Recorded exchanges with a real server: the fake answers as it did, and the client takes every answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.trivy.answer import read_scan
from pipeline.scan.trivy.client import TrivyAddress, TrivyClient
from pipeline.scan.trivy.errors import BlobsMissing, TrivyPanicked, TrivyRefused, TrivyRouteUnknown
from tests.unit.scan.trivy.fake import EXCHANGES, TOKEN, Fake, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = [f"{number} {one['note']}" for number, one in enumerate(EXCHANGES)]
FAILURES: dict[str, type[Exception]] = {
    "layer cache missing": BlobsMissing,
    "Internal service panic": TrivyPanicked,
    "no handler": TrivyRouteUnknown,
    "invalid token": TrivyRefused,
}


def seeded() -> Fake:
    """A server that has, as the recorded one did, the first two blobs and the image."""
    return Fake(blobs={"base": {}, "top": {}}, artifacts={"img-a"})


def without_uids(value: Any) -> Any:
    """The answer without the numbers that Trivy makes up for packages."""
    if isinstance(value, dict):
        return {key: "" if key == "uid" else without_uids(each) for key, each in value.items()}
    return [without_uids(each) for each in value] if isinstance(value, list) else value


def test_the_fake_server_answers_as_the_real_one_did() -> None:
    """All exchanges in their order, bodies and statuses whole but for made-up numbers."""
    fake = seeded()

    told = [
        fake.answer(one["path"], one["request"], None if one["status"] == 401 else TOKEN) for one in EXCHANGES
    ]

    assert without_uids([list(one) for one in told]) == without_uids(
        [[one["status"], one["response"]] for one in EXCHANGES]
    )


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    with serving(seeded()) as fake:
        for one in EXCHANGES:
            if one["path"].endswith("PutBlob") and one["status"] == 200:
                fake.answer(one["path"], one["request"], TOKEN)
        yield fake


@pytest.mark.anyio
@pytest.mark.parametrize("exchange", EXCHANGES, ids=NAMES)
async def test_the_client_takes_every_recorded_answer(fake: Fake, exchange: dict[str, Any]) -> None:
    """A good answer is given back as it is; each failure is the error that says what to do."""
    token = "" if exchange["status"] == 401 else TOKEN
    service, method = exchange["path"].split("/")[-2:]
    said = str(exchange["response"].get("msg"))
    expected = next((error for text, error in FAILURES.items() if text in said), None)

    async with TrivyClient(TrivyAddress(url=fake.url, token=token)) as client:
        if expected is not None:
            with pytest.raises(expected):
                await client.call(service, method, exchange["request"])
            return
        told = await client.call(service, method, exchange["request"])

    assert without_uids(told) == without_uids(exchange["response"])


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (5, [("libgcrypt20 1.10.1-3", "CVE-2099-0001", ("1.10.1-3+deb12u1",), "sha256:base")]),
        (
            6,
            [
                ("Jinja2 2.10", "CVE-2019-10906", ("2.10.1",), "sha256:top"),
                ("lodash 4.17.4", "CVE-2019-10744", ("4.17.12",), "sha256:top"),
            ],
        ),
        (9, [("Jinja2 2.10", "CVE-2019-10906", ("2.10.1",), "sha256:top")]),
        (11, []),
        (13, []),
        (25, []),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_a_recorded_scan_is_read(number: int, found: list[tuple[object, ...]]) -> None:
    answer = read_scan(EXCHANGES[number]["response"])

    assert [
        (f"{one.package.name} {one.package.version}", one.id, one.fixed, one.package.layer)
        for result in answer.results
        for one in result.vulnerabilities
    ] == found


@pytest.mark.parametrize("field", ["os", "results"])
def test_an_answer_without_a_field_is_no_answer(field: str) -> None:
    """Silence is never read as "no findings"."""
    table = json.loads(json.dumps(EXCHANGES[5]["response"]))
    del table[field]

    with pytest.raises(KeyError):
        read_scan(table)
