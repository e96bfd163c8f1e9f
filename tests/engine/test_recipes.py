"""Recipes: what they are made of, and building them from Debian's packages."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.digest import digest_file
from pipeline.engine.recipes.archive import MirrorSettings, NoKeyring, find_archive
from pipeline.engine.recipes.build import BuiltRecipe, RecipeFailed, SuiteNotVerified, build, mmdebstrap_argv
from pipeline.engine.recipes.debs import DamagedPackage, KeptPackages
from pipeline.engine.recipes.keys import find_keyring
from pipeline.engine.recipes.recipe import (
    BadPythonRequirement,
    Recipe,
    find_recipe,
    python_image_for,
)
from pipeline.engine.recipes.releases import UBUNTU
from pipeline.engine.recipes.tidy import Package, cached_name, parse_packages, tidy
from tests.engine.sources_helpers import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.engine.store import Store


def test_the_digest_of_a_recipe_changes_with_what_it_is_made_of() -> None:
    slim, full = find_recipe("python:3.11-slim"), find_recipe("python:3.11")
    assert slim is not None
    assert full is not None

    assert slim.digest == replace(slim, note="said differently").digest
    assert slim.digest != full.digest
    assert slim.digest != replace(slim, packages=(*slim.packages, "git")).digest
    assert set(slim.packages) < set(full.packages)


@pytest.mark.parametrize(
    ("requires_python", "image"),
    [
        ("", "python:3.13-slim"),
        (">=3.8", "python:3.13-slim"),
        (">=3.9,<3.13", "python:3.11-slim"),
        ("<3.10", "python:3.9-slim"),
        ("~=3.11", "python:3.13-slim"),
        ("~=3.11.0", "python:3.11-slim"),
        ("==3.12.*", "python:3.12-slim"),
        (">=3.11.4,<3.12", "python:3.11-slim"),
        (">=3.14", "python:3.14-slim"),
    ],
)
def test_a_requires_python_picks_the_newest_image_that_satisfies_it(requires_python: str, image: str) -> None:
    """Those that a recipe can stand in for go first."""
    assert python_image_for(requires_python) == image


@pytest.mark.parametrize(
    ("requires_python", "reason"),
    [("three", "it is not a version specifier"), (">=4", "no Python from 3.7 to 3.14 satisfies it")],
)
def test_a_requires_python_that_nothing_satisfies_is_an_error(requires_python: str, reason: str) -> None:
    with pytest.raises(BadPythonRequirement) as caught:
        python_image_for(requires_python)

    assert str(caught.value) == f"cannot pick a Python for `requires-python = '{requires_python}'`: {reason}"


def test_the_machines_apt_sources_name_the_mirrors(tmp_path: Path) -> None:
    keyring = tmp_path / "keys.gpg"
    keyring.write_bytes(b"")
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    (folder / "a.sources").write_text(
        "# a comment\nTypes: deb\nURIs: https://mirror.example/debian/\nSuites: bookworm bookworm-updates\n"
        f"Components: main\nSigned-By: {keyring}\n\n"
        "Enabled: no\nTypes: deb\nURIs: https://off.example/debian\nSuites: trixie\n"
    )
    (folder / "b.list").write_text(
        "# deb http://commented.example/debian bookworm main\n"
        "deb https://other.example/tools stable-tools main\n"
        "deb [arch=amd64] https://mirror.example/security bookworm-security main\n"
    )

    archive = find_archive(MirrorSettings(), root=tmp_path)

    assert (archive.main, archive.security, archive.keyring) == (
        "https://mirror.example/debian", "https://mirror.example/security", keyring,
    )  # fmt: skip
    assert archive.sources("sid") == f"deb [signed-by={keyring}] https://mirror.example/debian sid main\n"
    assert archive.sources("trixie") == (
        f"deb [signed-by={keyring}] https://mirror.example/debian trixie main\n"
        f"deb [signed-by={keyring}] https://mirror.example/debian trixie-updates main\n"
        f"deb [signed-by={keyring}] https://mirror.example/security trixie-security main\n"
    )


def test_each_distribution_has_its_own_mirrors_and_components(tmp_path: Path) -> None:
    """What is set for Debian says nothing of Ubuntu."""
    keyring = tmp_path / "keys.gpg"
    keyring.touch()
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    (folder / "ubuntu.sources").write_text(
        "Types: deb\nURIs: http://u.example/ubuntu\nSuites: noble noble-updates noble-security\n"
        f"Components: main\nSigned-By: {keyring}\n"
    )

    debian = MirrorSettings(main="http://d.example/debian", keyring=os.fspath(tmp_path / "none"))

    archive = find_archive(debian, root=tmp_path, distribution=UBUNTU)

    assert archive.sources("jammy") == (
        f"deb [signed-by={keyring}] http://u.example/ubuntu jammy main universe\n"
        f"deb [signed-by={keyring}] http://u.example/ubuntu jammy-updates main universe\n"
        f"deb [signed-by={keyring}] http://u.example/ubuntu jammy-security main universe\n"
    )


@pytest.mark.root
@pytest.mark.slow
def test_keys_of_another_distribution_come_from_a_package_that_debian_signed(tmp_path: Path) -> None:
    """They are kept, and not asked for again; with no key of Debian's there are none."""
    debian = find_archive(MirrorSettings())
    unsigned = replace(debian, keyring=tmp_path / "none.gpg")
    unsigned.keyring.touch()
    wanted = replace(UBUNTU, keyring="/usr/share/keyrings/ubuntu-archive-keyring.gpg")

    refused = find_keyring(wanted, unsigned, tmp_path / "refused")
    found = find_keyring(wanted, debian, tmp_path / "kept")
    again = find_keyring(wanted, unsigned, tmp_path / "kept")

    assert refused is None
    assert found == again == tmp_path / "kept/ubuntu-archive-keyring.gpg"
    assert found.stat().st_size > 1000
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [found.name]


