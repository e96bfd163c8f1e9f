"""What can go wrong with images: one class for each thing a caller may do differently.

No message holds a credential, a token or an address with either in it.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path


class ImagePullFailed(EngineError):
    """A registry refused an image or could not serve it; `status` is its HTTP answer, 0 where none."""

    def __init__(self, reference: str, what: str, *, status: int = 0, hint: str | None = None) -> None:
        super().__init__(f"cannot pull `{reference}`: {what}")
        self.reference = reference
        self.status = status
        self.hint = hint


class ImagePushFailed(EngineError):
    """A registry did not take an image; `status` is its HTTP answer, 0 where none."""

    def __init__(self, reference: str, what: str, *, status: int = 0, hint: str | None = None) -> None:
        super().__init__(f"cannot push `{reference}`: {what}")
        self.reference = reference
        self.status = status
        self.hint = hint


class RegistryUnreachable(EngineError):
    """Nothing that speaks the registry protocol answered at the host."""

    def __init__(self, host: str, what: str, *, hint: str | None = None) -> None:
        super().__init__(f"cannot reach registry `{host}`: {what}")
        self.host = host
        self.hint = hint or "check the network and the proxy settings, or configure a mirror of this registry"


class CertificatesUnusable(EngineError):
    """The file of certificates to trust cannot be read or holds none."""

    hint = "set network.ca_bundle or PIPELINE_CA_BUNDLE to a file of PEM certificates"

    def __init__(self, path: str | Path, error: OSError) -> None:
        what = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
        super().__init__(f"cannot use the certificates in `{path}`: {what.lower()}")
        self.path = path


class RegistryOffline(EngineError):
    """The registry was not asked, because working offline was asked for."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"cannot ask a registry for `{reference}`: working offline")
        self.reference = reference
        self.hint = "fetch the image beforehand, or run without offline mode"


class PlatformNotOffered(EngineError):
    """An image exists, but not for the platform asked for."""

    def __init__(self, reference: str, wanted: str, offered: tuple[str, ...]) -> None:
        there = ", ".join(offered) or "none"
        super().__init__(f"cannot use `{reference}` on {wanted}: it is made for {there}")
        self.reference = reference
        self.wanted = wanted
        self.offered = offered


class CredentialsUnreadable(EngineError):
    """A file or a helper program that holds registry credentials could not be read."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"cannot read registry credentials from `{where}`: {what}")
        self.where = where


class LayerRejected(EngineError):
    """A layer is damaged, or an entry of it would reach outside of the image."""

    def __init__(self, what: str, *, entry: str = "") -> None:
        subject = f"entry `{entry}` of a layer" if entry else "a layer"
        super().__init__(f"cannot unpack {subject}: {what}")
        self.what = what
        self.entry = entry


class ArchiveRejected(EngineError):
    """A file is no image archive that can be used."""

    def __init__(self, path: str, what: str, *, hint: str | None = None) -> None:
        super().__init__(f"cannot read image archive `{path}`: {what}")
        self.path = path
        self.hint = hint


class FormatRefused(EngineError):
    """A combination of media types and compression that cannot be written."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"cannot write the image: {what}")
        self.hint = hint


class DuplicatePlatform(EngineError):
    """Two images of one index are for the same platform."""

    def __init__(self, platform: str) -> None:
        super().__init__(f"cannot combine images into one index: two of them are for {platform}")
        self.platform = platform
