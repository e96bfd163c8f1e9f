"""Kubernetes Secrets: what is under `data` and `stringData` of an object of that kind."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pipeline.scan.secrets.names import promise_of, words_of
from pipeline.scan.secrets.places import decoded
from pipeline.scan.secrets.randomness import bits
from pipeline.scan.secrets.rule import Hit
from pipeline.scan.secrets.values import is_elsewhere, is_harmless, is_stopgap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.scan.secrets.files import FileKind

LONGEST: Final = 20_000  # characters of one object that are looked at
_DOCUMENT: Final = re.compile(r"^---", re.MULTILINE)
_BLOCK: Final = re.compile(r"^([ \t]*)(data|stringData):[ \t]*(?:#[^\n]*)?\n", re.MULTILINE)
_ENTRY: Final = re.compile(
    r"([ \t]+)[\"']?([\w.-]{1,253})[\"']?:[ \t]*"
    r"[\"']?([^\s\"'#{][^\n\"']{0,20000}?)?[\"']?[ \t]*(?:#[^\n]*)?(?:\n|$)"
)
_JSON_BLOCK: Final = re.compile(r"\"(data|stringData)\"\s{0,5}:\s{0,5}\{([^{}]{0,20000})\}")
_JSON_ENTRY: Final = re.compile(r"\"([\w.-]{1,253})\"\s{0,5}:\s{0,5}\"([^\"\n]{1,20000})\"")
# Entries that are beside a secret, not one.
_BESIDE: Final = frozenset(
    {
        *(
            "username",
            "user",
            "login",
            "host",
            "hostname",
            "port",
            "database",
            "dbname",
            "namespace",
            "name",
            "email",
        ),
        *(
            "type",
            "url",
            "uri",
            "endpoint",
            "region",
            "bucket",
            "crt",
            "cert",
            "hosts",
            "pub",
            "config",
            "enabled",
        ),
        *(
            "id",
            "domain",
            "mode",
            "schema",
            "engine",
            "version",
            "realm",
            "issuer",
            "org",
            "project",
            "server",
        ),
    }
)


def kubernetes_secret(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """The secret entries of the object whose `kind: Secret` is at `at`."""
    if not re.match(
        r"kind[\"']?[ \t]*:[ \t]*[\"']?Secret[\"']?[ \t]*(?:,|\r?$|#)", text[at : at + 60], re.MULTILINE
    ):
        return
    before = text.rfind("kind: Secret", max(0, at - LONGEST), at)
    if before >= 0 and text.find("\n---", before, at) < 0:
        return  # that one has read the whole document
    start = max(text.rfind("\n---", max(0, at - LONGEST), at), at - LONGEST, 0)
    following = _DOCUMENT.search(text, at, at + LONGEST)
    end = following.start() if following else min(len(text), at + LONGEST)
    for block in _BLOCK.finditer(text, start, end):
        yield from _entries(text, block, end)
    for block in _JSON_BLOCK.finditer(text, start, end):
        for entry in _JSON_ENTRY.finditer(text, block.start(2), block.end(2)):
            yield from _judge(block[1], entry[1], entry[2], entry.start(2))


def _entries(text: str, block: re.Match[str], end: int) -> Iterator[Hit]:
    at = block.end()
    deep = len(block[1])
    while at < end and (entry := _ENTRY.match(text, at, end)):
        if len(entry[1]) <= deep:
            return
        if entry[3]:
            yield from _judge(block[2], entry[2], entry[3], entry.start(3))
        at = entry.end()


def _judge(block: str, name: str, value: str, start: int) -> Iterator[Hit]:
    if is_elsewhere(value) or value in {"|", ">", "|-", ">-"}:
        return
    plain = value if block == "stringData" else decoded(value)
    if plain is None:
        # Bytes: a key is random, a certificate or archive is not worth a guess.
        if promise_of(name) and bits(value) >= 60 and not is_stopgap(value):
            yield _hit(name, value, value, start)
        return
    last = (words_of(name) or ("",))[-1]
    if last in _BESIDE and not promise_of(name):
        return
    if len(plain) < 6 or is_elsewhere(plain) or is_stopgap(plain) or is_harmless(plain):
        return
    is_told = bool(promise_of(name)) and any(not one.isalpha() for one in plain)
    if bits(plain) >= (12 if is_told else 40) and " " not in plain:
        yield _hit(name, plain, value, start)


def _hit(name: str, plain: str, value: str, start: int) -> Hit:
    return Hit(
        rule="kubernetes-secret",
        title="value in a Kubernetes Secret",
        strength="structure",
        value=plain,
        start=start,
        end=start + len(value),
    )
