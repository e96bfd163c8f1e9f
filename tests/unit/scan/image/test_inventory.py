"""Which packages an image has, which layer each came with, and what could not be read."""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import zipfile

import pytest

from pipeline.scan.image.inventory import Inventory, take_inventory
from pipeline.scan.image.system import System, ecosystem_of, read_system
from pipeline.scan.packages.installed_files import read_jar
from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import LockBroken
from pipeline.scan.scanner import Missed
from tests.unit.scan.image.making import DEBIAN, STATUS, Node, metadata, read, status, symlink

OS = {"etc/os-release": DEBIAN}
SITE = "usr/local/lib/python3.13/site-packages"


def told(inventory: Inventory) -> list[str]:
    """Each package with its ecosystem, in order."""
    return [f"{one.ecosystem} {one.name} {one.version}" for one in inventory.packages]


def test_debian_packages_have_their_source_and_their_architecture() -> None:
    """What was removed and only left settings is no package."""
    database = (
        "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl (3.0.1-1)\n"
        "Version: 3.0.1-1+b1\nDescription: a library\n with: colons in its text\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: held\nStatus: hold ok installed\nVersion: 2:1-1\n"
    )

    image = read({**OS, STATUS: database})

    layer = image.layers[0].diff_id
    assert take_inventory(image).packages == (
        Package(
            name="libssl3",
            version="3.0.1-1+b1",
            ecosystem="Debian:12",
            path=STATUS,
            layer=layer,
            source="openssl",
            source_version="3.0.1-1",
            architecture="amd64",
            is_installed=True,
        ),
        Package(
            name="held",
            version="2:1-1",
            ecosystem="Debian:12",
            path=STATUS,
            layer=layer,
            source="held",
            source_version="2:1-1",
            is_installed=True,
        ),
    )


def test_images_without_dpkg_list_packages_in_single_files() -> None:
    """As distroless ones do; the checksums beside them are no packages."""
    one = "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n"

    inventory = take_inventory(
        read({**OS, "var/lib/dpkg/status.d/base": one, "var/lib/dpkg/status.d/base.md5sums": "0 etc/x"})
    )

    assert (told(inventory), inventory.missed) == (["Debian:12 base-files 12.4"], ())


def test_a_package_came_with_the_layer_since_which_it_has_this_version() -> None:
    image = read(
        {**OS, STATUS: status(bash="1", curl="1")},
        {STATUS: status(bash="1", curl="2")},
        {STATUS: status(bash="1", curl="2", vim="1")},
    )

    layers = {
        one.name: [each.diff_id for each in image.layers].index(one.layer)
        for one in take_inventory(image).packages
    }

    assert layers == {"bash": 0, "curl": 1, "vim": 2}


def test_alpine_packages_have_their_origin() -> None:
    database = (
        "C:Q1x\nP:libcrypto3\nV:3.1.4-r5\nA:x86_64\nL:Apache-2.0\no:openssl\nF:lib\nR:libcrypto.so.3\n\n"
    )

    inventory = take_inventory(
        read({"etc/os-release": "ID=alpine\nVERSION_ID=3.19.1\n", "lib/apk/db/installed": database})
    )

    (one,) = inventory.packages
    assert (one.ecosystem, one.judged_name, one.judged_version, one.licence) == (
        "Alpine:v3.19",
        "openssl",
        "3.1.4-r5",
        "Apache-2.0",
    )


def rpm_header(**texts: str) -> bytes:
    """An rpm header with these tags as strings."""
    tags = {"name": 1000, "version": 1001, "release": 1002, "arch": 1022}
    index, data = b"", b""
    for name, text in texts.items():
        index += struct.pack(">IIII", tags[name], 6, len(data), 1)
        data += text.encode() + b"\0"
    data += b"\0" * (-len(data) % 4)
    index += struct.pack(">IIII", 1003, 4, len(data), 1)
    data += struct.pack(">I", 2)
    return struct.pack(">II", len(texts) + 1, len(data)) + index + data


def rpm_database(*blobs: bytes) -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(one,) for one in blobs])
    connection.commit()
    data = bytearray(connection.serialize())
    connection.close()
    data[18:20] = b"\x02\x02"  # as rpm leaves it: in WAL mode
    return bytes(data)


ROCKY = {"etc/os-release": 'ID="rocky"\nVERSION_ID="9.4"\n'}


def test_rpm_packages_are_read_from_sqlite() -> None:
    """With their epoch; the keys that are listed as packages are none."""
    data = rpm_database(
        rpm_header(name="bash", version="5.1.8", release="9.el9", arch="x86_64"),
        rpm_header(name="gpg-pubkey", version="1", release="1"),
    )

    inventory = take_inventory(read({**ROCKY, "var/lib/rpm/rpmdb.sqlite": data}))

    assert (told(inventory), inventory.missed) == (["Rocky Linux:9 bash 2:5.1.8-9.el9"], ())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rpmdb.sqlite", b"SQLite format 3\0" + b"x" * 4000),
        ("rpmdb.sqlite", b"hello"),
        ("rpmdb.sqlite", rpm_database(b"\0\0\xff\xff\xff\xff\xff\xff")),
        ("rpmdb.sqlite", rpm_database(b"")),
        ("Packages", b"berkeley"),
        ("Packages.db", b"ndb"),
    ],
    ids=["damaged", "no database", "a huge header", "an empty header", "Berkeley DB", "NDB"],
)
def test_rpm_databases_that_cannot_be_read_are_told(name: str, data: bytes) -> None:
    inventory = take_inventory(read({**ROCKY, f"var/lib/rpm/{name}": data}))

    assert (inventory.packages, {one.what for one in inventory.missed}) == ((), {f"var/lib/rpm/{name}"})


