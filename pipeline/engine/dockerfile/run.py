"""RUN: the command line, the environment and the mounts of one exec."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, cast

from pipeline.engine import actions, ops
from pipeline.engine.dockerfile.expand import Quoting, expand_word
from pipeline.engine.dockerfile.lines import parse_heredoc
from pipeline.engine.dockerfile.look import find_sources
from pipeline.engine.files import SCRATCH, Directory
from pipeline.engine.paths import base_name, join

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine.container import Container
    from pipeline.engine.dockerfile.configure import Progress
    from pipeline.engine.dockerfile.instructions import Run, RunMount
    from pipeline.engine.dockerfile.session import Origin, Site

SECRETS_FOLDER: Final = "/run/secrets"
_SCRIPT_FOLDER: Final = "/run/heredoc"
_AGENT_SOCKET: Final = "/run/buildkit/ssh_agent.0"
_LABEL_LIMIT: Final = 200
_SIZE: Final = re.compile(r"(\d+)\s*([kmgt]?)i?b?\Z", re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


async def run(progress: Progress, instruction: Run, site: Site) -> Progress:
    """Return the stage after a RUN; of its mounts and ARGs nothing stays.

    Raises:
        DockerfileError: A required secret or socket is missing, or a mount does not fit.
        EngineError: A stage that is mounted failed.
    """
    argv, script = _command(progress, instruction)
    container = progress.container
    names = {name for name, _ in container.config.env}
    env = (*container.config.env, *(pair for pair in progress.args.items() if pair[0] not in names))
    inside = replace(container, config=replace(container.config, env=env))
    if script is not None:
        inside = inside.with_mounted_directory(_SCRIPT_FOLDER, script, read_only=True)
    for mount in instruction.mounts:
        expanded = _expanded(mount, progress.variables(), site.escape)
        inside = await _mounted(inside, expanded, instruction, site)
    known = {name for name, _ in env}
    node = replace(
        inside.exec_node(argv, insecure=instruction.insecure, no_init=site.no_init),
        network=instruction.network,
        # A proxy is how the network is reached, not what is built: no key knows of it.
        volatile_env=tuple(pair for pair in site.proxies if pair[0] not in known),
        label=label_of(site.file, instruction),
    )
    after = replace(container, rootfs=ops.ExecTree(exec=node), last_exec=node, image_ref="")
    return progress.with_container(after)


def label_of(file: str, instruction: Run) -> str:
    """Return where and what a RUN is, on one line."""
    text = " ".join(instruction.at.text.split())
    short = text if len(text) <= _LABEL_LIMIT else text[: _LABEL_LIMIT - 1] + "…"
    return f"{file} line {instruction.at.line}: {short}"


def _command(progress: Progress, instruction: Run) -> tuple[tuple[str, ...], Directory | None]:
    """Return the argument list, and the directory of a script that names its own interpreter."""
    command, documents = instruction.command, instruction.heredocs
    if not documents:
        return progress.shell_argv(command), None
    text = command.args[0]
    if parse_heredoc(text) is None:
        # More than the document alone: the shell reads it as it was written.
        whole = text + "".join(f"\n{document.raw}{document.name}" for document in documents)
        return progress.shell_argv(replace(command, args=(whole,))), None
    content = documents[0].content
    if not content.startswith("#!"):
        return progress.shell_argv(replace(command, args=(content,))), None
    name = base_name(join("/", documents[0].name)) or "script"
    data = content.encode("utf-8", "surrogateescape")
    tree = ops.Edit(base=SCRATCH, action=actions.WriteFile(path=f"/{name}", content=data, mode=0o755))
    path = join(_SCRIPT_FOLDER, name)
    return progress.shell_argv(replace(command, args=(path,))), Directory(tree=tree)


def _expanded(mount: RunMount, variables: Mapping[str, str], escape: str) -> RunMount:
    def expand(text: str) -> str:
        return expand_word(text, variables, Quoting(escape=escape)) if "$" in text else text

    return replace(
        mount,
        id=expand(mount.id),
        source=expand(mount.source),
        target=expand(mount.target),
        env=None if mount.env is None else expand(mount.env),
        mode=expand(mount.mode),
        uid=expand(mount.uid),
        gid=expand(mount.gid),
        size=expand(mount.size),
        sharing=expand(mount.sharing),
    )


async def _mounted(container: Container, mount: RunMount, instruction: Run, site: Site) -> Container:
    line = instruction.at.line
    match mount.type:
        case "bind":
            return await _bind(container, mount, line, site)
        case "cache":
            return await _cache(container, mount, line, site)
        case "tmpfs":
            return container.with_mounted_temp(mount.target, size=_size(mount.size, line, site))
        case "secret":
            return _secret(container, mount, line, site)
        case "ssh":
            return _agent(container, mount, line, site)


async def _bind(container: Container, mount: RunMount, line: int, site: Site) -> Container:
    """Mount files of the context, a stage or an image; what is written into them is dropped."""
    origin = await site.origin(mount.from_)
    tree, path, is_file = await _selected(origin, mount.source, line, site)
    made = ops.TreeMount(
        path=join(container.config.workdir, mount.target),
        tree=tree,
        source_path=path,
        is_file=is_file,
        read_only=mount.read_only is not False,
    )
    return replace(container, mounts=(*container.mounts, made))


async def _selected(origin: Origin, source: str, line: int, site: Site) -> tuple[ops.Tree, str, bool]:
    """Return the tree and path of a mount's source, and whether it is a file.

    Of the context and of stages only what is mounted is in the exec's key, so that a change beside
    it runs nothing again; an image does not change.
    """
    if join("/", source) == "/":
        return origin.tree, "/", False
    (found, *more) = await site.search(line, origin, lambda root: find_sources(root, source))
    if more:
        raise site.refuse(line, f"the mount source `{source}` means several paths")
    if origin.is_image:
        return origin.tree, found.path, not found.is_directory
    if found.is_directory:
        return Directory(tree=origin.tree, path=found.path).as_tree(), "/", False
    path = f"/{found.name}"
    alone = actions.Copy(source=origin.tree, source_path=found.path, path=path, kind="file", name=found.name)
    return ops.Edit(base=SCRATCH, action=alone), path, True


async def _cache(container: Container, mount: RunMount, line: int, site: Site) -> Container:
    target = join(container.config.workdir, mount.target)
    sharing = (mount.sharing or "shared").upper()
    if sharing not in ("SHARED", "PRIVATE", "LOCKED"):
        raise site.refuse(line, f"unsupported sharing value `{mount.sharing}`")
    seed: Directory | None = None
    if mount.from_:
        origin = await site.origin(mount.from_)
        tree, path, is_file = await _selected(origin, mount.source, line, site)
        if is_file:
            raise site.refuse(line, f"the cache source `{mount.source}` is no directory")
        seed = Directory(tree=tree, path=path)
    volume = ops.CacheVolume(
        key=mount.id or target,
        namespace="dockerfile",
        source=None if seed is None else seed.as_tree(),
        owner=_owner(mount, line, site),
        mode=_mode(mount, line, site),
        sharing=cast("Literal['SHARED', 'PRIVATE', 'LOCKED']", sharing),
    )
    return container.with_mounted_cache(target, volume)


def _secret(container: Container, mount: RunMount, line: int, site: Site) -> Container:
    name = mount.id or base_name(join("/", mount.target))
    if not name:
        raise site.refuse(line, "a secret mount needs an id or a target")
    handle = site.secrets.get(name)
    if handle is None:
        if mount.required:
            raise site.refuse(line, f"secret `{name}` is required and was not given")
        return container
    if mount.env:
        container = container.with_secret_variable(mount.env, handle)
    if mount.target or not mount.env:
        mode = _mode(mount, line, site)
        container = container.with_mounted_secret(
            mount.target or f"{SECRETS_FOLDER}/{name}",
            handle,
            owner=_owner(mount, line, site),
            mode=0o400 if mode is None else mode,
        )
    return container


def _agent(container: Container, mount: RunMount, line: int, site: Site) -> Container:
    """Forward the one agent socket a build has, whatever the mount's id."""
    if _mode(mount, line, site) not in (None, 0o600):
        raise site.refuse(line, f"mode {mount.mode} of an ssh mount is unsupported: it is 0600")
    if site.ssh is None:
        if mount.required:
            raise site.refuse(line, f"ssh agent `{mount.id or 'default'}` is required and was not given")
        return container
    path = mount.target or _AGENT_SOCKET
    forwarded = container.with_unix_socket(path, site.ssh, owner=_owner(mount, line, site))
    return forwarded.with_env_variable("SSH_AUTH_SOCK", join(container.config.workdir, path))


def _owner(mount: RunMount, line: int, site: Site) -> str:
    for text in (mount.uid, mount.gid):
        if text and not text.isdecimal():
            raise site.refuse(line, f"`{text}` is no user or group number")
    return f"{mount.uid or 0}:{mount.gid or 0}" if mount.uid or mount.gid else ""


def _mode(mount: RunMount, line: int, site: Site) -> int | None:
    if not mount.mode:
        return None
    try:
        return int(mount.mode, 8) & 0o7777
    except ValueError as error:
        raise site.refuse(line, f"`{mount.mode}` is no octal mode") from error


def _size(text: str, line: int, site: Site) -> int | None:
    if not text:
        return None
    match = _SIZE.match(text)
    if match is None:
        raise site.refuse(line, f"`{text}` is no size: write it as 64m or 1g")
    return int(match[1]) * _SIZE_UNITS[match[2].lower()]