def test_settings_win_over_the_machine_and_a_missing_keyring_is_an_error(tmp_path: Path) -> None:
    keyring = tmp_path / "keys.gpg"

    with pytest.raises(NoKeyring) as caught:
        find_archive(MirrorSettings(keyring=os.fspath(keyring)), root=tmp_path)
    keyring.write_bytes(b"")
    archive = find_archive(MirrorSettings(main="http://m/debian", keyring=os.fspath(keyring)), root=tmp_path)

    assert str(caught.value) == f"cannot verify Debian packages: the keyring `{keyring}` does not exist"
    assert caught.value.hint == "apt-get install debian-archive-keyring"
    assert (archive.main, archive.security) == ("http://m/debian", "")


def test_the_command_names_suite_packages_and_sources() -> None:
    recipe = find_recipe("node:18-slim")
    assert recipe is not None

    argv = mmdebstrap_argv(recipe, Path("/w"), Path("/kept debs"))

    assert argv[0] == "mmdebstrap"
    assert argv[-3:] == ["bookworm", "/w/root.tar", "/w/sources.list"]
    assert "--include=ca-certificates,nodejs,npm" in argv
    assert "--setup-hook=sync-in '/kept debs' /var/cache/apt/archives" in argv


INSTALLED = "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1:2\n"


def test_tidying_bounds_times_and_drops_what_differs_between_builds(tmp_path: Path) -> None:
    def tar(path: Path, when: int) -> Path:
        with tarfile.open(path, "w") as archive:
            for name, text in [
                ("./etc/keep", "k"), ("./etc/hostname", f"{when}"), ("./var/log/dpkg.log", f"{when}"),
                ("./dev/null", ""), ("./var/cache/apt/pkgcache.bin", f"{when}"),
                ("./var/lib/dpkg/status", INSTALLED),
                ("./.available-packages", "Package: a\nArchitecture: all\nVersion: 1:2\nSHA256: abc\n"),
            ]:  # fmt: skip
                member = tarfile.TarInfo(name)
                member.size, member.mtime, member.uname = len(text), when, f"user{when}"
                archive.addfile(member, io.BytesIO(text.encode()))
        return path

    one, two = io.BytesIO(), io.BytesIO()
    tidied = tidy(tar(tmp_path / "1", 2_000_000_000), one.write, epoch_s=1_700_000_000)
    again = tidy(tar(tmp_path / "2", 2_100_000_000), two.write, epoch_s=1_700_000_000)

    assert one.getvalue() == two.getvalue()
    assert tidied == again
    assert tidied.size_bytes == len(one.getvalue())
    assert tidied.packages == (Package(name="a", version="1:2", architecture="all", sha256="abc"),)
    one.seek(0)
    with tarfile.open(fileobj=one) as archive:
        assert {member.name: member.mtime for member in archive} == {
            "etc/keep": 1_700_000_000, "var/lib/dpkg/status": 1_700_000_000,
        }  # fmt: skip


