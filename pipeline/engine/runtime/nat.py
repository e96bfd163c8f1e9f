"""Lets a bridge's addresses reach the outside: forwarding and address translation.

Uses `iptables`, so that a host whose own chains drop forwarded packets lets ours through, and `nft`
where there is none.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

_FORWARD: Final = Path("/proc/sys/net/ipv4/ip_forward")
_LIMIT_S: Final = 20


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
    """Translate what leaves `subnet` by another way than `bridge`.

    Raises:
        NatRefused: No tool is there, or it was refused.
    """
    if shutil.which("iptables-restore"):
        _run(["iptables-restore", "--noflush", "--wait"], _iptables(bridge, subnet, "A", "I"))
    elif shutil.which("nft"):
        _run(["nft", "-f", "-"], _nft(bridge, subnet))
    else:
        raise NatRefused("cannot translate addresses: neither `iptables` nor `nft` is installed")


def remove_rules(bridge: str, subnet: str) -> None:
    """Take the rules of `add_rules` away; rules that are not there are no error.

    Raises:
        NatRefused: They are there and could not be removed.
    """
    if shutil.which("iptables-restore"):
        saved = _run(["iptables-save"], "")
        if f'--comment "{bridge}"' in saved or f"--comment {bridge} " in saved:
            _run(["iptables-restore", "--noflush", "--wait"], _iptables(bridge, subnet, "D", "D"))
    elif shutil.which("nft") and f"table ip {bridge}" in _run(["nft", "list", "tables"], ""):
        _run(["nft", "delete", "table", "ip", bridge], "")


def _iptables(bridge: str, subnet: str, append: str, insert: str) -> str:
    tag = f"-m comment --comment {bridge}"
    return (
        "*nat\n"
        f"-{append} POSTROUTING -s {subnet} ! -o {bridge} {tag} -j MASQUERADE\n"
        "COMMIT\n*filter\n"
        f"-{insert} FORWARD -i {bridge} {tag} -j ACCEPT\n"
        f"-{insert} FORWARD -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED {tag} -j ACCEPT\n"
        "COMMIT\n"
    )


def _nft(bridge: str, subnet: str) -> str:
    return (
        f"table ip {bridge} {{ chain out {{ type nat hook postrouting priority srcnat; policy accept; "
        f'ip saddr {subnet} oifname != "{bridge}" masquerade; }} }}\n'
    )


def _run(argv: list[str], text: str) -> str:
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=_LIMIT_S)
    except subprocess.CalledProcessError as error:
        raise NatRefused(f"cannot run `{argv[0]}`: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NatRefused(f"cannot run `{argv[0]}`: {error}") from error
    return done.stdout