def test_packages_of_languages_are_read_where_they_lie() -> None:
    jar = io.BytesIO()
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr(
            "META-INF/maven/org.x/x/pom.properties", "groupId=org.x\nartifactId=x\nversion=1.0\n"
        )
        archive.writestr("BOOT-INF/lib/inner-2.5.jar", empty_jar())
    image = read(
        {
            f"{SITE}/requests-2.31.dist-info/METADATA": metadata("requests", "2.31"),
            f"{SITE}/old-1.egg-info/PKG-INFO": metadata("old", "1"),
            f"{SITE}/older-1.egg-info": metadata("older", "1"),
            "app/node_modules/left-pad/package.json": json.dumps({"name": "left-pad", "version": "1.3.0"}),
            "app/node_modules/@a/b/package.json": json.dumps({"name": "@a/b", "version": "2.0.0"}),
            "app/node_modules/@a/b/lib/package.json": json.dumps({"type": "module", "version": "9"}),
            "app/package.json": json.dumps({"name": "app", "version": "1.0.0"}),
            "opt/app.jar": jar.getvalue(),
            "opt/METADATA": metadata("no", "1"),
        }
    )

    inventory = take_inventory(image)

    assert (told(inventory), inventory.missed) == (
        [
            "PyPI requests 2.31",
            "PyPI old 1",
            "PyPI older 1",
            "npm left-pad 1.3.0",
            "npm @a/b 2.0.0",
            "Maven inner 2.5",
            "Maven org.x:x 1.0",
        ],
        (),
    )


def empty_jar() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", "b")
    return out.getvalue()


def go_string(text: bytes) -> bytes:
    length = len(text)
    head = b""
    while length >= 0x80:
        head += bytes([length & 0x7F | 0x80])
        length >>= 7
    return head + bytes([length]) + text


def program(info: bytes) -> Node:
    """A program of a size that Go's have, with some bytes in it."""
    return Node(data=b"\x7fELF" + b"\0" * 1_500_000 + info + b"\0" * 200_000, mode=0o755)


MODULES = (
    b"path\tx/cmd\nmod\tx\t(devel)\t\ndep\tgolang.org/x/net\tv0.1.0\th1:a\n"
    b"dep\tgithub.com/a/b\tv1.0.0\n=>\tgithub.com/c/b\tv1.0.1\th1:b\nbuild\t-compiler=gc\n"
)
GO_HEAD = b"\xff Go buildinf:" + b"\x08\x02" + b"\0" * 16


def test_go_programs_name_their_modules_and_the_standard_library() -> None:
    info = GO_HEAD + go_string(b"go1.22.3") + go_string(b"\xf0" * 16 + MODULES + b"\xf1" * 16)

    inventory = take_inventory(read({"usr/bin/tool": program(info), "usr/bin/other": program(b"")}))

    assert told(inventory) == [
        "Go stdlib 1.22.3",
        "Go golang.org/x/net v0.1.0",
        "Go github.com/c/b v1.0.1",
    ]


def test_a_program_of_an_old_go_is_told() -> None:
    old = GO_HEAD.replace(b"\x08\x02", b"\x08\x00")

    inventory = take_inventory(read({"usr/bin/tool": program(old)}))

    why = "it is built by a Go older than 1.18, which says it in another form"
    assert (inventory.packages, inventory.missed) == ((), (Missed(what="usr/bin/tool", why=why),))


def test_what_the_distribution_brought_is_judged_as_its_packages_only() -> None:
    """Its security team mends Python packages without a new version; `/usr` may have taken up folders."""
    image = read(
        {
            **OS,
            STATUS: status(**{"python3-yaml": "6.0-3"}),
            "var/lib/dpkg/info/python3-yaml.list": (
                "/.\n/usr/lib/python3/dist-packages/PyYAML-6.0.egg-info/PKG-INFO\n/bin/helper\n"
            ),
            "usr/lib/python3/dist-packages/PyYAML-6.0.egg-info/PKG-INFO": metadata("PyYAML", "6.0"),
            f"{SITE}/flask-1.dist-info/METADATA": metadata("flask", "1"),
            "usr/bin/helper": Node(mode=0o4755),
        }
    )

    inventory = take_inventory(image)

    assert told(inventory) == ["Debian:12 python3-yaml 6.0-3", "PyPI flask 1"]
    assert "usr/bin/helper" in inventory.owned


