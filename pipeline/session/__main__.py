"""`pipeline-engine`: stands in for Dagger's CLI as the SDKs start it, and runs a command inside a session.

    pipeline-engine session [--workdir DIR] [--label NAME:VALUE]...
    pipeline-engine shell [--workdir DIR] -- COMMAND [ARGUMENT]...

`session` prints one line of JSON, `{"port": N, "session_token": "…"}`, and serves until its stdin closes.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.engine.settings import IDLE_S, SETTINGS_VARIABLE, EngineSettings, settings_from_json
from pipeline.errors import EXIT_FAILED, EXIT_USAGE, PipelineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, with the engine that stays where there may be one; return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    options = _parser().parse_args(words)
    if options.command == "session":
        try:
            settings = _settings(options)
        except UsageError:
            return serve(words)  # which says so
        idle_s = idle_from(os.environ) if settings.idle_s is None else settings.idle_s
        if idle_s > 0:
            from pipeline.session.attach import run_attached

            code = run_attached(words, store=settings.store_path(), idle_s=idle_s, events=options.events)
            if code is not None:
                return code
    return serve(words)


def idle_from(environ: Mapping[str, str]) -> float:
    """Return how many seconds an engine stays that no configuration speaks of; 0 in CI."""
    if "CI" in environ:
        return 0.0
    try:
        return max(0.0, float(environ.get("PIPELINE_ENGINE_IDLE") or IDLE_S))
    except ValueError:
        return 0.0


def serve(argv: Sequence[str]) -> int:
    """Run the command line in this process, which becomes the engine; return the exit code."""
    options = _parser().parse_args(argv)
    try:
        settings = _settings(options)
        workdir = os.path.abspath(options.workdir or os.getcwd())
        if not os.path.isdir(workdir):
            raise UsageError(f"cannot use `{workdir}` as the working directory: it is no directory")
        if options.command == "shell" and os.geteuid() != 0:
            return _shell_outside(options, workdir)
        from pipeline.engine.rootless.enter import enter_user_namespace

        enter_user_namespace()
        from pipeline.session import process

        if options.command == "session":
            process.run_session(settings, workdir, events=options.events)
            return 0
        return process.run_shell(settings, workdir, options.argv, events=options.events)
    except PipelineError as problem:
        print(f"pipeline-engine: {problem}", file=sys.stderr)  # noqa: T201
        if problem.hint:
            print(f"hint: {problem.hint}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE if isinstance(problem, UsageError) else EXIT_FAILED


def _shell_outside(options: argparse.Namespace, workdir: str) -> int:
    from pipeline.session.outside import run_outside

    given = ["--workdir", workdir]
    for name in ("store", "runner", "image_fallback", "events"):
        if (value := getattr(options, name)) is not None:
            given += [f"--{name.replace('_', '-')}", str(value)]
    if options.offline:
        given.append("--offline")
    return run_outside(given, options.argv, workdir=workdir, events=options.events)


def _settings(options: argparse.Namespace) -> EngineSettings:
    text = os.environ.get(SETTINGS_VARIABLE)
    settings = settings_from_json(text) if text else EngineSettings()
    given = {
        name: getattr(options, name)
        for name in ("store", "offline", "image_fallback", "runner")
        if getattr(options, name) not in (None, False)
    }
    return replace(settings, **given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pipeline-engine", description="The embedded engine behind Dagger's session protocol."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    session = commands.add_parser("session", help="serve one session until stdin closes")
    shell = commands.add_parser("shell", help="run a command with a session in its environment")
    for command in (session, shell):
        command.add_argument("--workdir", metavar="DIR", help="where relative host paths begin")
        command.add_argument("--store", metavar="DIR", help="the directory of the engine's state")
        command.add_argument("--runner", choices=("launcher", "runc", "bwrap"), help="what runs containers")
        command.add_argument("--offline", action="store_true", help="use no network")
        command.add_argument(
            "--image-fallback",
            choices=("none", "recipe"),
            help="where no registry answers, build stand-ins for images from Debian packages",
        )
        command.add_argument(
            "--events", type=int, metavar="FD", help="write events as lines of JSON to this open descriptor"
        )
    # What the SDKs pass to Dagger's CLI and means nothing here.
    session.add_argument("--label", action="append", help=argparse.SUPPRESS)
    session.add_argument("--project", help=argparse.SUPPRESS)
    session.add_argument("--load-workspace-modules", action="store_true", help=argparse.SUPPRESS)
    session.add_argument("--version", help=argparse.SUPPRESS)
    shell.add_argument("argv", nargs="+", metavar="COMMAND", help="the command and its arguments")
    return parser


if __name__ == "__main__":
    sys.exit(main())
