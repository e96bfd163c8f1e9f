"""What the engine can be asked to make: immutable nodes whose digests are derived from what they say.

A *tree* node evaluates to a snapshot (a file tree). An `Exec` evaluates to a result with an exit
code, its output and several trees. Nothing here does anything; `solve` evaluates.

Being in the digest is the default; a field with `compare=False` is left out, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from pipeline.digest import Digest, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.engine.actions import Action
    from pipeline.engine.oci.source import LayerSource


class Node:
    """A base that derives the digest once, when the node is made, from its children's digests."""

    __slots__ = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of(self))  # type: ignore[arg-type]


def _digest() -> Digest:
    return field(init=False, compare=False, repr=False)  # type: ignore[no-any-return]


# ---- trees ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch(Node):
    """The empty tree."""

    digest: Digest = _digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned(Node):
    """A tree that is in the store already, named by its content digest."""

    content: Digest
    digest: Digest = _digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers(Node):
    """The root file system of an image: its layers' uncompressed digests, bottom first."""

    diff_ids: tuple[Digest, ...]
    source: LayerSource = field(compare=False, repr=False)  # where the blobs come from, not what
    digest: Digest = _digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit(Node):
    """`base` after one file action."""

    base: Tree
    action: Action
    digest: Digest = _digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Node):
    """What `upper` adds to or changes in `lower`; deletions are dropped."""

    lower: Tree
    upper: Tree
    digest: Digest = _digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecTree(Node):
    """A tree that an exec leaves behind: its root file system (`mount` is ""), or a writable mount."""

    exec: Exec
    mount: str = ""
    digest: Digest = _digest()


Tree = Scratch | Pinned | Layers | Edit | Difference | ExecTree


# ---- exec ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretHandle:
    """A secret as it stands in a key: by its handle, never by its value."""

    handle: str
    read: Callable[[], bytes] = field(compare=False, repr=False)  # the value, asked for at each use


KEPT: Final = "kept:"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheVolume:
    """A directory that outlives execs; its identity is all that a key knows of it.

    One whose `key` begins with `KEPT` holds what cannot be made again: no pruning takes it.
    """

    key: str
    namespace: str = "mainClient"
    source: Tree | None = None
    owner: str = ""
    mode: int | None = None  # of the directory itself when it is made; None: 0755, or as in `source`
    sharing: Literal["SHARED", "PRIVATE", "LOCKED"] = "SHARED"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeMount:
    """A tree mounted copy-on-write at `path`; `source_path` inside the tree may be a file."""

    path: str
    tree: Tree
    source_path: str = "/"
    is_file: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMount:
    """A cache volume mounted at `path`."""

    path: str
    volume: CacheVolume


@dataclass(frozen=True, slots=True, kw_only=True)
class TempMount:
    """A fresh tmpfs at `path`."""

    path: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretMount:
    """A secret as a file at `path`, on a private tmpfs, bound read-only."""

    path: str
    secret: SecretHandle
    owner: str = ""
    mode: int = 0o400


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketMount:
    """A Unix socket of the host, reachable at `path`."""

    path: str
    host_path: str
    owner: str = ""


Mount = TreeMount | CacheMount | TempMount | SecretMount | SocketMount


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBinding:
    """A service that must be healthy while an exec runs, reachable by `alias` and by its host name."""

    alias: str
    service: Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec(Node):
    """Run `argv` over `base` and keep what it changed."""

    base: Tree
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    secret_env: tuple[tuple[str, SecretHandle], ...] = ()
    volatile_names: tuple[str, ...] = ()
    volatile_env: tuple[tuple[str, str], ...] = field(default=(), compare=False)  # values never miss
    user: str = ""
    workdir: str = ""
    mounts: tuple[Mount, ...] = ()
    bindings: tuple[ServiceBinding, ...] = ()
    stdin: str = ""
    redirect_stdin: str = ""
    redirect_stdout: str = ""
    redirect_stderr: str = ""
    expect: Literal["SUCCESS", "FAILURE", "ANY"] = "SUCCESS"
    init: bool = True
    insecure: bool = False
    network: Literal["default", "none", "host"] = "default"
    platform: str = ""
    label: str = field(default="", compare=False)  # where it was written; begins the text of its failure
    digest: Digest = _digest()


# ---- services ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that a container exposes."""

    port: int
    protocol: Literal["TCP", "UDP"] = "TCP"
    description: str | None = None
    skip_healthcheck: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """A command that says whether a service is healthy; times in seconds, 0 where unset."""

    args: tuple[str, ...]
    shell: bool = False
    interval_s: float = 0.0
    timeout_s: float = 0.0
    start_period_s: float = 0.0
    start_interval_s: float = 0.0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PortForward:
    """A port of ours (`frontend`; 0 picks one) that leads to `backend`."""

    backend: int
    frontend: int = 0
    protocol: Literal["TCP", "UDP"] = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerService(Node):
    """A long-running command with the same inputs as an exec."""

    exec: Exec
    ports: tuple[Port, ...] = ()
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()  # the image's SHELL, for health checks in shell form
    host_name: str = ""  # set by withHostname; "" = derived from the digest
    digest: Digest = _digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostService(Node):
    """Ports of the host, reachable from containers under the service's name."""

    host: str
    ports: tuple[PortForward, ...]
    host_name: str = ""
    digest: Digest = _digest()


Service = ContainerService | HostService
