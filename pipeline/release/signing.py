"""Signatures by ssh and gpg, made and checked by their own programs: they know agents and tokens."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pipeline.errors import PipelineError, UsageError
from pipeline.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config.release import ReleaseSettings
    from pipeline.release.repository import Repository

LIMIT_S: Final = 120.0
NAMESPACE: Final = "attestation"  # a signature for one purpose is none for another


class CannotSign(UsageError):
    """Nothing can be signed here: no key, or its program refuses."""

    def __init__(self, why: str, hint: str | None = None) -> None:
        super().__init__(f"cannot sign the release: {why}")
        self.hint = hint


class SignatureBad(PipelineError):
    """A signature is not of this content, or not of a key that counts."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"cannot trust {what}: {why}")
        self.why = why


class SignersUnknown(PipelineError):
    """Nothing says whose ssh signatures count."""

    def __init__(self) -> None:
        super().__init__("cannot check ssh signatures: nothing says whose keys count")
        self.hint = "set `allowed_signers` in [tool.pipeline.release], or git's gpg.ssh.allowedSignersFile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A key that can sign."""

    kind: Literal["ssh", "gpg"]
    key: str  # path of an ssh key, or what gpg calls its key

    def git_options(self) -> tuple[str, ...]:
        """Options of git that make it sign by this key."""
        form = "ssh" if self.kind == "ssh" else "openpgp"
        return ("-c", f"gpg.format={form}", "-c", f"user.signingkey={self.key}")

    def sign(self, data: bytes) -> bytes:
        """Return a detached signature of `data`, in the text form of the program.

        Raises:
            CannotSign: The program refuses.
        """
        if self.kind == "ssh":
            return _made(["ssh-keygen", "-Y", "sign", "-q", "-n", NAMESPACE, "-f", self.key], data)
        return _made(["gpg", "--batch", "--armor", "--detach-sign", "--local-user", self.key], data)


def find_signer(repository: Repository, settings: ReleaseSettings) -> Signer | None:
    """Return the key that the settings name; None where nothing is signed.

    Raises:
        CannotSign: No key is named, or an ssh key is no file.
    """
    if settings.sign == "none":
        return None
    key = settings.key or configured(repository, "user.signingkey")
    if not key:
        raise CannotSign("no key is named", "set `key` in [tool.pipeline.release], or git's user.signingkey")
    if settings.sign == "gpg":
        if key.startswith("-"):
            raise CannotSign(f"`{key}` is no name of a gpg key")
        return Signer(kind="gpg", key=key)
    path = repository.root / Path(key).expanduser()
    if not path.is_file():
        raise CannotSign(f"there is no ssh key at `{key}`", "`key` is the path of a private or public key")
    return Signer(kind="ssh", key=str(path))


def allowed_signers(repository: Repository, settings: ReleaseSettings) -> Path | None:
    """Return the file of the ssh keys that count; None when nothing names one.

    Raises:
        UsageError: The file that is named is not there.
    """
    named = settings.allowed_signers or configured(repository, "gpg.ssh.allowedSignersFile")
    if not named:
        return None
    path = repository.root / Path(named).expanduser()
    if not path.is_file():
        raise UsageError(f"cannot check ssh signatures: `{named}` is no file")
    return path


def configured(repository: Repository, name: str) -> str:
    """Return what git's configuration says; "" for nothing."""
    asked = ("config", "--get", name)
    return repository.git(*asked, what="read git's settings", ok=(0, 1)).decode(errors="replace").strip()


def check_signature(data: bytes, signature: bytes, *, signers: Path | None) -> str:
    """Return who signed `data`: the principal of an ssh key, or the user of a gpg key.

    Raises:
        SignatureBad: The signature is not of `data`, or of no key that counts.
        SignersUnknown: It is of ssh, and `signers` is None.
    """
    with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
        place = Path(folder) / "signature"
        place.write_bytes(signature)
        if signature.lstrip().startswith(b"-----BEGIN SSH SIGNATURE-----"):
            if signers is None:
                raise SignersUnknown
            return _check_ssh(data, place, signers)
        return _check_gpg(data, place)


def _check_ssh(data: bytes, place: Path, signers: Path) -> str:
    asked = ["ssh-keygen", "-Y", "find-principals", "-s", str(place), "-f", str(signers)]
    code, said, _ = _run(asked, b"")
    principals = said.decode(errors="replace").splitlines() if code == 0 else []
    if not principals:
        raise SignatureBad("the signature", "its key is not among the allowed signers")
    why = ""
    for who in principals:
        check = [
            "ssh-keygen",
            "-Y",
            "verify",
            "-n",
            NAMESPACE,
            "-I",
            who,
            "-f",
            str(signers),
            "-s",
            str(place),
        ]
        code, said, errors = _run(check, data)
        if code == 0:
            return clean(who)
        why = _last_line(errors or said)
    raise SignatureBad("the signature", why)


def _check_gpg(data: bytes, place: Path) -> str:
    code, said, errors = _run(["gpg", "--batch", "--status-fd", "1", "--verify", str(place), "-"], data)
    good = re.search(rb"^\[GNUPG:\] GOODSIG \S+ (.+)$", said, re.MULTILINE)
    if code != 0 or good is None:
        raise SignatureBad("the signature", _last_line(errors))
    return clean(good[1].decode(errors="replace"))


def _made(argv: Sequence[str], data: bytes) -> bytes:
    code, said, errors = _run(argv, data)
    if code != 0:
        raise CannotSign(f"{argv[0]} said: {_last_line(errors)}")
    return said


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
        raise CannotSign(f"there is no `{argv[0]}` on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise CannotSign(f"{argv[0]} did nothing within {LIMIT_S:.0f} s") from error
    return done.returncode, done.stdout, done.stderr


def _last_line(said: bytes) -> str:
    lines = [line for line in clean(said.decode(errors="replace")).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "nothing"
