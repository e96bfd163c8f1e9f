"""Places made for a secret: key blocks, URLs, tokens that say what they are, headers, credential files.

Each reader is called at an anchor in a text and says what is there; its expressions are bounded in length.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final

from pipeline.scan.secrets.randomness import bits
from pipeline.scan.secrets.rule import Hit
from pipeline.scan.secrets.values import (
    is_elsewhere,
    is_harmless,
    is_stopgap,
    looks_like_password,
    looks_like_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.scan.secrets.files import FileKind
    from pipeline.scan.secrets.rule import Strength

_URL: Final = re.compile(r"://([^\s:@/\"'<>{}\\`?#]{0,128}):([^\s\"'<>/`]{1,256})@([\w.\-\[\]:$%{}]+|/|\()")
_URL_TOKEN: Final = re.compile(r"://([\w.~+=-]{20,256})(?::x-oauth-basic|:)?@([\w.-]+)")
_ORACLE: Final = re.compile(r":(?:thin|oci8?):([\w.-]{1,64})/([^\s\"'<>/@`]{4,128})@")
_JWT: Final = re.compile(r"eyJ[\w-]{8,4000}\.[\w-]{10,8000}\.([\w-]{16,1500})")
_PEM: Final = re.compile(
    r"-----BEGIN (?P<kind>[A-Z0-9 ]{0,30})PRIVATE KEY(?: BLOCK)?-----(?P<rest>[\s\S]{0,12000})"
)
_PEM_START: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}KEY[\s\S]{5,300}?[A-Za-z0-9+/]{24}")
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,30}PRIVATE KEY")
_PEM_NOISE: Final = re.compile(
    r"\\r|\\n|\\t|[\s\"'+,\\|#*>]|(?:Proc-Type|DEK-Info|Version|Comment|Hash|X-[\w-]+):[^\n\\]{0,100}|<br/?>"
)
_PEM_BASE64: Final = re.compile(
    r"LS0tLS1CRUdJTi(?:BSU0EgUFJJVkFURSBLRVkt|BQUklWQVRFIEtFWS|BFQyBQUklWQVRFIEtFWS|BPUEVOU1NIIFBSSVZBVEUgS0VZ|"
    r"BFTkNSWVBURUQgUFJJVkFURSBLRVkt|BEU0EgUFJJVkFURSBLRVkt)[A-Za-z0-9+/=]{80,20000}"
)
_PUTTY: Final = re.compile(r"Private-Lines: \d{1,4}\s{1,4}([A-Za-z0-9+/=\s]{40,4000})")
_BASIC: Final = re.compile(r"[Bb]asic\s{1,3}([A-Za-z0-9+/_-]{8,400}={0,2})(?![\w+/=-])")
_BEARER: Final = re.compile(
    r"(?:[Bb]earer|[Aa]uthorization[\"']?\]?\s?[:=]\s?[\"']?[Tt]oken)\s{1,3}([\w.~+/-]{16,2000}={0,2})(?![\w{(<$=])"
)
_IDENTIFIED: Final = re.compile(
    r"identified (?:with [\w'\"]{1,40} )?by (?:password )?['\"]([^'\"\s]{4,200})['\"]", re.IGNORECASE
)
_DOCKER_AUTH: Final = re.compile(r"\"auth\\?\"\s{0,10}:\s{0,10}\\?\"([A-Za-z0-9+/]{8,2000}={0,2})\\?\"")
_NPM_AUTH: Final = re.compile(r"_auth\s?=\s?\"?([A-Za-z0-9+/]{8,600}={0,2})\"?")
_NPM_PASSWORD: Final = re.compile(r":_password\s?=\s?\"?([A-Za-z0-9+/]{8,600}={0,2})\"?")
_NETRC: Final = re.compile(r"login\s{1,20}[^\s\"']{1,128}\s{1,20}password\s{1,20}([^\s\"']{3,256})")
_NETRC_ALONE: Final = re.compile(r"machine\s{1,20}\S{1,128}\s{1,20}password\s{1,20}([^\s\"']{3,256})")
_CURL: Final = re.compile(
    r"(?:\s-u|--user|--proxy-user|--creds?)[= ]{1,3}[\"']?([\w.@+-]{1,64}):([^\s\"':/]{4,256})"
)
_MYSQL: Final = re.compile(r"(?:mysql\w*|mariadb\w*)\s[^\n]{0,200}?\s-p([^\s\"'`;|&=-][^\s\"'`;|&]{5,100})")
_SSHPASS: Final = re.compile(r"sshpass\s{1,3}-p\s{0,3}[\"']?([^\s\"']{4,100})")
_LOGIN: Final = re.compile(
    r" login\s[^\n|]{0,200}?\s(?:-p|--password)[= ]\s{0,3}[\"']?([^\s\"'$-][^\s\"']{3,256})"
)
_STDIN: Final = re.compile(
    r"(?:echo|printf)(?: -n| '%s')? [\"']?([^\s\"'$]{4,256})[\"']?\s{0,3}\|[^|\n]{0,200}$"
)
_CHPASSWD: Final = re.compile(
    r"(?:echo|printf)(?: -[ne]{1,2}| '%s')?\s{1,3}[\"']?[\w.-]{1,64}:([^\s\"'$:]{4,256})[\"']?"
    r"\s{0,3}\|[^|\n]{0,40}$"
)
_GO_DSN: Final = re.compile(r"[\"'`]([\w.-]{1,64}):([^\s\"'`@/:]{4,128})$")
_PGPASS: Final = re.compile(
    r"(?:^|\n|[\"'])[\w.*/\[\]-]{1,253}:(?:\d{1,5}|\*):[\w*-]{1,64}:[\w.*-]{1,64}:((?:[^:\s\"'\\]|\\.){3,256})"
)
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]+")


def hit(
    rule: str,
    text: str,
    match: re.Match[str],
    group: int = 1,
    *,
    strength: Strength = "structure",
    value: str = "",
) -> Hit:
    """Return what an expression's group holds."""
    name, _, title = rule.partition(": ")
    return Hit(
        rule=name,
        title=title,
        strength=strength,
        value=value or match[group],
        start=match.start(group),
        end=match.end(group),
    )


