"""The tables of fields: for each type what this engine answers; what is not in them is not supported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipeline.session.tables.container import CONFIGURATION
from pipeline.session.tables.data import DATA
from pipeline.session.tables.execution import EXECUTION
from pipeline.session.tables.files import DIRECTORY, FILE, pinned_directory, pinned_file
from pipeline.session.tables.host import HOST
from pipeline.session.tables.query import QUERY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.session.fields import Table

TABLES: Final[Mapping[str, Table]] = {
    **DATA,
    "Container": {**CONFIGURATION, **EXECUTION},
    "Directory": DIRECTORY,
    "File": FILE,
    "Host": HOST,
    "Query": QUERY,
}


def pinned_value(kind: str, arguments: Mapping[str, Any]) -> Any:
    """Return the value that a pinned call of a type stands for."""
    if kind == "Directory":
        return pinned_directory(arguments)
    if kind == "File":
        return pinned_file(arguments)
    return arguments
