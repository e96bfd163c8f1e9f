"""Dockerfiles made to escape, to hang or to fill the memory: each is refused in one sentence."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.dockerfile.build import build
from pipeline.engine.dockerfile.instructions import DockerfileError
from pipeline.engine.files import Directory

if TYPE_CHECKING:
    from tests.engine.dockerfile.helpers import CopyingSession

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.Dockerfile"))

# Reads texts as a JSON array and answers with what each was refused with, "" where it was not; the
# process ends when that takes more than 30 s of processor time or 1 GiB of addresses.
PLANNER = """
import json, resource, sys
from pipeline.engine.dockerfile.instructions import DockerfileError
from pipeline.engine.dockerfile.parse import parse_dockerfile
from pipeline.engine.dockerfile.plan import plan_build

def refusal(text):
    try:
        file = parse_dockerfile(text)
        plan_build(file, platform="linux/amd64", build_platform="linux/amd64")
    except DockerfileError as error:
        return str(error)
    return ""

texts = json.load(sys.stdin)
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
json.dump([refusal(text) for text in texts], sys.stdout)
"""


def _refusals(texts: list[str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PLANNER], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    found: list[str] = json.loads(done.stdout)
    return found


def _bomb(keyword: str) -> str:
    """Six lines of which each is ten times as long as the one above it."""
    names = "ABCDEF"
    lines = [f"{keyword} {name}={f'${{{last}}}' * 10}" for last, name in pairwise(names)]
    return "\n".join([f"{keyword} A=aaaaaaaaaa", *lines])


def _json(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


REFUSED = {
    "lines": ("FROM a\n" + "RUN x\n" * 100_000, "parse", 5001, "more than 5,000 instructions"),
    "stages": ("FROM a\n" * 100_000, "parse", 5001, "more than 5,000 instructions"),
    "line": ("FROM a\nRUN " + "x" * 70_000, "parse", 2, "it is longer than 65,535 bytes"),
    "file": ("FROM a\nRUN " + "x\\\n" * 3_000_000, "parse", 0, "it is larger than 4 MiB"),
    "words": ("FROM a\nENV " + "a=b \\\n" * 100_000, "parse", 2, "more than 5,000 arguments"),
    "sources": ("FROM a\nCOPY " + "a \\\n" * 100_000 + "b/", "parse", 2, "more than 5,000 arguments"),
    "volumes": ("FROM a\nVOLUME " + "a \\\n" * 100_000, "parse", 2, "more than 5,000 arguments"),
    "open document": ("FROM a\nRUN <<A\nRUN <<B\n" * 9, "parse", 2, "unterminated heredoc `A`"),
    "deep documents": (
        "FROM a\nRUN " + "".join(f"<<E{n} " for n in range(1000))
        + "\n" + "".join(f"E{n}\n" for n in range(999)),
        "parse", 2, "unterminated heredoc `E999`",
    ),
    "deep substitution": (
        "ARG A=" + "${x:-" * 5000 + "}" * 5000, "build", 1, "more than 50 substitutions within one another",
    ),
    "arguments": (_bomb("ARG") + "\nFROM a", "build", 6, "its variables make it longer than 131,072 letters"),
    "many arguments": (
        f"ARG A={'x' * 60_000}\nARG B=$A$A\n" + "ARG C=$B\n" * 200 + "FROM a",
        "build", 141, "what it says grows to more than 16 MiB of text",
    ),
    "pattern": (
        f"ARG A={'a' * 9000}\nARG B=${{A#{'a' * 2000}}}\nFROM a", "build", 2,
        "a pattern is longer than 1,024 letters",
    ),
    "replacements": (
        f"ARG A={'a' * 9000}\nARG B=${{A//a/{'b' * 9000}}}\nFROM a", "build", 2,
        "its variables make it longer than 131,072 letters",
    ),
    "circle": (
        "FROM a AS x\nCOPY --from=y f /\nFROM a AS y\nRUN --mount=from=x,target=/x :", "build", 1,
        "stages need each other: `x` needs `y` needs `x`",
    ),
    "self": ("FROM a\nFROM a AS x\nCOPY --from=x f /", "build", 2, "stages need each other: `x` needs `x`"),
    "own number": (
        "FROM a\nCOPY --from=" + "9" * 5000 + " f /", "build", 2,
        "invalid stage index " + "9" * 479 + "…",
    ),
    "nul": ("FROM a\nRUN echo \0", "parse", 2, "it holds a NUL byte"),
    "utf-16": ("FROM a\n".encode("utf-16-be").decode(), "parse", 1, "it holds a NUL byte"),
    "latin-1": (_json(b"# caf\xe9\nFROM a\nRUN echo \\\n caf\xe9"), "parse", 4, "it is not UTF-8"),
    "latin-1 document": (_json(b"FROM a\nCOPY <<A /a\ncaf\xe9\nA"), "parse", 3, "it is not UTF-8"),
    "carriage returns": (
        "FROM a\rRUN x\r", "parse", 1, "its lines end in a carriage return alone",
    ),
    "two marks": ("\ufeff\ufeffFROM a", "parse", 1, "unknown instruction: \\ufeffFROM"),
    "colours": ("FROM a\n\x1b[31mRUN x", "parse", 2, "unknown instruction: \\x1b[31MRUN"),
    "frontend": (
        "# escape=`\n# syntax=evil.example/frontend:1\nFROM a", "build", 2,
        'syntax frontend "evil.example/frontend:1" is unsupported',
    ),
    "mount": (
        'FROM a\nRUN --mount=\'type=bind,"target=/x\' x', "parse", 2,
        "the value of --mount cannot be read: unexpected end of data",
    ),
    "json": ("FROM a\nSHELL " + "[" * 60_000, "parse", 2, "SHELL requires the arguments to be in JSON form"),
}  # fmt: skip


def test_hostile_files_are_refused_with_file_and_line_in_bounded_time_and_memory() -> None:
    """All of them in 30 s of one processor and 1 GiB, in a process that would be killed for more."""
    messages = _refusals([text for text, *_ in REFUSED.values()])

    assert dict(zip(REFUSED, messages, strict=True)) == {
        name: f"cannot {act} `Dockerfile`{f' line {line}' if line else ''}: {reason}"
        for name, (_, act, line, reason) in REFUSED.items()
    }


def test_large_and_odd_files_that_are_no_harm_are_taken() -> None:
    """Many comments, a long continuation, comments in another encoding, patterns of many stars."""
    texts = [
        "FROM a\n" + "# x\n" * 100_000,
        "FROM a\nRUN " + "x \\\n" * 100_000 + "y",
        "\ufeffFROM a\r\nRUN x\r\n",
        _json(b"# caf\xe9\nFROM a"),
        "FROM a\nRUN " + '"$(' * 20_000,
        "\n".join(["FROM a AS s0", *(f"FROM s{n} AS s{n + 1}" for n in range(4999))]),
        "FROM a AS x\nCOPY --from=y f /\nFROM a AS y\nFROM x",
        f"ARG A={'a' * 60_000}\nARG B=${{A%{'a*' * 500}b}}\nARG C=${{A/{'a*' * 500}b/c}}\nFROM a",
    ]

    assert _refusals(texts) == [""] * len(texts)


def test_damaged_files_are_read_or_refused() -> None:
    """300 files with bytes changed, cut out and doubled: an answer for each, and every refusal one line."""
    chosen = random.Random(4711)  # noqa: S311 - a seed makes the files the same each time
    texts = [_json(_damaged(chosen)) for _ in range(300)]

    messages = _refusals(texts)

    refused = [message for message in messages if message]
    assert len(messages) == 300
    assert len(refused) > 100
    assert [m for m in refused if not m.startswith("cannot ") or not m.isprintable()] == []


def _damaged(chosen: random.Random) -> bytes:
    data = bytearray(chosen.choice(CORPUS).read_bytes())
    for _ in range(chosen.randint(1, 8)):
        at = chosen.randrange(len(data))
        piece = data[at : at + chosen.randint(1, 60)]
        match chosen.randrange(4):
            case 0:
                data[at] = chosen.randrange(256)
            case 1:
                del data[at : at + len(piece)]
            case 2:
                data[at:at] = piece * chosen.randint(1, 50)
            case _:
                data[at:at] = chosen.choice(
                    [b"<<E", b"\\\n", b"${", b'"', b"\r", b"--", b"[", b"\xff", b"\0"]
                )
    return bytes(data)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_bomb("ENV"), "line 7: its variables make it longer than 131,072 letters"),
        (_bomb("ARG"), "line 7: its variables make it longer than 131,072 letters"),
        (
            f"ENV A={'x' * 50_000}\nENV B=$A$A\nCOPY <<E /a\n{'$B' * 50}\nE",
            "line 4: its variables make it longer than 4,194,304 letters",
        ),
        (
            f"ENV A={'x' * 60_000}\nENV B=$A$A\n" + "LABEL a=$B\n" * 200,
            "line 142: what it says grows to more than 16 MiB of text",
        ),
        ("EXPOSE 1-65535\n" * 100, "line 5: what it says grows to more than 16 MiB of text"),
        (
            "\n".join("ENV " + " ".join(f"A{n * 100 + m}=b" for m in range(100)) for n in range(60)),
            "line 52: more than 5,000 variables",
        ),
        (
            "\n".join("LABEL " + " ".join(f"A{n * 100 + m}=b" for m in range(100)) for n in range(60)),
            "line 52: more than 5,000 labels",
        ),
    ],
    ids=["env", "arg", "document", "labels", "ports", "variables", "many labels"],
)
async def test_what_grows_as_it_is_built_is_refused(session: CopyingSession, body: str, message: str) -> None:
    """At the instruction that goes over the limit."""
    with pytest.raises(DockerfileError) as caught:
        await session.build(f"FROM scratch\n{body}")

    assert str(caught.value) == f"cannot build `Dockerfile` {message}"


@pytest.mark.anyio
async def test_a_file_that_is_too_large_is_not_read(session: CopyingSession) -> None:
    """Neither as Dockerfile nor as ignore file."""
    large = "# x\n" * 1_100_000

    with pytest.raises(DockerfileError) as dockerfile:
        await session.build(large)
    with pytest.raises(DockerfileError) as ignore:
        await session.build("FROM scratch", {".dockerignore": large})

    assert [str(each.value) for each in (dockerfile, ignore)] == [
        "cannot read `Dockerfile`: `/Dockerfile` is larger than 4 MiB",
        "cannot read `Dockerfile`: `/.dockerignore` is larger than 4 MiB",
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("keyword", ["COPY", "ADD"])
@pytest.mark.parametrize(
    "source", ["../secret", "/../secret", "a/../../secret", "../*", "out", "up/secret", '["../secret", "/"]']
)
async def test_no_source_leaves_the_context(
    session: CopyingSession, tmp_path: Path, keyword: str, source: str
) -> None:
    """Neither by dots nor by links; what is asked for is looked for inside, and missing."""
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "context"
    root.mkdir()
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to("..")
    (root / "Dockerfile").write_text(f"FROM scratch\n{keyword} {source}{'' if '[' in source else ' /'}")

    found = await _outcome(session, root)

    assert "secret" not in found.values()


async def _outcome(session: CopyingSession, root: Path) -> dict[str, str]:
    """Return the files that a build leaves; none when it was refused."""
    try:
        container = await build(session, Directory(tree=session.keep(root)))
    except DockerfileError:
        return {}
    return session.files(container)


@pytest.mark.anyio
@pytest.mark.parametrize("destination", ["../../../../escaped", "/a/../../../escaped", "up/../../escaped"])
async def test_no_destination_leaves_the_root(session: CopyingSession, destination: str) -> None:
    """Dots at the root stay there."""
    container = await session.build(
        f"FROM scratch\nWORKDIR /w\nCOPY a {destination}\nADD b {destination}2", {"a": "a", "b": "b"}
    )

    assert session.files(container) == {"/escaped": "a", "/escaped2": "b"}
