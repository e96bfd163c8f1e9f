"""What a recipe's tree gets beside its packages: the links, users and files that the official image has.

Each hook is a line of shell that mmdebstrap runs outside the tree, with the tree's path as `$1`.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from pipeline.engine.recipes.releases import has_updates
from pipeline.engine.recipes.servers import SERVERS, server_hooks

if TYPE_CHECKING:
    from pipeline.engine.recipes.recipe import Recipe

# The machine's mirrors and proxies are its own affair: inside, apt uses the distribution's addresses.
_SOURCES: Final = """\
Types: deb
URIs: {of.main}
Suites: {suites}
Components: {of.components}
Signed-By: {of.keyring}
"""
_SECURITY: Final = """\

Types: deb
URIs: {of.security}
Suites: {suite}-security
Components: {of.components}
Signed-By: {of.keyring}
"""
_APT_CONF: Final = """\
Acquire::Languages "none";
APT::AutoRemove::SuggestsImportant "false";
Binary::apt::APT::Keep-Downloaded-Packages "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
# Debian keeps no list of files beside its Python packages; without one pip refuses to replace itself.
_PYTHON_RECORDS: Final = """\
import pathlib
root = pathlib.Path("/usr/lib/python3/dist-packages")
lists = [path.read_text().splitlines() for path in pathlib.Path("/var/lib/dpkg/info").glob("*.list")]
for info in root.glob("*.dist-info"):
    files = next((names for names in lists if str(info) in names), [])
    inside = [pathlib.Path(name) for name in files if name.startswith(f"{root}/")]
    lines = [f"{path.relative_to(root)},,\\n" for path in sorted(inside) if path.is_file()]
    if not (info / "RECORD").exists():
        (info / "RECORD").write_text("".join([*lines, f"{info.name}/RECORD,,\\n"]))
"""
_NODE_ENTRYPOINT: Final = """\
#!/bin/sh
set -e
# Arguments that are options, or no command of the system, are for node.
if [ "${1#-}" != "${1}" ] || [ -z "$(command -v "${1}")" ] || { [ -f "${1}" ] && ! [ -x "${1}" ]; }; then
  set -- node "$@"
fi
exec "$@"
"""


def customize_hooks(recipe: Recipe) -> list[str]:
    """Return the hooks of a recipe, in order."""
    of, suite = recipe.distribution, recipe.suite
    hooks = [
        'rm -f "$1/etc/apt/sources.list" "$1"/etc/apt/sources.list.d/*',
        _write(
            f"etc/apt/sources.list.d/{of.name.lower()}.sources",
            _SOURCES.format(suites=f"{suite} {suite}-updates", of=of) + _SECURITY.format(suite=suite, of=of)
            if has_updates(suite)
            else _SOURCES.format(suites=suite, of=of),
        ),
        _write("etc/apt/apt.conf.d/90image", _APT_CONF),
        # The machine's name and name servers must not show, nor its apt options.
        'rm -f "$1/etc/hostname" "$1/etc/resolv.conf" "$1/etc/apt/apt.conf.d/99mmdebstrap"',
    ]
    if recipe.family == "python":
        hooks += _python_hooks()
    if recipe.family == "node":
        hooks += _node_hooks()
    if recipe.family == "ubuntu" and recipe.suite != "jammy":
        hooks += _ubuntu_hooks()
    if recipe.family in SERVERS:
        hooks += server_hooks(recipe.family)
    return hooks


def _python_hooks() -> list[str]:
    return [
        'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
        'for name in python python3 pip pip3; do ln -s "/usr/bin/$name" "$1/usr/local/bin/$name"; done',
        'version="$(readlink "$1/usr/bin/python3")"; ln -s "/usr/bin/$version" "$1/usr/local/bin/$version"',
        f'chroot "$1" python3 -B -c {shlex.quote(_PYTHON_RECORDS)}',
    ]


def _node_hooks() -> list[str]:
    return [
        'for name in node npm npx; do ln -s "/usr/bin/$name" "$1/usr/local/bin/$name"; done',
        'ln -s node "$1/usr/local/bin/nodejs"',
        _write("usr/local/bin/docker-entrypoint.sh", _NODE_ENTRYPOINT),
        'chmod 0755 "$1/usr/local/bin/docker-entrypoint.sh"',
        'chroot "$1" groupadd --gid 1000 node',
        'chroot "$1" useradd --uid 1000 --gid node --shell /bin/bash --create-home node',
    ]


def _ubuntu_hooks() -> list[str]:
    """Since 2024 the official image has a user of that name."""
    return [
        'chroot "$1" groupadd --gid 1000 ubuntu',
        'chroot "$1" useradd --uid 1000 --gid ubuntu --shell /bin/bash --create-home ubuntu',
    ]


def _write(path: str, text: str) -> str:
    return f'printf %s {shlex.quote(text)} > "$1/{path}"'
