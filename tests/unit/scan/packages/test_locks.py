"""What lock files name is read as their tools write it; one that cannot be read is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.scan.packages.found import find_locks
from pipeline.scan.packages.locks import read_locks
from pipeline.scan.packages.package import Package

UV = """
version = 1
[[package]]
name = "app"
version = "0.1.0"
source = { editable = "." }
dependencies = [{ name = "jinja2" }]
[package.dev-dependencies]
dev = [{ name = "pytest" }]
[[package]]
name = "jinja2"
version = "2.10"
source = { registry = "https://pypi.org/simple" }
dependencies = [{ name = "markupsafe" }]
sdist = { url = "https://x/j.tar.gz", hash = "sha256:aa", upload-time = "2018-11-08T13:44:44.000Z" }
[[package]]
name = "markupsafe"
version = "3.0.4"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "pytest"
version = "8.3.0"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "ours"
version = "1.0"
source = { git = "https://example.org/ours.git?rev=1" }
"""

POETRY = """
[[package]]
name = "Jinja2"
version = "2.10"
groups = ["main"]
files = [{ file = "j.whl", hash = "sha256:aa" }]
[[package]]
name = "pytest"
version = "8.3.0"
groups = ["dev"]
[[package]]
name = "old-style"
version = "1.0"
category = "dev"
[[package]]
name = "ours"
version = "1.0"
groups = ["main", "dev"]
[package.source]
type = "git"
url = "https://example.org/ours.git"
"""

PDM = """
[[package]]
name = "jinja2"
version = "2.10"
groups = ["default", "test"]
[[package]]
name = "jinja2"
version = "2.10"
extras = ["i18n"]
groups = ["default"]
[[package]]
name = "pytest"
version = "8.3.0"
groups = ["test"]
"""

PYLOCK = """
lock-version = "1.0"
created-by = "x"
[[packages]]
name = "jinja2"
version = "2.10"
wheels = [{ name = "j.whl", upload-time = 2018-11-08T13:44:44Z, hashes = { sha256 = "aa" } }]
[[packages]]
name = "ours"
[packages.vcs]
type = "git"
[[packages]]
name = "app"
[packages.directory]
path = "."
"""

REQUIREMENTS = """\
# what we need
--index-url https://example.org/simple
-r other.txt
Jinja2==2.10 ; python_version >= "3.8"  # pinned
idna[all] == 3.7 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
requests>=2
star==2.*
urllib3 @ https://example.org/urllib3.whl
-e .
-e git+https://example.org/ours.git#egg=ours
./local
exact===1.0.post1
"""

YARN = """\
# yarn lockfile v1


"@babel/core@^7.0.0", "@babel/core@^7.1.0":
  version "7.2.0"
  resolved "https://registry.yarnpkg.com/@babel/core/-/core-7.2.0.tgz#aa"
  dependencies:
    lodash "^4.17.10"

lodash@^4.17.10:
  version "4.17.4"
  resolved "https://registry.yarnpkg.com/lodash/-/lodash-4.17.4.tgz#bb"

"renamed@npm:left-pad@1":
  version "1.0.0"
  resolved "https://registry.yarnpkg.com/left-pad/-/left-pad-1.0.0.tgz#cc"

"ours@git+https://example.org/ours.git":
  version "0.1.0"
  resolved "git+https://example.org/ours.git#dd"
"""

BERRY = """\
__metadata:
  version: 8
"app@workspace:.":
  version: 0.0.0-use.local
  resolution: "app@workspace:."
"@babel/core@npm:^7.0.0":
  version: 7.2.0
  resolution: "@babel/core@npm:7.2.0"
"ours@https://example.org/ours.git":
  version: 0.1.0
  resolution: "ours@https://example.org/ours.git#commit=aa"
"""

PNPM9 = """\
lockfileVersion: '9.0'
importers:
  .:
    dependencies:
      lodash: { specifier: ^4.17.0, version: 4.17.4 }
    devDependencies:
      '@babel/core': { specifier: ^7.0.0, version: 7.2.0(x@1) }
packages:
  lodash@4.17.4: { resolution: { integrity: sha512-aa } }
  '@babel/core@7.2.0': { resolution: { integrity: sha512-bb } }
snapshots:
  lodash@4.17.4: {}
"""

PNPM5 = """\
lockfileVersion: 5.4
dependencies: { lodash: 4.17.4 }
packages:
  /lodash/4.17.4: { dev: false }
  /@babel/core/7.2.0_x@1.0.0: { dev: true }
