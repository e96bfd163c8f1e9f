"""Signatures of bundles, as OpenSSH makes them (`ssh-keygen -Y`): of the manifest, which names all by digest.

Any key that signs for OpenSSH can be used, also one in an agent or on a token. Which keys are trusted is a
file of public keys, one a line; an `allowed_signers` file is one too.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.errors import PipelineError, RefusedByPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMESPACE: Final = "dagger-pipeline-bundle"  # a signature for something else is none for a bundle
SIGNER: Final = "bundle"
LARGEST: Final = 64 * 1024  # bytes of a signature
LIMIT_S: Final = 300.0  # for a passphrase, or a touch of a token
_TYPES: Final = r"ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-[a-z0-9-]+@openssh\.com"
_KEY: Final = re.compile(rf"(?:^|\s)((?:{_TYPES}) [A-Za-z0-9+/]{{32,}}={{0,3}})")


class BundleUnsigned(RefusedByPolicy):
    """A bundle has no signature, and the settings ask for one; nothing was replaced."""

    def __init__(self, path: Path, signers: Path) -> None:
        super().__init__(
            f"cannot import `{path}`: it is not signed, and only keys of `{signers}` are trusted"
        )
        self.hint = "make it with `pipeline prefetch --bundle FILE --sign KEY`"


class BundleDistrusted(RefusedByPolicy):
    """A bundle's signature is by no trusted key, or is not of this manifest; nothing was replaced."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"cannot import `{path}`: {why}")


class CannotSign(PipelineError):
    """A bundle could not be signed, or no signature can be verified on this machine."""


def sign(manifest: bytes, key: Path) -> bytes:
    """The signature of a manifest; a passphrase is asked for at the terminal.

    Args:
        key: A private key's file, or the public one's of a key that an agent holds.

    Raises:
        CannotSign: There is no such key, or no `ssh-keygen`.
    """
    argv = ("ssh-keygen", "-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "manifest"
        target.write_bytes(manifest)
        done = _run((*argv, str(target)))
        signature = target.with_name("manifest.sig")
        if done.returncode != 0 or not signature.is_file():
            raise CannotSign(f"cannot sign with `{key}`: {_last_line(done)}")
        return signature.read_bytes()


def verify(path: Path, manifest: bytes, signature: bytes | None, signers: Path | None) -> str:
    """Say by which key a manifest is signed: its fingerprint; "" for none, where none is asked for.

    Args:
        path: Of the bundle, for messages.
        signers: The file of the keys that are trusted; None trusts every bundle, but for one whose
            signature is not its own.

    Raises:
        BundleUnsigned: There is no signature, and `signers` asks for one.
        BundleDistrusted: It is by another key, or the manifest is not the one that was signed.
        CannotSign: The file of keys or `ssh-keygen` is not there.
    """
    keys = load_signers(signers) if signers is not None else []
    if signature is None:
        if signers is not None:
            raise BundleUnsigned(path, signers)
        return ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "signature").write_bytes(signature)
        argv = ("ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(folder / "signature"))
        done = _run(argv, manifest)
        if done.returncode != 0 and b"ignature" not in done.stderr + done.stdout:
            raise CannotSign(f"cannot verify the signature of `{path}`: {_last_line(done)}")
        if done.returncode != 0:
            raise BundleDistrusted(path, "its signature is not of what it holds: it was altered")
        found = re.search(r"SHA256:\S+", done.stdout.decode("utf-8", "replace"))
        fingerprint = found[0] if found else "an unknown key"
        if signers is None:
            return fingerprint
        allowed = folder / "allowed"
        allowed.write_text("".join(f'{SIGNER} namespaces="{NAMESPACE}" {key}\n' for key in keys))
        trusted = ("-f", str(allowed), "-I", SIGNER, "-n", NAMESPACE, "-s", str(folder / "signature"))
        if _run(("ssh-keygen", "-Y", "verify", *trusted), manifest).returncode != 0:
            raise BundleDistrusted(path, f"it is signed by {fingerprint}, which is no key of `{signers}`")
        return fingerprint


def load_signers(path: Path) -> list[str]:
    """The public keys of a file, each as `type base64`.

    Raises:
        CannotSign: It cannot be read, or holds no key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise CannotSign(f"cannot verify bundles: the keys in `{path}` cannot be read: {reason}") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    keys = [found[1] for line in lines if (found := _KEY.search(line))]
    if not keys or len(keys) < len(lines):
        odd = next((line for line in lines if not _KEY.search(line)), "")
        what = f"`{odd[:60]}` is no public key" if odd else "it holds no public key"
        raise CannotSign(f"cannot verify bundles by `{path}`: {what}")
    return keys


def _run(argv: Sequence[str], stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=LIMIT_S, check=False)
    except FileNotFoundError as error:
        missing = CannotSign("cannot sign or verify bundles: there is no `ssh-keygen` on this machine")
        missing.hint = "install OpenSSH's client (Debian: openssh-client)"
        raise missing from error
    except subprocess.TimeoutExpired as error:
        raise CannotSign(
            f"cannot sign or verify a bundle: `ssh-keygen` took longer than {LIMIT_S:g} s"
        ) from error


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"ssh-keygen ended with exit code {done.returncode}"
