"""Ssh keys for tests."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Keys:
    """A folder of keys, and the file of those that count."""

    folder: Path

    @property
    def signers(self) -> Path:
        return self.folder / "allowed_signers"

    def make(self, name: str, *, counts: bool = True) -> Path:
        """Return a new private key of somebody."""
        path = self.folder / name.partition("@")[0]
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        subprocess.run(argv, check=True)
        if counts:
            public = path.with_suffix(".pub").read_text(encoding="utf-8")
            with open(self.signers, "a", encoding="utf-8") as file:
                file.write(f"{name} {public}")
        return path
