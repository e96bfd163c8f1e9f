"""Print how fast output is scrubbed, in MB/s: without secrets, with ten, and with ten and one of 500 kB.

    .venv/bin/python benchmarks/scrub.py

The output is 64 MB of words, and as much base64, in pieces of 256 kB as they come from a pipe.
"""

from __future__ import annotations

import base64
import random
import time

from pipeline.engine.runtime.scrub import Forms, Scrubber, forms_of

_PIECE = 1 << 18
_TOTAL = 64_000_000


def words(chance: random.Random) -> bytes:
    """Return a megabyte that looks like a log."""
    some = [bytes(chance.choices(range(97, 123), k=chance.randint(2, 9))) for _ in range(2000)]
    return b" ".join(chance.choices(some, k=200_000))[:1_000_000]


def speed(forms: Forms, text: bytes) -> float:
    """Return MB/s of one stream made of `text` again and again."""
    scrubber, done = Scrubber(forms), 0
    began = time.perf_counter()
    while done < _TOTAL:
        for at in range(0, len(text), _PIECE):
            scrubber.feed(text[at : at + _PIECE])
        done += len(text)
    scrubber.finish()
    return done / 1e6 / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    chance = random.Random(1)  # noqa: S311 - any bytes will do
    ten = [base64.b64encode(chance.randbytes(24)) for _ in range(10)]
    big = base64.encodebytes(chance.randbytes(375_000))
    texts = {"words": words(chance), "base64": base64.b64encode(chance.randbytes(750_000))}
    for name, secrets in (("none", []), ("ten", ten), ("ten and one of 500 kB", [*ten, big])):
        began = time.perf_counter()
        forms = forms_of(secrets)
        ready = (time.perf_counter() - began) * 1000
        for kind, text in texts.items():
            print(f"{name:24}{kind:8} ready in {ready:7.1f} ms {speed(forms, text):9.0f} MB/s")


if __name__ == "__main__":
    main()