def test_only_installed_packages_count() -> None:
    status = (
        "Package: b\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n"
        "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 2:3-1\n"
    )

    packages = parse_packages(status)

    assert [cached_name(package) for package in packages] == ["a_2%3a3-1_all.deb", "b_1_amd64.deb"]


def test_kept_packages_that_changed_or_were_never_verified_are_dropped(tmp_path: Path) -> None:
    """And a version that another one replaced goes as well."""
    folder = tmp_path / "suite"
    folder.mkdir()
    packages = [Package(name=name, version="2", architecture="all") for name in ("good", "bad")]
    for name in ("good_1_all", "good_2_all", "bad_2_all", "partial_1_all"):
        (folder / f"{name}.deb").write_text(name)
    known = [
        replace(package, sha256=digest_file(folder / cached_name(package)).removeprefix("sha256:"))
        for package in packages
    ]
    kept = KeptPackages(folder)
    kept.verify(known)
    (folder / "bad_2_all.deb").write_text("bad-2-all")

    dropped = kept.drop_damaged()

    assert dropped == ["bad_2_all.deb", "partial_1_all.deb"]
    assert [path.name for path in folder.iterdir()] == ["good_2_all.deb"]
    with pytest.raises(DamagedPackage, match=r"good_2_all\.deb$"):
        kept.verify([replace(known[0], sha256="0" * 64)])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as store:
        yield store