"""

GO = """\
module example.org/app // ours

go 1.21

toolchain go1.21.5

require golang.org/x/text v0.3.0
require (
	golang.org/x/net v0.0.0-20210921155107-089bfa567519 // indirect
	example.org/a v1.2.3
	example.org/b v2.0.0+incompatible
)

replace example.org/a => example.org/fork v1.2.4
replace (
	example.org/b v2.0.0+incompatible => ../b
)
exclude golang.org/x/net v0.1.0
"""

CARGO = """\
version = 3
[[package]]
name = "app"
version = "0.1.0"
dependencies = ["time 0.1.42", "ours"]
[[package]]
name = "time"
version = "0.1.42"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "aa"
[[package]]
name = "libc"
version = "0.2.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
[[package]]
name = "ours"
version = "0.2.0"
source = "git+https://example.org/ours#bb"
"""

GEMFILE = """\
GIT
  remote: https://example.org/ours.git
  revision: aa
  specs:
    ours (0.1.0)

GEM
  remote: https://rubygems.org/
  specs:
    nokogiri (1.13.10-x86_64-linux)
      racc (~> 1.4)
    nokogiri (1.13.10)
    racc (1.6.2)
    rails (7.0.0.rc1)

PLATFORMS
  x86_64-linux

DEPENDENCIES
  nokogiri (~> 1.13)
  ours!

BUNDLED WITH
   2.3.26
"""

COMPOSER = {
    "packages": [{"name": "symfony/http-kernel", "version": "v4.0.0", "time": "2017-11-30T00:00:00+00:00"}],
    "packages-dev": [
        {"name": "a/b", "version": "dev-main", "license": ["MIT", "GPL-2.0"]},
        {"name": "our/c", "version": "1.0.0", "dist": {"type": "path"}},
    ],
}

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <groupId>org.ours</groupId><artifactId>app</artifactId><version>1.2</version>
  <properties><log4j.version>2.14.1</log4j.version></properties>
  <dependencyManagement><dependencies>
    <dependency><groupId>a</groupId><artifactId>managed</artifactId><version>3.0</version></dependency>
  </dependencies></dependencyManagement>
  <dependencies>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId>
      <version>${log4j.version}</version>
    </dependency>
    <dependency><groupId>a</groupId><artifactId>managed</artifactId></dependency>
    <dependency><groupId>${project.groupId}</groupId><artifactId>x</artifactId>
      <version>${elsewhere}</version><scope>test</scope></dependency>
  </dependencies>
</project>
"""

NPM = {
    "lockfileVersion": 3,
    "packages": {
        "": {"dependencies": {"lodash": "^4"}, "devDependencies": {"jest": "1"}},
        "packages/own": {"version": "1.0.0"},
        "node_modules/own": {"resolved": "packages/own", "link": True},
        "node_modules/lodash": {"version": "4.17.4", "integrity": "sha512-aa"},
        "node_modules/jest": {"version": "1.0.0", "dev": True},
        "node_modules/jest/node_modules/@a/b": {"version": "2.0.0", "dev": True},
        "node_modules/alias": {"name": "left-pad", "version": "1.0.0"},
        "node_modules/ours": {"version": "0.1.0", "resolved": "git+ssh://git@example.org/ours.git#aa"},
    },
}

OLD_NPM = {
    "lockfileVersion": 1,
    "dependencies": {
        "lodash": {"version": "4.17.4"},
        "a": {"version": "1.0.0", "dev": True, "dependencies": {"lodash": {"version": "3.0.0"}}},
        "alias": {"version": "npm:left-pad@1.0.0"},
        "ours": {"version": "git+https://example.org/ours.git#aa"},
    },
}

PIPFILE = {
    "default": {"jinja2": {"version": "==2.10", "index": "pypi", "hashes": ["sha256:aa"]}},
    "develop": {"pytest": {"version": "==8.3.0"}, "app": {"editable": True, "path": "."}},
}

Row = tuple[Any, ...]