@pytest.mark.parametrize(
    ("path", "data"),
    [
        (STATUS, b"\xff\xfe nonsense"),
        ("app/node_modules/x/package.json", b"{"),
        ("opt/x.jar", b"PK\x03\x04 nonsense"),
        ("lib/apk/db/installed", b"nonsense"),
    ],
)
def test_a_file_that_is_not_in_its_format_is_told(path: str, data: bytes) -> None:
    """A database that names nothing is damaged: an image with one has packages."""
    inventory = take_inventory(read({**OS, path: data}))

    assert (inventory.packages, [one.what for one in inventory.missed]) == ((), [path])


SYSTEMS = {
    "ID=debian\nVERSION_ID=12\n": "Debian:12",
    "ID=debian\nVERSION_CODENAME=sid\n": "Debian",
    'ID="ubuntu"\nVERSION_ID="22.04"\n': "Ubuntu:22.04",
    "ID=alpine\nVERSION_ID=3.21.0_alpha20240606\n": "Alpine:edge",
    "ID=alpine\nVERSION_ID=3.9.6\n": "Alpine:v3.9",
    "ID=wolfi\nVERSION_ID=20230201\n": "Wolfi",
    'ID="almalinux"\nVERSION_ID="9.3"\n': "AlmaLinux:9",
    "ID='opensuse-leap'\nVERSION_ID='15.5'\n": "openSUSE:Leap 15.5",
    "ID=plan9\nVERSION_ID=4\n": "plan9",
    "NAME=nothing\n": "a distribution that is not named",
    "": "a distribution that is not named",
    "ID=$(reboot)\n": "$(reboot)",
}


@pytest.mark.parametrize("text", SYSTEMS)
def test_the_distribution_has_the_name_that_advisories_use(text: str) -> None:
    assert ecosystem_of(read_system(text)) == SYSTEMS[text]


def test_an_os_release_with_an_open_quote_is_read() -> None:
    assert read_system('ID="debian\nVERSION_ID=12') == System(id="debian", version="12")


@pytest.mark.parametrize("name", ["evil\x1b[2Jname", "x" * 5000, "two\u2028lines"])
def test_names_that_are_none_are_told_and_not_taken(name: str) -> None:
    """They would steer the terminal of whoever reads the log."""
    path = f"{SITE}/a-1.dist-info/METADATA"

    inventory = take_inventory(read({path: metadata(name, "1")}))

    why = "it names packages by what is no name or version"
    assert (inventory.packages, inventory.missed) == ((), (Missed(what=path, why=why),))


def test_a_java_archive_full_of_archives_is_given_up() -> None:
    """Each inside is small; together they are larger than is read."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w") as archive:
        for number in range(20):
            archive.writestr(f"lib/{number}-1.jar", empty_jar())

    assert len(read_jar("opt/app.jar", bomb.getvalue())) == 20
    with pytest.raises(LockBroken, match="it is larger inside than is read"):
        read_jar("opt/app.jar", bomb.getvalue(), most_bytes=1000)


def test_a_large_manifest_is_told() -> None:
    path = "app/node_modules/x/package.json"

    inventory = take_inventory(read({path: b"[" * 1_100_000}))

    assert inventory.missed == (Missed(what=path, why="it is larger than 1 MiB"),)


def test_debian_packages_have_the_licences_of_their_copyright_files() -> None:
    """A package whose folder is a link to another's has that of its source; prose names none."""
    database = "\n".join(
        f"Package: {name}\nStatus: install ok installed\nSource: {source}\nVersion: 1\n"
        for name, source in {
            "libgcc-s1": "gcc-12",
            "gcc-12-base": "gcc-12",
            "bash": "bash",
            "old": "old",
        }.items()
    )
    head = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
    files: dict[str, str | bytes | Node] = {
        "usr/share/doc/gcc-12-base/copyright": f"{head}Files: *\nLicense: GPL-3+\n",
        "usr/share/doc/libgcc-s1": symlink("gcc-12-base"),
        "usr/share/doc/bash/copyright": f"{head}Files: *\nLicense: GPL-3+ and Latex2e\n",
        "usr/share/doc/old/copyright": "It is free.\n",
        "opt/app/copyright": f"{head}Files: *\nLicense: MIT\n",
    }

    inventory = take_inventory(read({**OS, STATUS: database, **files}))

    assert {one.name: one.licence for one in inventory.packages} == {
        "libgcc-s1": "GPL-3.0-or-later",
        "gcc-12-base": "GPL-3.0-or-later",
        "bash": "GPL-3.0-or-later AND Latex2e",
        "old": "",
    }
    assert inventory.missed == ()


def test_a_copyright_file_of_a_higher_layer_counts() -> None:
    """As anything else in an image."""
    head = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
    path = "usr/share/doc/bash/copyright"
    layers = [{**OS, STATUS: status(bash="1"), path: f"{head}Files: *\nLicense: Expat\n"}]
    layers.append({path: f"{head}Files: *\nLicense: ISC\n"})

    inventory = take_inventory(read(*layers))

    assert [one.licence for one in inventory.packages] == ["ISC"]
