"""The launcher's source: no warning of the compiler, and no input that its reader stumbles over."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

import pytest

from pipeline.engine.runtime.spec import (
    BindMount,
    ExecSpec,
    FileMount,
    Overlay,
    OverlayMount,
    TmpfsMount,
)
from pipeline.engine.runtime.wire import encode

HERE: Final = Path(__file__).parent
SOURCES: Final = HERE.parents[1] / "pipeline/engine/runtime"
WARNINGS: Final = (
    "-std=c11", "-Wall", "-Wextra", "-Wshadow", "-Wformat=2", "-Werror", "-fstack-protector-strong",
)  # fmt: skip
EXTREMES: Final = (0, 1, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC, 0x40000000)
OVERLAY: Final = Overlay(lowers=(Path("/one"), Path("/two")), upper=Path("/upper"), work=Path("/work"))
SPEC: Final = ExecSpec(
    id="fuzz",
    rootfs=OVERLAY,
    mounts=(
        OverlayMount(target="/tree", overlay=OVERLAY, source_path="/part", read_only=True),
        BindMount(target="/bind", source=Path("/source")),
        TmpfsMount(target="/tmp", size_bytes=1000),
        FileMount(target="/file", content=b"content\0more", mode=0o400, uid=5, gid=6),
    ),
    argv=("sh", "-c", "true"),
    env=(("PATH", "/bin"), ("NAME", "value")),
    cwd="/work",
    uid=1000,
    gid=1000,
    groups=(1000, 10),
    network_namespace=Path("/run/netns"),
    redirect_stdout="out",
    cgroups=(Path("/sys/fs/cgroup/leaf"),),
)


def compiler() -> str:
    found = shutil.which("cc")
    if found is None:
        pytest.skip("no C compiler here")
    return found


def test_the_launcher_compiles_without_a_warning(tmp_path: Path) -> None:
    """With the warnings on that find mistakes."""
    sources = sorted(SOURCES.glob("launcher*.c"))

    subprocess.run([compiler(), *WARNINGS, "-O2", "-o", tmp_path / "launcher", *sources], check=True)


def damaged(chance: random.Random, message: bytes) -> bytes:
    """Return a message with a few things wrong."""
    data = bytearray(message)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                at -= at % 4
                data[at : at + 4] = struct.pack("<I", chance.choice(EXTREMES))
            case 2:
                del data[at:]
            case 3:
                data[at:at] = data[chance.randrange(len(data) + 1) :][:64]
            case _:
                del data[at : at + chance.randint(1, 16)]
    return bytes(data)


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="no sanitizers to rely on")
def test_no_message_makes_the_launcher_s_reader_stumble(tmp_path: Path) -> None:
    """Damaged ones are refused, or read within their bounds: the sanitizers watch."""
    program = tmp_path / "fuzz"
    flags = [*WARNINGS, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    built = subprocess.run(
        [
            compiler(),
            *flags,
            f"-I{SOURCES}",
            "-o",
            program,
            HERE / "fuzz_spec.c",
            SOURCES / "launcher_spec.c",
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if "cannot find" in built.stderr:
        pytest.skip("no sanitizers here")
    assert built.returncode == 0, built.stderr
    message = encode(SPEC, engine_pid=1, handshake=True)
    chance = random.Random(11)  # noqa: S311 - the same messages each time
    inputs = [message, b"", *(message[:size] for size in range(0, len(message), 7))]
    inputs += [damaged(chance, message) for _ in range(3000)]

    done = subprocess.run(
        [program],
        input=b"".join(struct.pack("<I", len(one)) + one for one in inputs),
        capture_output=True,
        env={"ASAN_OPTIONS": "exitcode=99:detect_leaks=0:allocator_may_return_null=1"},
        check=False,
    )

    assert (done.stdout.decode(), done.returncode) == ("", 0), done.stderr.decode()[:2000]
