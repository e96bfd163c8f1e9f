"""What a name promises of the value that is given to it: a password, a token, or nothing."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pipeline.scan.secrets import words

if TYPE_CHECKING:
    from collections.abc import Sequence

Promise: TypeAlias = Literal["password", "token", ""]

TRIGGERS: Final = (
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "credential",
    "auth",
    "_pw",
    "bindpw",
    "_pat",
    "salt",
)
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_PASSWORDS: Final = frozenset(
    {"password", "passwd", "pwd", "passphrase", "pass", "pw", "passwort", "passcode"}
)
_TOKENS: Final = frozenset({"token", "secret", "apikey", "credential", "credentials", "authtoken", "authkey"})
_ENDS_PASSWORD: Final = tuple(words.ENDS_PW.split())
_ENDS_TOKEN: Final = tuple(words.ENDS_KEYS.split())
_FORGES: Final = frozenset({"github", "gitlab", "gh", "gl", "azure", "devops", "git", "ado"})
_KEY_OF: Final = frozenset(words.KEY_OF.split())
_TRAILING: Final = frozenset(words.TRAILING.split())
_OTHER: Final = frozenset(words.OTHER.split())


@lru_cache(maxsize=32768)
def words_of(name: str) -> tuple[str, ...]:
    """The words of an identifier, in lower case: "dbPassword_1" is db, password and 1."""
    return tuple(word.lower() for word in _WORDS.findall(name))


@lru_cache(maxsize=32768)
def promise_of(name: str) -> Promise:
    """What a name says its value is."""
    parts = list(words_of(name))
    while len(parts) > 1 and (parts[-1] in _TRAILING or parts[-1].isdigit()):
        parts.pop()
    if not parts or not _OTHER.isdisjoint(parts[:-1]):
        return ""
    last = parts[-1]
    if last.endswith("token") and any(one.startswith(("csrf", "xsrf")) for one in parts):
        return ""  # new for each visitor, and of no use to another
    before = parts[-2] if len(parts) > 1 else ""
    if last in _PASSWORDS or last.endswith(_ENDS_PASSWORD) or (before, last) == ("pass", "phrase"):
        return "password"
    if last in _TOKENS or last.endswith(_ENDS_TOKEN):
        return "token"
    return "token" if _is_key(parts, before, last) else ""


def _is_key(parts: Sequence[str], before: str, last: str) -> bool:
    """Whether a name of several words is that of a key, though its last word alone says little."""
    if last == "key":
        return before in _KEY_OF or "secret" in parts or parts[:2] == ["logged", "in"]  # as in WordPress
    if last == "pat":
        return before in _FORGES
    return last in {"salt", "auth"} and before in _KEY_OF | {"http", "basic", "registry"}


@lru_cache(maxsize=32768)
def snake(name: str) -> str:
    """The name with its words in lower case and `_` between them."""
    return "_".join(words_of(name))
