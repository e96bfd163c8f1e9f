"""What the code of a stage is, for its key: the function and everything of its own package that it uses.

Compiled code is digested, so comments and layout do not count. Functions, classes and constants are
followed from name to name; modules that are imported (also inside functions) count as whole files, with
what they import.
"""

from __future__ import annotations

import dis
import hashlib
import os
import re
import sys
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from pipeline.graph.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache, partial

_IMPORT: Final = re.compile(
    r"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)|import[ \t]+([\w., \t]+))",
    re.MULTILINE,
)
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None), complex, range, slice})
_TELLING_MODULES: Final = frozenset({"datetime", "decimal", "fractions", "pathlib", "uuid", "ipaddress"})
_DESCRIPTORS: Final = (MemberDescriptorType, GetSetDescriptorType, property)
_IMPORT_NAME: Final = dis.opmap["IMPORT_NAME"]
# Our own version is a part of every key, so the machinery below the stages need not be followed.
_COVERED_BY_VERSION: Final = ("pipeline.graph", "pipeline.errors", "pipeline.digest", "pipeline.testing")


def code_of(function: Callable[..., Any]) -> dict[str, str]:
    """Digests by what they are of: `module:function`, `module:Class` or a file's path; sorted.

    The stages that come with us change only together, with our version: they are told by their files.
    """
    if str(function.__module__).startswith("pipeline.stages."):
        return dict(_built_in())
    walk = _Walk(function)
    walk.follow(function)
    return dict(sorted(walk.found.items()))


@lru_cache(maxsize=1)
def _built_in() -> dict[str, str]:
    """Digests of the source files that our own stages are made of."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = [os.path.join(package, name) for name in ("coverage.py", "junit.py", "text.py")]
    for room in ("stages", "detect"):
        folder = os.path.join(package, room)
        paths += [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".py")]
    found = {}
    for path in sorted(paths):
        with open(path, "rb") as stream:
            name = os.path.relpath(path, os.path.dirname(package))
            found[name] = hashlib.sha256(stream.read()).hexdigest()
    return found


class _Walk:
    """One pass from a stage's function over all it uses inside its own package or folder."""

    def __init__(self, function: Callable[..., Any]) -> None:
        module = str(function.__module__)
        self.top = module.partition(".")[0]
        self.found: dict[str, str] = {}
        self._open: set[int] = set()  # objects whose content is being told
        package = sys.modules.get(self.top)
        paths = list(getattr(package, "__path__", []))
        if paths and "." in module:
            self.root, self.prefix = os.path.dirname(os.path.abspath(paths[0])), self.top
        else:
            # A lone file: its neighbours are what it may import.
            self.root, self.prefix = os.path.dirname(os.path.abspath(function.__code__.co_filename)), ""

    def inside(self, module: str) -> bool:
        """Whether a module belongs to the stage's own code."""
        if module.startswith(_COVERED_BY_VERSION):
            return False
        if module.partition(".")[0] == self.top:
            return True
        return not self.prefix and self.file_of(module) is not None

    def file_of(self, module: str) -> str | None:
        """The source file of a module below the root, or None."""
        if self.prefix and module != self.prefix and not module.startswith(self.prefix + "."):
            return None
        base = os.path.join(self.root, *module.split("."))
        for path in (base + ".py", os.path.join(base, "__init__.py")):
            if os.path.isfile(path):
                return path
        return None

    def follow(self, value: object, name: str = "") -> str:
        """Note what `value` is made of; give what it adds to the digest of the code that uses it."""
        if isinstance(value, Stage):
            value = value.function
        value = getattr(value, "__wrapped__", value) if isinstance(value, FunctionType) else value
        if isinstance(value, ModuleType):
            if self.inside(value.__name__):
                self.module(value.__name__)
            return ""
        if isinstance(value, (FunctionType, type)):
            if self.inside(str(value.__module__)):
                self.define(value)
            return ""
        return f"{name}={self.text(value)};"

    def text(self, value: object) -> str:
        """A text for any value: its content where it is known how to tell, else its type."""
        plain = _constant(value)
        if plain is not None:
            return plain
        if isinstance(value, (Stage, ModuleType, FunctionType, type)):
            return self.follow(value) or getattr(value, "__qualname__", type(value).__qualname__)
        if id(value) in self._open:
            return "…"  # it holds itself
        self._open.add(id(value))
        try:
            return type(value).__qualname__ + self.content(value)
        finally:
            self._open.discard(id(value))

    def content(self, value: object) -> str:
        """What a container, or an object of the stage's own code, holds."""
        if isinstance(value, (tuple, list)):
            return repr([self.text(item) for item in value])
        if isinstance(value, (set, frozenset)):
            return repr(sorted(self.text(item) for item in value))
        if isinstance(value, Mapping):
            return repr([(self.text(key), self.text(item)) for key, item in value.items()])
        if isinstance(value, partial):
            return self.text((value.func, value.args, value.keywords))
        if not self.inside(str(type(value).__module__)):
            return ""
        self.define(type(value))
        names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        held = {name: getattr(value, name) for name in names if hasattr(value, name)}
        return self.text({**held, **getattr(value, "__dict__", {})})

    def define(self, value: FunctionType | type) -> None:
        """Note the digest of a function or class under its own name."""
        label = f"{value.__module__}:{value.__qualname__}"
        if label in self.found:
            return
        self.found[label] = ""  # a name for itself, so that recursion ends
        parts = self.function(value) if isinstance(value, FunctionType) else self.klass(value)
        self.found[label] = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def function(self, function: FunctionType) -> Iterator[str]:
        """Everything that makes a function behave as it does."""
        yield _code_text(function.__code__)
        yield self.follow(function.__defaults__, "defaults") + self.follow(
            function.__kwdefaults__, "keywords"
        )
        for name in sorted(_names(function.__code__)):
            if name in function.__globals__:
                yield self.follow(function.__globals__[name], name)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # a variable that has no value yet
                yield self.follow(cell.cell_contents, name)
        for name in _imports(function.__code__, str(function.__globals__.get("__package__") or "")):
            if self.inside(name):
                self.module(name)

    def klass(self, value: type) -> Iterator[str]:
        """Everything a class defines itself."""
        for base in value.__bases__:
            yield base.__qualname__ + self.follow(base)
        for name, item in sorted(vars(value).items()):
            inner = getattr(item, "__func__", None) or getattr(item, "fget", None) or item
            inner = getattr(inner, "__wrapped__", inner) if isinstance(inner, FunctionType) else inner
            if name in {"__module__", "__dict__", "__weakref__", "__doc__", "__firstlineno__"}:
                continue
            if name == "__annotations__":
                yield repr(sorted((key, str(kind)) for key, kind in item.items()))
            elif isinstance(inner, FunctionType):
                if not inner.__code__.co_filename.startswith("<"):  # generated ones follow from the fields
                    yield name
                    yield from self.function(inner)
            elif not isinstance(inner, _DESCRIPTORS):
                yield self.follow(inner, name)

    def module(self, name: str) -> None:
        """Note a module's file, and those of the modules it imports from the same place."""
        path = self.file_of(name)
        if path is None or (label := os.path.relpath(path, self.root)) in self.found:
            return
        with open(path, "rb") as stream:
            data = stream.read()
        self.found[label] = hashlib.sha256(data).hexdigest()
        package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
        for source, names, plain in _IMPORT.findall(data.decode("utf-8", "replace")):
            for imported in _imported(source, names, plain, package):
                if self.inside(imported):
                    self.module(imported)


