"""Runs the real command in a project of a few files, and gives whole stdout, whole stderr and the exit code.

What differs from run to run is replaced: durations by `TIME`, run ids by `RUN`, moments by `MOMENT`, the
project's folder by `ROOT`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND = Path(sys.executable).parent / "pipeline"
LIMIT_S = 60

STAGES = '''
"""Three stages and an effect; `check` fails while tests/bad.txt is there."""

from pipeline import CheckFailed, Context, Failure, stage

drop = ["*"]


@stage(inputs=["src/**"])
async def make(ctx: Context) -> str:
    """Make a thing."""
    ctx.log("making it")
    return (ctx.root / "src/a.txt").read_text()


@stage(inputs=["tests/**"], tags=["quick"])
async def check(ctx: Context, make: str) -> None:
    """Check the thing."""
    if (ctx.root / "tests/bad.txt").exists():
        raise CheckFailed(
            Failure(
                message="1 test failed",
                command=("pytest", "-q", "a b"),
                exit_code=1,
                tail=("E   assert 1 == 2", "1 failed"),
                hint="look at the assertion",
            )
        )


@stage(inputs=[])
async def lint(ctx: Context) -> None:
    """Look at the style."""


@stage(effect=True)
async def ship(ctx: Context, make: str, check: None) -> None:
    """Ship the thing."""
    ctx.log(f"shipping to {ctx.environment}")
'''

FILES = {"ci/stages.py": STAGES, "src/a.txt": "one\n", "tests/good.txt": "fine\n"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command left, scrubbed."""

    stdout: str
    stderr: str
    code: int


@dataclass(frozen=True, kw_only=True)
class CliProject:
    """A project in a folder of its own, and the command run in it."""

    root: Path
    home: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Write files by their path."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def __call__(self, *argv: str, cwd: Path | None = None, **environ: str) -> Answer:
        """Run `pipeline` with `argv` and the variables given."""
        return self.run(*argv, cwd=cwd, environ=environ)

    def run(self, *argv: str, cwd: Path | None = None, environ: Mapping[str, str]) -> Answer:
        """Run `pipeline`; standard output and error are pipes."""
        done = subprocess.run(
            [str(COMMAND), *argv],
            cwd=cwd or self.root,
            env=self.environment(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
        return Answer(
            stdout=self.scrub(done.stdout.decode()),
            stderr=self.scrub(done.stderr.decode()),
            code=done.returncode,
        )

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """The variables of the command: nothing of this machine but where programs are."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PIP_CONFIG_FILE": os.devnull,
            "PIPELINE_CA_BUNDLE": "/dev/null",
            "PIPELINE_ENGINE_IDLE": "0",
            "LC_ALL": "C.UTF-8",
            **more,
        }

    def scrub(self, text: str) -> str:
        """Replace what differs from run to run."""
        text = text.replace(str(self.root), "ROOT")
        text = re.sub(r"\b\d{8}-\d{6}-\d{3}-[0-9a-f]{4}\b", "RUN", text)
        text = re.sub(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b", "MOMENT", text)
        return re.sub(r" +\d+\.\d+s\b", " TIME", text)


def lines(text: str) -> str:
    """An expected output, written indented as a block."""
    return textwrap.dedent(text).lstrip("\n")
