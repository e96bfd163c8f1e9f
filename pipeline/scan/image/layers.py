"""What lies in an image: the layers read one by one as streams, and the one view they make together.

Only what tells of packages or of unsafe modes is kept. Whiteouts, opaque folders, and files that take the
place of folders hide what lower layers have, whatever their order within a layer's file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pipeline.errors import PipelineError
from pipeline.scan.image.archive import Part, open_image
from pipeline.scan.image.compression import BlobBroken, unpacked
from pipeline.scan.image.interest import cache_of, interest_of, is_setuid, is_world_writable
from pipeline.scan.image.tar import TarBroken, read_entries
from pipeline.scan.packages.debian_copyright import LARGEST as LARGEST_COPYRIGHT
from pipeline.scan.packages.debian_copyright import licence_of_copyright
from pipeline.scan.packages.go_binary import find_build_info, read_go
from pipeline.scan.packages.installed_files import read_jar
from pipeline.scan.packages.reading import LockBroken
from pipeline.scan.scanner import Missed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import BinaryIO

    from pipeline.scan.image.archive import ImageConfig, LayerBlob
    from pipeline.scan.image.interest import Interest
    from pipeline.scan.image.tar import Body, Entry
    from pipeline.scan.packages.package import Package

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
ELF: Final = b"\x7fELF"
HEADS: Final = dict.fromkeys(("python", "origin", "os-release"), 64 * 1024)  # as much of these is read
MOST: Final[Mapping[str, int]] = {"node": 1024**2, "dpkg-files": 16 * 1024**2}  # larger ones are not read
BY_PATH: Final = ("dpkg", "apk", "rpm", "rpm-old")  # databases whose loss would hide all packages


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of an image is read; what is beyond is told as missed."""

    entries: int = 1_000_000  # of all layers
    bytes: int = 32 * 1024**3  # of all layers, unpacked
    kept_bytes: int = 256 * 1024**2  # of contents in memory
    kept_files: int = 200_000
    file_bytes: int = 64 * 1024**2  # of one content
    seconds: float = 600.0


class LimitReached(PipelineError):
    """An image is larger than is read."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot read the image further: {why}")
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A file of a layer that tells something."""

    path: str
    layer: int  # its number, the base is 0
    interest: Interest = ""
    data: bytes = field(default=b"", repr=False)
    packages: tuple[Package, ...] = ()  # of what is read at once: Java archives, Go programs
    mode: int = 0
    uid: int = 0
    size: int = 0
    is_setuid: bool = False
    is_world_writable: bool = False
    cache: str = ""  # the package manager it is a left-over of


