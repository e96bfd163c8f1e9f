"""Git's ignore rules as `git status` applies them, over the `.gitignore` files of a tree.

The rules of one file become one regular expression, so that a path costs one match per file above it.
Global excludes and `.git/info/exclude` are not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pipeline.wildcards import ONE_SEGMENT, join_wildcards

_NEVER: Final = re.compile(r"(?!)")
_CLASSES: Final = {
    "alnum": r"a-zA-Z0-9", "alpha": r"a-zA-Z", "blank": r" \t", "cntrl": r"\x00-\x1f\x7f", "digit": r"0-9",
    "graph": r"!-~", "lower": r"a-z", "print": r" -~", "punct": r"!-/:-@\[-`{-~", "space": r"\s",
    "upper": r"A-Z", "xdigit": r"0-9a-fA-F",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoreFile:
    """The rules of one `.gitignore`; `base` is its directory, relative to the root, "" for the root."""

    base: str
    regex: re.Pattern[str]  # its groups are the rules, last one first
    negated: tuple[bool, ...]  # of each group

    def verdict(self, path: str, *, is_dir: bool) -> bool | None:
        """Say whether `path` itself is ignored (True) or taken back (False) here; None: no rule matches."""
        relative = path[len(self.base) + 1 :] if self.base else path
        found = self.regex.fullmatch(relative + "/" if is_dir else relative)
        if found is None or found.lastindex is None:
            return None
        return not self.negated[found.lastindex - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class GitIgnore:
    """The rules that hold in one directory: its own file's and those of the directories above it."""

    files: tuple[IgnoreFile, ...] = ()  # deepest last

    def below(self, base: str, text: str) -> GitIgnore:
        """Return the rules with those of the `.gitignore` with `text` in directory `base` added."""
        return GitIgnore(files=(*self.files, parse_gitignore(text, base=base)))

    def ignores(self, path: str, *, is_dir: bool) -> bool:
        """Say whether `path` is ignored, given that no directory above it is."""
        for file in reversed(self.files):
            verdict = file.verdict(path, is_dir=is_dir)
            if verdict is not None:
                return verdict
        return False


def parse_gitignore(text: str, *, base: str = "") -> IgnoreFile:
    """Compile the text of the `.gitignore` in directory `base`; lines that git cannot match are left out."""
    rules: list[tuple[str, bool]] = []
    for line in text.removeprefix("\ufeff").split("\n"):
        rule = _parse_line(line.removesuffix("\r"))
        if rule is not None:
            rules.append(rule)
    rules.reverse()
    alternatives = "|".join(f"({regex})" for regex, _ in rules)
    return IgnoreFile(
        base=base,
        regex=re.compile(alternatives, re.DOTALL) if rules else _NEVER,
        negated=tuple(is_negated for _, is_negated in rules),
    )


def _parse_line(line: str) -> tuple[str, bool] | None:
    """Return a rule's regular expression, without groups, and whether it takes back."""
    if line.startswith("#"):
        return None
    line = _without_trailing_spaces(line)
    is_negated = line.startswith("!")
    body = line[1:] if is_negated else line
    is_for_dirs = body.endswith("/")
    body = body.removesuffix("/")
    if not body:
        return None
    is_anchored = "/" in body
    regex = _wildmatch(body.removeprefix("/"))
    if regex is None:
        return None
    prefix = "" if is_anchored else "(?:.*/)?"
    return f"{prefix}{regex}{'/' if is_for_dirs else '/?'}", is_negated


def _without_trailing_spaces(line: str) -> str:
    stripped = line.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if backslashes % 2 and len(stripped) < len(line) else stripped


def _wildmatch(glob: str) -> str | None:
    """Translate a glob as git matches path names; None when it can match nothing."""
    out: list[str] = []
    at = 0
    while at < len(glob):
        char = glob[at]
        if char == "*":
            end = at
            while glob.startswith("*", end):
                end += 1
            text, at = _stars(glob, at, end)
            out.append(text)
            continue
        if char == "?":
            out.append("[^/]")
        elif char == "[":
            bracket = _bracket(glob, at)
            if bracket is None:
                return None
            out.append(bracket[0])
            at = bracket[1]
            continue
        elif char == "\\":
            at += 1
            if at == len(glob):
                return None
            out.append(re.escape(glob[at]))
        else:
            out.append(re.escape(char))
        at += 1
    return join_wildcards(out)


def _stars(glob: str, start: int, end: int) -> tuple[str, int]:
    """Translate a run of stars; `**` means any depth only where it is a whole segment."""
    is_segment = (start == 0 or glob[start - 1] == "/") and (end == len(glob) or glob[end] == "/")
    if end - start < 2 or not is_segment:
        return ONE_SEGMENT, end
    if end == len(glob):
        return ".+" if start else ".*", end
    return "(?:.*/)?", end + 1


def _bracket(glob: str, at: int) -> tuple[str, int] | None:
    at += 1
    is_negated = glob.startswith(("!", "^"), at)
    at += is_negated
    members: list[str] = []
    while at < len(glob) and (glob[at] != "]" or not members):
        named = re.compile(r"\[:(\w+):\]").match(glob, at)
        if named is not None:
            if named[1] not in _CLASSES:
                return None
            members.append(_CLASSES[named[1]])
            at = named.end()
            continue
        at += glob[at] == "\\"
        if at + 1 >= len(glob):
            return None
        low = glob[at]
        at += 1
        if glob[at] == "-" and at + 1 < len(glob) and glob[at + 1] != "]":
            at += 1 + (glob[at + 1] == "\\")
            if at >= len(glob):
                return None
            members.append(f"{re.escape(low)}-{re.escape(glob[at])}" if low <= glob[at] else "")
            at += 1
        else:
            members.append(re.escape(low))
    if at >= len(glob):
        return None
    inside = "".join(members)
    if not inside:
        return ("[^/]" if is_negated else "(?!)"), at + 1
    return f"(?!/)[{'^' if is_negated else ''}{inside}]", at + 1
