"""Errors as the SDK raises them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagger
import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable

pytestmark = [pytest.mark.anyio, pytest.mark.root]
LIMIT = 100 * 1024


async def failure(work: Awaitable[object]) -> dagger.ExecError:
    with pytest.raises(dagger.ExecError) as caught:
        await work
    return caught.value


async def test_a_failing_exec_raises_with_everything_set(base: dagger.Container) -> None:
    """19, 20, 21. The error has the command, its code, and what it printed, trimmed."""
    argv = ["sh", "-c", "echo; echo ' out '; echo err >&2; exit 3"]

    error = await failure(base.with_exec(argv).sync())

    assert (error.command, error.exit_code, error.stdout, error.stderr) == (argv, 3, "out", "err")
    assert "exit code: 3" in str(error)


async def test_of_much_output_the_error_has_the_end(base: dagger.Container) -> None:
    """22. Of more than 100 KiB the error has the end, and says how much was left out."""
    much = LIMIT + 5000

    long = await failure(base.with_exec(["sh", "-c", f"yes | head -c {much}; exit 1"]).sync())
    short = await failure(base.with_exec(["sh", "-c", "yes | head -c 5000; exit 1"]).sync())

    notice = "[omitting 5000 bytes]..."
    assert long.stdout.startswith(notice)
    assert len(long.stdout) in (LIMIT, LIMIT - 1)  # the last new line is trimmed
    assert short.stdout == ("y\n" * 2500).strip()


async def test_redirected_output_is_in_the_error(base: dagger.Container) -> None:
    """23. What went to files is in the error as well."""
    command = base.with_exec(
        ["sh", "-c", "echo out; echo err >&2; exit 1"], redirect_stdout="/o", redirect_stderr="/e"
    )

    error = await failure(command.sync())

    assert (error.stdout, error.stderr) == ("out", "err")


async def test_a_secret_in_the_error_is_scrubbed(dag: dagger.Client, base: dagger.Container) -> None:
    """24. A secret that a failing command prints is not in the error."""
    secret = dag.set_secret("conformance-24", "plain-text-24")
    command = base.with_secret_variable("S", secret).with_exec(["sh", "-c", "echo $S; echo $S >&2; exit 1"])

    error = await failure(command.sync())

    assert (error.stdout, error.stderr) == ("***", "***")
    assert "plain-text-24" not in str(error)


async def test_with_error_fails_the_query_unless_it_is_empty(dag: dagger.Client) -> None:
    """25. An error that was put into a chain fails it; an empty one is none."""
    assert await dag.container().with_error("").user() == ""
    for chain in (dag.container().with_error("x25"), dag.container().with_error("x25").with_user("a")):
        with pytest.raises(dagger.QueryError, match="x25"):
            await chain.user()
    with pytest.raises(dagger.QueryError, match="x25"):
        await dag.directory().with_error("x25").entries()


async def test_a_failure_in_an_argument_surfaces_once(
    dag: dagger.Client, base: dagger.Container, unique: str
) -> None:
    """26. A failure of what an argument stands for is the failure of the call; it is run once for it."""
    mounted = base.with_mounted_cache("/c", dag.cache_volume(unique))
    broken = mounted.with_exec(["sh", "-c", "echo run >> /c/runs; exit 4"]).directory("/tmp")

    error = await failure(
        dag.directory().with_directory("/one", broken).with_directory("/two", broken).entries()
    )

    assert error.exit_code == 4
    assert await mounted.with_exec(["cat", "/c/runs"]).stdout() == "run\n"


async def test_an_error_as_a_value(dag: dagger.Client) -> None:
    """An error can be made with a message and values of JSON."""
    error = dag.error("it broke").with_value("code", dagger.JSON("7")).with_value("at", dagger.JSON('"now"'))

    assert await error.message() == "it broke"
    values = [(await value.name(), await value.value()) for value in await error.values()]
    assert sorted(values) == [("at", '"now"'), ("code", "7")]
