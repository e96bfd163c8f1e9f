"""Trees, commits, images and logs: what is found where, what is told as missed."""

from __future__ import annotations

import codecs
import gzip
import os
from typing import TYPE_CHECKING

import pytest
import zstandard

from pipeline.scan.secrets import large, reading
from pipeline.scan.secrets.history import commits_of, scan_commits
from pipeline.scan.secrets.image import ArchiveUnreadable, scan_archive
from pipeline.scan.secrets.report import findings_of
from pipeline.scan.secrets.sources import look_at_commits, look_at_images, look_at_logs, look_at_tree
from pipeline.scan.secrets.tree import canary_missing, scan_tree
from tests.unit.scan.secrets.places import AWS, CHOSEN, GITHUB, URL_PASSWORD, Repository, layer, write_image

if TYPE_CHECKING:
    from pathlib import Path

TAR = "application/vnd.oci.image.layer.v1.tar"


def spots(found: list[object]) -> list[str]:
    return [f"{one.hit.rule} {one.path}:{one.hit.line}" for one in found]  # type: ignore[attr-defined]


def test_the_canary_is_found() -> None:
    """Each of the ways to find a secret finds the one planted for it."""
    assert canary_missing() == frozenset()


def test_text_in_any_encoding_and_binary_files_are_read(tmp_path: Path) -> None:
    """UTF-16 with and without a mark, UTF-8 with one, Latin-1, and tokens inside binary files."""
    line = f"first\ntoken = {GITHUB}\n"
    (tmp_path / "utf16.txt").write_bytes(codecs.BOM_UTF16_LE + line.encode("utf-16-le"))
    (tmp_path / "bare16.txt").write_bytes(line.encode("utf-16-be"))
    (tmp_path / "bom8.txt").write_bytes(codecs.BOM_UTF8 + line.encode())
    (tmp_path / "latin.txt").write_bytes(b"gr\xfc\xdfe\n" + line.encode())
    (tmp_path / "data.db").write_bytes(b"\0\1\2\xff" * 100 + GITHUB.encode() + b"\0\xfe" * 9)

    found, expected, missed = scan_tree(tmp_path, sorted(os.listdir(tmp_path)))

    assert sorted(spots(list(found))) == [
        "github-token bare16.txt:2",
        "github-token bom8.txt:2",
        "github-token data.db:0",
        "github-token latin.txt:3",
        "github-token utf16.txt:2",
    ]
    assert (expected, missed) == (5, [])


def test_links_are_not_followed_and_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A link to a file outside, a folder that is a link, a pipe and a file that is gone."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.env").write_text(f"TOKEN={GITHUB}\n")
    root = tmp_path / "project"
    root.mkdir()
    (root / "link.env").symlink_to(outside / "secret.env")
    (root / "folder").symlink_to(outside)
    os.mkfifo(root / "pipe")

    scan, found = look_at_tree(root, ["link.env", "folder/secret.env", "pipe", "gone.py"])

    assert found == []
    assert scan.state == "incomplete"
    assert [one.what for one in scan.coverage.missed] == ["folder/secret.env", "pipe", "gone.py"]


@pytest.mark.parametrize(
    ("folder", "names", "reason"),
    [
        pytest.param("gone", ["a.env"], "the project's folder is not there", id="no-folder"),
        pytest.param(".", [], "no file of the project was given to look at", id="no-file"),
    ],
)
def test_nothing_to_look_at_is_an_error(folder: str, names: list[str], reason: str, tmp_path: Path) -> None:
    """Other tools pass when their target is not there (F10)."""
    scan, found = look_at_tree(tmp_path / folder, names)

    assert (scan.state, scan.reason, found) == ("error", reason, [])