# Each: the file, its text, and of each package the name, version, direct, dev and why it is private.
READ: dict[str, tuple[str, list[Row]]] = {
    "uv.lock": (
        UV,
        [
            ("jinja2", "2.10", True, False, ""),
            ("markupsafe", "3.0.4", False, False, ""),
            ("pytest", "8.3.0", True, True, ""),
            ("ours", "1.0", False, True, "a git repository"),
        ],
    ),
    "poetry.lock": (
        POETRY,
        [
            ("Jinja2", "2.10", None, False, ""),
            ("pytest", "8.3.0", None, True, ""),
            ("old-style", "1.0", None, True, ""),
            ("ours", "1.0", None, False, "a git repository"),
        ],
    ),
    "pdm.lock": (PDM, [("jinja2", "2.10", None, False, ""), ("pytest", "8.3.0", None, True, "")]),
    "Pipfile.lock": (
        json.dumps(PIPFILE),
        [("jinja2", "2.10", True, False, ""), ("pytest", "8.3.0", None, True, "")],
    ),
    "pylock.dev.toml": (
        PYLOCK,
        [("jinja2", "2.10", None, False, ""), ("ours", "", None, False, "a git repository")],
    ),
    "requirements.txt": (
        REQUIREMENTS,
        [
            ("Jinja2", "2.10", None, False, ""),
            ("idna", "3.7", None, False, ""),
            ("requests", "", None, False, ""),
            ("star", "", None, False, ""),
            ("urllib3", "", None, False, "a repository or an address"),
            ("ours", "", None, False, "a repository or an address"),
            ("./local", "", None, False, "a folder or file"),
            ("exact", "1.0.post1", None, False, ""),
        ],
    ),
    "requirements/dev.txt": ("a==1\n", [("a", "1", True, True, "")]),
    "package-lock.json": (
        json.dumps(NPM),
        [
            ("lodash", "4.17.4", True, False, ""),
            ("jest", "1.0.0", True, True, ""),
            ("@a/b", "2.0.0", False, True, ""),
            ("left-pad", "1.0.0", False, False, ""),
            ("ours", "0.1.0", False, False, "a git repository"),
        ],
    ),
    "npm-shrinkwrap.json": (
        json.dumps(OLD_NPM),
        [
            ("lodash", "4.17.4", None, False, ""),
            ("a", "1.0.0", None, True, ""),
            ("lodash", "3.0.0", None, False, ""),
            ("left-pad", "1.0.0", None, False, ""),
            ("ours", "", None, False, "a git repository"),
        ],
    ),
    "yarn.lock": (
        YARN,
        [
            ("@babel/core", "7.2.0", None, False, ""),
            ("lodash", "4.17.4", None, False, ""),
            ("left-pad", "1.0.0", None, False, ""),
            ("ours", "0.1.0", None, False, "a git repository"),
        ],
    ),
    "berry/yarn.lock": (
        BERRY,
        [
            ("@babel/core", "7.2.0", None, False, ""),
            ("ours", "0.1.0", None, False, "a repository or folder"),
        ],
    ),
    "pnpm-lock.yaml": (
        PNPM9,
        [("lodash", "4.17.4", True, False, ""), ("@babel/core", "7.2.0", True, True, "")],
    ),
    "old/pnpm-lock.yaml": (
        PNPM5,
        [("lodash", "4.17.4", True, False, ""), ("@babel/core", "7.2.0", False, True, "")],
    ),
    "go.mod": (
        GO,
        [
            ("golang.org/x/text", "v0.3.0", True, False, ""),
            ("golang.org/x/net", "v0.0.0-20210921155107-089bfa567519", False, False, ""),
            ("example.org/fork", "v1.2.4", True, False, ""),
            ("example.org/b", "v2.0.0+incompatible", True, False, "a folder"),
            ("stdlib", "1.21.5", True, False, ""),
        ],
    ),
    "Cargo.lock": (
        CARGO,
        [
            ("time", "0.1.42", True, False, ""),
            ("libc", "0.2.0", False, False, ""),
            ("ours", "0.2.0", True, False, "a git repository"),
        ],
    ),
    "Gemfile.lock": (
        GEMFILE,
        [
            ("ours", "0.1.0", True, False, "a git repository"),
            ("nokogiri", "1.13.10", True, False, ""),
            ("racc", "1.6.2", False, False, ""),
            ("rails", "7.0.0.rc1", False, False, ""),
        ],
    ),
    "composer.lock": (
        json.dumps(COMPOSER),
        [
            ("symfony/http-kernel", "v4.0.0", None, False, ""),
            ("a/b", "dev-main", None, True, ""),
            ("our/c", "1.0.0", None, True, "a folder"),
        ],
    ),
    "pom.xml": (
        POM,
        [
            ("org.apache.logging.log4j:log4j-core", "2.14.1", True, False, ""),
            ("a:managed", "3.0", True, False, ""),
            ("org.ours:x", "", True, True, ""),
        ],
    ),
}


