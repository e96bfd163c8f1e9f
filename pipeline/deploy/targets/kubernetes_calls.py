"""Calls of `kubectl`: one program that knows every way to log in to a cluster, called and never rewritten."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from shutil import which
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio

from pipeline.deploy.target import TargetFailed
from pipeline.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = "kubectl"
MANAGER: Final = "dagger-pipeline"
ANSWER_LIMIT_S: Final = 20.0  # of one request
CALL_LIMIT_S: Final = 60.0  # of a program that may make several
HINT: Final = "look with `kubectl cluster-info` and `kubectl auth whoami`"

Why: TypeAlias = Literal["conflict", "exists", "missing", "refused", "unreachable", "other"]
_SIGNS: Final[tuple[tuple[Why, str], ...]] = (
    ("exists", r"\(AlreadyExists\)"),
    ("conflict", r"\(Conflict\)|resourceVersion: Invalid value|the object has been modified"),
    ("missing", r"\(NotFound\)"),
    ("refused", r"\((Forbidden|Unauthorized|Invalid|BadRequest)\)|must be logged in"),
    ("unreachable", r"(?i)connection refused|no such host|i/o timeout|unable to connect|deadline exceeded"),
)


class CallFailed(TargetFailed):
    """`kubectl` ended with another code than 0; `why` is what a caller may do something about."""

    def __init__(self, what: str, why: Why, said: str) -> None:
        super().__init__(f"cannot {what}: {_first_line(said)}", logs=said)
        self.why = why
        if why in ("unreachable", "refused"):
            self.hint = HINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """One namespace of one cluster. None is the current context."""

    namespace: str
    context: str | None = None

    def argv(self, *words: str) -> list[str]:
        """Return the whole command."""
        context = ["--context", self.context] if self.context is not None else []
        return [
            PROGRAM,
            *context,
            "--namespace",
            self.namespace,
            f"--request-timeout={ANSWER_LIMIT_S:g}s",
            *words,
        ]

    async def call(self, what: str, *words: str, stdin: bytes = b"", limit_s: float = CALL_LIMIT_S) -> bytes:
        """Run it and return what it printed; `what` completes the sentence "cannot …".

        Raises:
            CallFailed: It ended with another code than 0, or took too long.
            TargetFailed: It is not installed.
        """
        if which(PROGRAM) is None:
            raise TargetFailed(f"cannot {what}: `kubectl` is not installed", hint="install it, and log in")
        try:
            with anyio.fail_after(limit_s):
                done = await anyio.run_process(self.argv(*words), input=stdin, check=False)
        except TimeoutError as error:
            raise CallFailed(what, "unreachable", f"no answer within {limit_s:g} s") from error
        if done.returncode != 0:
            said = clean(done.stderr.decode(errors="replace")).strip()
            raise CallFailed(what, _why(said), said or f"kubectl ended with code {done.returncode}")
        return done.stdout

    async def read(self, what: str, *words: str) -> dict[str, Any]:
        """Return an object, or a list of them, as JSON has it; {} where there is none."""
        said = await self.call(what, "get", *words, "--ignore-not-found", "--output=json")
        found: dict[str, Any] = json.loads(said) if said.strip() else {}
        return found

    async def apply(self, what: str, items: Sequence[dict[str, Any]], *, is_trial: bool = False) -> None:
        """Bring objects about. One that names the version it replaces is refused when it has another by now.

        Args:
            is_trial: Let the server say what it would, and change nothing.

        Raises:
            CallFailed: The server refuses one; those before it are done.
        """
        if not items:
            return
        trial = ["--dry-run=server"] if is_trial else []
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)}).encode()
        words = ("apply", "--server-side", f"--field-manager={MANAGER}", "--force-conflicts", *trial)
        await self.call(what, *words, "--filename=-", "--output=name", stdin=text)


def _why(said: str) -> Why:
    return next((why for why, sign in _SIGNS if re.search(sign, said)), "other")


def _first_line(said: str) -> str:
    """The server's own words, without what `kubectl` puts before them."""
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("Warning:")]
    text = lines[0] if lines else "it said nothing"
    return re.sub(r"^(error|Error from server( \(\w+\))?):\s*", "", text)[:500]
