"""The `pipeline` command: a table of commands, each loaded when it is called; errors become exit codes.

What commands share is in `options` and `project`; how text leaves the process in `output`.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from pipeline.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The sentence stands here too, so that `--help` loads no command; a test compares it with the command's own.
COMMANDS: Final[Mapping[str, str]] = {
    "run": "Run the pipeline, or the chosen stages of it.",
    "list": "List the stages of this project.",
    "plan": "Show what a run would do, and why, without doing it.",
    "graph": "Draw the graph of stages.",
    "explain": "Say why a stage would run, or where each setting comes from.",
    "logs": "Show what a stage said in a run.",
    "runs": "List past runs, the newest first.",
    "report": "Write the report of a run again from what it recorded.",
    "findings": "Look at what the scanners of a run found, and waive what the team lives with.",
    "baseline": "Keep the file of findings that were there before.",
    "deploy": "Bring what was pushed to the environment ENV.",
    "promote": "Bring what runs in the environment FROM to the environment TO.",
    "rollback": "Go back, in the environment ENV, to RELEASE, or to the last good one.",
    "status": "Show what runs in ENV, or in every environment that is declared.",
    "history": "List the deployments of the environment ENV, the newest first.",
    "approve": "Give one's signed word for exactly one deployment.",
    "audit": "Look at the audit log of an environment, and verify it.",
    "env": "Look at environments: settings, differences, drift, locks.",
    "release": "Plan, publish and verify releases.",
    "cache": "Show or prune the cache of stage results; carry the engine's to other machines.",
    "engine": "Look after the embedded engine.",
    "doctor": "Check this machine and say how to mend what is found.",
    "init": "Write a commented starting configuration.",
    "lock": "Pin the project's images in pipeline.lock.",
    "prefetch": "Fetch images and packages for working offline; or carry data of scanners in a file.",
}


class Commands(click.Group):
    """A group whose commands are modules of this package, imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"pipeline.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in COMMANDS:
            from pipeline.config import suggest

            message = f"no command is called `{name}`"
            raise click.UsageError(message + suggest(name, list(COMMANDS)), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the version and leave."""
    if wanted and not ctx.resilient_parsing:
        from pipeline import __version__

        click.echo(f"pipeline {__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 good, 1 failed, 2 wrong use or configuration, 3 refused by policy, 4 rolled back, "
    "5 rollback failed, 6 waiting, 7 resumable, 124 deadline, 130 interrupted.",
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version."
)
@click.option("-C", "directory", metavar="DIR", help="Work in DIR instead of the current directory.")
@click.pass_context
def app(ctx: click.Context, directory: str | None) -> None:
    """Delivery pipelines as async Python functions over Dagger containers.

    The same graph of stages runs here and in CI, by one command: pipeline run.
    """
    ctx.obj = directory


def run(argv: Sequence[str]) -> int:
    """Carry out `argv` and return the exit code; errors of ours become one sentence on stderr."""
    from pipeline.cli.output import say_error

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold bytes that are no UTF-8: escaped they neither fail nor break a JSON document.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = app.main(args=list(argv), prog_name="pipeline", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except PipelineError as error:
        say_error(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has left (`pipeline list | head`): quiet, and Python must not complain when it flushes.
        sys.stdout = None
        return EXIT_OK
    except OSError:
        if not has_hung_up():
            raise
        # The terminal was closed: nobody can be told, and what was at work has been cancelled by SIGHUP.
        sys.stdout = sys.stderr = None
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else EXIT_OK


def has_hung_up() -> bool:
    """Whether standard output or error is a terminal that was closed; writing to it fails from then on."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError as error:
            if error.errno == errno.EIO:
                return True
    return False