@pytest.mark.parametrize("path", READ)
def test_a_lock_file_names_its_packages(path: str) -> None:
    """Names, versions, whether the project names them itself, for development only, and private ones."""
    text, rows = READ[path]

    read = read_locks({path: text.encode()})

    assert (read.paths, dict(read.broken)) == ((path,), {})
    told = [(one.name, one.version, one.direct, one.dev, one.private) for one in read.packages]
    assert told == rows
    assert {one.path for one in read.packages} == {path}


def test_hashes_and_the_time_of_release_are_kept() -> None:
    """Where the lock has them."""
    read = read_locks({"uv.lock": UV.encode(), "pylock.toml": PYLOCK.encode()})

    by_path = {(one.path, one.name): one for one in read.packages}
    assert by_path[("uv.lock", "jinja2")].released == "2018-11-08T13:44:44.000Z"
    assert by_path[("uv.lock", "jinja2")].hashes == ("sha256:aa",)
    assert by_path[("pylock.toml", "jinja2")].released.startswith("2018-11-08")


BROKEN: dict[str, bytes] = {
    "uv.lock": b"[[package]\n",
    "poetry.lock": b"[[package]]\nversion = '1'\n",
    "pdm.lock": b"package = 3\n",
    "Pipfile.lock": b"{",
    "pylock.toml": b"lock-version = '1.0'\n",
    "requirements.txt": b"\xff\xfe\x00",
    "package-lock.json": b"[]",
    "yarn.lock": b"<<<<<<< HEAD\n",
    "pnpm-lock.yaml": b"a: [",
    "go.mod": b"require x v1\n",
    "Cargo.lock": b"[[package]]\nname = 'x'\nsource = 'y'\n",
    "Gemfile.lock": b"<html></html>",
    "composer.lock": b'{"packages": 3}',
    "pom.xml": b"<!DOCTYPE x [<!ENTITY a 'b'>]><project>&a;</project>",
}


@pytest.mark.parametrize("path", BROKEN)
def test_a_damaged_lock_file_is_told_and_the_others_are_read(path: str) -> None:
    """Conflict markers, a truncated file, another encoding, an entity in XML: never an empty list."""
    read = read_locks({path: BROKEN[path], "other/requirements.txt": b"a==1\n"})

    assert list(read.broken) == [path]
    assert [str(one) for one in read.packages] == ["a 1"]


def test_files_that_name_packages_are_found_by_name() -> None:
    """Not those of installed packages, nor what only sounds like one."""
    paths = [
        *("requirements.txt", "requirements-dev.lock", "dev-requirements.txt", "a/requirements/base.txt"),
        *("node_modules/a/package-lock.json", "vendor/b/go.mod", "docs/requirements.txt", "requirements.md"),
        *("pylock.toml", "pylock.x.toml", "src/uv.lock", "my_requirements_notes.rst", "constraints.txt"),
    ]

    assert find_locks(paths) == [
        *("a/requirements/base.txt", "constraints.txt", "dev-requirements.txt", "pylock.toml"),
        *("pylock.x.toml", "requirements-dev.lock", "requirements.txt", "src/uv.lock"),
    ]


@pytest.mark.parametrize(
    ("package", "purl"),
    [
        (Package(name="Jinja2.x", version="2.10", ecosystem="PyPI"), "pkg:pypi/jinja2-x@2.10"),
        (Package(name="@a/b", version="1.0.0", ecosystem="npm"), "pkg:npm/%40a/b@1.0.0"),
        (Package(name="g:a", version="1", ecosystem="Maven"), "pkg:maven/g/a@1"),
        (
            Package(name="example.org/a", version="v1.0.0+x", ecosystem="Go"),
            "pkg:golang/example.org/a@v1.0.0%2Bx",
        ),
        (
            Package(name="libc6", version="1:2.36-9", ecosystem="Debian:12", architecture="amd64"),
            "pkg:deb/debian/libc6@1%3A2.36-9?arch=amd64&distro=debian-12",
        ),
        (
            Package(name="musl", version="1.2-r0", ecosystem="Alpine:v3.19"),
            "pkg:apk/alpine/musl@1.2-r0?distro=alpine-3.19",
        ),
        (Package(name="x", version="1", ecosystem="Homebrew"), ""),
    ],
)
def test_a_package_has_its_url(package: Package, purl: str) -> None:
    """As the specification of package URLs spells it."""
    assert package.purl == purl
