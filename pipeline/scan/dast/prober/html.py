"""What a page links to, asks for, and loads."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

LINKS: Final = {"a": "href", "area": "href", "iframe": "src", "frame": "src", "script": "src", "link": "href"}
LOADED: Final = ("script", "iframe", "frame", "img", "link", "audio", "video", "source", "object", "embed")
MOST: Final = 500  # links of one page


@dataclass(slots=True)
class Form:
    """A form: where it goes, and its fields with the values they have."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """Reads a page; whatever is wrong with it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.base = ""
        self.links: list[str] = []
        self.loads: list[str] = []  # addresses of scripts, pictures and the like
        self.forms: list[Form] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note links, what is loaded, and forms."""
        has = {name: value or "" for name, value in attrs}
        if tag == "base":
            self.base = has.get("href", "")
        if tag in LINKS and has.get(LINKS[tag]) and len(self.links) < MOST:
            self.links.append(has[LINKS[tag]])
        if tag in LOADED and (tag != "link" or "stylesheet" in has.get("rel", "")):
            self.loads += [has[name] for name in ("src", "href", "data") if has.get(name)]
        if tag == "form":
            self.forms.append(Form(has.get("action", ""), has.get("method", "get").upper()))
        elif tag in ("input", "textarea", "select", "button") and self.forms and has.get("name"):
            self.forms[-1].fields[has["name"]] = has.get("value", "")


def inside(base: str, page: str, link: str) -> str | None:
    """Path and query of a link if it stays at the same address; None if it leads elsewhere."""
    try:
        here = urllib.parse.urljoin(base, page)
        parts = urllib.parse.urlsplit(urllib.parse.urljoin(here, link.strip()))
        home = urllib.parse.urlsplit(base)
        if (parts.scheme, parts.hostname, parts.port) != (home.scheme, home.hostname, home.port):
            return None
    except ValueError:
        return None
    path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = urllib.parse.quote(parts.query, safe="=&%/:@!$'()*+,;~-._?[]")
    return f"{path}?{query}" if query else path


def sitemap_of(robots: str) -> list[str]:
    """The paths that a robots.txt names."""
    found = re.findall(r"(?im)^(?:dis)?allow:[ \t]*(/[^\s*$?#]*)", robots)
    return list(dict.fromkeys(one for one in found if one != "/"))
