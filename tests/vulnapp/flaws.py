"""The flaws of the app: where each is, and what counts as having found it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.scan.finding import LEVELS, InRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.scan.finding import Finding

SOUND: Final = "/safe/"  # the routes that look alike and are not flawed


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One flaw; a failure of the route (CWE-755) counts where the value itself brought it about."""

    id: str
    what: str
    route: str
    cwes: tuple[int, ...]


FLAWS: Final = (
    Flaw(id="V01", what="SQL in a text", route="/find", cwes=(89, 755)),
    Flaw(id="V02", what="SQL in a number, blind", route="/stock", cwes=(89,)),
    Flaw(id="V03", what="reflected markup", route="/hello", cwes=(79,)),
    Flaw(id="V04", what="stored markup", route="/remarks", cwes=(79,)),
    Flaw(id="V05", what="open redirect", route="/leave", cwes=(601,)),
    Flaw(id="V06", what="path traversal", route="/manual", cwes=(22, 755)),
    Flaw(id="V07", what="failure on zero", route="/share", cwes=(755,)),
    Flaw(id="V08", what="broken schema", route="/goods/{good}", cwes=(440,)),
    Flaw(id="V09", what="cookie flags", route="/enter", cwes=(614, 1004, 1275)),
    Flaw(id="V10", what="command injection", route="/ping", cwes=(78,)),
    Flaw(id="V11", what="other origins", route="/account", cwes=(942,)),
    Flaw(id="V12", what="stack trace", route="/report", cwes=(209,)),
    Flaw(id="V13", what="missing headers", route="/old", cwes=(693, 1021)),
    Flaw(id="V14", what="served .env", route="/.env", cwes=(538,)),
)


def found_flaws(findings: Iterable[Finding]) -> list[str]:
    """Which of the flaws some findings tell."""
    told = {(one.place.route, cwe) for one in findings if isinstance(one.place, InRequest) for cwe in one.cwe}
    return [flaw.id for flaw in FLAWS if any((flaw.route, cwe) in told for cwe in flaw.cwes)]


def false_alarms(findings: Iterable[Finding]) -> list[str]:
    """What is told above low on routes that are sound."""
    worse = LEVELS[: LEVELS.index("low")]
    return [
        f"{one.where} [{one.rule.id}]"
        for one in findings
        if isinstance(one.place, InRequest)
        and one.place.route.startswith(SOUND)
        and one.severity.level in worse
    ]
