"""Looks at what the fragments of a document make of it: none may hold itself, nor all of them too much.

Both would keep a session busy without end. Nothing here recurses, so that no document is too deep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.session.document import Spread
from pipeline.session.schema import InvalidQuery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.session.document import Document, Selection

SELECTIONS: Final = 1_000_000
"""How many selections the operations of a document may have once their fragments stand in their places."""


def check_fragments(document: Document) -> None:
    """Accept a document that can be walked in bounded time.

    Raises:
        InvalidQuery: A fragment is unknown or holds itself, or there are more than `SELECTIONS`.
    """
    if not document.fragments:
        return  # the text itself bounds what is selected
    spreads = {name: _count(fragment.selections) for name, fragment in document.fragments.items()}
    sizes: dict[str, int] = {}
    for name in spreads:
        _measure(name, spreads, sizes)
    for operation in document.operations:
        own, inside = _count(operation.selections)
        if own + sum(sizes[_known(name, spreads)] for name in inside) > SELECTIONS:
            raise InvalidQuery(f"Fragments make more than {SELECTIONS} selections of the query.")


def _count(selections: Sequence[Selection]) -> tuple[int, list[str]]:
    """Return how many selections there are on all levels, and the names of the spreads among them."""
    own, names, todo = 0, [], [selections]
    while todo:
        for selection in todo.pop():
            own += 1
            if isinstance(selection, Spread):
                names.append(selection.name)
            elif selection.selections:
                todo.append(selection.selections)
    return own, names


def _measure(start: str, spreads: Mapping[str, tuple[int, list[str]]], sizes: dict[str, int]) -> None:
    """Add to `sizes` that of a fragment and of those in it."""
    way = [start]  # from the first to the one in hand, each in the one before it
    on_way = {start}
    while way:
        here = way[-1]
        own, inside = spreads[here]
        below = next((name for name in inside if name not in sizes), None) if here not in sizes else None
        if below is not None:
            if below in on_way:
                raise InvalidQuery(f'Cannot spread fragment "{below}" within itself.')
            way.append(_known(below, spreads))
            on_way.add(below)
            continue
        sizes[here] = min(own + sum(sizes[name] for name in inside), SELECTIONS + 1)
        on_way.discard(way.pop())


def _known(name: str, spreads: Mapping[str, object]) -> str:
    if name not in spreads:
        raise InvalidQuery(f'Unknown fragment "{name}".')
    return name
