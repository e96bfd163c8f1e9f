"""What goes wrong with a Trivy server: one class for each thing a caller may do differently."""

from __future__ import annotations

from pipeline.errors import PipelineError


class TrivyFailed(PipelineError):
    """A Trivy server cannot be used. Its token is in no message."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"cannot ask the Trivy server `{address}`: {why}")
        self.address = address
        self.why = why


class TrivyUnreachable(TrivyFailed):
    """Nothing answers, or only that it cannot now; it was tried again."""


class TrivyRefused(TrivyFailed):
    """The token is missing or wrong; trying again does not help."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(address, f"it refused the token: {why}")
        self.hint = "set TRIVY_TOKEN to the token the server was started with"


class TrivyRouteUnknown(TrivyFailed):
    """The server does not know the call."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(address, f"it does not know the call: {why}")
        self.hint = "set `path_prefix` as the server has it, or update the server"


class TrivyRejected(TrivyFailed):
    """The server could not read the request: a fault of this client."""


class TrivyPanicked(TrivyFailed):
    """The server broke on the request; it drops the connection then."""


class BlobsMissing(TrivyFailed):
    """The server does not have a blob that a scan names: it was cleaned, or never took it."""


class TrivyMisspoke(TrivyFailed):
    """The server said what is no answer to the call."""
