"""Signed bundles: only those of trusted keys are taken, and nothing is replaced by others."""

from __future__ import annotations

import subprocess
import zipfile
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pipeline.scan.bundle import HEAD, SIGNATURE, import_bundle, write_bundle
from pipeline.scan.bundle_signature import (
    BundleDistrusted,
    BundleUnsigned,
    CannotSign,
    load_signers,
    sign,
    verify,
)
from pipeline.scan.data import Item, digest_and_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.errors import PipelineError

TIME = "2026-11-20T00:00:00Z"


def new_key(folder: Path, name: str, kind: str = "ed25519") -> Path:
    """A key pair; its public key lies beside it."""
    path = folder / name
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", f"{name}@example.org", "-f", str(path)]
    subprocess.run(argv, check=True, timeout=60)
    return path


def public(key: Path) -> Path:
    """The file of a key's public half."""
    return key.with_name(f"{key.name}.pub")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return new_key(tmp_path, "ours")


def bundle(folder: Path, key: Path | None, text: str = "new") -> Path:
    """A bundle of one file; signed, if there is a key."""
    source, target = folder / f"{text}.txt", folder / f"{text}.bundle"
    source.write_text(text)
    digest, size = digest_and_size(source)
    item = Item(name="own.idx", digest=digest, size_bytes=size, as_of=TIME)
    signed = partial(sign, key=key) if key is not None else None
    write_bundle(target, {"advisories": {source: item}}, made_at=TIME, sign=signed)
    return target


def held(data: Path) -> str:
    """What is in place."""
    return (data / "advisories/own.idx").read_text()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_bundle_signed_by_a_trusted_key_is_taken(tmp_path: Path, kind: str) -> None:
    """The key is one of several, in any of the forms that OpenSSH writes them."""
    ours, others = new_key(tmp_path, "ours", kind), new_key(tmp_path, "others")
    signers = tmp_path / "signers"
    signers.write_text(
        f"# who may\n\nsomebody@example.org {public(others).read_text()}{public(ours).read_text()}"
    )

    import_bundle(bundle(tmp_path, ours), tmp_path / "data", signers=signers)

    assert held(tmp_path / "data") == "new"


def unsigned(path: Path, folder: Path) -> None:
    """Take the signature away."""
    rewrite(path, lambda name, data: None if name == SIGNATURE else data)


def by_another(path: Path, folder: Path) -> None:
    """Sign it anew, by a key nobody trusts."""
    stranger = new_key(folder, "stranger")
    with zipfile.ZipFile(path) as archive:
        fresh = sign(archive.read(HEAD), stranger)
    rewrite(path, lambda name, data: fresh if name == SIGNATURE else data)


def other_date(path: Path, folder: Path) -> None:
    """Change the manifest alone."""
    rewrite(path, lambda name, data: data.replace(b"2026", b"2027") if name == HEAD else data)


def garbage(path: Path, folder: Path) -> None:
    """A signature that is none."""
    rewrite(path, lambda name, data: b"\x00\xffsigned" if name == SIGNATURE else data)


def rewrite(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write a bundle anew, its members changed; None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            if (changed := change(name, data)) is not None:
                archive.writestr(name, changed)


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (unsigned, BundleUnsigned, "it is not signed, and only keys of `.+ours.pub` are trusted"),
        (by_another, BundleDistrusted, "it is signed by SHA256:[^ ]+, which is no key of `.+ours.pub`"),
        (other_date, BundleDistrusted, "its signature is not of what it holds: it was altered"),
        (garbage, BundleDistrusted, "its signature is not of what it holds: it was altered"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_others_are_refused_in_one_sentence_and_replace_nothing(
    tmp_path: Path, key: Path, spoil: Callable[[Path, Path], None], error: type[PipelineError], told: str
) -> None:
    data, signers = tmp_path / "data", public(key)
    import_bundle(bundle(tmp_path, key, "old"), data, signers=signers)
    spoilt = bundle(tmp_path, key)
    spoil(spoilt, tmp_path)

    with pytest.raises(error, match=f"^cannot import `.+`: {told}$"):
        import_bundle(spoilt, data, signers=signers)

    assert held(data) == "old"


def test_without_trusted_keys_unsigned_bundles_are_taken_and_altered_ones_are_not(
    tmp_path: Path, key: Path
) -> None:
    altered = bundle(tmp_path, key, "altered")
    other_date(altered, tmp_path)

    with pytest.raises(BundleDistrusted, match="it was altered"):
        import_bundle(altered, tmp_path / "data")
    import_bundle(bundle(tmp_path, None), tmp_path / "data")

    assert held(tmp_path / "data") == "new"


def test_a_signature_of_the_key_for_something_else_is_none(tmp_path: Path, key: Path) -> None:
    """As one of a git commit, that somebody could have come by."""
    (tmp_path / "manifest").write_bytes(b"{}")
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(key), str(tmp_path / "manifest")]
    subprocess.run(argv, check=True, timeout=60)
    signature = (tmp_path / "manifest.sig").read_bytes()

    with pytest.raises(BundleDistrusted):
        verify(tmp_path / "a.bundle", b"{}", signature, public(key))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        ("# none yet\n", "it holds no public key"),
        ("ssh-ed25519 AAAA\n", "`ssh-ed25519 AAAA` is no public key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "`-----BEGIN OPENSSH PRIVATE KEY-----` is no public key"),
    ],
)
def test_a_file_of_keys_that_says_something_else_is_refused(
    tmp_path: Path, text: str | None, told: str
) -> None:
    """Or a line that was cut would be a key less, without a word."""
    path = tmp_path / "signers"
    if text is not None:
        path.write_text(text)

    with pytest.raises(CannotSign, match=told):
        load_signers(path)


def test_a_key_that_is_not_there_writes_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(CannotSign, match=r"cannot sign with `.+gone`: .*No such file or directory"):
        bundle(tmp_path, tmp_path / "gone")

    assert list(tmp_path.glob("*.bundle")) == []
