"""How text leaves the process: data on stdout, talk on stderr, colour only where it is wanted.

`NO_COLOR` and `TERM=dumb` switch colour off, `FORCE_COLOR` on; otherwise the stream must be a terminal.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.errors import PipelineError


def wants_colour(stream: TextIO) -> bool:
    """Whether text to `stream` may be coloured."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def coloured(text: str, colour: str | None, *, stream: TextIO | None = None, bold: bool = False) -> str:
    """Dress `text` for `stream` (stdout when None)."""
    if not wants_colour(stream or sys.stdout) or (colour is None and not bold):
        return text
    return click.style(text, fg=colour, bold=bold or None)


def say(text: str) -> None:
    """Talk to people, on stderr."""
    click.echo(text, err=True, color=wants_colour(sys.stderr))


def say_error(error: PipelineError) -> None:
    """Report an error once: its sentence, and its advice below."""
    word = coloured("error:", "red", stream=sys.stderr, bold=True)
    say(f"{word} {error}")
    if error.hint:
        say(f"{coloured('hint:', 'cyan', stream=sys.stderr)} {error.hint}")


def write(text: str) -> None:
    """Write data to stdout."""
    click.echo(text, color=wants_colour(sys.stdout))


def write_json(value: object) -> None:
    """Write one JSON document to stdout."""
    import json

    write(json.dumps(value, indent=2, ensure_ascii=False))


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = ()) -> str:
    """Lay out rows in columns two spaces apart; the last column is not padded. Colours do not count."""
    everything = [*([list(header)] if header else []), *map(list, rows)]
    if not everything:
        return ""
    widths = [max(len(click.unstyle(row[i])) for row in everything) for i in range(len(everything[0]))]
    lines = []
    for row in everything:
        cells = [cell + " " * (widths[i] - len(click.unstyle(cell))) for i, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


STYLES: Final = {
    "passed": "green",
    "cached": "cyan",
    "failed": "red",
    "error": "red",
    "timeout": "red",
    "killed": "red",
    "skipped": "yellow",
    "cancelled": "yellow",
    "unfinished": "yellow",
    "running": "yellow",
    "run": "green",
    "skip": "yellow",
}


def painted(text: str, style: str, *, stream: TextIO | None = None) -> str:
    """Dress `text` by a verdict, or as "dim" or "bold", for `stream` (stdout when None)."""
    if not wants_colour(stream or sys.stdout):
        return text
    if style in ("dim", "bold"):
        return click.style(text, dim=style == "dim" or None, bold=style == "bold" or None)
    return click.style(text, fg=STYLES.get(style))
