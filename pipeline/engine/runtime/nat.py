"""Lets a bridge's addresses reach the outside: forwarding and address translation.

Uses `iptables`, so that a host whose own chains drop forwarded packets lets ours through, and `nft`
where there is none.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORWARD: Final = Path("/proc/sys/net/ipv4/ip_forward")
_LIMIT_S: Final = 20
_RESTORE: Final = ("iptables-restore", "--noflush", "--wait")
_COMMENT: Final = re.compile(r'--comment "?([\w-]+)"?(?= |$)', re.MULTILINE)
_TABLE: Final = re.compile(r"^table ip (\S+)$", re.MULTILINE)


class NatRefused(Exception):
    """The host does not allow it; the text says what failed."""


def enable_forwarding() -> bool:
    """Let the kernel pass packets on; True when it did not before.

    Raises:
        NatRefused: The setting is read-only here.
    """
    if _FORWARD.read_text().strip() == "1":
        return False
    try:
        _FORWARD.write_text("1")
    except OSError as error:
        raise NatRefused(f"cannot enable forwarding: {error.strerror}") from error
    return True


def disable_forwarding() -> None:
    """Undo `enable_forwarding`."""
    _FORWARD.write_text("0")


def add_rules(bridge: str, subnet: str) -> None:
    """Translate what leaves `subnet` by another way than `bridge`; each rule carries the bridge's name.

    Raises:
        NatRefused: No tool is there, or it was refused.
    """
    if shutil.which("iptables-restore"):
        try:
            _run(_RESTORE, _iptables(bridge, subnet))
        except NatRefused:
            # Tables are committed one by one: the first may be there. This refusal says more than a
            # second would, and what stays is found by its name again.
            with contextlib.suppress(NatRefused):
                remove_rules(bridge)
            raise
    elif shutil.which("nft"):
        _run(["nft", "-f", "-"], _nft(bridge, subnet))
    else:
        raise NatRefused("cannot translate addresses: neither `iptables` nor `nft` is installed")


def find_ruled() -> frozenset[str]:
    """Return the names that rules carry, of bridges or of whatever else.

    Raises:
        NatRefused: The tool cannot list rules.
    """
    if shutil.which("iptables-restore"):
        return frozenset(_COMMENT.findall(_run(["iptables-save"], "")))
    if shutil.which("nft"):
        return frozenset(_TABLE.findall(_run(["nft", "list", "tables"], "")))
    return frozenset()


def remove_rules(bridge: str) -> None:
    """Take the rules that carry the bridge's name away, be it some of `add_rules`, or each of them twice.

    Raises:
        NatRefused: They are there and could not be removed, or cannot be listed.
    """
    if shutil.which("iptables-restore"):
        if text := _removal(bridge, _run(["iptables-save"], "")):
            _run(_RESTORE, text)
    elif bridge in find_ruled():
        _run(["nft", "delete", "table", "ip", bridge], "")


def _removal(bridge: str, saved: str) -> str:
    """Write what deletes exactly the bridge's lines of `iptables-save`; "" when there is none."""
    text = ""
    for table in saved.split("COMMIT\n"):
        lines = [line for line in table.splitlines() if line.startswith(("*", "-A "))]
        ours = [line for line in lines if bridge in _COMMENT.findall(line)]
        if ours:
            text += "\n".join([lines[0], *(f"-D {line.removeprefix('-A ')}" for line in ours), "COMMIT\n"])
    return text


def _iptables(bridge: str, subnet: str) -> str:
    tag = f"-m comment --comment {bridge}"
    return (
        "*nat\n"
        f"-A POSTROUTING -s {subnet} ! -o {bridge} {tag} -j MASQUERADE\n"
        "COMMIT\n*filter\n"
        f"-I FORWARD -i {bridge} {tag} -j ACCEPT\n"
        f"-I FORWARD -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED {tag} -j ACCEPT\n"
        "COMMIT\n"
    )


def _nft(bridge: str, subnet: str) -> str:
    return (
        f"table ip {bridge} {{\n"
        "chain out {\n"
        "type nat hook postrouting priority srcnat; policy accept;\n"
        f'ip saddr {subnet} oifname != "{bridge}" masquerade\n'
        "}\n"
        "}\n"
    )


def _run(argv: Sequence[str], text: str) -> str:
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=_LIMIT_S)
    except subprocess.CalledProcessError as error:
        raise NatRefused(f"cannot run `{argv[0]}`: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NatRefused(f"cannot run `{argv[0]}`: {error}") from error
    return done.stdout
