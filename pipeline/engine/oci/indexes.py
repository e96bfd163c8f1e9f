"""Which images an index offers, also by way of indexes that it names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.oci.config import InvalidImage
from pipeline.engine.oci.manifests import list_in, parse_document
from pipeline.engine.oci.model import INDEXES, MANIFESTS, parse_descriptor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pipeline.digest import Digest
    from pipeline.engine.oci.model import Descriptor

NESTING_LIMIT: Final = 4
INDEXES_LIMIT: Final = 64


async def find_offered(
    document: Mapping[str, Any], read: Callable[[Digest], Awaitable[bytes]]
) -> list[Descriptor]:
    """Return the manifests of an index, then those of the indexes it names, level by level.

    A manifest without a platform has that of the index that names it. An index that is named again is
    read once; none can lead to itself, as its digest is compared with what is in it.

    Args:
        read: Gives a document by its digest, which it has checked.

    Raises:
        InvalidImage: A document is malformed, there are more than `INDEXES_LIMIT` indexes, or one is more
            than `NESTING_LIMIT` levels below the first.
    """
    offered: list[Descriptor] = []
    seen: set[Digest] = set()
    level: list[tuple[Mapping[str, Any], str]] = [(document, "")]
    for _depth in range(NESTING_LIMIT + 1):
        below: list[Descriptor] = []
        for index, platform in level:
            for entry in (parse_descriptor(each) for each in list_in(index, "manifests")):
                told = replace(entry, platform=entry.platform or platform)
                if told.media_type in MANIFESTS:
                    offered.append(told)
                elif told.media_type in INDEXES and told.digest not in seen:
                    seen.add(told.digest)
                    below.append(told)
        if not below:
            return offered
        if len(seen) > INDEXES_LIMIT:
            raise InvalidImage(f"it names more than {INDEXES_LIMIT} indexes")
        level = [(parse_document(await read(each.digest)), each.platform) for each in below]
    raise InvalidImage(f"its indexes are nested more than {NESTING_LIMIT} levels deep")
