"""`findings.json`: what one stage's scanners saw and what was decided, as JSON and back.

The format is documented in `docs/reference/findings.md`; other tools may read it.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from functools import lru_cache
from typing import Any, Final

from pipeline.errors import UsageError
from pipeline.scan.finding import InFile, InPackage, InRequest, Place
from pipeline.scan.jsons import json_text
from pipeline.scan.policy import Verdict  # noqa: TC001 - read when a document is loaded
from pipeline.scan.scanner import Scan  # noqa: TC001 - read when a document is loaded

SCHEMA: Final = 1
PLACES: Final[dict[str, type[Any]]] = {"file": InFile, "package": InPackage, "request": InRequest}


class FindingsUnreadable(UsageError):
    """A file is not a `findings.json` this version reads."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"cannot read the findings in `{name}`: {what}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The findings of one stage with the verdict about them; scans without their findings."""

    stage: str
    kinds: tuple[str, ...]
    verdict: Verdict
    scans: tuple[Scan, ...]


def dump_document(document: Document) -> str:
    """The document as JSON."""
    plain = {"schema": SCHEMA, **converter().unstructure(document)}
    return json_text(plain, is_exact=True)


def parse_document(text: str, name: str) -> Document:
    """What `dump_document` wrote.

    Raises:
        FindingsUnreadable: It is not JSON, of another schema, or does not fit.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise FindingsUnreadable(name, f"not JSON: {error}") from error
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        raise FindingsUnreadable(name, f"expected `schema` {SCHEMA}")
    try:
        document: Document = converter().structure(data, Document)
    except Exception as error:  # a group of cattrs, or what its hooks raise
        raise FindingsUnreadable(name, f"it does not fit: {error}") from error
    return document


@lru_cache(maxsize=1)
def converter() -> Any:
    """What turns findings into JSON's values and back; raises what `structure` of cattrs does."""
    from cattrs import Converter

    made = Converter(forbid_extra_keys=False, detailed_validation=False)
    made.register_unstructure_hook(datetime.date, datetime.date.isoformat)
    made.register_structure_hook(datetime.date, lambda text, _: datetime.date.fromisoformat(text))
    names = {place: name for name, place in PLACES.items()}

    def place_out(place: Any) -> dict[str, Any]:
        return {"kind": names[type(place)], **made.unstructure(place, type(place))}

    def place_in(data: dict[str, Any], _: object) -> Any:
        rest = {key: value for key, value in data.items() if key != "kind"}
        return made.structure(rest, PLACES[data["kind"]])

    made.register_unstructure_hook_func(lambda of: of == Place, place_out)
    made.register_structure_hook_func(lambda of: of == Place, place_in)
    return made
