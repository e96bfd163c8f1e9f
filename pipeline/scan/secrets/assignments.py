"""Values given to names in any language, configuration file or command line, read around one place of a text.

Nothing is parsed. A name is found by a word in it, and what follows is matched by expressions that are bound
to that place and bounded in length, so that neither size nor form of a file can make this slow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.scan.secrets.files import Style

LONGEST_NAME: Final = 80
_NAME: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_NAME_END: Final = re.compile(r"[\w.-]{0,80}")
_QUOTED: Final = (
    r"(?:\\\\?\"(?P<e>(?:[^\"\\\n]|\\(?![\"n]|\\\")){1,2000})(?:\\n)?\\\\?\"|\\'(?P<f>[^'\\\n]{1,2000})\\'|"
    r"\"\"\"(?P<t>[^\"\n]{1,2000})\"\"\"|\"(?P<d>(?:[^\"\\\n]|\\.|\\\n){1,2000})\"|'(?P<s>(?:[^'\\\n]|\\.){1,2000})'|`(?P<b>[^`\n]{1,2000})`)"
)
_TYPE: Final = r"\??:\s{0,3}[A-Za-z_&*][\w.\[\]|<>?:&* ,]{0,50}?\s{0,3}=(?![=>])"
_SEPARATOR: Final = (
    rf"\\{{0,2}}[\"'`]?[\])]?(?: As \w{{1,20}})?\s{{0,30}}+(?:{_TYPE}|=>|:=|={{1,3}}|:|\|\|=|\?\?=)"
)
_WRAPPED: Final = (
    r"(?:[A-Za-z_][\w.:<>&]{0,40}\(\s{0,10}|\(\s{0,30}|new\s+\w{1,30}\(\s{0,10}|"
    r"ConvertTo-SecureString (?:-String )?)?(?:default\s?=\s?|value\s?=\s?)?"
    r"(?P<prefix>[rbuRBUfF@$&]{0,2})"
)
_AFTER_QUOTED: Final = re.compile(rf"{_SEPARATOR}\s{{0,30}}+{_WRAPPED}{_QUOTED}")
_ARGUMENT: Final = re.compile(rf"\\?[\"'`]\s{{0,5}},\s{{0,20}}(?:default\s?=\s?)?(?P<prefix>[rbu]?){_QUOTED}")
_SETTER: Final = re.compile(rf"\(\s{{0,10}}(?P<prefix>[rbu]?){_QUOTED}\s{{0,10}}[),]")
_FALLBACK: Final = re.compile(
    rf"[\"'`]?[\])]?\s{{0,20}}(?:\|\||\?\?|or(?=\s))\s{{0,20}}(?P<prefix>[rbu]?){_QUOTED}"
)
_NEXT_LINE: Final = re.compile(
    r"[\"']?:[ \t]*(?:[|>][-+]?\d?[ \t]*)?\r?\n[ \t]+"
    r"(?P<bare>[^\s\"'{}\[\]#&*!:][^\s:]{3,500})[ \t]*(?=\r?\n|$)"
)
_BESIDES: Final = {"code": _FALLBACK, "yaml": _NEXT_LINE}  # a way that only one style of files has
_USER: Final = _QUOTED.replace("?P<", "?P<user_")
_PAIR: Final = re.compile(
    rf"\s?=?\s?\(\s{{0,10}}{_USER}\s{{0,5}},\s{{0,10}}(?P<prefix>[rbu]?){_QUOTED}\s{{0,5}}\)"
)
_VALUE_KEY: Final = r"[\"']?[ \t]*,?\s{0,40}[\"']?(?:[vV]alue|VALUE|default)[\"']?[ \t]*[:=][ \t]*"
_VALUE_QUOTED: Final = re.compile(rf"{_VALUE_KEY}(?P<prefix>){_QUOTED}")
_VALUE_BARE: Final = re.compile(
    rf"{_VALUE_KEY}(?P<bare>[^\s\"'{{}}\[\],#]{{4,500}})[ \t]*(?:#[^\n]*)?(?=[\r\n,}}]|$)"
)
_NAMED_BEFORE: Final = re.compile(r"\b(?:[nN]ame|[kK]ey|NAME|KEY)[\"']?[ \t]*[:=][ \t]*[\"']?$")
_BLOCK: Final = re.compile(
    rf"\"\s{{0,5}}\{{[^{{}}]{{0,300}}?default\s{{0,20}}=\s{{0,5}}(?P<prefix>){_QUOTED}"
)
_ELEMENT: Final = re.compile(r"(?:[\"'][^<>]{0,60})?>\s{0,5}(?P<bare>[^<>\n]{4,500}?)\s{0,5}</")
_ATTRIBUTE: Final = re.compile(
    rf"[\"']\s{{1,20}}(?:\w+=[\"'][^\"'<>]{{0,40}}[\"']\s{{1,20}}){{0,2}}value\s?=\s?(?P<prefix>){_QUOTED}"
)
_INSIDE: Final = re.compile(r"(?:\s?=\s?|:\s)(?P<bare>[^\s\"'`;&,<>\\]{4,300})(?=[\"'`;&<\\]|[,\s]|$)")
_BARE: Final[dict[str, re.Pattern[str]]] = {
    "yaml": re.compile(r"[\"']?[ \t]*+(?:[:=][ \t]++|=)(?P<bare>[^\s\"'{}\[\]][^\n]{3,500}+)(?=\n|$)"),
    "lines": re.compile(r"[ \t]*+[:=][ \t]*+(?P<bare>[^\s\"'][^\n]{3,500}+)(?=\n|$)"),
    "shell": re.compile(r"=(?P<bare>[^\s\"'`;&|<>()]{4,500})(?=[\s;&|)\"'`]|$)"),
    "docker": re.compile(r"=(?P<bare>[^\s\"'`]{4,500})(?=\s|$)"),
    "prose": re.compile(r"[`*]{0,2}[ \t]*[:=][ \t]*(?P<bare>[^\s\"'`<>()\[\]{},;]{4,500})(?=[\s,;`]|$)"),
}
_SPACED: Final = re.compile(
    r"[ \t]{1,20}(?P<prefix>)(?:"
    + _QUOTED
    + r"|(?P<bare>[^\s\"'`;&|<>()=][^\s\"'`;&|<>()]{3,300})(?=[\s;&|)\"'`]|$))"
)
_SPACED_LINE: Final = re.compile(r"[ \t]{1,20}\"?(?P<bare>[^\s\"]{4,300})\"?(?=\s|$)")
_SPACED_QUOTED: Final = re.compile(rf"[ \t]{{1,20}}(?P<prefix>){_QUOTED}")
_INSTRUCTION: Final = re.compile(r"(?:^|\n)[ \t]*(?:ENV|ARG)[ \t]+$", re.IGNORECASE)
_YAML_MARK: Final = re.compile(r"[!*&][\w:./-]*(?:\s|$)|[|>][-+]?\d?$|[@%]|-\s|~$")
_CALL: Final = re.compile(r"[A-Za-z_][\w.]*[(\[{]")
_REST: Final = re.compile(r"[,&]\w{1,30}=|[ \t][#;]")  # another option, or a remark
_LINE_ENDS: Final = re.compile(r"(?:\\[nrt])+$")
_JOINED: Final = re.compile(r"\\\n[ \t]*")  # a line that goes on in the next one
_SPACED_NAMES: Final = frozenset({"requirepass", "masterauth", "bindpw"})
_SQL_NAMES: Final = frozenset({"by", "password"})  # IDENTIFIED BY '...', WITH PASSWORD '...'


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A value given to a name."""

    name: str
    value: str = field(repr=False)
    start: int  # of the value in the text
    end: int
    is_quoted: bool


