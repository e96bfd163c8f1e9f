"""The stand-ins for database servers: which packages they are, and how they begin.

They are talked to over the network, so that what they are built on matters little: they stand in for images
of other distributions too. They begin as the official images document it.
"""

from __future__ import annotations

import re
import shlex
from typing import Final

from pipeline.engine.recipes.recipe import Recipe

# Debian's releases by the major version of the server they carry, the oldest first.
SERVERS: Final = {
    "postgres": {13: "bullseye", 15: "bookworm", 17: "trixie"},
    "redis": {6: "bullseye", 7: "bookworm", 8: "trixie"},
}
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Without a database it makes one, by the variables of the official image, and runs what is in
# /docker-entrypoint-initdb.d; until that is done the server takes no connections over the network.
_POSTGRES: Final = r"""#!/bin/sh
set -e
case "${1:-}" in -*) set -- postgres "$@" ;; esac
if [ "${1:-postgres}" != postgres ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chown -R postgres: "$PGDATA" /var/run/postgresql
  chmod 700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
of_file() { eval "if [ -n \"\${$1_FILE:-}\" ]; then $1=\$(cat \"\$$1_FILE\"); fi"; }
of_file POSTGRES_PASSWORD; of_file POSTGRES_USER; of_file POSTGRES_DB; of_file POSTGRES_INITDB_ARGS
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
    echo "Error: Database is uninitialized and superuser password is not specified." >&2
    echo "       You must specify POSTGRES_PASSWORD to a non-empty value for the superuser." >&2
    exit 1
  fi
  secret=$(mktemp)
  printf '%s\n' "${POSTGRES_PASSWORD:-}" > "$secret"
  if [ -z "${POSTGRES_PASSWORD:-}" ]; then by="--auth-local=trust"; else by="--pwfile=$secret"; fi
  eval "initdb --pgdata=\"\$PGDATA\" --username=\"\$user\" \"\$by\" ${POSTGRES_INITDB_ARGS:-}"
  rm "$secret"
  echo "host all all all ${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >> "$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
  pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
  if [ "$database" != postgres ]; then createdb -U "$user" "$database"; fi
  for file in /docker-entrypoint-initdb.d/*; do
    case "$file" in
      *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
      *.sql) psql -v ON_ERROR_STOP=1 -U "$user" -d "$database" -f "$file" ;;
      *.sql.gz) gunzip -c "$file" | psql -v ON_ERROR_STOP=1 -U "$user" -d "$database" ;;
    esac
  done
  pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@"
"""
# Debian's server takes no connections from elsewhere unless it is told to.
_REDIS: Final = r"""#!/bin/sh
set -e
case "${1:-}" in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "${1:-redis-server}" = redis-server ]; then
  if [ "$(id -u)" = 0 ]; then
    chown -R redis: .
    exec setpriv --reuid=redis --regid=redis --init-groups "$0" "$@"
  fi
  set -- "$@" --protected-mode no
fi
exec "$@"
"""


def server_recipe(name: str, words: list[str]) -> Recipe | str:
    """Return the stand-in for a server's image, or in one clause why there is none.

    A version that no release carries is stood in for by the next newer one.

    Args:
        words: Of the image's tag, such as "15.4" and "alpine".
    """
    if any(word.startswith("windows") for word in words):
        return "recipes are Debian, not windows"
    known, asked = SERVERS[name], words[0]
    if re.fullmatch(r"latest|alpine[\d.]*|trixie|bookworm|bullseye", asked):
        major = max(known)
    elif re.fullmatch(r"\d+(\.\d+)*", asked):
        least = int(asked.partition(".")[0])
        newer = [number for number in known if number >= least]
        if not newer:
            return f"no Debian release can stand in for {name} {asked} (the newest carries {max(known)})"
        major = newer[0]
    else:
        return f"no recipe knows the version `{asked}`"
    different = f", not the {asked} asked for," if asked[0].isdigit() and asked != str(major) else ""
    note = f"{name} {major}{different} from Debian {known[major]}"
    note += ", not Alpine" if any(word.startswith("alpine") for word in words) else ""
    return _postgres(major, known[major], note) if name == "postgres" else _redis(major, known[major], note)


def _postgres(major: int, suite: str, note: str) -> Recipe:
    return Recipe(
        name=f"postgres {major}",
        family="postgres",
        suite=suite,
        packages=("ca-certificates", f"postgresql-{major}", "tzdata"),
        is_slim=True,
        env=(
            ("PATH", f"/usr/lib/postgresql/{major}/bin:{_PATH}"),
            *(("LANG", "C.UTF-8"), ("PG_MAJOR", str(major)), ("PGDATA", "/var/lib/postgresql/data")),
        ),
        cmd=("postgres",),
        entrypoint=("docker-entrypoint.sh",),
        ports=("5432/tcp",),
        note=note,
    )


def _redis(major: int, suite: str, note: str) -> Recipe:
    return Recipe(
        name=f"redis {major}",
        family="redis",
        suite=suite,
        packages=("redis-server",),
        is_slim=True,
        cmd=("redis-server",),
        entrypoint=("docker-entrypoint.sh",),
        ports=("6379/tcp",),
        workdir="/data",
        note=note,
    )


def server_hooks(family: str) -> list[str]:
    """Return what makes a tree with a server's packages the image of one."""
    text = _POSTGRES if family == "postgres" else _REDIS
    script = [
        f'printf %s {shlex.quote(text)} > "$1/usr/local/bin/docker-entrypoint.sh"',
        'chmod 0755 "$1/usr/local/bin/docker-entrypoint.sh"',
    ]
    if family == "redis":
        return [*script, 'mkdir "$1/data"', 'chroot "$1" chown redis: /data']
    # The packages make a database and a certificate of their own, which would differ from build to build.
    own = '"$1"/etc/postgresql/* "$1"/var/lib/postgresql/* "$1"/var/log/postgresql/*'
    return [
        *script,
        f'rm -rf {own} "$1"/etc/ssl/*/ssl-cert-snakeoil.*',
        'mkdir "$1/docker-entrypoint-initdb.d"',
    ]
