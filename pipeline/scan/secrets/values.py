"""What a value is: a secret, or one of the many things that only stand where a secret would.

Everything here looks at one value and at nothing around it.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import Final

from pipeline.scan.secrets import words
from pipeline.scan.secrets.randomness import bits

# Parts of what people write where a password will be; digits and marks that stand for letters count as those.
_STOPGAPS: Final = tuple(words.STOPGAPS.split())
_STOPGAP: Final = re.compile("|".join(sorted(_STOPGAPS, key=len, reverse=True)))
_LEET: Final = str.maketrans("013457@$!", "oieastasi")
_OBVIOUS: Final = re.compile(
    r"(?i)example|placeholder|change[-_. ]?me|replace[-_. ]?(?:me|this|with)|redacted|dummy|insert[-_ ]|"
    r"your[-_ ]|my[-_ ]?(?:secret|token|key|pass)|not[-_ ]?(?:a[-_ ]?)?(?:real|secret)|\bfake|fake[-_ ]|"
    r"x{5,}|(.)\1{6,}|\*{3,}|\.{3}|…|0123456789|123456789|abcdefgh|deadbeef|foobar|changeit|lorem|ipsum"
)
# What is filled in later, read from elsewhere, or encrypted.
_ELSEWHERE: Final = re.compile(
    r"\$\{|\{[A-Za-z_][\w.]*(?:\[[^\]]*\]|\([^)]*\))?\}|\$\([\w./\[-][^)]*\)|\{\{|<%|#\{|\{%|%\([a-z_]+\)s|\[\[.*\]\]|@@\w+@@|^%\w+%$|^\$\w+$|^\$[A-Z_]{3,}|\$[A-Z][A-Z_]{5,}|^\{[\w.:-]*\}$|^<[^>]+>|"
    r"^__\w+__$|^%[sdvqn](?!\w)|^@\w+@$|"
    r"(?i:^(?:os\.|process\.env|env[.:(\[]|getenv|import\.meta|var\.|local\.|module\.|data\.|self\.|this\.|config\.|"
    r"settings\.|secrets\.|vault[:/_]|ref\+|op://|ssm:|arn:|projects/|file:|classpath:|kms:|keyring:|keychain|aws-|gcp-|sops|"
    r"lookup\(|secretref:|azurekeyvault|@microsoft\.keyvault))|"
    r"^ENC[\[(]|^\{cipher\}|^\{[A-Za-z0-9+/=]{16,}\}$|^\$ANSIBLE_VAULT|^AQICA|^AgA[A-Za-z0-9+/]|^vault:v\d|^gAAAAA|"
    r"^-----BEGIN (?:AGE ENC|PGP MESS|CERT|PUB)"
)
_HASHED: Final = re.compile(
    r"(?:^|:)\$(?:2[abxy]?|1|5|6|7|y|apr1|argon2\w*|pbkdf2[\w-]*|scrypt|bcrypt[\w-]*|P|H|S|sha1|md5)\$|"
    r"^\{(?i:S?SHA\d*|S?MD5|CRYPT|BCRYPT|SCRYPT|PBKDF2[\w-]*|ARGON2\w*|noop)\}|^(?:bcrypt|pbkdf2|argon2|scrypt|sha\d+|md5|SCRAM-SHA)[\w-]*[$:]|"
    r"^sha(?:1|256|384|512)[-:]|^(?i:md5)[0-9a-f]{32}$"
)
_PUBLIC: Final = re.compile(
    r"^(?:ssh-(?:rsa|ed25519|dss)|ecdsa-sha2)|^AAAA[BCE]3Nza|^age1[a-z0-9]{40,}$|^pk[._](?:live|test|eyJ)|^M[IF][A-Z]B[IE]jAN|^MIIBIjAN|"
    r"^pub-|^phc_|^0x[0-9a-fA-F]{1,16}$"
)
_NOT_ONE: Final = re.compile(
    r"^(?:[a-z][a-z0-9+.-]*:)?//|^(?:\.{0,2}|~)/[\w.-]+/|^/(?:[\w.-]+/)*[\w.-]*$|^[A-Za-z]:\\|^[\w.+-]+@[\w-]+\.[\w.-]+$|"
    r"^\d{4}-\d\d-\d\d|^v?\d+(?:\.\d+)+(?:[-+.]\w+)?$|^(?:\d{1,3}\.){3}\d{1,3}|^[\d.,:+-]+$|^#[0-9a-fA-F]{3,8}$|"
    r"^[a-z][\w.-]*\.(?:com|org|net|io|dev|local|internal|json|ya?ml|txt|pem|key|crt|py|js|ts|html?|xml|properties|cfg|md)$|"
    r"^(?:[a-z]+|[A-Z]+)\(\d+\)|^[A-Za-z]+(?:[.][A-Za-z]+)+$|^[A-Z]+(?:_[A-Z]+)+$|^\w+(?:\|\w+(?::\w+)?)+$|^(?:image|text|application|data)[:/]|^(?:\d+(?:ms|s|m|h|d))+$"
)
_FORM: Final = re.compile(
    r"\\[sdwSDWB](?![a-zA-Z0-9])|^/.*\[.*/[a-z]*$|\[\^|\(\?[:P=!<]|\{\d+,\d*\}|:x:\d+:\d+:"
)  # a regular expression, a line of /etc/passwd
UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_TOKEN: Final = re.compile(r"[\w.~+/=:!@#$%^&*(){}\[\]|;,<>?'-]+", re.ASCII)
_CASES: Final = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]")
_WORDED: Final = re.compile(r"[-_.][A-Za-z]{2,12}[-_.]")
_COINED: Final = re.compile(
    r"(?:[A-Za-z]{3,12}[-_.]){2,5}\d{3,6}(?:[-_.][A-Za-z]{3,12}){0,3}"
)  # words and a number
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{8,64}={0,2}")

# What vendors print in their documentation.
DOCUMENTED: Final = frozenset(
    {
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
        "sk_test_4eC39HqLyjWDarjtT1zdp7dc",
        "sk_test_BQokikJOvBiI2HlWgH4olfQ2",
        "sk_test_26PHem9AhJZvU623DfE1x4sd",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "gho_16C7e42F292c6912E7710c838347Ae178B4a",
        "ghu_16C7e42F292c6912E7710c838347Ae178B4a",
        "ghs_16C7e42F292c6912E7710c838347Ae178B4a",
        "ghr_1B4a2e77838347a7E420ce178F2E7c6912E169246c34E1ccbF66C46812d16D5B1A9Dc86A1498",
        "QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "QWxhZGRpbjpPcGVuU2VzYW1l",
        "mF_9.B5f-4.1JqM",
        "2YotnFZFEjr1zCsicMWpAA",
        "tGzv3JOkF0XG5Qx2TlKWIA",
        "7Fjfp0ZBr1KtDRbnfVdmIw",
        "gX1fBat3bV",
        "czZCaGRSa3F0MzpnWDFmQmF0M2JW",
        "dGhlIHNhbXBsZSBub25jZQ==",
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==",
        "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "TJVA95OrM7E2cBab30RMHrHDcEfxjoYZgeFONFh7HgQ",
        "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
        "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11",
        "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy",
        "T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
        "AIzaSyDdI0hCZtE6vySjMm-WEfRq3CPzqKqqsHI",
        "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",
        "hvs.CAESIJlWh7c8WOvHqjG7HcSqd2MKXfG7hcV7cT5xKjTgGh4KHGh2cy5qVFJ1",
        "64f8f6c2e3b14f9c8e7a1d2b3c4d5e6f",
        "Tr0ub4dor&3",
        "correct horse battery staple",
        "correcthorsebatterystaple",
    }
)


@lru_cache(maxsize=16384)
def is_stopgap(value: str) -> bool:
    """Whether people wrote it in the place of a secret: "changeme", "xxxxxxxx", a documented example."""
    if (
        value in DOCUMENTED
        or value.rpartition(".")[2] in DOCUMENTED
        or _OBVIOUS.search(value)
        or len(set(value)) < 4
    ):
        return True
    if _BASE64.fullmatch(value) and len(value) % 4 == 0 and _is_stopgap_in_base64(value):
        return True
    plain = value.lower()
    left = _STOPGAP.sub("", plain)
    leet = _STOPGAP.sub("", plain.translate(_LEET))
    shorter = min(left, leet, key=len)
    return shorter != plain and len(shorter) < 0.5 * len(plain) and bits(shorter) < 24


def _is_stopgap_in_base64(value: str) -> bool:
    try:
        plain = base64.b64decode(value, validate=True).decode("ascii")
    except ValueError:
        return False
    return len(plain) > 5 and plain.isprintable() and is_stopgap(plain)


def is_elsewhere(value: str) -> bool:
    """Whether the value is filled in later, comes from elsewhere, or is encrypted."""
    return _ELSEWHERE.search(value) is not None


def is_harmless(value: str) -> bool:
    """Whether the value is of a form that no secret has: a hash, a public key, a path, a date, an address."""
    if _HASHED.search(value) or _PUBLIC.search(value) or _FORM.search(value):
        return True
    is_random = len(value) >= 24 and bits(value) > 3.2 * len(value)  # base64 may look like a path
    return not is_random and _NOT_ONE.search(value) is not None


def classes(value: str) -> int:
    """How many of lower case, upper case, digits and marks there are."""
    return (
        any("a" <= one <= "z" for one in value)
        + any("A" <= one <= "Z" for one in value)
        + any("0" <= one <= "9" for one in value)
        + any(not one.isalnum() and one not in "-_. " and one.isascii() for one in value)
    )


def _is_nothing(value: str) -> bool:
    return len(value) < 6 or is_elsewhere(value) or is_harmless(value) or is_stopgap(value)


@lru_cache(maxsize=16384)
def looks_like_password(value: str, *, is_strict: bool) -> bool:
    """Whether a value given to something named a password is one that somebody chose.

    Args:
        is_strict: Only what was drawn at random, as in tests, where passwords are invented.
    """
    if _is_nothing(value) or len(value) > 256 or not value.isascii() or UUID.fullmatch(value):
        return False
    if " " in value:
        return False  # a sentence
    weight, kinds = bits(value), classes(value)
    has_digit = any(one.isdigit() for one in value)
    if is_strict:
        return weight >= 42 and kinds >= 3
    if kinds >= 3 and has_digit and len(value) >= 8:
        return weight > 12  # a word and more than "123"
    if _COINED.fullmatch(value):
        return True
    if weight < 1.6 * len(value):
        return False  # words, and little between them
    if has_digit:
        return weight >= 16 and (kinds >= 2 or weight >= 44)
    share = weight / len(value)
    changes = len(_CASES.findall(value))  # between lower and upper case: words have few
    if kinds >= 3 or changes >= 3:
        return weight >= 18 and share >= 2.3
    return weight >= (22 if changes == 2 else 40 if kinds > 1 else 52) and share >= 2.8


@lru_cache(maxsize=16384)
def looks_like_token(value: str, *, is_strict: bool) -> bool:
    """Whether a value given to something named a token, key or secret was drawn at random."""
    if _is_nothing(value) or not 10 <= len(value) <= 2000 or not _TOKEN.fullmatch(value):
        return False
    if UUID.fullmatch(value):
        return not is_strict
    weight = bits(value)
    has_digit = any(one.isdigit() for one in value)
    if is_strict:
        return weight >= 60 and has_digit and len(value) >= 16
    share = weight / len(value[:256])
    if has_digit:
        return share >= 1.9 and weight >= 42
    is_mixed = len(_CASES.findall(value)) >= 4 and value.isalpha()
    return share >= 2.8 and weight >= (48 if is_mixed else 60) and _WORDED.search(value) is None