def name_around(text: str, at: int) -> tuple[int, int]:
    """Where the name that holds the character at `at` begins and ends; (at, at) for one that is too long."""
    chunk = text[max(0, at - LONGEST_NAME) : at]
    start = at - (len(chunk) - len(chunk.rstrip(_NAME)))
    match = _NAME_END.match(text, at)
    end = match.end() if match else at
    if at - start >= LONGEST_NAME or end - at >= LONGEST_NAME:
        return at, at
    return start, end


def assignments_at(text: str, start: int, end: int, style: Style) -> Iterator[Assignment]:
    """Every value that the name at `start` to `end` may be given there; at most a few."""
    name = text[start:end].strip(".-")
    for match in _matches(text, start, end, style):
        group = match.lastgroup or "bare"
        if group == "prefix":
            continue
        value = _LINE_ENDS.sub("", _JOINED.sub("", match[group]))
        prefix = match.groupdict().get("prefix") or ""
        if ("f" in prefix.lower() or "$" in prefix) and "{" in value:
            continue
        quoted = group != "bare"
        if not quoted:
            value = _REST.split(value, maxsplit=1)[0].rstrip()
            if value.endswith("}") and "{" not in value:
                value = re.split("[,}]", value, maxsplit=1)[0]
        if not quoted and _is_expression(value, style):
            continue
        yield Assignment(
            name=name,
            value=value,
            start=match.start(group),
            end=match.end(group) if quoted else match.start(group) + len(value),
            is_quoted=quoted,
        )


