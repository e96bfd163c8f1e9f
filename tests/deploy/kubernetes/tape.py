"""Stands in for `kubectl` on PATH: lets the real one answer and records it, or gives recorded answers.

A tape has a line for each call, in order: arguments, standard input, both outputs and the exit code. Answers
that are JSON are kept without blanks; one that was given before is the number of that call. A call that does
not come in the recorded order, with the recorded input, fails.
"""

import fcntl
import json
import os
import subprocess
import sys
from contextlib import suppress


def record(tape: str, argv: list[str], stdin: bytes) -> tuple[str, str, int]:
    """Ask the real program, and write down what it said."""
    done = subprocess.run([os.environ["TAPE_PROGRAM"], *argv], input=stdin, capture_output=True, check=False)
    said = done.stdout.decode()
    with suppress(ValueError):  # what is no JSON is kept as it is
        said = json.dumps(json.loads(said), separators=(",", ":"))
    line = {
        "argv": argv,
        "stdin": stdin.decode(),
        "out": said,
        "err": done.stderr.decode(),
        "code": done.returncode,
    }
    with open(tape, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        for number, other in enumerate(map(json.loads, file)):
            if len(said) > 200 and other["out"] == said:
                line["out"] = number
        file.write(json.dumps(line) + "\n")
    return done.stdout.decode(), done.stderr.decode(), done.returncode


def replay(tape: str, place: str, argv: list[str], stdin: bytes) -> tuple[str, str, int]:
    """Give the next answer of the tape; `place` is a file that remembers how many were given."""
    with open(tape, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    with open(place, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = len(file.read())
        file.write(".")
    if number >= len(lines):
        return "", f"error: the tape has ended, and does not know {argv}", 97
    line = lines[number]
    if line["argv"] != argv or line["stdin"] != stdin.decode():
        return (
            "",
            f"error: call {number} of the tape is {line['argv']} {line['stdin']}, not {argv} {stdin!r}",
            98,
        )
    said = lines[line["out"]]["out"] if isinstance(line["out"], int) else line["out"]
    return said, line["err"], line["code"]


def main() -> int:
    """Do as the environment says."""
    argv, stdin, tape = sys.argv[1:], sys.stdin.buffer.read(), os.environ["TAPE"]
    if "TAPE_PROGRAM" in os.environ:
        out, err, code = record(tape, argv, stdin)
    else:
        out, err, code = replay(tape, os.environ["TAPE_PLACE"], argv, stdin)
    sys.stdout.write(out)
    sys.stderr.write(err)
    return code


if __name__ == "__main__":
    sys.exit(main())
