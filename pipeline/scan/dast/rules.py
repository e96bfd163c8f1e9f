"""What our own checks look for: how bad it is, which weakness, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.scan.finding import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One of our checks."""

    title: str
    level: Level
    fix: str
    cwe: int = 0
    is_common: bool = False  # it is a matter of the whole service: told once, with the pages


def _check(title: str, level: Level, cwe: int, fix: str) -> Check:
    return Check(title=title, level=level, cwe=cwe, fix=fix)


def _header(name: str, level: Level, cwe: int, fix: str) -> Check:
    return Check(title=f"answers lack `{name}`", level=level, cwe=cwe, fix=fix, is_common=True)


_NOT_SERVED: Final = "keep it out of what is served, and change the secrets in it"
RULES: Final[Mapping[str, Check]] = {
    "header-csp": _header(
        "Content-Security-Policy", "low", 693, "send a policy such as `default-src 'self'`"
    ),
    "header-frame": _header(
        "X-Frame-Options", "low", 1021, "send `frame-ancestors 'none'` in the content security policy"
    ),
    "header-nosniff": _header("X-Content-Type-Options", "low", 693, "send `x-content-type-options: nosniff`"),
    "header-referrer": _header("Referrer-Policy", "info", 200, "send `referrer-policy: no-referrer`"),
    "header-hsts": _header("Strict-Transport-Security", "low", 319, "send it with a `max-age` of a year"),
    "banner": Check(
        title="a header tells software and version",
        level="info",
        cwe=200,
        fix="turn the banner off",
        is_common=True,
    ),
    "cookie-httponly": _check("scripts can read a session cookie", "medium", 1004, "set it with `HttpOnly`"),
    "cookie-secure": _check(
        "a session cookie is sent without encryption", "low", 614, "set it with `Secure`"
    ),
    "cookie-samesite": _check(
        "a session cookie has no `SameSite`", "low", 1275, "set it with `SameSite=Lax` or `Strict`"
    ),
    "cookie-none": _check(
        "a cookie is for all sites and not secure", "medium", 614, "`SameSite=None` needs `Secure`"
    ),
    "cors-reflected": _check(
        "any page may read answers with the user's credentials", "high", 942, "allow a list of origins"
    ),
    "cors-null": _check(
        "pages without an origin may read answers with the user's credentials",
        "high",
        942,
        "never allow `null`",
    ),
    "cors-wildcard": _check("`*` is allowed with credentials", "low", 942, "allow a list of origins"),
    "cors-any": _check("any origin is reflected", "low", 942, "answer `*`, or allow a list of origins"),
    "exposed-secrets": _check("a file with secrets is served", "high", 538, _NOT_SERVED),
    "exposed-git": _check("the history of the code is served", "high", 527, "keep it out of what is served"),
    "exposed-database": _check("a database is served", "high", 530, _NOT_SERVED),
    "exposed-backup": _check("a backup is served", "high", 530, _NOT_SERVED),
    "exposed-file": _check("a file of the workshop is served", "low", 538, "keep it out of what is served"),
    "debug-endpoint": _check("a page for debugging is served", "high", 489, "turn it off where users are"),
    "metrics": _check("metrics are served to everyone", "info", 497, "serve them inside only"),
    "documentation": _check(
        "the description of the interface is served", "info", 0, "leave it, or turn it off"
    ),
    "listing": _check("the files of a folder are listed", "medium", 548, "turn listings off"),
    "source-map": _check("source maps are named", "info", 540, "leave them out of what is served"),
    "stack-trace": _check("errors show a stack trace", "medium", 209, "answer errors with a plain page"),
    "database-error": _check(
        "errors show what the database says", "medium", 209, "answer errors with a plain page"
    ),
    "mixed-content": _check(
        "an encrypted page loads or sends without encryption", "medium", 319, "use https"
    ),
    "server-error": _check("the service fails", "medium", 755, "check the value and answer 4xx"),
    "schema-mismatch": _check(
        "the answer is not as it is declared", "low", 440, "mend the answer or the schema"
    ),
    "open-redirect": _check("it leads to any address", "medium", 601, "redirect to places of a list only"),
    "reflected": _check("a value comes back as markup", "high", 79, "escape it, by a template that does so"),
    "stored": _check(
        "a kept value comes back as markup", "high", 79, "escape it, by a template that does so"
    ),
    "sql-error": _check(
        "a value becomes part of a database statement", "critical", 89, "bind values as parameters"
    ),
    "sql-blind": _check(
        "a value becomes part of a database statement", "critical", 89, "bind values as parameters"
    ),
    "path-traversal": _check(
        "any file can be read", "critical", 22, "take files from a list, or resolve and compare"
    ),
    "command": _check("a value becomes part of a command", "critical", 78, "run programs without a shell"),
    "template": _check("a value becomes part of a template", "critical", 1336, "pass values as variables"),
}