def second_of_pair(text: str, start: int, end: int) -> Iterator[Assignment]:
    """The password of a user and a password in brackets after the name: `auth=("user", "password")`."""
    if match := _PAIR.match(text, end):
        group = match.lastgroup or "d"
        yield Assignment(
            name=text[start:end],
            value=match[group],
            start=match.start(group),
            end=match.end(group),
            is_quoted=True,
        )


def _matches(text: str, start: int, end: int, style: Style) -> Iterator[re.Match[str]]:
    before = text[max(0, start - 40) : start]
    for form in (_AFTER_QUOTED, *_forms(text[start:end], before, style)):
        if match := form.match(text, end):
            yield match
            return
    if before.endswith((";", "?", "&")) or _is_in_string(text, start):
        if match := _INSIDE.match(text, end):
            yield match
        return
    is_part = before.endswith((":", "/")) and text[start] != "_"  # of a longer value; npm's names begin so
    bare = None if is_part else _BARE.get(style)
    if bare is not None and (match := bare.match(text, end)):
        yield match


def _forms(name: str, before: str, style: Style) -> Iterator[re.Pattern[str]]:
    """The ways to give a value, besides `name = "value"`, that make sense for a name there."""
    lower = name.lower()
    if style in {"code", "shell", "prose", "lines"} and before.endswith(('"', "'", "`")):
        yield _ARGUMENT
    if style in _BESIDES:
        yield _BESIDES[style]
    is_call = before.endswith((".", "->", "::")) or lower.startswith(("set", "with"))
    if style == "code" and (is_call or "." in name):
        yield _SETTER
    if style in {"xml", "prose", "lines", "code"} and before.endswith(("<", ":", '"', "'")):
        yield _ATTRIBUTE
        yield _ELEMENT
    if _NAMED_BEFORE.search(before):
        yield _VALUE_QUOTED
        yield _VALUE_BARE
    if before.endswith('variable "'):
        yield _BLOCK
    if lower in _SQL_NAMES:
        yield _SPACED_QUOTED
    is_instruction = style == "docker" and _INSTRUCTION.search(before) is not None
    if lower in _SPACED_NAMES:
        yield _SPACED_LINE
    if name.startswith("-") or is_instruction or before.endswith("#define "):
        yield _SPACED


def _is_in_string(text: str, at: int) -> bool:
    """Whether a quote was opened before on the same line."""
    line = text[max(0, at - 300) : at].rpartition("\n")[2]
    return line.count('"') % 2 == 1 or line.count("'") % 2 == 1 or line.count("`") % 2 == 1


def _is_expression(value: str, style: Style) -> bool:
    """Whether a bare value is code or markup rather than text."""
    if style == "yaml" and _YAML_MARK.match(value):
        return True
    return _CALL.match(value) is not None and value.endswith((")", "]", "}", ";", ","))
