"""CycloneDX VEX: what the team says about the advisories that match its packages."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from pipeline.scan.finding import InPackage
from pipeline.scan.jsons import json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.policy import Judged


def vex(judged: Sequence[Judged]) -> str:
    """The advisories with their state: `in_triage`, or with a waiver `exploitable` and no fix planned.

    A waiver says that a team lives with a problem, not that it has none: nothing is ever `not_affected` here.
    The same findings give the same bytes.
    """
    rows = [_row(one, one.finding.place) for one in judged if isinstance(one.finding.place, InPackage)]
    rows.sort(key=lambda row: (row["id"], row["affects"][0]["ref"]))
    body = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "vulnerabilities": rows}
    name = json.dumps(body, sort_keys=True)
    return json_text({**body, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, name)}"})


def _row(judged: Judged, place: InPackage) -> dict[str, Any]:
    one = judged.finding
    analysis: dict[str, Any] = {"state": "in_triage"}
    if judged.action == "waived":
        analysis = {"state": "exploitable", "response": ["will_not_fix"], "detail": judged.why}
    row: dict[str, Any] = {
        "id": one.rule.id,
        "ratings": [{"severity": one.severity.level, "method": "other", "justification": one.severity.basis}],
        "description": one.title,
        "analysis": analysis,
        "affects": [{"ref": place.purl}],
    }
    if one.severity.score is not None:
        row["ratings"][0]["score"] = one.severity.score
    if one.cwe:
        row["cwes"] = list(one.cwe)
    if one.aliases:
        row["references"] = [{"id": name, "source": {"name": name.partition("-")[0]}} for name in one.aliases]
    if place.fixed:
        row["recommendation"] = f"update {place.name} to {place.fixed[0]}"
    return row
