"""What a container says of how it is run: variables, user, ports, labels; every method is pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from pipeline.engine import ops
from pipeline.engine.durations import parse_duration
from pipeline.engine.oci.config import ImageConfig
from pipeline.engine.paths import expand_variables, join
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

T = TypeVar("T")


class BadArgument(EngineError):
    """An argument is refused when the call is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """The configuration of a container, and what is added to it when it runs."""

    platform: str
    config: ImageConfig = ImageConfig()
    secret_env: tuple[tuple[str, ops.SecretHandle], ...] = ()
    volatile_env: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    ports: tuple[ops.Port, ...] = ()  # withExposedPort: what a service knows of
    image_ref: str = ""
    default_args_set: bool = False  # by withDefaultArgs or a Dockerfile: asService then runs them bare

    def _configured(self, **changes: object) -> Self:
        return replace(self, config=replace(self.config, **changes), image_ref="")  # type: ignore[arg-type]

    def env_value(self, name: str) -> str | None:
        """Return a persistent environment variable's value."""
        return dict(self.config.env).get(name)

    def expand(self, text: str, *, wanted: bool) -> str:
        """Replace variables from the persistent environment when `wanted`.

        Raises:
            BadArgument: A secret or volatile variable is named.
        """
        if not wanted:
            return text
        secrets = {name for name, _ in self.secret_env}
        volatile = {name for name, _ in self.volatile_env}

        def lookup(name: str) -> str:
            if name in secrets:
                raise BadArgument(f'expand cannot be used with secret env variable "{name}"')
            if name in volatile:
                raise BadArgument(f'expand cannot be used with volatile env variable "{name}"')
            return self.env_value(name) or ""

        return expand_variables(text, lookup)

    def with_env_variable(self, name: str, value: str, *, expand: bool = False) -> Self:
        """Set a variable; one of the same name is replaced in place."""
        value = self.expand(value, wanted=expand)
        return self._configured(env=_put(self.config.env, name, value))

    def without_env_variable(self, name: str) -> Self:
        """Remove a variable; an unknown name is fine."""
        return self._configured(env=_drop(self.config.env, name))

    def with_secret_variable(self, name: str, secret: ops.SecretHandle) -> Self:
        """Set a variable whose value is read at each exec; the last one of a name wins."""
        return replace(self, secret_env=(*_drop(self.secret_env, name), (name, secret)), image_ref="")

    def without_secret_variable(self, name: str) -> Self:
        """Remove a secret variable."""
        return replace(self, secret_env=_drop(self.secret_env, name))

    def with_volatile_variable(self, name: str, value: str) -> Self:
        """Set a variable whose value is not part of any key."""
        return replace(self, volatile_env=_put(self.volatile_env, name, value))

    def without_volatile_variable(self, name: str) -> Self:
        """Remove a volatile variable; a persistent one of that name shows again."""
        return replace(self, volatile_env=_drop(self.volatile_env, name))

    def with_label(self, name: str, value: str) -> Self:
        """Set a label."""
        return self._configured(labels=tuple(sorted({**dict(self.config.labels), name: value}.items())))

    def without_label(self, name: str) -> Self:
        """Remove a label."""
        return self._configured(labels=_drop(self.config.labels, name))

    def with_annotation(self, name: str, value: str) -> Self:
        """Set an annotation of the manifest."""
        return replace(self, annotations=_put(self.annotations, name, value), image_ref="")

    def without_annotation(self, name: str) -> Self:
        """Remove an annotation."""
        return replace(self, annotations=_drop(self.annotations, name), image_ref="")

    def with_user(self, name: str) -> Self:
        """Set the user (`user`, `user:group`, `uid`, `uid:gid`)."""
        return self._configured(user=name)

    def with_workdir(self, path: str, *, expand: bool = False) -> Self:
        """Set the working directory; a relative path joins the present one."""
        return self._configured(workdir=join(self.config.workdir, self.expand(path, wanted=expand)))

    def without_workdir(self) -> Self:
        """Unset the working directory."""
        return self._configured(workdir="")

    def with_entrypoint(self, args: Sequence[str], *, keep_default_args: bool = False) -> Self:
        """Set the entrypoint; default args are cleared unless kept."""
        kept = self if keep_default_args else self.without_default_args()
        return kept._configured(entrypoint=tuple(args))

    def without_entrypoint(self, *, keep_default_args: bool = False) -> Self:
        """Remove the entrypoint; default args are cleared unless kept."""
        kept = self if keep_default_args else self.without_default_args()
        return kept._configured(entrypoint=None)

    def with_default_args(self, args: Sequence[str]) -> Self:
        """Set the default args; an empty list is explicit."""
        return replace(self._configured(cmd=tuple(args)), default_args_set=True)

    def without_default_args(self) -> Self:
        """Remove the default args."""
        return replace(self._configured(cmd=None), default_args_set=False)

    def with_exposed_port(
        self,
        port: int,
        *,
        protocol: Literal["TCP", "UDP"] = "TCP",
        description: str | None = None,
        skip_healthcheck: bool = False,
    ) -> Self:
        """Expose a port; the same number and protocol is replaced."""
        new = ops.Port(
            port=port, protocol=protocol, description=description, skip_healthcheck=skip_healthcheck
        )
        others = tuple(p for p in self.ports if (p.port, p.protocol) != (port, protocol))
        exposed = tuple(sorted({*self.config.exposed_ports, f"{port}/{protocol.lower()}"}))
        return replace(self._configured(exposed_ports=exposed), ports=(*others, new))

    def without_exposed_port(self, port: int, *, protocol: Literal["TCP", "UDP"] = "TCP") -> Self:
        """Stop exposing one port."""
        others = tuple(p for p in self.ports if (p.port, p.protocol) != (port, protocol))
        exposed = tuple(x for x in self.config.exposed_ports if x != f"{port}/{protocol.lower()}")
        return replace(self._configured(exposed_ports=exposed), ports=others)

    def exposed_ports(self) -> tuple[ops.Port, ...]:
        """Return every exposed port, the image's too, in order of number and protocol."""
        known = {(p.port, p.protocol): p for p in self.ports}
        for text in self.config.exposed_ports:
            number, _, protocol = text.partition("/")
            kind: Literal["TCP", "UDP"] = "UDP" if protocol.lower() == "udp" else "TCP"
            if number.isdecimal():  # a range or a name stands in an image's configuration by mistake
                known.setdefault((int(number), kind), ops.Port(port=int(number), protocol=kind))
        return tuple(known[key] for key in sorted(known))

    def with_docker_healthcheck(
        self,
        args: Sequence[str],
        *,
        shell: bool = False,
        interval: str = "",
        timeout: str = "",
        start_period: str = "",
        start_interval: str = "",
        retries: int = 0,
    ) -> Self:
        """Set the health check; durations are Go's.

        Raises:
            BadArgument: Several args with `shell`, or a duration below zero.
            BadDuration: A duration cannot be read.
        """
        if shell and len(args) != 1:
            raise BadArgument("health check args must be a single element when shell mode is set")
        texts = {
            "interval": interval,
            "timeout": timeout,
            "start period": start_period,
            "start interval": start_interval,
        }
        seconds = {name: parse_duration(text) for name, text in texts.items()}
        if below := [name for name, value in seconds.items() if value < 0]:
            raise BadArgument(f"health check {below[0]} cannot be negative, got {texts[below[0]]}")
        check = ops.Healthcheck(
            args=tuple(args),
            shell=shell,
            interval_s=seconds["interval"],
            timeout_s=seconds["timeout"],
            start_period_s=seconds["start period"],
            start_interval_s=seconds["start interval"],
            retries=retries,
        )
        return self._configured(healthcheck=check)

    def without_docker_healthcheck(self) -> Self:
        """Remove the health check."""
        return self._configured(healthcheck=None)


def _put(pairs: tuple[tuple[str, T], ...], name: str, value: T) -> tuple[tuple[str, T], ...]:
    """Set `name`, keeping its place."""
    if any(key == name for key, _ in pairs):
        return tuple((key, value if key == name else old) for key, old in pairs)
    return (*pairs, (name, value))


def _drop(pairs: tuple[tuple[str, T], ...], name: str) -> tuple[tuple[str, T], ...]:
    return tuple(pair for pair in pairs if pair[0] != name)
