"""What is put in the place of each `«name»` of a file."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Final

from tests.unit.scan.secrets.kinds import ALNUM, B64, DIGITS, HEX, LOWER, SAFE, UPPER, draw, uuid4
from tests.unit.scan.secrets.whole.tokens import b64

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

WORDS: Final = tuple(
    "amber basil cedar delta ember fjord grove hazel inlet jetty kelp lunar mango north ocean pearl quill "  # noqa: SIM905
    "river sable tulip umber vivid willow xenon yacht zebra".split()
)
BECH32: Final = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"


def password(r: Random) -> str:
    """As people and generators make them; safe in every kind of file."""
    one, two, three = (r.choice(WORDS) for _ in range(3))
    return r.choice(
        [
            draw(r, ALNUM, r.randint(12, 24)),
            draw(r, ALNUM + "-_.!", r.randint(14, 20)),
            f"{one.title()}{two.title()}{r.randint(10, 9999)}!",
            f"{one}-{two}-{r.randint(100, 9999)}-{three}",
            f"{one.title()}_{r.randint(1000, 9999)}",
            one.replace("a", "@").replace("e", "3").title() + two + str(r.randint(10, 99)),
            draw(r, HEX, 32),
            draw(r, LOWER + DIGITS, 10),
        ]
    )


def plain(r: Random) -> str:
    """A password without marks that URLs quote."""
    one, two = r.choice(WORDS), r.choice(WORDS)
    return r.choice(
        [
            draw(r, ALNUM, r.randint(10, 22)),
            f"{one.title()}{two}{r.randint(10, 9999)}",
            f"{one}-{two}-{r.randint(1000, 9999)}",
        ]
    )


def token(r: Random) -> str:
    return r.choice(
        [
            draw(r, ALNUM, 32),
            draw(r, HEX, 40),
            draw(r, SAFE, 43),
            uuid4(r),
            b64(r.randbytes(32)),
            draw(r, HEX, 64),
        ]
    )


def pem(r: Random, kind: str, lines: int = 8) -> str:
    body = [draw(r, B64, 64) for _ in range(lines)]
    return "\n".join([f"-----BEGIN {kind}-----", *body, draw(r, B64, 30) + "==", f"-----END {kind}-----"])


def private_pem(r: Random) -> str:
    return pem(r, r.choice(["RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY"]))


def putty(r: Random) -> str:
    head = "⟦PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: robot\nPublic-Lines: 2\n"
    public = draw(r, B64, 64) + "\n" + draw(r, B64, 20)
    return f"{head}{public}\nPrivate-Lines: 1\n{draw(r, B64, 47)}=⟧\nPrivate-MAC: {draw(r, HEX, 64)}"


def pgp(r: Random) -> str:
    body = "\n".join(draw(r, B64, 64) for _ in range(9))
    kind = "PGP PRIVATE KEY BLOCK"
    return f"⟦-----BEGIN {kind}-----\n\n{body}\n={draw(r, B64, 4)}\n-----END {kind}-----⟧"


def account(r: Random) -> str:
    told = {
        "type": "service_account",
        "private_key_id": draw(r, HEX, 40),
        "private_key": "⟦" + pem(r, "PRIVATE KEY") + "\n⟧",
        "client_email": "robot@acme.iam.gserviceaccount.com",
    }
    return json.dumps(told, indent=2, ensure_ascii=False)


def docker_config(r: Random) -> str:
    return b64(json.dumps({"auths": {"registry.acme.dev": {"auth": b64("robot:" + plain(r))}}}))


VALUES: Final[dict[str, Callable[[Random], str]]] = {
    "P": password,
    "T": token,
    "U": plain,
    "H1": lambda r: draw(r, ALNUM, 24),
    "H2": lambda r: draw(r, ALNUM, 20),
    "A40": lambda r: draw(r, B64, 40),
    "K": lambda r: b64(r.randbytes(32)),
    "S43": lambda r: draw(r, SAFE, 43),
    "B": lambda r: b64(plain(r) + "x1"),
    "BP": lambda r: b64(password(r)),
    "BASIC": lambda r: b64("robot:" + plain(r)),
    "B64APP": lambda _: b64("app"),
    "PEM:RSA PRIVATE KEY": lambda r: f"⟦{pem(r, 'RSA PRIVATE KEY')}⟧",
    "PEM:EC PRIVATE KEY": lambda r: f"⟦{pem(r, 'EC PRIVATE KEY')}⟧",
    "PEM:DSA PRIVATE KEY": lambda r: f"⟦{pem(r, 'DSA PRIVATE KEY')}⟧",
    "PEM:OPENSSH PRIVATE KEY": lambda r: f"⟦{pem(r, 'OPENSSH PRIVATE KEY')}⟧",
    "PEM:PRIVATE KEY": lambda r: f"⟦{pem(r, 'PRIVATE KEY')}⟧",
    "IPEM": lambda r: textwrap.indent(f"⟦{pem(r, 'RSA PRIVATE KEY')}⟧", "    "),
    "EPEM": lambda r: pem(r, "RSA PRIVATE KEY").replace("\n", "\\n"),
    "B64PEM": lambda r: b64(private_pem(r) + "\n"),
    "B64CERT": lambda r: b64(pem(r, "CERTIFICATE", 12)),
    "PGP": pgp,
    "PPK": putty,
    "GCP": account,
    "AGE": lambda r: draw(r, BECH32, 58),
    "DOCKERB64": docker_config,
    "HEX32": lambda r: draw(r, HEX, 32),
    "HEX40": lambda r: draw(r, HEX, 40),
    "HEX64": lambda r: draw(r, HEX, 64),
    "UUID": uuid4,
    "B88": lambda r: b64(r.randbytes(64)),
    "B44": lambda r: b64(r.randbytes(32)),
    "B64LONG": lambda r: b64(r.randbytes(240)),
    "MIN": lambda r: draw(r, LOWER, 9),
    "N12": lambda r: draw(r, DIGITS, 12),
    "A20": lambda r: draw(r, ALNUM, 20),
    "A24": lambda r: draw(r, ALNUM, 24),
    "W": lambda r: r.choice(WORDS),
    "S60": lambda r: draw(r, SAFE, 60),
    "BCRYPT": lambda r: "$2b$12$" + draw(r, ALNUM + "./", 53),
    "PUB": lambda r: pem(r, "PUBLIC KEY", 4),
    "CERT": lambda r: pem(r, "CERTIFICATE", 10),
    "SSHPUB": lambda r: "AAAAC3NzaC1lZDI1NTE5AAAAI" + draw(r, B64, 43),
    "SHORT": lambda r: draw(r, HEX, 7),
    "U6": lambda r: draw(r, UPPER, 6),
}
