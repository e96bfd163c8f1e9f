"""The tables of fields: for each type what this engine answers; what is not in them is not supported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipeline.session.tables.address import ADDRESS, QUERY_ADDRESS
from pipeline.session.tables.changes import CHANGESET
from pipeline.session.tables.container import CONFIGURATION
from pipeline.session.tables.data import DATA
from pipeline.session.tables.engine import BUILD, ENGINE, ENGINE_CACHE, ENGINE_CACHE_ENTRY_SET
from pipeline.session.tables.execution import EXECUTION
from pipeline.session.tables.files import DIRECTORY, FILE, pinned_directory, pinned_file
from pipeline.session.tables.git import DIRECTORY_GIT, GIT_REF, GIT_REPOSITORY, QUERY_GIT
from pipeline.session.tables.host import HOST
from pipeline.session.tables.images import HOST_IMAGES, IMAGES
from pipeline.session.tables.query import ERROR, QUERY
from pipeline.session.tables.secrets import CONTAINER_SECRETS, QUERY_SECRETS, SECRET
from pipeline.session.tables.services import CONTAINER_UP, HOST_SERVICES, SERVICE
from pipeline.session.tables.texts import ENV_FILE, FILE_TEXTS, JSON_VALUE, QUERY_TEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.session.fields import Table

TABLES: Final[Mapping[str, Table]] = {
    **DATA,
    "Address": ADDRESS,
    "Changeset": CHANGESET,
    "Container": {**CONFIGURATION, **EXECUTION, **CONTAINER_SECRETS, **IMAGES, **CONTAINER_UP},
    "Directory": {**DIRECTORY, **DIRECTORY_GIT, **BUILD},
    "Engine": ENGINE,
    "EngineCache": ENGINE_CACHE,
    "EngineCacheEntrySet": ENGINE_CACHE_ENTRY_SET,
    "EnvFile": ENV_FILE,
    "Error": ERROR,
    "File": {**FILE, **FILE_TEXTS},
    "GitRef": GIT_REF,
    "GitRepository": GIT_REPOSITORY,
    "Host": {**HOST, **HOST_IMAGES, **HOST_SERVICES},
    "JSONValue": JSON_VALUE,
    "Query": {**QUERY, **QUERY_ADDRESS, **QUERY_GIT, **QUERY_SECRETS, **QUERY_TEXTS},
    "Secret": SECRET,
    "Service": SERVICE,
}


def pinned_value(kind: str, arguments: Mapping[str, Any]) -> Any:
    """Return the value that a pinned call of a type stands for."""
    if kind == "Directory":
        return pinned_directory(arguments)
    if kind == "File":
        return pinned_file(arguments)
    return arguments