def decoded(value: str) -> str | None:
    """The printable text that base64 holds, None when it holds something else."""
    try:
        plain = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_" if "-" in value else None)
        text = plain.decode("ascii")
    except (binascii.Error, ValueError):
        return None
    return text if _PRINTABLE.fullmatch(text) else None


def url_password(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`scheme://user:password@host`, of any scheme."""
    match = _URL.match(text, at)
    if match is None:
        match = _URL_TOKEN.match(text, at)
        if match is not None and "sentry" not in match[2] and looks_like_token(match[1], is_strict=True):
            yield hit("url-token: token in a URL", text, match)
        return
    user, password = match[1], match[2]
    if (
        password == user
        or password.endswith((")s", ")d"))
        or not is_chosen(password, is_strict=kind.is_trying)
    ):
        return
    yield hit("url-password: password in a URL", text, match, 2)


def is_chosen(password: str, *, is_strict: bool) -> bool:
    """Whether a password in a place made for one is real; there a short or worded one is real as well."""
    if is_strict:
        return looks_like_password(password, is_strict=True) or looks_like_token(password, is_strict=True)
    if (
        len(password) < 4
        or is_elsewhere(password)
        or is_stopgap(password)
        or password.startswith(("$", "%", "<", "{", ":"))
    ):
        return False
    return (bits(password) >= 11 and any(not one.isalpha() for one in password)) or bits(password) >= 30


def oracle_password(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`jdbc:oracle:thin:user/password@host`."""
    match = _ORACLE.match(text, at)
    if match and match[1] != match[2] and is_chosen(match[2], is_strict=kind.is_trying):
        yield hit("url-password: password in a URL", text, match, 2)


def jwt(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """A signed JSON Web Token, not one of those in documentation."""
    if at and text[at - 1].isalnum() and text[at - 2 : at - 1] != "\\":
        return
    match = _JWT.match(text, at)
    if match is None or is_stopgap(match[1]):
        return
    header = decoded(match[0].partition(".")[0]) or ""
    if '"alg"' in header or ".eyJ" in match[0]:
        yield hit("jwt: JSON Web Token", text, match, 0, strength="provider")


def private_key(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """A private key in PEM or PGP armour, also inside a string; its header alone is none."""
    match = _PEM.match(text, at) if _PEM_START.match(text, at) else None
    if match is None:
        return
    end = _PEM_END.search(match["rest"])
    if end is None and len(match["rest"]) < 200:
        return
    body = match["rest"][: end.start()] if end else match["rest"][:2000]
    bare = _PEM_NOISE.sub("", body)
    clean = re.match(r"[A-Za-z0-9+/=]*", bare)
    size = clean.end() if clean else 0
    if size < 64 or (end and size < 0.9 * len(bare)) or len(set(bare)) < 20 or ".." in bare[:size]:
        return
    what = "PGP private key" if "PGP" in match["kind"] else "private key"
    name = f"private-key: {what}{' with a passphrase' if 'ENCRYPTED' in match[0][:200] else ''}"
    found = hit(name, text, match, 0, value=bare[:size])
    yield Hit(
        rule=found.rule,
        title=found.title,
        strength="structure",
        value=found.value,
        start=at,
        end=at + len(body) + 40,
    )


def private_key_base64(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """A private key in PEM that was encoded once more, as in a kubeconfig."""
    if match := _PEM_BASE64.match(text, at):
        yield hit("private-key: private key", text, match, 0)


def putty_key(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """A PuTTY key file."""
    private = text.find("Private-Lines: ", at, at + 6000)
    match = _PUTTY.match(text, private) if private > 0 else None
    if match and text.find("PuTTY-User-Key-File", at + 1, private) < 0:
        yield Hit(
            rule="private-key",
            title="PuTTY private key",
            strength="structure",
            value="".join(match[1].split()),
            start=at,
            end=match.end(),
        )


def basic_auth(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`Authorization: Basic ...` with a user and a password in it."""
    yield from _encoded_pair("basic-auth: credentials in a header", _BASIC, text, at, kind)


def docker_auth(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """The `auth` of a registry in Docker's configuration."""
    yield from _encoded_pair("docker-auth: registry credentials", _DOCKER_AUTH, text, at, kind)


def npm_auth(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`_auth` of an .npmrc."""
    yield from _encoded_pair("npm-auth: registry credentials", _NPM_AUTH, text, at, kind)


def _encoded_pair(rule: str, form: re.Pattern[str], text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    match = form.match(text, at)
    if match is None or is_stopgap(match[1]):
        return
    user, colon, password = (decoded(match[1]) or "").partition(":")
    if colon and user != password and is_chosen(password, is_strict=kind.is_trying):
        yield hit(rule, text, match)


def npm_password(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`_password` of an .npmrc, in base64."""
    match = _NPM_PASSWORD.match(text, at)
    if match and is_chosen(decoded(match[1]) or match[1], is_strict=kind.is_trying):
        yield hit("npm-auth: registry credentials", text, match)


def bearer(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`Authorization: Bearer ...`."""
    match = _BEARER.match(text, at)
    if match and looks_like_token(match[1], is_strict=kind.is_trying):
        yield hit("bearer-token: token in a header", text, match, strength="generic")


def chosen_by(rule: str, *forms: re.Pattern[str]) -> Callable[[str, int, FileKind], Iterator[Hit]]:
    """Return a reader for an expression whose last group is a password."""

    def read(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
        for form in forms:
            match = form.match(text, at)
            if match is None:
                continue
            last = match.lastindex or 1
            password = match[last]
            is_name_again = last > 1 and match[1] == password
            is_real = not is_harmless(password) and is_chosen(password, is_strict=kind.is_trying)
            if is_real and not is_name_again:
                yield hit(rule, text, match, last)
            return

    return read


def piped_password(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`echo PASSWORD | docker login --password-stdin`."""
    yield from _before("command-line-password: password on a command line", _STDIN, text, at, kind)


def changed_password(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`echo USER:PASSWORD | chpasswd`."""
    yield from _before("command-line-password: password on a command line", _CHPASSWD, text, at, kind)


def go_password(text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    """`user:password@tcp(host)`, the data source names of Go's MySQL driver."""
    yield from _before("url-password: password in a data source name", _GO_DSN, text, at, kind)


def _before(rule: str, form: re.Pattern[str], text: str, at: int, kind: FileKind) -> Iterator[Hit]:
    match = form.search(text, max(0, at - 400), at)
    if match and is_chosen(match[match.lastindex or 1], is_strict=kind.is_trying):
        yield hit(rule, text, match, match.lastindex or 1)


def pgpass(text: str) -> Iterator[Hit]:
    """Lines of a password file of PostgreSQL."""
    for match in _PGPASS.finditer(text):
        if is_chosen(match[1], is_strict=False):
            yield hit("pgpass: password of PostgreSQL", text, match)


Reader = "Callable[[str, int, FileKind], Iterator[Hit]]"
READERS: Final = (
    ("://", url_password),
    (":thin:", oracle_password),
    (":oci:", oracle_password),
    ("eyj", jwt),
    ("-----begin ", private_key),
    ("ls0tls1crudjti", private_key_base64),
    ("putty-user-key-file-", putty_key),
    ("basic ", basic_auth),
    ("bearer ", bearer),
    ("authorization", bearer),
    ("identified by ", chosen_by("sql-password: password of a database user", _IDENTIFIED)),
    ("identified with ", chosen_by("sql-password: password of a database user", _IDENTIFIED)),
    ('"auth', docker_auth),
    ("_auth", npm_auth),
    (":_password", npm_password),
    ("login ", chosen_by("netrc: password in a netrc file", _NETRC)),
    ("login\n", chosen_by("netrc: password in a netrc file", _NETRC)),
    ("machine ", chosen_by("netrc: password in a netrc file", _NETRC_ALONE)),
    (" -u ", chosen_by("command-line-password: password on a command line", _CURL)),
    ("--user", chosen_by("command-line-password: password on a command line", _CURL)),
    ("--proxy-user", chosen_by("command-line-password: password on a command line", _CURL)),
    ("mysql", chosen_by("command-line-password: password on a command line", _MYSQL)),
    ("mariadb", chosen_by("command-line-password: password on a command line", _MYSQL)),
    (" login ", chosen_by("command-line-password: password on a command line", _LOGIN)),
    ("--password-stdin", piped_password),
    ("chpasswd", changed_password),
    ("@tcp(", go_password),
    ("@unix(", go_password),
    ("sshpass ", chosen_by("command-line-password: password on a command line", _SSHPASS)),
)
