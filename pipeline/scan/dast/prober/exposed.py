"""Files that should not be served: known by what is in them, for a service may answer 200 to everything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.scan.dast.prober.wire import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """A file to ask for, and what proves that it is one."""

    path: str
    rule: str
    proof: re.Pattern[bytes]


def _file(path: str, rule: str, proof: bytes) -> Exposed:
    return Exposed(path=path, rule=rule, proof=re.compile(proof))


ENV: Final = rb"(?m)\A(?!\s*<)(?:\s*(?:#.*)?\n)*\s*(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=.*(?:\n|\Z)"
SQL: Final = rb"(?i)\b(create table|insert into|pg_dump|mysql dump|pragma foreign_keys)\b"
ZIP: Final = rb"\A(PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf)"
SQLITE: Final = rb"\ASQLite format 3\x00"
EVERYWHERE: Final = (  # in each folder that is known
    _file(".env", "exposed-secrets", ENV),
    _file(".git/HEAD", "exposed-git", rb"\A(ref: refs/|[0-9a-f]{40}\s*\Z)"),
    _file(".git/config", "exposed-git", rb"\[core\]"),
)
AT_ROOT: Final = (
    *(
        _file(f".env.{name}", "exposed-secrets", ENV)
        for name in ("local", "production", "prod", "dev", "bak", "backup")
    ),
    _file(".svn/entries", "exposed-git", rb"\A\d+\s*\n"),
    _file(".hg/requires", "exposed-git", rb"(?m)^revlogv1$|^store$"),
    _file(".aws/credentials", "exposed-secrets", rb"aws_access_key_id"),
    _file(".npmrc", "exposed-secrets", rb"_authToken|_password"),
    _file(".pypirc", "exposed-secrets", rb"\[(distutils|pypi)\]"),
    _file(".netrc", "exposed-secrets", rb"\bmachine\s+\S+"),
    _file(".htpasswd", "exposed-secrets", rb"(?m)^[^:\s<]+:(\$|\{SHA\})"),
    _file(".ssh/id_rsa", "exposed-secrets", rb"-----BEGIN [A-Z ]*PRIVATE KEY"),
    _file("id_rsa", "exposed-secrets", rb"-----BEGIN [A-Z ]*PRIVATE KEY"),
    _file(".DS_Store", "exposed-file", rb"\A\x00\x00\x00\x01Bud1"),
    _file("docker-compose.yml", "exposed-file", rb"(?m)^services:"),
    _file("Dockerfile", "exposed-file", rb"(?m)^FROM\s+\S+"),
    *(_file(name, "exposed-database", SQL) for name in ("backup.sql", "dump.sql", "database.sql", "db.sql")),
    *(
        _file(name, "exposed-database", SQLITE)
        for name in (
            "db.sqlite3",
            "db.sqlite",
            "database.sqlite",
            "app.db",
            "data.db",
            "database.db",
            "test.db",
        )
    ),
    *(
        _file(name, "exposed-backup", ZIP)
        for name in ("backup.zip", "backup.tar.gz", "backup.tgz", "site.zip")
    ),
    *(_file(name, "exposed-backup", ZIP) for name in ("www.zip", "app.zip", "source.zip")),
    _file(
        "config.json",
        "exposed-secrets",
        rb'(?i)"[^"]*(password|secret|private_?key)[^"]*"\s*:\s*"[^"]+"',
    ),
    _file("config.py", "exposed-secrets", rb"(?m)^[A-Z_]*(SECRET|PASSWORD|KEY)[A-Z_]*\s*="),
    _file("settings.py", "exposed-secrets", rb"(?m)^[A-Z_]*(SECRET|PASSWORD|KEY)[A-Z_]*\s*="),
    _file("config.yml", "exposed-secrets", rb"(?im)^\s*\w*(password|secret|api_?key)\w*\s*:\s*\S"),
    _file("wp-config.php.bak", "exposed-secrets", rb"DB_PASSWORD"),
    _file("phpinfo.php", "debug-endpoint", rb"phpinfo\(\)|PHP Version"),
    _file("server-status", "debug-endpoint", rb"Apache Server Status"),
    _file("actuator/env", "debug-endpoint", rb'"propertySources"'),
    _file("actuator/heapdump", "debug-endpoint", rb"\A(JAVA PROFILE|\x1f\x8b)"),
    _file("console", "debug-endpoint", rb"Werkzeug|EVALEX"),
    _file("debug/pprof/", "debug-endpoint", rb"/debug/pprof/|Types of profiles available"),
    _file("debug/vars", "debug-endpoint", rb'"cmdline"'),
    _file("__debug__/", "debug-endpoint", rb"djDebug|Debug Toolbar"),
    _file("debug", "debug-endpoint", rb'(?i)"?(environ|env|settings|config)"?\s*[:=]\s*\{'),
    _file("_profiler", "debug-endpoint", rb"Symfony Profiler"),
    _file("elmah.axd", "debug-endpoint", rb"Error Log for"),
    _file("trace.axd", "debug-endpoint", rb"Application Trace"),
    _file("metrics", "metrics", rb"(?m)^# (HELP|TYPE) "),
    _file("docs", "documentation", rb"swagger-ui|SwaggerUIBundle"),
    _file("redoc", "documentation", rb"(?i)<redoc|redoc\.standalone"),
    _file("swagger-ui/", "documentation", rb"swagger-ui"),
    _file("graphiql", "documentation", rb"(?i)graphiql"),
)
COPIES: Final = (".bak", ".old", ".orig", "~", ".swp")  # of what an editor leaves beside a file
CODE: Final = re.compile(rb"\A(<\?php|#!|import |from \w+ import|b0VIM)")
FOLDERS: Final = 8


def folders_of(paths: Iterable[str]) -> list[str]:
    """The folders above some paths, the root first; no more than are worth asking."""
    found = {"/"}
    for path in paths:
        parts = path.split("/")[1:-1]
        found |= {"/" + "/".join(parts[:count]) + "/" for count in (1, 2) if len(parts) >= count}
    return sorted((one for one in found if "{" not in one), key=lambda one: (one.count("/"), one))[:FOLDERS]


def wanted(paths: Iterable[str]) -> list[Exposed]:
    """What to ask for, given the paths that are known; addresses are whole."""
    known = sorted(set(paths))
    found = [Exposed(path=f"/{one.path}", rule=one.rule, proof=one.proof) for one in AT_ROOT]
    for folder in folders_of(known):
        found += [Exposed(path=folder + one.path, rule=one.rule, proof=one.proof) for one in EVERYWHERE]
    scripts = [path for path in known if path.endswith((".py", ".php", ".rb", ".js", ".jsp", ".conf"))][:5]
    found += [
        Exposed(path=path + end, rule="exposed-backup", proof=CODE) for path in scripts for end in COPIES
    ]
    return found


def is_there(one: Exposed, answer: Answer) -> bool:
    """Whether the file itself came back: not a page that is shown in place of it."""
    return answer.status == 200 and one.proof.search(answer.body[:65536]) is not None
