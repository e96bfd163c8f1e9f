"""COPY and ADD: which files a source means, where they go, and the file actions that take them there."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pipeline.engine import actions, ops
from pipeline.engine.dockerfile.expand import Quoting, expand_document, expand_word
from pipeline.engine.dockerfile.instructions import Add, Copy, Heredoc
from pipeline.engine.dockerfile.look import Found, find_sources, is_excluded, require_match
from pipeline.engine.dockerfile.remote import GitSource, HttpSource, parse_remote
from pipeline.engine.files import SCRATCH, Directory, File
from pipeline.engine.modes import is_mode, parse_octal
from pipeline.engine.paths import join

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.engine.container import Container
    from pipeline.engine.dockerfile.configure import Progress
    from pipeline.engine.dockerfile.session import Origin, Site

_CHECKSUM: Final = re.compile(r"sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Orders:
    """A COPY or ADD with its variables expanded; `path` is absolute, `is_folder` when files go into it."""

    line: int
    keyword: str
    path: str
    is_folder: bool
    owner: str
    mode: int | None
    symbolic_mode: str
    exclude: tuple[str, ...]
    parents: bool
    link: bool  # nothing below is looked at: a link in the way is replaced
    checksum: str

    def into(self, name: str) -> str:
        """Return where a file of that name goes."""
        return join(self.path, name) if self.is_folder else self.path


async def transfer(progress: Progress, instruction: Copy | Add, site: Site) -> Progress:
    """Return the stage after a COPY or ADD.

    Raises:
        DockerfileError: A source is missing, or an option does not fit.
        EngineError: A download or another stage failed.
    """
    variables = progress.variables()
    quoting = Quoting(escape=site.escape)
    sources = [
        _document(source, variables, site.escape)
        if isinstance(source, Heredoc)
        else expand_word(source, variables, quoting)
        for source in instruction.sources
    ]
    site.budget.take(sum(len(each if isinstance(each, str) else each.content) for each in sources))
    orders = _orders(progress, instruction, variables, site)
    if orders.checksum:
        _check_checksum(orders, sources, site)
    origin = await site.origin(instruction.from_ if isinstance(instruction, Copy) else "")
    container = progress.container
    for source in sources:
        remote = parse_remote(source) if isinstance(source, str) and isinstance(instruction, Add) else None
        if isinstance(source, Heredoc):
            container = _place(
                container,
                _written(source),
                Found(path=f"/{source.name}", name=source.name, is_directory=False),
                orders,
            )
        elif remote is not None and isinstance(instruction, Add):
            container = await _fetch(container, remote, instruction, orders, site)
        elif orders.parents:
            container = await _with_parents(container, source, origin, orders, site)
        else:
            unpack = isinstance(instruction, Add) and instruction.unpack is not False
            container = await _from_tree(container, source, origin, orders, site, unpack=unpack)
    return progress.with_container(container)


def _orders(progress: Progress, instruction: Copy | Add, variables: dict[str, str], site: Site) -> _Orders:
    quoting = Quoting(escape=site.escape)
    keyword = type(instruction).__name__.upper()
    destination = expand_word(instruction.destination, variables, quoting)
    is_folder = destination.endswith(("/", "/.")) or destination in (".", "")
    if len(instruction.sources) > 1 and not is_folder:
        raise _not_a_folder(site, instruction.at.line, keyword)
    chmod = expand_word(instruction.chmod, variables, quoting)
    if chmod and not is_mode(chmod):
        raise site.refuse(instruction.at.line, f"`{chmod}` is no mode: write it as 0755 or as u=rwx,go=rx")
    mode = parse_octal(chmod) if chmod else None
    return _Orders(
        line=instruction.at.line,
        keyword=keyword,
        path=join(progress.container.config.workdir, destination),
        is_folder=is_folder,
        owner=expand_word(instruction.chown, variables, quoting),
        mode=mode,
        symbolic_mode=chmod if mode is None else "",
        exclude=tuple(expand_word(each, variables, quoting) for each in instruction.exclude),
        parents=instruction.parents,
        link=instruction.link,
        checksum=expand_word(instruction.checksum, variables, quoting)
        if isinstance(instruction, Add)
        else "",
    )


def _not_a_folder(site: Site, line: int, keyword: str) -> Exception:
    return site.refuse(
        line,
        f"when using {keyword} with more than one source file,"
        " the destination must be a directory and end with a /",
    )


def _document(source: Heredoc, variables: dict[str, str], escape: str) -> Heredoc:
    if not source.expand:
        return source
    return replace(source, content=expand_document(source.content, variables, escape))


def _written(source: Heredoc) -> ops.Tree:
    content = source.content.encode("utf-8", "surrogateescape")
    return ops.Edit(base=SCRATCH, action=actions.WriteFile(path=f"/{source.name}", content=content))


async def _from_tree(
    container: Container, source: str, origin: Origin, orders: _Orders, site: Site, *, unpack: bool
) -> Container:
    """Copy what a path or wildcard means; with `unpack`, archives are unpacked."""

    def find(root: Path) -> tuple[Found, ...]:
        return find_sources(root, source, archives=unpack)

    found = await site.search(orders.line, origin, find)
    files = [each for each in found if not each.is_directory and not each.is_archive]
    if len(files) > 1 and not orders.is_folder:
        raise _not_a_folder(site, orders.line, orders.keyword)
    for each in found:
        if each.is_archive:
            container = _unpacked(container, origin.tree, each, orders)
        else:
            container = _place(container, origin.tree, each, orders)
    return container


def _place(container: Container, tree: ops.Tree, found: Found, orders: _Orders) -> Container:
    """Copy one file, or the contents of one directory."""
    if found.is_directory:
        action = actions.Copy(
            source=tree,
            source_path=found.path,
            path=orders.path,
            filters=actions.Filters(exclude=orders.exclude),
            owner=orders.owner,
            mode=orders.mode,
            symbolic_mode=orders.symbolic_mode,
            replace_links=orders.link,
        )
        return container.edit(action.path, action)
    if is_excluded(found.name, orders.exclude):
        return container
    action = actions.Copy(
        source=tree,
        source_path=found.path,
        path=orders.into(found.name),
        kind="file",
        into=not orders.is_folder,
        name=found.name,
        owner=orders.owner,
        mode=orders.mode,
        symbolic_mode=orders.symbolic_mode,
        replace_links=orders.link,
    )
    return container.edit(action.path, action)


def _unpacked(container: Container, tree: ops.Tree, found: Found, orders: _Orders) -> Container:
    """Unpack an archive into the destination, keyed by the archive and not by all that lies beside it."""
    path = f"/{found.name}"
    alone = ops.Edit(
        base=SCRATCH,
        action=actions.Copy(source=tree, source_path=found.path, path=path, kind="file", name=found.name),
    )
    action = actions.Unpack(
        source=alone, source_path=path, path=orders.path, owner=orders.owner, replace_links=orders.link
    )
    return container.edit(orders.path, action)


async def _with_parents(
    container: Container, source: str, origin: Origin, orders: _Orders, site: Site
) -> Container:
    """Copy a source together with its directories; those before a `/./` are left out."""
    above, pivot, rest = source.rpartition("/./")
    start = join("/", above) if pivot else "/"
    pattern = join("/", rest).lstrip("/")
    await site.search(orders.line, origin, lambda root: require_match(root, pattern, start, orders.exclude))
    action = actions.Copy(
        source=origin.tree,
        source_path=start,
        path=orders.path,
        filters=actions.Filters(include=(pattern,) if pattern else (), exclude=orders.exclude),
        owner=orders.owner,
        mode=orders.mode,
        symbolic_mode=orders.symbolic_mode,
        replace_links=orders.link,
    )
    return container.edit(action.path, action)


async def _fetch(
    container: Container,
    remote: HttpSource | GitSource,
    instruction: Add,
    orders: _Orders,
    site: Site,
) -> Container:
    """Place a download, or the files of a repository."""
    if isinstance(remote, GitSource):
        wanted = replace(remote, keep_git_dir=remote.keep_git_dir or instruction.keep_git_dir)
        directory: Directory = await site.session.git_directory(
            replace(wanted, commit=orders.checksum or wanted.commit)
        )
        found = Found(path=directory.path, name="", is_directory=True)
        return _place(container, directory.tree, found, orders)
    file: File = await site.session.http_file(remote.url, checksum=orders.checksum)
    found = Found(path=file.path, name=remote.name, is_directory=False)
    if instruction.unpack:
        return _unpacked(container, file.tree, found, orders)
    return _place(container, file.tree, found, orders)


def _check_checksum(orders: _Orders, sources: list[str | Heredoc], site: Site) -> None:
    source = sources[0]
    remote = parse_remote(source) if isinstance(source, str) else None
    if len(sources) > 1 or remote is None:
        raise site.refuse(orders.line, "--checksum needs exactly one source, a download or a repository")
    if isinstance(remote, HttpSource) and not _CHECKSUM.match(orders.checksum):
        raise site.refuse(orders.line, f"`{orders.checksum}` is no checksum: write it as sha256:…")
