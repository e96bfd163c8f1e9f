"""Responses are read in whatever pieces they come."""

from __future__ import annotations

import pytest

from pipeline.scan.load.http1 import BadResponse, ResponseReader

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4;ext=1\r\nwiki\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
)

RESPONSES = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, True),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, True),
    "chunked": (CHUNKED, 200, True),
    "close": (b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 503, False),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, False),
    "old but kept": (b"HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", 200, True),
    "continue first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 1\r\n\r\nx",
        201,
        True,
    ),
}


@pytest.mark.parametrize("size", [1, 3, 1000], ids=["by byte", "by three", "at once"])
@pytest.mark.parametrize(("data", "status", "keeps_alive"), RESPONSES.values(), ids=RESPONSES)
def test_a_response_ends_where_it_says(data: bytes, status: int, keeps_alive: bool, size: int) -> None:
    reader = ResponseReader({})

    ends = [reader.feed(data[at : at + size]) for at in range(0, len(data), size)]

    assert ends == [False] * (len(ends) - 1) + [True]
    assert (reader.status, reader.keeps_alive) == (status, keeps_alive)


def test_one_reader_reads_one_response_after_another() -> None:
    """Heads it has seen before included."""
    reader = ResponseReader({})
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    for _ in range(3):
        reader.begin(is_head=False)
        assert reader.feed(data)


def test_an_answer_to_head_has_no_body() -> None:
    reader = ResponseReader({})
    reader.begin(is_head=True)

    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    assert reader.keeps_alive


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    reader = ResponseReader({})

    assert not reader.feed(b"HTTP/1.1 200 OK\r\n\r\nsome")
    assert not reader.feed(b" more")
    assert (reader.end(), reader.keeps_alive) == (True, False)


def test_a_cut_response_does_not_end_with_its_connection() -> None:
    reader = ResponseReader({})

    assert not reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
    assert (reader.end(), reader.has_begun) == (False, True)


def test_a_connection_that_says_more_than_the_answer_is_not_used_again() -> None:
    reader = ResponseReader({})

    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more")
    assert not reader.keeps_alive


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
    ids=["other protocol", "status", "length", "two lengths", "chunk", "endless head"],
)
def test_what_is_no_response_is_refused(data: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseReader({}).feed(data)
