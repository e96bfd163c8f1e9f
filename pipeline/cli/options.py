"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


F = TypeVar("F", bound="Callable[..., Any]")

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
commit_option = click.option(
    "--commit", metavar="REF", help="Take everything from this commit, not from the working tree."
)
image_fallback_option = click.option(
    "--image-fallback", type=click.Choice(["none", "recipe"]), help="What to do without a registry."
)


def _directory(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """Take `-C` of the command, else the one given before the command."""
    given: str | None = ctx.find_root().obj
    return value or given


directory_option = click.option(
    "-C",
    "directory",
    metavar="DIR",
    callback=_directory,
    help="Work in DIR instead of the current directory.",
)


def size_value(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Read a size such as 500MB.

    Raises:
        BadParameter: It is none.
    """
    from pipeline.config.check import parse_size

    size = parse_size(value) if value is not None else None
    if value is not None and size is None:
        raise click.BadParameter(f'expected a size such as "500MB" or "2GiB", got "{value}"')
    return size


def duration_value(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Check a duration such as 5m; the configuration reads it.

    Raises:
        BadParameter: It is none.
    """
    from pipeline.config.check import parse_duration

    if value is not None and parse_duration(value) is None:
        raise click.BadParameter(f'expected a duration such as "30s" or "5m", got "{value}"')
    return value


def _names(_: click.Context, __: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """Split `a,b` and drop what is empty."""
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def selection_options(function: F) -> F:
    """Add the options that choose stages; `select` takes them by their names."""
    for option in reversed(
        [
            _many("--only", "only", "Run these stages; what they need comes from the cache, or runs too."),
            _many("--from", "from_", "Run these stages and all that depend on them."),
            _many("--until", "until", "Run these stages and all they wait for."),
            _many("--skip", "skip", "Leave out these stages and those that cannot do without them."),
            _many("--tag", "tags", "Run the stages with one of these tags.", metavar="TAG"),
            click.option(
                "--failed",
                metavar="[RUN]",
                is_flag=False,
                flag_value="last",
                help="Run again what failed in RUN (the last one), and what depends on it.",
            ),
            click.option("--since", metavar="REF", help="Run only what files changed since REF affect."),
            click.option(
                "--env",
                "environment",
                metavar="NAME",
                default="",
                envvar="PIPELINE_ENV",
                help="The environment that effects (push, deploy) act on; without one they are skipped.",
            ),
        ]
    ):
        function = option(function)
    return function


def _many(flag: str, name: str, help_: str, *, metavar: str = "STAGE") -> Callable[[F], F]:
    return click.option(
        flag, name, multiple=True, metavar=f"{metavar}[,{metavar}]", callback=_names, help=help_
    )
