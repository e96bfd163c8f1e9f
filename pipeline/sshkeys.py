"""Signatures by ssh keys, made and checked by `ssh-keygen` itself: it knows agents and tokens.

A signature is made for one purpose, its namespace; it is none for another.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.errors import PipelineError, UsageError
from pipeline.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT_S: Final = 120.0  # an agent may have to ask somebody


class KeyUnusable(UsageError):
    """Nothing can be signed, or checked, here."""

    def __init__(self, why: str, hint: str | None = None) -> None:
        super().__init__(f"cannot use the ssh key: {why}")
        self.hint = hint


class SignatureBad(PipelineError):
    """A signature is not of this content, or not of a key that counts."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot trust the signature: {why}")
        self.why = why


def sign(data: bytes, *, key: Path, namespace: str) -> str:
    """Return a signature of `data`. `key` is a private key, or the public one of a key that an agent holds.

    Raises:
        KeyUnusable: There is no such file, or `ssh-keygen` refuses.
    """
    if not key.is_file():
        raise KeyUnusable(f"there is no file `{key}`", "name the path of a private or public ssh key")
    code, said, errors = _run(["ssh-keygen", "-Y", "sign", "-q", "-n", namespace, "-f", str(key)], data)
    if code != 0:
        raise KeyUnusable(f"ssh-keygen said: {_last_line(errors)}")
    return said.decode()


def check(data: bytes, signature: str, *, signers: Path, namespace: str, at: str = "") -> str:
    """Return who signed `data`, by the name that `signers` gives the key.

    Args:
        signers: A file of allowed signers, as `ssh-keygen` reads them.
        at: When it was signed, as `20261124165800Z`, for keys that count for some time only; "" is now.

    Raises:
        SignatureBad: It is not of `data`, or of no key that counts.
        KeyUnusable: There is no `ssh-keygen`, or no file of signers.
    """
    if not signers.is_file():
        raise KeyUnusable(f"nothing says whose signatures count: there is no `{signers}`")
    when = [f"-Overify-time={at}"] if at else []
    with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
        place = Path(folder) / "signature"
        place.write_text(signature, encoding="utf-8")
        common = ["-s", str(place), "-f", str(signers), *when]
        code, said, _ = _run(["ssh-keygen", "-Y", "find-principals", *common], b"")
        principals = said.decode(errors="replace").splitlines() if code == 0 else []
        why = "its key is not among the allowed signers"
        for who in principals:
            argv = ["ssh-keygen", "-Y", "verify", "-n", namespace, "-I", who, *common]
            code, said, errors = _run(argv, data)
            if code == 0:
                return clean(who)
            why = _last_line(errors or said)
    raise SignatureBad(why)


def _run(argv: Sequence[str], data: bytes) -> tuple[int, bytes, bytes]:
    try:
        done = subprocess.run(
            list(argv),
            input=data,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise KeyUnusable(f"there is no `{argv[0]}` on this machine", "install openssh-client") from error
    except subprocess.TimeoutExpired as error:
        raise KeyUnusable(f"{argv[0]} did nothing within {LIMIT_S:.0f} s") from error
    return done.returncode, done.stdout, done.stderr


def _last_line(text: bytes) -> str:
    lines = clean(text.decode(errors="replace")).strip().splitlines()
    return lines[-1] if lines else "nothing"
