"""Keeps an environment's records in a folder of its first host, over SSH.

Each call is one short script on the host, which holds the folder's lock while it looks and writes: a document
is compared and replaced by a rename in one go, whatever becomes of the connection.
"""

from __future__ import annotations

import base64
import shlex
from typing import TYPE_CHECKING, Final

from pipeline.deploy.state import StateChanged
from pipeline.deploy.target import TargetFailed
from pipeline.digest import digest_bytes

if TYPE_CHECKING:
    from pipeline.deploy.shell import Said, Shell

LIMIT_S: Final = 30.0
CHANGED: Final = 96

OPEN: Final = """\
umask 077
folder={folder}
mkdir -p "$folder"
cd "$folder"
exec 9>.lock
flock -w 20 9 || {{ echo 'somebody else holds its lock' >&2; exit 1; }}
"""

WRITE: Final = """\
mkdir -p {parent}
old=
[ ! -e {name} ] || old=sha256:$(sha256sum <{name} | cut -d' ' -f1)
[ "$old" = {version} ] || exit {changed}
base64 -d >{fresh} <<'END'
{data}
END
sync {fresh}
mv -f {fresh} {name}
sync {parent}
"""

# Whoever wrote last may have been killed within a line: the next begins on its own.
APPEND: Final = """\
mkdir -p {parent}
if [ -s {name} ] && [ "$(tail -c1 {name} | od -An -tu1 | tr -d ' ')" != 10 ]; then echo >>{name}; fi
base64 -d >>{name} <<'END'
{data}
END
sync {name} {parent}
"""


class SshState:
    """A folder of a host; `folder` is a path there, in which `~/` is the home of who connects."""

    def __init__(self, shell: Shell, folder: str) -> None:
        self.shell = shell
        self.folder = folder

    async def read(self, name: str) -> tuple[bytes, str]:
        quoted = shlex.quote(name)
        said = await self._do(f"[ ! -e {quoted} ] || base64 -w0 {quoted}", f"read the record `{name}`")
        data = base64.b64decode(said.out)
        return (data, digest_bytes(data)) if data else (b"", "")

    async def write(self, name: str, data: bytes, *, version: str) -> str:
        folder, _, last = name.rpartition("/")
        text = WRITE.format(
            name=shlex.quote(name),
            parent=shlex.quote(folder or "."),
            fresh=shlex.quote(f"{folder or '.'}/.{last}.new"),
            version=shlex.quote(version),
            changed=CHANGED,
            data=_lines(data),
        )
        said = await self._do(text, f"write the record `{name}`", also=CHANGED)
        if said.code == CHANGED:
            raise StateChanged(name)
        return digest_bytes(data)

    async def append(self, name: str, line: bytes) -> None:
        folder = name.rpartition("/")[0] or "."
        text = APPEND.format(name=shlex.quote(name), parent=shlex.quote(folder), data=_lines(line))
        await self._do(text, f"add to the record `{name}`")

    async def names(self, prefix: str) -> tuple[str, ...]:
        said = await self._do("find . -type f -name '[!.]*.json*' -printf '%P\\n'", "list the records")
        return tuple(sorted(name for name in said.out.splitlines() if name.startswith(prefix)))

    async def _do(self, script: str, act: str, *, also: int = 0) -> Said:
        said = await self.shell.run(OPEN.format(folder=quote_home(self.folder)) + script, timeout_s=LIMIT_S)
        if said.code not in (0, also):
            why = (said.err.strip().splitlines() or [f"it ended with {said.code}"])[-1]
            raise TargetFailed(f"cannot {act} on host `{self.shell.name}`: {why}", logs=said.err)
        return said


def quote_home(path: str) -> str:
    """Quote a path for a shell, and let it put in the home for a leading `~/`."""
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def _lines(data: bytes) -> str:
    return base64.encodebytes(data).decode().strip()
