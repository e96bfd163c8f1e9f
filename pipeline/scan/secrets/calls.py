"""Secrets given without a name: as an argument, on a command line, as the default of a placeholder, in prose.

What is called, or stands before, says what the value is. Each reader is called at an anchor in a text.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final

from pipeline.scan.secrets.names import promise_of
from pipeline.scan.secrets.places import chosen_by, decoded, hit, is_chosen
from pipeline.scan.secrets.values import is_stopgap, looks_like_password, looks_like_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.scan.secrets.files import FileKind
    from pipeline.scan.secrets.rule import Hit

_TEXT: Final = r"(?:\"([^\"\\\n]{4,256})\"|'([^'\\\n]{4,256})'|`([^`\n]{4,256})`)"
_USER: Final = r"(?:\"[^\"\s]{1,128}\"|'[^'\s]{1,128}')"
_TWO: Final = re.compile(
    rf"[\w.]{{0,30}}\(\s{{0,40}}(?:user(?:name)?\s?[=:]\s?)?{_USER},\s{{0,40}}(?:pass(?:word)?\s?[=:]\s?)?{_TEXT}\s{{0,40}}[,)]"
)
_THREE: Final = re.compile(
    rf"\w{{0,30}}\(\s{{0,40}}[^,\n]{{3,200}},\s{{0,40}}{_USER},\s{{0,40}}{_TEXT}\s{{0,40}}\)"
)
_SIGNED: Final = re.compile(rf"jwt\.\w{{0,6}}\(\s{{0,20}}[^,\"'`\n]{{1,120}},\s{{0,20}}{_TEXT}\s{{0,20}}[,)]")
_SECURE: Final = re.compile(rf"[\w-]{{0,30}}\s{{1,3}}(?:-String\s{{1,3}})?{_TEXT}", re.IGNORECASE)
_PSK: Final = re.compile(r"(?<![^\s;{])psk=\"([^\"\n]{8,63})\"")
_TOLD: Final = re.compile(
    r"(?:password|passphrase|passwort)\s(?:is|was|ist|to)\s{1,3}[`\"']([^\s`\"'<>]{6,64})[`\"']",
    re.IGNORECASE,
)
_REDIS: Final = re.compile(
    r"redis-cli\s[^\n|;]{0,200}?(?:-a|--pass)[ =]\s{0,3}[\"']?([^\s\"'$-][^\s\"'|;&]{3,200})"
)
_OPENSSL: Final = re.compile(
    r"openssl\s[^\n|;]{0,200}?\s(?:-k\s{1,3}|-pass(?:in|out)?\s{1,3}pass:)[\"']?([^\s\"'$-][^\s\"'|;&]{3,200})"
)
_NET_USE: Final = re.compile(
    r"net use\s[^\n]{1,200}?/user:\S{1,100}\s{1,3}\"?([^\s\"%/][^\s\"]{3,127})", re.IGNORECASE
)
_PLACEHOLDER: Final = re.compile(
    r"\$\{([A-Za-z_][\w.-]{2,80})(?::?[-=]|:)([^\s${}\"'`?+][^\s${}\"'`]{3,255})\}"
)
_JWK: Final = re.compile(r"\"d\"\s{0,5}:\s{0,5}\"([\w-]{20,700})\"")
_ENCODED: Final = re.compile(r"[A-Za-z0-9+/]{60,20000}={0,2}")
_SNOWFLAKE: Final = re.compile(r"([A-Za-z0-9]{22,28})\.[\w-]{6}\.[\w-]{27,38}(?![\w.-])")
JWK_AROUND: Final = 4000  # characters on both sides within which a key says of what kind it is
SHIFT: Final = "MNO"  # the first digit of a number in base64

ARGUMENT: Final = "argument-password: password given as an argument"
LINE: Final = "command-line-password: password on a command line"


def _last(match: re.Match[str]) -> int:
    return match.lastindex or 1


def second_argument(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`login("user", "password")` and others that take these two."""
    yield from _argument(_TWO, text, at, kind)