@pytest.fixture(scope="session")
def recipe_cache() -> Path:
    """Keep packages between runs of the tests, so that the archive is asked for little."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "pipeline-tests/recipes"


def recipe_for(reference: str) -> Recipe:
    recipe = find_recipe(reference)
    assert recipe is not None
    return recipe


@pytest.mark.anyio
@pytest.mark.root
class TestBuild:
    """With mmdebstrap and a real archive."""

    async def test_a_missing_mmdebstrap_is_said_with_its_package(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", os.fspath(tmp_path))

        with pytest.raises(RecipeFailed) as caught:
            await build(recipe_for("debian:bookworm-slim"), store, tmp_path / "cache")

        assert str(caught.value) == "cannot build the stand-in `debian bookworm`: mmdebstrap is not installed"
        assert caught.value.hint == "apt-get install mmdebstrap"

    async def test_a_mirror_that_cannot_be_reached_is_said(self, store: Store, tmp_path: Path) -> None:
        settings = MirrorSettings(main="http://127.0.0.1:9/debian")

        with pytest.raises(RecipeFailed) as caught:
            await build(recipe_for("debian:bookworm-slim"), store, tmp_path / "c", mirror_settings=settings)

        assert str(caught.value) == (
            "cannot build the stand-in `debian bookworm`: "
            "the package mirror `http://127.0.0.1:9/debian` cannot be reached"
        )
        assert caught.value.hint == "check the network and the machine's apt sources"

    @pytest.mark.slow
    async def test_a_suite_that_no_key_vouches_for_is_refused(self, store: Store, tmp_path: Path) -> None:
        keyring = tmp_path / "none.gpg"
        keyring.touch()
        settings = MirrorSettings(keyring=os.fspath(keyring))

        with pytest.raises(SuiteNotVerified) as caught:
            await build(recipe_for("debian:bookworm-slim"), store, tmp_path / "c", mirror_settings=settings)

        assert str(caught.value) == (
            f"cannot build the stand-in `debian bookworm`: no key in `{keyring}` vouches for Debian bookworm"
        )

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    async def test_two_builds_are_equal_and_the_second_is_found(
        self, store: Store, tmp_path: Path, recipe_cache: Path
    ) -> None:
        recipe = recipe_for("debian:bookworm-slim")

        first = await build(recipe, store, recipe_cache, refresh=True)
        found = await build(recipe, store, recipe_cache)
        again = await build(recipe, store, recipe_cache, refresh=True)

        assert first == found == again
        assert {"base-files", "apt", "dpkg"} <= {package.name for package in first.packages}
        assert all(package.sha256 for package in first.packages)
        root = unpacked(first, tmp_path / "root")
        assert inside(root, "cat", "/etc/debian_version").startswith("12.")
        assert not (root / "etc/hostname").exists()
        assert "deb.debian.org" in (root / "etc/apt/sources.list.d/debian.sources").read_text()

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    @pytest.mark.parametrize(
        ("version", "system"),
        [("3.11", "Debian GNU/Linux 12"), ("3.12", "Ubuntu 24.04"), ("3.14", "Debian GNU/Linux forky")],
    )
    async def test_python_is_where_the_official_image_has_it(
        self, store: Store, tmp_path: Path, recipe_cache: Path, version: str, system: str
    ) -> None:
        """Whether it is of Debian, of what Debian tests, or of Ubuntu; apt inside knows its own archive."""
        built = await build(recipe_for(f"python:{version}-slim"), store, recipe_cache)

        root = unpacked(built, tmp_path / "root")
        assert f'PRETTY_NAME="{system}' in (root / "etc/os-release").read_text()
        (sources,) = (root / "etc/apt/sources.list.d").iterdir()
        (keyring,) = set(re.findall(r"^Signed-By: /(.*)$", sources.read_text(), re.MULTILINE))
        assert (root / keyring).is_file()
        assert inside(root, "apt-get", "--version").startswith("apt ")
        assert inside(root, "python3", "--version").startswith(f"Python {version}.")
        assert inside(root, "/usr/local/bin/python", "--version") == inside(
            root, f"python{version}", "--version"
        )
        assert inside(root, "pip", "--version").endswith(f"(python {version})\n")
        assert inside(root, "python", "-m", "venv", "--without-pip", "/v") == ""
        assert not list(root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"))
        assert list(root.glob("usr/include/python3*/Python.h"))
        # Only a package whose files pip knows can be replaced by pip.
        assert "  pip/__init__.py\n" in inside(root, "pip", "show", "--files", "pip")

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    async def test_node_has_npm_and_its_user(self, store: Store, tmp_path: Path, recipe_cache: Path) -> None:
        built = await build(recipe_for("node:18-slim"), store, recipe_cache)

        root = unpacked(built, tmp_path / "root")
        assert inside(root, "node", "--version").startswith("v18.")
        assert inside(root, "npm", "--version").strip()
        assert inside(root, "docker-entrypoint.sh", "--version").startswith("v18.")
        assert inside(root, "id", "node") == "uid=1000(node) gid=1000(node) groups=1000(node)\n"

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    async def test_a_kept_package_that_is_not_the_archives_is_refused(
        self, store: Store, tmp_path: Path, recipe_cache: Path
    ) -> None:
        """It unpacks well and has the right size, and its noted digest was forged with it."""
        await build(recipe_for("debian:bookworm-slim"), store, recipe_cache)
        cache = tmp_path / "cache"
        shutil.copytree(recipe_cache / "packages", cache / "packages")
        (forged,) = (cache / "packages/bookworm").glob("bash_*.deb")
        data = bytearray(forged.read_bytes())
        data[24:34] = b"1234567890"  # the time stamp of the archive's first member
        forged.write_bytes(data)
        (cache / "packages/bookworm.sums" / forged.name).write_text(digest_file(forged))

        with pytest.raises(RecipeFailed) as caught:
            await build(recipe_for("debian:bookworm-slim"), store, cache)

        assert str(caught.value) == (
            "cannot build the stand-in `debian bookworm`: "
            f"the kept package `{forged.name}` is not the archive's; it was removed"
        )
        assert not forged.exists()


def unpacked(built: BuiltRecipe, root: Path) -> Path:
    with tarfile.open(built.layer) as archive:
        archive.extractall(root, filter="fully_trusted", numeric_owner=True)  # noqa: S202 - built here
    return root


def inside(root: Path, *argv: str) -> str:
    """Run a command in the tree, with the environment of its image."""
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(["chroot", root, *argv], env=env, check=True, capture_output=True, text=True)
    return done.stdout