@dataclass(slots=True, kw_only=True)
class LayerRead:
    """One layer: what it holds, and what of lower layers it hides."""

    diff_id: str
    held: dict[str, Held] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  # these paths, and nothing below them
    hidden: set[str] = field(default_factory=set)  # these paths and what is below: whiteouts, files
    opaque: set[str] = field(default_factory=set)  # what is below these folders
    missed: list[Missed] = field(default_factory=list)

    def hides(self, path: str) -> bool:
        """Whether a path of a lower layer is hidden by this one."""
        if path in self.gone or path in self.hidden:
            return True
        if not self.hidden and not self.opaque:
            return False
        return any(one in self.hidden or one in self.opaque for one in ancestors(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRead:
    """An image, as far as it was read."""

    config: ImageConfig
    layers: tuple[LayerRead, ...]
    missed: tuple[Missed, ...] = ()

    @property
    def files(self) -> dict[str, Held]:
        """What the layers show together, by path."""
        view: dict[str, Held] = {}
        for layer in self.layers:
            view = over(view, layer)
        return view


def over(view: Mapping[str, Held], layer: LayerRead) -> dict[str, Held]:
    """What is seen when a layer is laid over what is below it."""
    return {path: held for path, held in view.items() if not layer.hides(path)} | layer.held


def ancestors(path: str) -> Iterator[str]:
    """The folders a path lies in, the root ("") last."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def read_image(
    file: BinaryIO, limits: Limits | None = None, *, clock: Callable[[], float] = time.monotonic
) -> ImageRead:
    """Read an image's layers, base first; never more than the limits allow.

    Raises:
        ImageBroken: The archive is none, or is damaged outside its layers.
    """
    image = open_image(file)
    budget = Budget(limits or Limits(), clock)
    layers: list[LayerRead] = []
    view: dict[str, Held] = {}
    missed = [Missed(what=one, why="only the first platform of an index is read") for one in image.others]
    for number, blob in enumerate(image.layers):
        what = f"layer {number + 1} of {len(image.layers)}"
        layer = LayerRead(diff_id=blob.diff_id)
        try:
            LayerReader(layer, number, view, budget).read_from(file, blob)
        except LimitReached as error:
            missed.append(Missed(what=f"{what} and those above", why=error.why))
        except (TarBroken, BlobBroken) as error:
            missed.append(Missed(what=what, why=error.why))
        layers.append(layer)
        missed += layer.missed
        view = over(view, layer)
        if budget.is_spent:
            break
    return ImageRead(config=image.config, layers=tuple(layers), missed=tuple(missed))


class Budget:
    """Counts what is read, and says when it is enough."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.is_spent = False
        self._clock = clock
        self._began = clock()
        self._bytes = self._entries = self._kept = self._files = 0

    def unpack(self, size: int) -> None:
        """Count unpacked bytes, and look at the clock."""
        self._bytes += size
        if self._bytes > self.limits.bytes:
            self._end(f"its layers hold more than {self.limits.bytes // 1024**2} MiB")
        if self._clock() - self._began > self.limits.seconds:
            self._end(f"reading it takes longer than {self.limits.seconds:g} s")

    def enter(self) -> None:
        """Count an entry."""
        self._entries += 1
        if self._entries > self.limits.entries:
            self._end(f"its layers have more than {self.limits.entries} entries")

    def keep(self, size: int) -> None:
        """Count what is kept in memory."""
        self._kept += size
        self._files += 1
        if self._kept > self.limits.kept_bytes or self._files > self.limits.kept_files:
            self._end("it has more package data than is kept in memory")

    def _end(self, why: str) -> None:
        self.is_spent = True
        raise LimitReached(why)


class LayerReader:
    """Reads one layer over what the lower ones show."""

    def __init__(self, layer: LayerRead, number: int, below: Mapping[str, Held], budget: Budget) -> None:
        self._layer = layer
        self._number = number
        self._below = below
        self._folders = {folder for path in below for folder in ancestors(path)}
        self._budget = budget
        self._links: dict[str, list[Entry]] = {}  # by target: links to contents that were not kept

    def read_from(self, file: BinaryIO, blob: LayerBlob) -> None:
        """Read the layer; a second time where links name contents that were passed over.

        Raises:
            LimitReached: The image is larger than is read.
            TarBroken: The layer is damaged; what came before is there.
            BlobBroken: As well.
        """
        stream = unpacked(Part(file, blob.blob), self._budget.unpack)
        for entry, body in read_entries(stream):
            self._budget.enter()
            self._take(entry, body)
        if not self._links:
            return
        stream = unpacked(Part(file, blob.blob), self._budget.unpack)
        for entry, body in read_entries(stream):
            links = self._links.pop(entry.path, []) if entry.kind == "file" else []
            if links:
                self._keep(links[0], body, size=entry.size)
            for link in links[1:]:
                self._link(replace(link, target=links[0].path))
        for target, links in self._links.items():
            why = f"it is a link to `{target[:200]}`, which the layer does not have"
            self._layer.missed += [Missed(what=link.path, why=why) for link in links]

    def _take(self, entry: Entry, body: Body) -> None:
        if entry.is_outside:
            self._layer.missed.append(Missed(what=entry.path[:200], why="its path leads out of the image"))
            return
        folder, _, name = entry.path.rpartition("/")
        if name.startswith(WHITEOUT):
            self._white_out(folder, name)
            return
        self._layer.held.pop(entry.path, None)  # a path told twice: the later one counts
        if entry.kind == "folder":
            if entry.path in self._below:
                self._layer.gone.add(entry.path)
        elif entry.path in self._below or entry.path in self._folders:
            self._layer.hidden.add(entry.path)
        if entry.kind == "link":
            self._link(entry)
        elif entry.kind == "symlink":
            if interest_of(entry) in BY_PATH:
                why = f"it is a symbolic link to `{entry.target[:200]}`"
                self._layer.missed.append(Missed(what=entry.path, why=why))
        elif entry.kind != "other":
            self._keep(entry, body, size=entry.size)

    def _white_out(self, folder: str, name: str) -> None:
        if name == OPAQUE:
            if folder in self._folders:
                self._layer.opaque.add(folder)
            return
        bare = name.removeprefix(WHITEOUT)
        path = f"{folder}/{bare}" if folder else bare
        if bare and not bare.startswith(WHITEOUT) and (path in self._below or path in self._folders):
            self._layer.hidden.add(path)

    def _link(self, entry: Entry) -> None:
        """A hard link is the file it names; that comes before it in the layer."""
        target = self._layer.held.get(entry.target) or self._below.get(entry.target)
        interest = interest_of(entry)
        if target is not None and (target.interest == interest or interest in ("", "program")):
            self._budget.keep(0)
            self._layer.held[entry.path] = Held(
                path=entry.path,
                layer=self._number,
                **{name: getattr(target, name) for name in HELD_OF_CONTENT},
            )
        elif interest not in ("", "program"):
            self._budget.keep(0)
            self._links.setdefault(entry.target, []).append(entry)

    def _keep(self, entry: Entry, body: Body, *, size: int) -> None:
        interest = interest_of(entry) if entry.kind in ("file", "link") else ""
        marks = (is_setuid(entry), is_world_writable(entry), cache_of(entry.path) if size else "")
        data: bytes = b""
        packages: tuple[Package, ...] = ()
        if interest:
            read = self._content(entry, interest, body, size)
            if read is None:
                interest = ""
            else:
                data, packages = read
        if not interest and not any(marks):
            return
        self._budget.keep(len(data) + 200)
        self._layer.held[entry.path] = Held(
            path=entry.path,
            layer=self._number,
            interest=interest,
            data=data,
            packages=packages,
            mode=entry.mode,
            uid=entry.uid,
            size=size,
            is_setuid=marks[0],
            is_world_writable=marks[1],
            cache=marks[2],
        )

    def _content(
        self, entry: Entry, interest: Interest, body: Body, size: int
    ) -> tuple[bytes, tuple[Package, ...]] | None:
        """What is kept of a content; None where it tells nothing."""
        if interest == "program":
            return self._program(entry, body)
        if interest in HEADS:
            return body.read(HEADS[interest]), ()
        if interest == "rpm-old":
            return b"", ()
        if interest == "copyright":
            text = body.read(LARGEST_COPYRIGHT).decode("utf-8", "replace")
            return licence_of_copyright(text).encode(), ()
        most = min(self._budget.limits.file_bytes, MOST.get(interest, size))
        if size > most:
            why = f"it is larger than {most // 1024**2} MiB"
            self._layer.missed.append(Missed(what=entry.path, why=why))
            return None
        data = body.read(size)
        if interest != "jar":
            return data, ()
        try:
            return b"", tuple(read_jar(entry.path, data))
        except LockBroken as error:
            self._layer.missed.append(Missed(what=entry.path, why=error.why))
            return None

    def _program(self, entry: Entry, body: Body) -> tuple[bytes, tuple[Package, ...]] | None:
        """The modules of a Go program; None for others."""
        head = body.read(len(ELF))
        info = find_build_info(body, head) if head == ELF else None
        if info is None:
            return None
        packages = read_go(entry.path, info)
        if packages is None:
            why = "it is built by a Go older than 1.18, which says it in another form"
            self._layer.missed.append(Missed(what=entry.path, why=why))
            return None
        return b"", tuple(packages)


HELD_OF_CONTENT: Final[Sequence[str]] = (
    *("interest", "data", "packages", "mode", "uid", "size", "is_setuid", "is_world_writable", "cache"),
)
