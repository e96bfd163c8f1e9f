"""How bad an advisory is: by its CVSS vectors, else by the word of its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.scan.finding import LEVELS, Level, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.scan.advisories.osv import Advisory

LEAST: Final[tuple[tuple[float, Level], ...]] = (
    (9.0, "critical"),
    (7.0, "high"),
    (4.0, "medium"),
    (0.1, "low"),
)
WORDS: Final[dict[str, Level]] = {
    "critical": "critical",
    "important": "high",
    "high": "high",
    "moderate": "medium",
    "medium": "medium",
    "low": "low",
    "negligible": "low",
    "minor": "low",
    "none": "info",
}
UNKNOWN: Final = Severity(level="unknown", basis="the advisory gives no severity")
NEWEST: Final = ("CVSS_V4", "CVSS_V3", "CVSS_V2")
MALWARE: Final = "MAL-"


def level_of(score: float) -> Level:
    """The level of a CVSS score."""
    return next((level for least, level in LEAST if score >= least), "info")


def score_of(vector: str) -> float | None:
    """The base score of a CVSS vector of version 2, 3 or 4; None where it is none."""
    from cvss import CVSS2, CVSS3, CVSS4  # type: ignore[import-untyped]
    from cvss.exceptions import CVSSError  # type: ignore[import-untyped]

    text = vector.strip()
    kind = CVSS4 if text.startswith("CVSS:4") else CVSS3 if text.startswith("CVSS:3") else CVSS2
    try:
        return float(kind(text.strip("()")).base_score)
    except (CVSSError, ValueError, KeyError, TypeError):
        return None


def severity_of(pairs: Iterable[tuple[str, str]], rating: str = "") -> Severity:
    """The severity by the newest vector that can be read, else by a word.

    Args:
        pairs: Kinds of severity ("CVSS_V3") and their vectors, or words of a distribution.
        rating: The database's own word.
    """
    told = sorted(pairs, key=lambda pair: NEWEST.index(pair[0]) if pair[0] in NEWEST else len(NEWEST))
    for kind, text in told:
        if kind in NEWEST:
            score = score_of(text)
            if score is not None:
                return Severity(level=level_of(score), basis=f"CVSS {score}", score=score)
        elif text.lower() in WORDS:
            return Severity(level=WORDS[text.lower()], basis=f"{kind} {text}")
    if rating.lower() in WORDS:
        return Severity(level=WORDS[rating.lower()], basis=f"the database says {rating}")
    return UNKNOWN


def severity_of_advisory(advisory: Advisory) -> Severity:
    """The severity of an advisory about one package: the package's own where it says so."""
    if advisory.id.startswith(MALWARE):
        return Severity(level="critical", basis="a malicious package")
    own = [pair for one in advisory.affected for pair in one.severity]
    return severity_of(own or advisory.severity, advisory.rating)


def worst(severities: Iterable[Severity]) -> Severity:
    """The worst of several; what is unknown only where nothing is known."""
    known = sorted(severities, key=lambda one: (LEVELS.index(one.level), -(one.score or 0)))
    return known[0] if known else UNKNOWN
