"""The OCI runtime specification of an exec: what the launcher does itself, written down for `runc`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.engine.runtime.spec import ExecSpec

# In the order of their numbers.
_EVERY: Final = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
    " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT"
    " SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE"
    " AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
    " PERFMON BPF CHECKPOINT_RESTORE"
)
KEPT: Final = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip
MASKED: Final = [
    *(f"/proc/{name}" for name in ["acpi", "asound", "kcore", "keys", "latency_stats", "timer_list"]),
    *(f"/proc/{name}" for name in ["timer_stats", "sched_debug", "scsi"]),
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
READ_ONLY: Final = [f"/proc/{name}" for name in ["bus", "fs", "irq", "sys", "sysrq-trigger"]]
_DENIED: Final = [
    "_sysctl",
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_settime",
    "clock_settime64",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "get_mempolicy",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mbind",
    "migrate_pages",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "set_mempolicy",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "sysfs",
    "syslog",
    "umount",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "ustat",
    "vhangup",
    "vm86",
    "vm86old",
]
_ARCHITECTURES: Final = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}
_NEW_NAMESPACES: Final = 0x7E020000
_AF_VSOCK: Final = 40
_EPERM: Final = 1
_ENOSYS: Final = 38


def process_of(spec: ExecSpec, argv: Sequence[str]) -> dict[str, Any]:
    """Return the `process` object: who runs what, and with which rights."""
    kept = _own_capabilities() if spec.insecure else list(KEPT)
    names = [f"CAP_{name}" for name in kept]
    return {
        "terminal": False,
        "user": {"uid": spec.uid, "gid": spec.gid, "umask": 0o22, "additionalGids": list(spec.groups)},
        "args": list(argv),
        "env": [f"{name}={value}" for name, value in spec.env],
        "cwd": spec.cwd or "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), names),
        "noNewPrivileges": False,
    }


def _own_capabilities() -> list[str]:
    """Return the capabilities that this process may pass on at all."""
    status = Path("/proc/self/status").read_text()
    bits = int(status.partition("CapBnd:")[2].split()[0], 16)
    return [name for number, name in enumerate(_EVERY.split()) if bits >> number & 1]


def runc_spec(spec: ExecSpec, argv: Sequence[str], rootfs: Path, gate: Path | None) -> dict[str, Any]:
    """Return the whole specification.

    Args:
        argv: The command, behind an init or not.
        rootfs: The merged root, with every mount of the spec made in it already.
        gate: A FIFO that holds the command back until it has been written to; None for no wait.
    """
    whole: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": process_of(spec, argv),
        "root": {"path": os.fspath(rootfs)},
        "hostname": spec.hostname,
        "mounts": _mounts(spec),
        "linux": _linux(spec),
    }
    if gate is not None:
        state = os.fspath(gate.with_name("state"))
        script = f"cat > {state}.new && mv {state}.new {state} && cat {os.fspath(gate)} > /dev/null"
        whole["hooks"] = {"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    return whole


def _mounts(spec: ExecSpec) -> list[dict[str, Any]]:
    plain = ["nosuid", "noexec", "nodev"]
    shown = "rw" if spec.insecure else "ro"
    listed = [
        ("/proc", "proc", plain),
        ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/dev/shm", "tmpfs", [*plain, "mode=1777", "size=65536k"]),  # noqa: S108 - the container's own
        ("/dev/mqueue", "mqueue", plain),
        ("/sys", "sysfs", [*plain, shown]),
    ]
    return [
        {"destination": target, "type": kind, "source": kind, "options": options}
        for target, kind, options in listed
    ]


def _linux(spec: ExecSpec) -> dict[str, Any]:
    namespaces: list[dict[str, str]] = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
    if spec.network_namespace is not None:
        # `runc` opens the path itself, and it has descriptors of its own.
        namespaces.append({"type": "network", "path": os.fspath(spec.network_namespace)})
    elif not spec.host_network:
        namespaces.append({"type": "network"})
    linux: dict[str, Any] = {"namespaces": namespaces}
    if spec.insecure:
        linux["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
        return linux
    linux |= {"maskedPaths": MASKED, "readonlyPaths": READ_ONLY, "seccomp": _seccomp()}
    return linux


def _seccomp() -> dict[str, Any]:
    def denied(names: list[str], code: int, **more: Any) -> dict[str, Any]:
        return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": code, **more}

    def argument(value: int, op: str, **more: int) -> list[dict[str, Any]]:
        return [{"index": 0, "value": value, "op": op, **more}]

    # A masked comparison cannot say "any of these bits", so each bit has a rule.
    bits = [1 << bit for bit in range(32) if _NEW_NAMESPACES >> bit & 1]
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": _ARCHITECTURES.get(os.uname().machine, []),
        "syscalls": [
            denied(_DENIED, _EPERM),
            denied(["clone3"], _ENOSYS),
            denied(["socket"], _EPERM, args=argument(_AF_VSOCK, "SCMP_CMP_EQ")),
            *(
                denied(["clone"], _EPERM, args=argument(bit, "SCMP_CMP_MASKED_EQ", valueTwo=bit))
                for bit in bits
            ),
        ],
    }
