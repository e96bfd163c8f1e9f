"""Release notes in Markdown: what breaks first, then what is new, mended and else; who did it; where to look.

Commit messages are anybody's text: it is made one line, without what steers terminals or means something
in Markdown; code between backticks stays code, and no name in it calls anybody.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.release.commits import Change
    from pipeline.release.remote import Web
    from pipeline.release.sbom import Difference

SECTIONS: Final[Mapping[str, str]] = {
    "feat": "Features",
    "fix": "Fixes",
    "perf": "Performance",
    "revert": "Taken back",
    "": "Changes",
}
SILENT: Final = frozenset({"build", "chore", "ci", "docs", "refactor", "style", "test", "tests"})
KEPT_A_SECTION: Final = 200  # more are counted, not listed
LONGEST: Final = 300  # characters of a change
CODE: Final = re.compile(r"(?<!`)`(?P<code>[^`\n]+)`(?!`)")
SPECIAL: Final = re.compile(r"([\\`*_\[\]<>&|~])")
BLOCK: Final = re.compile(r"^(?:[#>+=-]|\d+[.)]|~~~|```)")
KEEP_A_CHANGELOG: Final[Mapping[str, str]] = {
    "feat": "Added",
    "fix": "Fixed",
    "perf": "Changed",
    "revert": "Removed",
    "": "Changed",
}
ORDER_OF_CHANGELOG: Final = ("Added", "Changed", "Removed", "Fixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What notes are made of."""

    tag: str
    previous: str | None  # tag
    date: str  # "2026-11-24", of the commit
    changes: Sequence[Change]
    known_authors: frozenset[str]  # addresses of all who wrote a commit before
    web: Web
    written: str = ""  # by people, in the changelog; comes first
    packages: Difference | None = None  # None: there is nothing to compare with
    images: Mapping[str, str] | None = None  # name to digest


def plain(text: str) -> str:
    """Return a text as one line without what cannot be seen; long ones are cut."""
    kept = "".join(
        one if unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or one in "\t\n" else ""
        for one in clean(text)
    )
    line = " ".join(kept.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"


def escaped(text: str) -> str:
    """Return a text of one line that shows in Markdown as it is, code between backticks as code."""
    parts: list[str] = []
    at = 0
    line = plain(text)
    for match in CODE.finditer(line):
        parts += [_escape(line[at : match.start()]), match[0]]
        at = match.end()
    parts.append(_escape(line[at:]))
    made = "".join(parts)
    return (
        f"\\{made}"
        if BLOCK.match(made) and not made[0].isdigit()
        else re.sub(r"^(\d+)([.)])", r"\1\\\2", made)
    )


def _escape(text: str) -> str:
    # A name after `@` would be told about every release: a space of no width keeps it a text.
    return SPECIAL.sub(r"\\\1", text).replace("@", "@\u200b")


def render_notes(story: Story) -> str:
    """Write the notes."""
    blocks = [story.written.strip()] if story.written.strip() else []
    breaking = [one for one in story.changes if one.breaking]
    if breaking:
        lines = [f"- {_scope(one)}{escaped(one.breaking)}{_where(one, story.web)}" for one in breaking]
        blocks.append("## Breaking changes\n" + _cut(lines))
    for kind, title in SECTIONS.items():
        lines = [_line(one, story.web) for one in story.changes if _section(one) == kind]
        if lines:
            blocks.append(f"## {title}\n{_cut(lines)}")
    if story.packages is not None and (lines := story.packages.lines()):
        blocks.append("## Packages\n" + _cut([f"- {escaped(line)}" for line in lines]))
    if story.images:
        lines = [f"- `{name}` {digest}" for name, digest in sorted(story.images.items())]
        blocks.append("## Images\n" + "\n".join(lines))
    if lines := _people(story):
        blocks.append("## Contributors\n" + "\n".join(lines))
    if story.previous is not None and (link := story.web.compare(story.previous, story.tag)):
        blocks.append(f"[All changes since {story.previous}]({link})")
    if not blocks:
        blocks.append("No changes that are worth telling.")
    return "\n\n".join(blocks) + "\n"


def render_changelog(story: Story, version: str) -> str:
    """Write the section of Keep a Changelog."""
    blocks = [f"## [{version}] - {story.date}"]
    if story.written.strip():
        blocks.append(story.written.strip())
    found: dict[str, list[str]] = {}
    for one in story.changes:
        kind = _section(one)
        if kind is not None or one.breaking:
            text = f"**Breaking:** {escaped(one.breaking)}" if one.breaking else escaped(one.text)
            found.setdefault(KEEP_A_CHANGELOG[kind or ""], []).append(f"- {_scope(one)}{text}")
    blocks += [f"### {title}\n" + _cut(found[title]) for title in ORDER_OF_CHANGELOG if title in found]
    return "\n\n".join(blocks) + "\n"


def changelog_section(text: str, version: str) -> str:
    """Return what a Keep-a-Changelog file says of a version, else of what is not released; "" for neither."""
    sections = re.split(r"^## +", text, flags=re.MULTILINE)[1:]
    for wanted in (version, "unreleased"):
        for section in sections:
            title, _, body = section.partition("\n")
            name = re.match(r"\[?v?([^\]\s]+)\]?", title.strip())
            if name is not None and name[1].lower() == wanted:
                # References at the end of the file are no part of its last section.
                return re.split(r"^\[[^\]]+\]: ", body, maxsplit=1, flags=re.MULTILINE)[0].strip()
    return ""


def _section(change: Change) -> str | None:
    """Return the section's type; None for what is only told when it breaks something."""
    if change.type in SILENT:
        return None
    return change.type if change.type in SECTIONS else ""


def _scope(change: Change) -> str:
    return f"**{escaped(change.scope)}:** " if change.scope else ""


def _line(change: Change, web: Web) -> str:
    return f"- {_scope(change)}{escaped(change.text)}{_where(change, web)}"


def _where(change: Change, web: Web) -> str:
    parts = []
    if change.number is not None:
        link = web.change(change.number)
        parts.append(f"[#{change.number}]({link})" if link else f"#{change.number}")
    link = web.commit(change.sha)
    parts.append(f"[{change.sha[:8]}]({link})" if link else change.sha[:8])
    return f" ({', '.join(parts)})"


def _cut(lines: Sequence[str]) -> str:
    more = len(lines) - KEPT_A_SECTION
    kept = list(lines[:KEPT_A_SECTION])
    return "\n".join([*kept, f"- and {more} more"] if more > 0 else kept)


def _people(story: Story) -> list[str]:
    """Name who contributed, those with most changes first, and say who is new."""
    names = {one.email: one.author for one in reversed(story.changes)}
    counts = Counter(one.email for one in story.changes)
    found = []
    for email, _ in sorted(counts.items(), key=lambda item: (-item[1], names[item[0]])):
        if names[email].endswith("[bot]"):
            continue
        is_new = bool(story.known_authors) and email not in story.known_authors
        found.append(f"- {escaped(names[email]) or 'somebody'}{' (for the first time)' if is_new else ''}")
    kept = list(dict.fromkeys(found))
    return (
        [*kept[:KEPT_A_SECTION], f"- and {len(kept) - KEPT_A_SECTION} more"]
        if len(kept) > KEPT_A_SECTION
        else kept
    )
