"""A command that writes very much costs neither memory nor a run folder without end.

`ROBUST_OUTPUT` sets how many bytes it writes.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from pipeline.engine.runtime.lines import LAST_BYTES, SHOWN_BYTES, Lines
from tests.pipelines.robust import LIMIT_S, finish

if TYPE_CHECKING:
    from tests.pipelines.robust import Done, RobustProject

OUTPUT_BYTES: Final = int(os.environ.get("ROBUST_OUTPUT", 200_000_000))
LIMIT_KB: Final = 150 << 10

TALKER = '''
from pipeline import Context, stage

drop = ["*"]


@stage()
async def talk(ctx: Context) -> str:
    """Writes much, and then a word."""
    client = await ctx.dagger()
    container = client.container().with_rootfs(client.host().directory("ROOTFS"))
    line = "0123456789" * 6
    script = f"yes {line} | head -c MANY; echo; echo last"
    talked = await container.with_exec(["sh", "-c", script]).sync()
    return await talked.with_exec(["echo", "fine"]).stdout()
'''


ASKER = '''
from pipeline import Context, stage

drop = ["*"]


@stage()
async def ask(ctx: Context) -> str:
    """Asks for more than an answer holds."""
    client = await ctx.dagger()
    container = client.container().with_rootfs(client.host().directory("ROOTFS"))
    script = "yes 0123456789 | head -c MANY"
    return await container.with_exec(["sh", "-c", script]).stdout()


@stage()
async def keep(ctx: Context) -> int:
    """Has it as a file."""
    client = await ctx.dagger()
    container = client.container().with_rootfs(client.host().directory("ROOTFS"))
    script = "yes 0123456789 | head -c MANY"
    written = container.with_exec(["sh", "-c", script], redirect_stdout="/out")
    await written.file("/out").export(str(ctx.root / "out"))
    return (ctx.root / "out").stat().st_size
'''


@pytest.mark.root
def test_much_output_of_one_command_is_bounded_in_memory_and_log(bare: RobustProject) -> None:
    """Engine and command stay below 150 MB; the log has the beginning, a mark and the last lines."""
    bare.write({"ci/stages.py": TALKER.replace("MANY", str(OUTPUT_BYTES))})
    done, peaks_kb = run_watched(bare)

    log = (bare.runs()[-1] / "stages/talk/log.txt").read_bytes()
    assert done.code == 0, done
    assert bare.result("talk") == "fine\n"
    assert set(peaks_kb) == {"engine", "command"}
    assert max(peaks_kb.values()) < LIMIT_KB, peaks_kb
    assert SHOWN_BYTES < len(log) < SHOWN_BYTES + 2 * LAST_BYTES + (1 << 19)
    assert b" bytes are left out here]\n" in log
    assert log.endswith(b"\nlast\n$ echo fine\nfine\n")


@pytest.mark.root
def test_output_longer_than_an_answer_is_refused_and_can_be_had_as_a_file(bare: RobustProject) -> None:
    """Neither way takes memory for it: engine and command stay below 150 MB."""
    bare.write({"ci/stages.py": ASKER.replace("MANY", str(OUTPUT_BYTES))})

    done, peaks_kb = run_watched(bare)

    sentence = f"cannot give `stdout`: it has {OUTPUT_BYTES} bytes, and {128 << 20} are the most"
    assert done.code == 1, done
    assert sentence in done.stdout
    assert bare.result("keep") == OUTPUT_BYTES
    assert set(peaks_kb) == {"engine", "command"}
    assert max(peaks_kb.values()) < LIMIT_KB, peaks_kb


def run_watched(project: RobustProject) -> tuple[Done, dict[str, int]]:
    """Run the pipeline; return how it ended and the most memory that engine and command had, in KiB."""
    process = project.start("run", "-q")
    peaks_kb: dict[str, int] = {}
    until = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < until:
        for pid, command in project.left().items():
            name = "engine" if "pipeline.session" in command else "command"
            peaks_kb[name] = max(peaks_kb.get(name, 0), peak_kb(pid))
        time.sleep(0.1)
    return finish(process), peaks_kb


def peak_kb(pid: int) -> int:
    """The most memory a process has had at once, in KiB; 0 when it is gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) if found else 0


def test_little_output_is_shown_whole() -> None:
    """Texts are whole lines; the rest comes at the end."""
    shown: list[tuple[str, str]] = []
    lines = Lines("stdout", lambda name, text: shown.append((name, text)))

    for data in (b"one\ntw", b"o\nthr", "é".encode()[:1], "é".encode()[1:]):
        lines.feed(data)
    lines.feed(b"", final=True)

    assert shown == [("stdout", "one\n"), ("stdout", "two\n"), ("stdout", "thré")]


def test_of_much_output_beginning_and_end_are_shown_with_the_number_of_bytes_between() -> None:
    """What is shown and what is left out add up to what was written."""
    shown: list[str] = []
    lines = Lines("stderr", lambda _, text: shown.append(text))
    piece = b"0123456789abcde\n" * 4096
    pieces = SHOWN_BYTES // len(piece) + 32

    for _ in range(pieces):
        lines.feed(piece)
    lines.feed(b"the end", final=True)

    text = "".join(shown)
    left_out = [int(number) for number in re.findall(r"\n\[(\d+) bytes are left out here\]\n", text)]
    plain = re.sub(r"\n\[\d+ bytes are left out [a-z ]+\]\n", "", text)
    assert len(left_out) == 1
    assert len(plain) + left_out[0] == pieces * len(piece) + len("the end")
    assert text.endswith("0123456789abcde\nthe end")
