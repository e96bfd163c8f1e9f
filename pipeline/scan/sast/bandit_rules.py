"""What bandit's tests mean: severity, confidence and weakness, for bandit and for ruff's twins of them.

Ruff's `S` rules have bandit's numbers (`S324` is `B324`) but say neither severity nor confidence.
Source: bandit 1.9.4, `bandit.plugins` and `bandit.blacklists`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from pipeline.scan.finding import Confidence, Level, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

# number, severity, confidence, CWE
_TABLE: Final = """
101 LOW HIGH 703     102 MEDIUM HIGH 78   103 HIGH HIGH 732    104 MEDIUM MEDIUM 605  105 LOW MEDIUM 259
106 LOW MEDIUM 259   107 LOW MEDIUM 259   108 MEDIUM MEDIUM 377 110 LOW HIGH 703      112 LOW HIGH 703
113 MEDIUM LOW 400   201 HIGH MEDIUM 94   202 HIGH HIGH 22     301 MEDIUM HIGH 502    302 MEDIUM HIGH 502
303 MEDIUM HIGH 327  304 HIGH HIGH 327    305 MEDIUM HIGH 327  306 MEDIUM HIGH 377    307 MEDIUM HIGH 78
308 MEDIUM HIGH 79   310 MEDIUM HIGH 22   311 LOW HIGH 330     312 HIGH HIGH 319      313 MEDIUM HIGH 20
314 MEDIUM HIGH 20   315 MEDIUM HIGH 20   316 MEDIUM HIGH 20   317 MEDIUM HIGH 20     318 MEDIUM HIGH 20
319 MEDIUM HIGH 20   321 HIGH HIGH 319    323 MEDIUM HIGH 295  324 HIGH HIGH 327      401 HIGH HIGH 319
402 HIGH HIGH 319    403 LOW HIGH 502     404 LOW HIGH 78      405 LOW HIGH 20        406 LOW HIGH 20
407 LOW HIGH 20      408 LOW HIGH 20      409 LOW HIGH 20      411 HIGH HIGH 20       412 HIGH HIGH 284
413 HIGH HIGH 327    415 HIGH HIGH 319    501 HIGH HIGH 295    502 HIGH HIGH 327      503 MEDIUM MEDIUM 327
504 LOW MEDIUM 327   505 HIGH HIGH 326    506 MEDIUM HIGH 20   507 HIGH MEDIUM 295    508 MEDIUM HIGH 319
509 MEDIUM HIGH 319  601 MEDIUM MEDIUM 78 602 HIGH HIGH 78     603 LOW HIGH 78        604 MEDIUM LOW 78
605 HIGH HIGH 78     606 LOW MEDIUM 78    607 LOW HIGH 78      608 MEDIUM LOW 89      609 HIGH MEDIUM 155
610 MEDIUM MEDIUM 89 611 MEDIUM MEDIUM 89 612 MEDIUM HIGH 94   613 HIGH MEDIUM 838    614 MEDIUM HIGH 502
615 MEDIUM HIGH 494  701 HIGH HIGH 94     702 MEDIUM HIGH 80   703 MEDIUM HIGH 79     704 MEDIUM HIGH 79
"""

ADVICE: Final[Mapping[str, str]] = {
    "101": "raise an error of its own: `python -O` removes assertions",
    "102": "call what is meant instead of `exec`",
    "103": "give no one but the owner the right to write",
    "105": "read the secret from the environment or a secret store, and change it: history keeps it",
    "106": "read the secret from the environment or a secret store, and change it: history keeps it",
    "107": "leave the default out, and read the secret where it is used",
    "108": "use `tempfile` instead of a fixed name",
    "113": "give the request a `timeout`",
    "201": "start the application without `debug=True`",
    "202": 'extract with `filter="data"`',
    "301": "use JSON for what comes from outside; unpickling runs code",
    "306": "use `tempfile.mkstemp()`",
    "307": "use `ast.literal_eval()` or a parser",
    "310": "check the scheme of the address before opening it",
    "311": "use `secrets` for what must not be guessed",
    "314": "parse with `defusedxml`",
    "318": "parse with `defusedxml`",
    "324": "use SHA-256, or `usedforsecurity=False` where nothing depends on it",
    "501": "let certificates be verified; give `verify` the path of a private CA",
    "506": "use `yaml.safe_load()`",
    "507": "reject unknown host keys",
    "602": "pass a list of arguments without `shell=True`",
    "605": "use `subprocess.run()` with a list of arguments",
    "608": "pass values as parameters of the query",
    "701": "create the environment with `autoescape=True`",
}
_SAFE: Final = re.compile(r"seems safe", re.IGNORECASE)  # a shell that is given a fixed text


@dataclass(frozen=True, slots=True)
class Known:
    """One test."""

    severity: str  # HIGH, MEDIUM, LOW
    confidence: str
    cwe: int


def _read(table: str) -> dict[str, Known]:
    words = table.split()
    rows = zip(*(words[index::4] for index in range(4)), strict=True)
    return {number: Known(severity, confidence, int(cwe)) for number, severity, confidence, cwe in rows}


KNOWN: Final[Mapping[str, Known]] = _read(_TABLE)
_LEVELS: Final[Mapping[tuple[str, str], Level]] = {
    ("HIGH", "HIGH"): "high",
    ("HIGH", "MEDIUM"): "medium",
    ("HIGH", "LOW"): "medium",
    ("MEDIUM", "HIGH"): "medium",
}
_LOWER: Final[Mapping[Level, Level]] = {"critical": "high", "high": "medium", "medium": "low", "low": "info"}
_CONFIDENCES: Final[Mapping[str, Confidence]] = {"HIGH": "high", "MEDIUM": "medium", "LOW": "low"}


def is_test(path: str) -> bool:
    """Whether a file holds tests, whose assertions and fixed passwords are what they are for."""
    parts = PurePosixPath(path)
    name = parts.name
    if name.startswith("test_") or name.endswith("_test.py") or name in ("conftest.py", "tests.py"):
        return True
    return any(part in ("test", "tests", "testing") for part in parts.parts[:-1])


def severity_of(severity: str, confidence: str, path: str) -> Severity:
    """The severity of bandit's two words; in tests a level lower."""
    level = _LEVELS.get((severity, confidence), "low")
    return in_tests(Severity(level=level, basis=f"bandit {severity}/{confidence}"), path)


def in_tests(severity: Severity, path: str) -> Severity:
    """A level lower where the file holds tests: nobody but those who test can reach it."""
    if not is_test(path) or severity.level not in _LOWER:
        return severity
    return replace(severity, level=_LOWER[severity.level], basis=f"{severity.basis} in tests")


def confidence_of(word: str) -> Confidence:
    """Bandit's confidence in our words."""
    return _CONFIDENCES.get(word, "low")


def twin(number: str, message: str) -> Known:
    """What bandit says of a rule of ruff; a rule bandit has not is of medium severity."""
    known = KNOWN.get(number, Known("MEDIUM", "MEDIUM", 0))
    return Known("LOW", known.confidence, known.cwe) if _SAFE.search(message) else known