def _imported(source: str, names: str, plain: str, package: str) -> Iterator[str]:
    if plain:
        yield from (part.split()[0] for part in plain.split(",") if part.split())
        return
    base = _absolute(source, package)
    yield base
    for part in names.strip("()").replace("\n", " ").split(","):
        word = part.split()[:1]
        if word and word[0].isidentifier():
            yield f"{base}.{word[0]}" if base else word[0]


def _absolute(source: str, package: str) -> str:
    level = len(source) - len(source.lstrip("."))
    if not level:
        return source
    parts = package.split(".")
    above = parts[: len(parts) - (level - 1)]
    return ".".join([*above, source[level:]]).strip(".")


@lru_cache(maxsize=4096)
def _imports(code: CodeType, package: str) -> tuple[str, ...]:
    """Modules that `code` imports while it runs, and their names that may be modules themselves."""
    return tuple(_find_imports(code, package))


def _find_imports(code: CodeType, package: str) -> Iterator[str]:
    for one in _codes(code):
        if _IMPORT_NAME not in one.co_code[::2]:
            continue
        steps = list(dis.get_instructions(one))
        base = ""
        for index, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                level = int(steps[index - 2].argval or 0)
                base = _absolute("." * level + str(step.argval), package)
                yield base
            elif step.opname == "IMPORT_FROM":
                yield f"{base}.{step.argval}"


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _names(code: CodeType) -> set[str]:
    return {name for one in _codes(code) for name in one.co_names}


def _code_text(code: CodeType) -> str:
    """The behaviour of compiled code: without names of files, line numbers and docstrings' places."""
    constants = [_code_text(c) if isinstance(c, CodeType) else _constant(c) for c in code.co_consts]
    shape = (code.co_argcount, code.co_kwonlyargcount, code.co_flags, code.co_varnames, code.co_freevars)
    return repr((code.co_code.hex(), code.co_names, shape, constants))


def _constant(value: object) -> str | None:
    """A text for plain values and containers of them, the same in every process; else None."""
    kind = type(value)
    if kind in _PLAIN or value is Ellipsis or kind.__module__ in _TELLING_MODULES:
        return repr(value)
    if isinstance(value, re.Pattern):
        return f"{value.pattern!r}/{value.flags}"
    if kind is tuple or kind is frozenset:
        inner = [_constant(item) for item in value]  # type: ignore[attr-defined]  # both iterate
        if None in inner:
            return None
        return kind.__name__ + repr(inner if kind is tuple else sorted(map(str, inner)))
    return None
