"""Hits to findings: who they are, how bad, and never the secret itself."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.scan.finding import Finding, InFile, Level, Rule, Severity, Witness
from pipeline.scan.fingerprint import secret_fingerprint
from pipeline.scan.secrets.files import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pipeline.scan.finding import Confidence
    from pipeline.scan.secrets.rule import Hit, Strength

TREE: Final = "secrets"  # the scanners, by what they look at
COMMITS: Final = "secrets-commits"
IMAGE: Final = "secrets-image"
LOGS: Final = "secrets-logs"
GITLEAKS: Final = "gitleaks"
GIT_LIMIT_S: Final = 60.0
SHOWN: Final = 4  # characters of a secret that are shown, of a long one only
LONG: Final = 16
MOST_PLACES: Final = 5  # other places of a secret that are told
LEVELS: Final[dict[Strength, Level]] = {
    "live": "critical",
    "provider": "high",
    "structure": "high",
    "generic": "medium",
}
MILDER: Final[dict[Level, Level]] = {"high": "medium", "medium": "low"}
BASIS: Final[dict[Strength, str]] = {
    "live": "secrets: provider pattern, live prefix",
    "provider": "secrets: provider pattern",
    "structure": "secrets: place made for one",
    "generic": "secrets: name and random value",
}
# A self-signed pair for localhost: with each build another, so that nobody could waive it.
PLACEHOLDER: Final = "etc/ssl/private/ssl-cert-snakeoil.key"
SHORT: Final = 12  # digits of a commit or layer that are told
FIX: Final = "revoke it and issue a new one"
FIX_FILE: Final = f"{FIX}, then take it out of the file; whoever saw it has it"
FIX_COMMITS: Final = (
    f"{FIX} first, for every clone has it; then rewrite the commits that have it, as with "
    "`git filter-repo --replace-text`"
)
FIX_LAYERS: Final = (
    f"{FIX} first, for whoever pulled the image has it; then build the image without it, for a later layer "
    "that deletes the file does not take it out: give it to the build by `--mount=type=secret`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A hit and where it is."""

    hit: Hit
    path: str
    layer: str = ""  # digest, or "settings"
    image: str = ""  # the image, and which of its layers it is, in words
    commit: str = ""
    when: str = ""  # day on which the commit was written
    scanner: str = TREE
    also_by: tuple[Witness, ...] = ()  # tools that saw it too

    @property
    def told(self) -> str:
        """The place in words."""
        spot = f"{self.path}:{self.hit.line}" if self.hit.line else self.path
        return f"{spot} in {self.around}" if self.around else spot

    @property
    def around(self) -> str:
        """The commit or layer it is in, in words; "" for a file."""
        if self.commit:
            return f"commit {self.commit[:SHORT]}{f' of {self.when}' if self.when else ''}"
        if not self.layer:
            return ""
        if self.layer == "settings":
            return f"the settings of {self.image}"
        return f"{self.image} ({self.layer.removeprefix('sha256:')[:SHORT]})"


def key_of(root: Path) -> bytes:
    """The key of the identities of this repository's secrets: made of its first commit.

    It is the same in every complete clone, on every machine and after every merge, so that waivers hold; and
    who has it has the repository, and with it the secrets. Without git it is made of the folder's name.
    """
    argv = ["git", "rev-list", "--max-parents=0", "--first-parent", "HEAD"]
    try:
        done = subprocess.run(argv, cwd=root, capture_output=True, timeout=GIT_LIMIT_S, check=True)
        first = done.stdout.split()[-1]
    except (subprocess.SubprocessError, OSError, IndexError):
        first = root.resolve().name.encode()
    return hashlib.sha256(b"pipeline secrets\0" + first).digest()


def redacted(value: str) -> str:
    """A secret as it may be shown: four characters of a long one, nothing of a short one."""
    if len(value) < LONG or not value.isascii() or not value[:SHOWN].isprintable():
        return "…"
    return value[:SHOWN] + "…"


def severity_of(hit: Hit, path: str) -> Severity:
    """How bad a secret is; in tests and examples less, unless its form says that it is live."""
    if path == PLACEHOLDER:
        return Severity(level="low", basis="secrets: made by Debian's package ssl-cert, trusted by nobody")
    level = LEVELS[hit.strength]
    basis = BASIS[hit.strength]
    if hit.strength in {"structure", "generic"} and kind_of(path).is_trying:
        return Severity(level=MILDER[level], basis=f"{basis}, in a test or example")
    return Severity(level=level, basis=basis)


def confidence_of(hit: Hit) -> Confidence:
    """How sure it is: a form is, a place mostly, a name is not."""
    if hit.strength == "generic":
        return "low"
    return "medium" if hit.strength == "structure" and hit.rule != "private-key" else "high"


def witness_of(one: Located) -> Witness:
    """Who saw it: our engine is one tool, whatever it looked at."""
    tool = GITLEAKS if one.scanner == GITLEAKS else TREE
    return Witness(tool=tool, version="", rule=one.hit.rule)


def finding_of(one: Located, key: bytes, also: Sequence[Located] = ()) -> Finding:
    """The finding for one place of a secret.

    Args:
        also: Other places, told as evidence.
    """
    hit = one.hit
    shown = redacted(hit.value)
    also_told = [place.told for place in also]
    more = [f"and {len(also_told) - MOST_PLACES} more places"] if len(also_told) > MOST_PLACES else []
    around = f" in {one.told}" if one.around else ""
    return Finding(
        id=secret_fingerprint(key, hit.rule, hit.value),
        kind="secret",
        rule=Rule(id=hit.rule, name=hit.title),
        title=hit.title,
        message=f"{hit.title}: {shown}{around}",
        severity=severity_of(hit, one.path),
        place=InFile(path=one.path, line=hit.line, column=hit.column, layer=one.layer),
        confidence=confidence_of(hit),
        cwe=(798,),
        fix=FIX_COMMITS if one.commit else FIX_LAYERS if one.layer else FIX_FILE,
        evidence=(shown, *(f"also {place}" for place in also_told[:MOST_PLACES]), *more),
        witnesses=(witness_of(one), *one.also_by),
    )


def findings_of(located: Iterable[Located], key: bytes) -> dict[str, list[Finding]]:
    """The findings by scanner: one for each place in the tree; what is only in commits, layers or logs once.

    A secret that stands in the tree is not told again for each commit and layer that has it.
    """
    groups: dict[tuple[str, str], list[Located]] = {}
    for one in located:
        groups.setdefault((one.hit.rule, one.hit.value), []).append(one)
    findings: dict[str, list[Finding]] = {}
    for places in groups.values():
        now = [one for one in places if one.scanner in {TREE, GITLEAKS}]
        told = now or places[:1]
        rest = [one for one in places if one not in told]
        for one in told:
            findings.setdefault(one.scanner, []).append(finding_of(one, key, rest if one is told[0] else ()))
    return findings
