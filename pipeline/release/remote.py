"""Where a repository lives on the web, from its remote's URL: for links, and for the API of its forge."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, urlsplit

SCP_FORM: Final = re.compile(r"(?:[\w.+-]+@)?(?P<host>[\w.-]+):(?P<path>[^/].*)")


def to_web_address(remote: str) -> str:
    """Return a remote's URL as https, without credentials and port; "" for a path of this machine."""
    if match := SCP_FORM.fullmatch(remote) if "://" not in remote else None:
        host, path = match["host"], match["path"]
    else:
        try:
            parts = urlsplit(remote)
        except ValueError:
            return ""
        if parts.scheme not in ("https", "http", "ssh", "git", "git+ssh") or not parts.hostname:
            return ""
        host, path = parts.hostname, parts.path
    return f"https://{host}/{path.strip('/').removesuffix('.git')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """Pages of a repository on its forge; every method returns "" where there is no forge."""

    address: str = ""  # "https://github.com/owner/name", without a slash at its end
    kind: Literal["", "github", "gitlab"] = ""

    def commit(self, sha: str) -> str:
        """The page of a commit."""
        return f"{self._base}/commit/{sha}" if self.kind else ""

    def compare(self, before: str, after: str) -> str:
        """The page of what changed between two tags."""
        return f"{self._base}/compare/{quote(before)}...{quote(after)}" if self.kind else ""

    def change(self, number: int) -> str:
        """The page of a pull or merge request."""
        if not self.kind:
            return ""
        return (
            f"{self._base}/merge_requests/{number}"
            if self.kind == "gitlab"
            else f"{self._base}/pull/{number}"
        )

    @property
    def _base(self) -> str:
        return f"{self.address}/-" if self.kind == "gitlab" else self.address


def web_of(remote: str, forge: Literal["none", "github", "gitlab"] = "none") -> Web:
    """Return the pages of a remote; without a `forge` its host's name tells which kind it is."""
    address = to_web_address(remote)
    host = urlsplit(address).hostname or ""
    kind: Literal["", "github", "gitlab"] = "" if forge == "none" else forge
    if not kind:
        kind = "gitlab" if "gitlab" in host else "github" if "github" in host else ""
    return Web(address=address, kind=kind if address else "")