def third_argument(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`getConnection(url, "user", "password")`."""
    yield from _argument(_THREE, text, at, kind)


def secure_string(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`ConvertTo-SecureString "password" -AsPlainText`."""
    yield from _argument(_SECURE, text, at, kind)


def _argument(form: re.Pattern[str], text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    match = form.match(text, at)
    if match and looks_like_password(match[_last(match)], is_strict=kind.is_trying):
        yield hit(ARGUMENT, text, match, _last(match), strength="generic")


def signing_secret(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`jwt.sign(claims, "secret")`."""
    match = _SIGNED.match(text, at)
    if match and looks_like_token(match[_last(match)], is_strict=kind.is_trying):
        yield hit(
            "argument-secret: secret given as an argument", text, match, _last(match), strength="generic"
        )


def told_password(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """A sentence that says what the password is."""
    match = _TOLD.match(text, at)
    if match and looks_like_password(match[1], is_strict=kind.is_trying):
        yield hit("told-password: password in a sentence", text, match, strength="generic")


def placeholder_default(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`${DB_PASSWORD:-password}`, `${db.password:password}`: what holds when nothing is set."""
    match = _PLACEHOLDER.match(text, at)
    promise = promise_of(match[1]) if match else ""
    if match is None or not promise:
        return
    judge = looks_like_password if promise == "password" else looks_like_token
    if judge(match[2], is_strict=kind.is_trying):
        rule = "placeholder-default: secret as the default of a placeholder"
        yield hit(rule, text, match, 2, strength="generic")


def json_web_key(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """The private part of a JSON Web Key."""
    match = _JWK.match(text, at)
    if match is None or is_stopgap(match[1]):
        return
    start = text.rfind("{", max(0, at - JWK_AROUND), at)
    end = text.find("}", at, at + JWK_AROUND)
    if start >= 0 and end >= 0 and '"kty"' in text[start:end]:
        yield hit("private-key: private JSON Web Key", text, match)


def docker_config(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """Docker's configuration in base64, as in a Kubernetes Secret."""
    match = _ENCODED.match(text, at)
    plain = decoded(match[0]) if match else None
    if match is None or plain is None or '"auth' not in plain:
        return
    inner = re.search(r"\"(?:auth|password)\"\s{0,5}:\s{0,5}\"([^\"]{8,2000})\"", plain)
    if inner and is_chosen((decoded(inner[1]) or inner[1]).rpartition(":")[2], is_strict=kind.is_trying):
        yield hit("docker-auth: registry credentials", text, match, 0)


def wrapped_jwt(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """A JSON Web Token that was encoded once more."""
    match = _ENCODED.match(text, at)
    plain = decoded(match[0]) if match else None
    if (
        match
        and plain
        and re.fullmatch(r"eyJ[\w-]{8,}\.[\w-]{10,}\.[\w-]{16,}", plain)
        and not is_stopgap(plain)
    ):
        yield hit("jwt: JSON Web Token", text, match, 0, strength="provider")


def discord_bot(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """A token that begins with the number of its bot, in base64."""
    if text[at] not in SHIFT or (at and (text[at - 1].isalnum() or text[at - 1] in "_./+-")):
        return
    match = _SNOWFLAKE.match(text, at)
    if match is None or is_stopgap(match[0]):
        return
    try:
        number = binascii.a2b_base64(match[1] + "=" * (-len(match[1]) % 4))
    except binascii.Error:
        return
    if number.isdigit() and 16 < len(number) < 21:
        yield hit("discord-bot-token: Discord bot token", text, match, 0, strength="provider")


def _numbers() -> list[str]:
    """What base64 of a number begins with: three characters that tell its first two digits."""
    return sorted({binascii.b2a_base64(f"{two}0".encode())[:3].decode().lower() for two in range(10, 100)})


READERS: Final = (
    *((anchor, second_argument) for anchor in (".login(", "basicauth", "networkcredential(", "basic_auth(")),
    *(
        (anchor, second_argument)
        for anchor in ("passwordauthentication(", "passwordcredential", "plainauth(")
    ),
    ("getconnection(", third_argument),
    ("jwt.", signing_secret),
    ("convertto-securestring", secure_string),
    ("password is ", told_password),
    ("password to ", told_password),
    ("passphrase is ", told_password),
    ("passwort ist ", told_password),
    ("${", placeholder_default),
    ('"d"', json_web_key),
    ("eyjhdxrocyi", docker_config),
    ("zxlk", wrapped_jwt),
    ("psk=", chosen_by("wifi-password: password of a wireless network", _PSK)),
    ("redis-cli ", chosen_by(LINE, _REDIS)),
    ("openssl ", chosen_by(LINE, _OPENSSL)),
    ("net use ", chosen_by(LINE, _NET_USE)),
    *((anchor, discord_bot) for anchor in _numbers()),
)
