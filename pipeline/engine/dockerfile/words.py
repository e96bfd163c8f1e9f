"""The parts of an instruction: keyword, flags, words with their quotes kept, and the JSON form. Pure."""

from __future__ import annotations

import json
import re


class NotTexts(ValueError):
    """A JSON array in an instruction holds something that is no text."""


def split_instruction(line: str) -> tuple[str, str]:
    """Return the keyword in upper case and the rest."""
    parts = line.strip().split(maxsplit=1)
    return parts[0].upper(), parts[1].strip() if len(parts) == 2 else ""


def split_flags(rest: str) -> tuple[list[str], str]:
    """Return the leading `--…` words, quotes and backslashes removed, and what follows them."""
    flags: list[str] = []
    at = 0
    while True:
        at = _skip_space(rest, at)
        if not rest.startswith("--", at):
            return flags, rest[at:].strip()
        word, at = _flag_word(rest, at)
        if word == "--":
            return flags, rest[at:].strip()
        flags.append(word)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _flag_word(text: str, at: int) -> tuple[str, int]:
    out: list[str] = []
    quote = ""
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
            out.append(text[at : at + 1])
        elif quote:
            if char == quote:
                quote = ""
            else:
                out.append(char)
        elif char.isspace():
            break
        elif char in "'\"":
            quote = char
        else:
            out.append(char)
        at += 1
    return "".join(out), at


def split_words(rest: str, escape: str) -> list[str]:
    """Split at white space outside quotes; quotes and escapes stay in the words."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(rest):
        char = rest[at]
        if char == escape and quote != "'":
            word.append(rest[at : at + 2] if at + 1 < len(rest) else "")
            at += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char.isspace():
            words.append("".join(word))
            word.clear()
            at += 1
            continue
        elif char in "'\"":
            quote = char
        word.append(char)
        at += 1
    return [each for each in (*words, "".join(word)) if each]


def split_pairs(rest: str, escape: str) -> list[tuple[str, str]]:
    """Read `NAME=VALUE …` or the old form `NAME VALUE`.

    Raises:
        ValueError: A word without `=`, or a name without a value; the text says which.
    """
    words = split_words(rest, escape)
    if not words:
        return []
    if "=" not in words[0]:
        parts = re.split(r"\s+", rest, maxsplit=1)
        if len(parts) < 2:
            raise ValueError("must have two arguments")
        return [(parts[0], parts[1])]
    for word in words:
        if "=" not in word:
            raise ValueError(f"can't find = in {json.dumps(word)}. Must be of the form: name=value")
    pairs = [word.split("=", 1) for word in words]
    return [(name, value) for name, value in pairs]


def parse_json_form(rest: str) -> tuple[str, ...] | None:
    """Return the texts of a JSON array; None when it is none. What follows the array is ignored.

    Raises:
        NotTexts: An array that holds other things than texts.
    """
    text = rest.lstrip()
    if not text.startswith("["):
        return None
    try:
        value, _ = json.JSONDecoder(strict=True).raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        raise NotTexts("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(value)