def test_a_large_file_is_read_in_pieces_and_a_secret_on_the_seam_is_found_once(tmp_path: Path) -> None:
    """Lines are counted on through the pieces; nothing is told twice."""
    padding = "x = 1\n" * (reading.PIECE_BYTES // 6 - 3)
    (tmp_path / "big.py").write_text(f'{padding}token = "{GITHUB}"\n{padding}key = "{AWS}"\n')

    found, _, missed = scan_tree(tmp_path, ["big.py"])

    count = padding.count("\n")
    assert spots(list(found)) == [
        f"github-token big.py:{count + 1}",
        f"aws-access-key-id big.py:{2 * count + 2}",
    ]
    assert missed == []


def test_a_file_that_is_too_large_is_told(tmp_path: Path) -> None:
    """A sparse file of a gigabyte is read in part, and the scan is incomplete."""
    with (tmp_path / "huge.bin").open("wb") as stream:
        stream.truncate(reading.MOST_BYTES + 1)

    scan, _ = look_at_tree(tmp_path, ["huge.bin"])

    assert (scan.state, scan.coverage.missed[0].why) == ("incomplete", "only its first 256 MB were read")


def test_commits_of_the_change_are_read_line_by_line(tmp_path: Path) -> None:
    """What a later commit removed, a file with a strange name, a message; nothing of older commits."""
    repository = Repository(tmp_path)
    base = repository.commit("first", {"old.env": f"TOKEN={GITHUB}\n"})
    added = repository.commit("add", {'a/ü "x".env': f"# note\nA=1\nAWS={AWS}\n", "logo.bin": b"\0\1" * 50})
    repository.commit("remove", {'a/ü "x".env': "# note\nA=1\n"})
    told = repository.commit(f"postgres://app:{URL_PASSWORD}@db/shop", {"b.txt": "b\n"})

    change = commits_of(repository.root, base)
    found, _ = scan_commits(repository.root, change.commits)

    assert not change.is_shallow
    assert [(one.hit.rule, one.path, one.hit.line, one.commit) for one in found] == [
        ("url-password", "(commit message)", 0, told),
        ("aws-access-key-id", 'a/ü "x".env', 3, added),
    ]


def test_a_secret_that_only_a_merge_brought_is_found(tmp_path: Path) -> None:
    """What a merge adds that neither parent has counts as added by it."""
    repository = Repository(tmp_path)
    base = repository.commit("first", {"a.txt": "1\n"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit("side", {"b.txt": "2\n"})
    repository.git("checkout", "-q", "main")
    repository.commit("main", {"c.txt": "3\n"})
    repository.git("merge", "-q", "--no-commit", "--no-ff", "side")
    merge = repository.commit("merge", {"b.txt": f"2\ntoken: {GITHUB}\n"})

    found, _ = scan_commits(repository.root, commits_of(repository.root, base).commits)

    assert [(one.path, one.hit.line, one.commit) for one in found] == [("b.txt", 2, merge)]


def test_commits_known_to_be_clean_are_not_read_again(tmp_path: Path) -> None:
    """Only the new ones are; one with a secret is read each time."""
    repository = Repository(tmp_path)
    repository.commit("first", {"a.env": "A=1\n"})
    bad = repository.commit("bad", {"a.env": f"TOKEN={GITHUB}\n"})

    _, found, clean = look_at_commits(repository.root, "")
    scan, again, _ = look_at_commits(repository.root, "", frozenset([*clean, bad]))

    assert (len(found), len(clean), bad in clean) == (1, 1, False)
    assert (scan.coverage.seen, again) == (2, [])


def test_a_shallow_clone_is_incomplete(tmp_path: Path) -> None:
    """What is there is read all the same."""
    origin = Repository(tmp_path / "origin")
    base = origin.commit("first", {"a.txt": "1\n"})
    origin.commit("second", {"a.env": f"TOKEN={GITHUB}\n"})
    clone = tmp_path / "clone"
    origin.git("clone", "-q", "--depth=1", f"file://{origin.root}", str(clone))

    scan, found, _ = look_at_commits(clone, base)

    assert (scan.state, len(found)) == ("incomplete", 1)
    assert "the clone is shallow" in scan.reason
    assert "fetch-depth: 0" in scan.hint


def test_every_layer_is_read_also_what_a_later_one_deletes(tmp_path: Path) -> None:
    """Plain, gzip and zstd layers; environment and build steps; software of others only by form."""
    theirs = b'password = "' + CHOSEN.encode() + b'"\n'
    first = layer({"app/.env": f"TOKEN={GITHUB}\n".encode(), "usr/lib/python3/x.py": theirs})
    second = layer({"app/.wh..env": b"", "app/settings.py": theirs})
    third = layer({"etc/motd": b"hello\n"})
    archive = tmp_path / "app.tar"
    digests = write_image(
        archive,
        [
            (gzip.compress(first), f"{TAR}+gzip"),
            (zstandard.compress(second), f"{TAR}+zstd"),
            (third, TAR),
        ],
        {
            "config": {"Env": ["PATH=/bin", f"DB_PASSWORD={CHOSEN}"]},
            "history": [{"created_by": f"RUN curl https://ci:{URL_PASSWORD}@x.internal/"}],
        },
    )

    scan = scan_archive(archive, "app")

    assert [(one.hit.rule, one.path, one.layer) for one in scan.found] == [
        ("generic-password", "app (environment)", "settings"),
        ("url-password", "app (build steps)", "settings"),
        ("github-token", "app/.env", digests[0]),
        ("generic-password", "app/settings.py", digests[1]),
    ]
    assert (scan.layers, scan.clean) == (3, {digests[2]})


def test_bytecode_beside_its_source_is_told_by_the_source_alone(tmp_path: Path) -> None:
    """Without the source it is told: it may be all that a layer has."""
    files = {
        "app/a.py": f'TOKEN = "{GITHUB}"\n'.encode(),
        "app/__pycache__/a.cpython-311.pyc": b"\0\1" + GITHUB.encode() + b"\0",
        "app/__pycache__/b.cpython-311.pyc": b"\0\1" + GITHUB.encode() + b"\0",
    }
    write_image(tmp_path / "app.tar", [(layer(files), TAR)], {})

    scan = scan_archive(tmp_path / "app.tar", "app")

    assert [one.path for one in scan.found] == ["app/a.py", "app/__pycache__/b.cpython-311.pyc"]


def test_what_a_builder_attests_about_an_image_is_no_image(tmp_path: Path) -> None:
    """Its layers are no archives; the image beside it in the index is read."""
    archive = tmp_path / "app.tar"
    data = layer({"app/.env": f"TOKEN={GITHUB}\n".encode()})
    write_image(archive, [(data, TAR)], {"config": {}}, attestation=b'{"_type": "statement"}')

    scan = scan_archive(archive, "app")

    assert [(one.hit.rule, one.path) for one in scan.found] == [("github-token", "app/.env")]
    assert (scan.layers, scan.missed) == (1, [])


def test_a_broken_archive_is_told_and_not_passed(tmp_path: Path) -> None:
    """The scan is incomplete and says which image it was."""
    (tmp_path / "app.tar").write_bytes(b"not a tar")

    scan, found, _ = look_at_images([("app", tmp_path / "app.tar")])

    assert (scan.state, found) == ("incomplete", [])
    assert "cannot read the image `app`" in scan.reason
    with pytest.raises(ArchiveUnreadable):
        scan_archive(tmp_path / "app.tar", "app")


def test_logs_are_read(tmp_path: Path) -> None:
    """A token that a test printed."""
    (tmp_path / "log.txt").write_text(f"ok\nlogged in with {GITHUB}\n")

    scan, found = look_at_logs([("unit", tmp_path / "log.txt")])

    assert (scan.state, [(one.path, one.hit.line) for one in found]) == ("complete", [("log of unit", 2)])


HOSTILE = {
    "one long word": "a",
    "names without values": "password=",
    "quotes that never close": 'password="',
    "addresses": "://a:",
    "tokens without an end": "eyJaaaaaaaa.",
    "key headers": "-----BEGIN PRIVATE KEY-----",
    "manifests": "kind: Secret\ndata:\n",
    "spaces": "secret" + " " * 40 + "= ",
    "key files": "PuTTY-User-Key-File-2: ",
    "credentials": "machine x login y password z ",
    "types": "token: a.b[c, d] | e ",
    "elements": "<password>",
    "brackets": "api_key = ((( ",
}


@pytest.mark.parametrize("part", HOSTILE.values(), ids=HOSTILE)
def test_lines_made_to_be_slow_are_read_to_the_end(part: str, tmp_path: Path) -> None:
    """Very many characters on one line, of what each expression would look at for long."""
    (tmp_path / "a.yaml").write_text(part * (300_000 // len(part)) + f"\ntoken: {GITHUB}\n")

    found, _, missed = scan_tree(tmp_path, ["a.yaml"])

    assert ([one.hit.rule for one in found], missed) == (["github-token"], [])


@pytest.mark.slow
def test_a_large_file_of_a_commit_is_read_bit_by_bit_and_told_when_not_whole(tmp_path: Path) -> None:
    """Git could not make a patch of it; messages and other files of its commits are read as ever."""
    repository = Repository(tmp_path)
    base = repository.commit("first", {"a.txt": "1\n"})
    begin = b"one\nTOKEN=" + GITHUB.encode() + b"\n"
    with open(tmp_path / "dump.sql", "wb") as huge:
        huge.write(begin)
        huge.truncate(reading.MOST_BYTES + 1024**2)
    bad = repository.commit(f"postgres://app:{URL_PASSWORD}@db/shop", {"b.env": f"AWS={AWS}\n"})
    gone = repository.commit("gone", {"dump.sql": None, "c.sql": begin + b"x" * large.LARGE})

    scan, found, clean = look_at_commits(repository.root, base)

    assert {(one.hit.rule, one.path, one.hit.line, one.commit) for one in found} == {
        ("url-password", "(commit message)", 0, bad),
        ("aws-access-key-id", "b.env", 1, bad),
        ("github-token", "dump.sql", 0, bad),
        ("github-token", "c.sql", 2, gone),
    }
    assert (scan.state, scan.coverage.seen, scan.coverage.expected, clean) == ("incomplete", 1, 2, set())
    assert [(one.what, one.why) for one in scan.coverage.missed] == [
        (f"dump.sql in commit {bad[:12]}", "only the first 256 of its 257 MB were read")
    ]


def test_a_secret_of_a_commit_or_layer_is_told_with_both_and_what_to_do(tmp_path: Path) -> None:
    """Short hash, day, path and line; image, layer and path."""
    repository = Repository(tmp_path / "project")
    commit = repository.commit("first", {"a.env": f"# note\nAWS={AWS}\n"})
    day = repository.git("show", "-s", "--format=%as")
    repository.commit("second", {"a.env": None})
    archive = tmp_path / "app.tar"
    layers = [(layer({"app/.env": f"TOKEN={GITHUB}\n".encode()}), TAR), (layer({"app/.wh..env": b""}), TAR)]
    digests = write_image(archive, layers, {"config": {"Env": [f"DB_PASSWORD={CHOSEN}"]}})

    _, in_commits, _ = look_at_commits(repository.root, "")
    _, in_layers, _ = look_at_images([("shop", archive)])
    told = [one for found in findings_of([*in_commits, *in_layers], b"key").values() for one in found]

    assert [one.message.partition("… in ")[2] for one in told] == [
        f"a.env:2 in commit {commit[:12]} of {day}",
        "shop (environment):1 in the settings of image `shop`",
        f"app/.env:1 in image `shop`, layer 1 of 2 ({digests[0].removeprefix('sha256:')[:12]})",
    ]
    assert "then rewrite the commits" in told[0].fix
    assert all("build the image without it" in one.fix for one in told[1:])
    assert all(one.fix.startswith("revoke it and issue a new one first") for one in told)
