"""`Container`: running it, and what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipeline.session.fields import Field, Resolve
from pipeline.session.tables.container import refuse_nesting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine import ops
    from pipeline.engine.container import Container
    from pipeline.session.fields import Table
    from pipeline.session.scope import Scope


def with_exec(_: Scope, container: Container, arguments: Mapping[str, Any]) -> Container:
    """Run a command, when something is asked of the result."""
    refuse_nesting("Container.withExec", arguments)
    return container.with_exec(
        arguments["args"],
        use_entrypoint=arguments["useEntrypoint"],
        stdin=arguments["stdin"],
        redirect_stdin=arguments["redirectStdin"],
        redirect_stdout=arguments["redirectStdout"],
        redirect_stderr=arguments["redirectStderr"],
        expect=arguments["expect"],
        insecure=arguments["insecureRootCapabilities"],
        expand=arguments["expand"],
        no_init=arguments["noInit"],
    )


def as_service(_: Scope, container: Container, arguments: Mapping[str, Any]) -> ops.ContainerService:
    """Return the service that the container is when it is run."""
    refuse_nesting("Container.asService", arguments)
    return container.as_service(
        args=arguments["args"] or (),
        use_entrypoint=arguments["useEntrypoint"],
        insecure=arguments["insecureRootCapabilities"],
        expand=arguments["expand"],
        no_init=arguments["noInit"],
    )


async def sync(scope: Scope, container: Container, _: Mapping[str, Any]) -> None:
    """Evaluate."""
    await scope.engine.sync(container)


async def exit_code(scope: Scope, container: Container, _: Mapping[str, Any]) -> int:
    """Return the last exec's exit code."""
    return (await scope.engine.last_exec(container)).exit_code


def output(stream: str) -> Resolve:
    """Return the resolver of an output stream."""

    async def resolve(scope: Scope, container: Container, _: Mapping[str, Any]) -> str:
        return await scope.engine.output(container, stream)

    return resolve


EXECUTION: Final[Table] = {
    "asService": Field(resolve=as_service, is_pure=True),
    "combinedOutput": Field(resolve=output("combined")),
    "exitCode": Field(resolve=exit_code),
    "stderr": Field(resolve=output("stderr")),
    "stdout": Field(resolve=output("stdout")),
    "sync": Field(resolve=sync),
    "withExec": Field(resolve=with_exec, is_pure=True),
}
