"""A project of whole files drawn by lot; each token in a place of its own, and as many harmless lines."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from typing import Final

from tests.unit.scan.secrets.kinds import Corpus, Mark
from tests.unit.scan.secrets.whole.credentials import FILES
from tests.unit.scan.secrets.whole.harmless import FILES as HARMLESS
from tests.unit.scan.secrets.whole.tokens import PLACES, TOKENS
from tests.unit.scan.secrets.whole.values import VALUES

_NAME: Final = re.compile("«([^»]+)»")
HARMLESS_ROUNDS: Final = 2  # so that there are more harmless lines than secrets


def make_whole(seed: int) -> Corpus:
    """Draw a project; the same seed draws the same one."""
    r = random.Random(seed)  # noqa: S311 - the same project every time
    corpus = Corpus()
    for kind, make in TOKENS.items():
        path, text = r.choice(PLACES)
        _put(corpus, f"{kind}/{path}", text.replace("«v»", f"⟦{make(r)}⟧"), kind)
    for path, text in FILES:
        _put(corpus, path, _filled(r, text), path)
    for index in range(HARMLESS_ROUNDS):
        for path, text in HARMLESS:
            _put(corpus, f"{index}/{path}", _filled(r, text), path)
    return corpus


def _filled(r: random.Random, text: str) -> str:
    return _NAME.sub(lambda found: VALUES[found[1]](r), text)


def _put(corpus: Corpus, path: str, text: str, kind: str) -> None:
    """Add a file; what stands between `⟦` and `⟧` is a secret, each line of a file without one a decoy."""
    plain = text.replace("⟦", "").replace("⟧", "")
    corpus.files[path] = plain + "\n"
    parts = text.split("⟦")
    line = 1
    for before, inside in pairwise(parts):
        line += before.count("\n")
        corpus.secrets.append(Mark(path, line, kind, inside.partition("⟧")[0]))
    if len(parts) == 1:
        corpus.decoys += [Mark(path, at, kind, one) for at, one in enumerate(plain.split("\n"), 1)]
