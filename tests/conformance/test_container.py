"""Containers: configuration."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import dagger
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.anyio, pytest.mark.root]


# 27
async def test_an_empty_container_has_nothing(dag: dagger.Client) -> None:
    container = dag.container()

    assert await container.env_variables() == []
    assert await container.user() == ""
    assert await container.workdir() == ""
    assert await container.entrypoint() == []
    assert await container.default_args() == []
    assert await container.rootfs().entries() == []
    assert await container.mounts() == []


# 28
async def test_output_without_a_command_is_an_error(dag: dagger.Client, base: dagger.Container) -> None:
    for work in (dag.container().stdout(), base.stderr(), base.exit_code()):
        with pytest.raises(dagger.QueryError, match="no command has been set"):
            await work


# 33
async def test_no_args_run_the_default_args(base: dagger.Container) -> None:
    assert await base.with_default_args(["echo", "hi"]).with_exec([]).stdout() == "hi\n"
    with pytest.raises(dagger.QueryError, match="no command has been set"):
        await base.with_exec([]).sync()


# 34
async def test_the_entrypoint_counts_when_it_is_wanted(base: dagger.Container) -> None:
    container = base.with_entrypoint(["echo", "entry"])

    assert await container.with_exec(["echo", "bare"]).stdout() == "bare\n"
    assert await container.with_exec(["x"], use_entrypoint=True).stdout() == "entry x\n"


# 35, 36
async def test_setting_the_entrypoint_clears_default_args_unless_kept(dag: dagger.Client) -> None:
    container = dag.container().with_default_args(["a"])

    assert await container.with_entrypoint(["e"]).default_args() == []
    assert await container.with_entrypoint(["e"], keep_default_args=True).default_args() == ["a"]
    assert await container.without_entrypoint().default_args() == []
    assert await container.without_entrypoint(keep_default_args=True).default_args() == ["a"]
    assert await container.with_default_args([]).default_args() == []
    assert await container.without_default_args().default_args() == []


# 37
@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("1000", "1000 0"),
        ("1234", "1234 1234"),
        ("1000:1001", "1000 1001"),
        ("auser", "1234 1234"),
        ("auser:agroup", "1234 4321"),
        ("", "0 0"),
    ],
)
async def test_users_by_number_and_name(base: dagger.Container, user: str, expected: str) -> None:
    command = base.with_user(user).with_exec(["sh", "-c", "echo -n $(id -u) $(id -g)"])

    assert await command.stdout() == expected


# 38
async def test_an_unknown_user_fails_the_exec_not_the_chain(base: dagger.Container) -> None:
    container = base.with_user("nobody-here")

    assert await container.user() == "nobody-here"
    with pytest.raises(dagger.ExecError) as caught:
        await container.with_exec(["true"]).sync()
    assert caught.value.exit_code == -1


# 39
async def test_a_missing_workdir_is_made_for_the_user(base: dagger.Container) -> None:
    command = base.with_user("auser").with_workdir("/a/b").with_exec(["sh", "-c", "pwd; stat -c '%u %a' ."])

    assert await command.stdout() == "/a/b\n1234 755\n"


# 40
async def test_relative_workdirs_join(dag: dagger.Client) -> None:
    container = dag.container().with_workdir("/a").with_workdir("b")

    assert await container.workdir() == "/a/b"
    assert await container.with_workdir("../c").workdir() == "/a/c"
    assert await container.without_workdir().workdir() == ""


# 41, 42
async def test_env_keeps_its_order_and_elements_are_found_by_id(dag: dagger.Client) -> None:
    container = (
        dag.container()
        .with_env_variable("A", "1")
        .with_env_variable("B", "2")
        .with_env_variable("A", "3")
        .without_env_variable("NONE")
    )

    listed = [(await v.name(), await v.value()) for v in await container.env_variables()]

    assert listed == [("A", "3"), ("B", "2")]
    assert await container.env_variable("NONE") is None


# 43
async def test_expand_composes_variables(dag: dagger.Client) -> None:
    container = dag.container().with_env_variable("PATH", "/bin")

    expanded = container.with_env_variable("PATH", "$PATH:${PATH}/x:$NONE", expand=True)
    literal = container.with_env_variable("PATH", "$PATH")

    assert await expanded.env_variable("PATH") == "/bin:/bin/x:"
    assert await literal.env_variable("PATH") == "$PATH"


# 44
async def test_expanding_a_secret_or_volatile_name_is_an_error(dag: dagger.Client) -> None:
    secret = dag.set_secret("conformance-44", "x")
    container = dag.container().with_secret_variable("S", secret).with_volatile_variable("V", "y")

    with pytest.raises(dagger.QueryError, match='secret env variable "S"'):
        await container.with_env_variable("A", "$S", expand=True).id()
    with pytest.raises(dagger.QueryError, match='volatile env variable "V"'):
        await container.with_env_variable("A", "$V", expand=True).id()


# 45
@pytest.mark.parametrize(
    "write",
    [
        lambda dag, c: c.with_new_file("/$X/f", "", expand=True),
        lambda dag, c: c.with_file("/${X}/f", dag.file("f", ""), expand=True),
        lambda dag, c: c.with_files("/$X", [dag.file("f", "")], expand=True),
        lambda dag, c: c.with_directory("/$X", dag.directory().with_new_file("f", ""), expand=True),
        lambda dag, c: c.with_mounted_directory("/$X", dag.directory().with_new_file("f", ""), expand=True),
        lambda dag, c: c.with_mounted_file("/$X/f", dag.file("f", ""), expand=True),
        lambda dag, c: c.with_exec(["sh", "-c", "mkdir /v; touch /$X/f"], expand=True),
        lambda dag, c: c.with_symlink("/etc", "/$X/f", expand=True),
    ],
    ids=["new-file", "file", "files", "directory", "mounted-directory", "mounted-file", "exec", "symlink"],
)
async def test_paths_are_expanded(
    dag: dagger.Client,
    base: dagger.Container,
    write: Callable[[dagger.Client, dagger.Container], dagger.Container],
) -> None:
    container = write(dag, base.with_env_variable("X", "v"))

    assert await container.exists("/$X/f", do_not_follow_symlinks=True, expand=True)


# 46
async def test_labels(dag: dagger.Client) -> None:
    container = dag.container().with_label("b", "1").with_label("a", "2").with_label("b", "3")

    assert [(await x.name(), await x.value()) for x in await container.labels()] == [("a", "2"), ("b", "3")]
    assert await container.label("b") == "3"
    assert await container.without_label("b").label("b") is None
    assert await dag.container().without_label("none").labels() == []


# 47
async def test_exposed_ports(dag: dagger.Client) -> None:
    udp = dagger.NetworkProtocol.UDP
    container = (
        dag.container()
        .with_exposed_port(80, description="one")
        .with_exposed_port(80, protocol=udp)
        .with_exposed_port(80, description="two")
        .with_exposed_port(90)
        .without_exposed_port(90)
    )

    listed = [
        (await p.port(), await p.protocol(), await p.description()) for p in await container.exposed_ports()
    ]

    assert listed == [(80, dagger.NetworkProtocol.TCP, "two"), (80, udp, None)]


# 48
async def test_healthcheck_getters(dag: dagger.Client) -> None:
    in_shell = True
    check = (
        dag.container()
        .with_docker_healthcheck(
            ["curl -f localhost"], shell=in_shell, interval="1m30s", timeout="3s", retries=4
        )
        .docker_healthcheck()
    )

    assert await check.args() == ["curl -f localhost"]
    assert await check.shell() is True
    assert await check.interval() == "1m30s"
    assert await check.timeout() == "3s"
    assert await check.start_period() == "0s"
    assert await check.retries() == 4
    with pytest.raises(dagger.QueryError, match="invalid duration"):
        await dag.container().with_docker_healthcheck(["a"], interval="soon").id()
    with pytest.raises(dagger.QueryError, match="exactly one"):
        await dag.container().with_docker_healthcheck(["a", "b"], shell=in_shell).id()


# 49
async def test_the_platform_is_kept(dag: dagger.Client) -> None:
    assert await dag.container(platform=dagger.Platform("linux/arm64")).platform() == "linux/arm64"
    assert await dag.container(platform=dagger.Platform("linux/aarch64")).platform() == "linux/arm64"


# 50
async def test_two_mutations_of_one_parent_do_not_see_each_other(base: dagger.Container) -> None:
    one, two = base.with_exec(["touch", "/tmp/one"]), base.with_exec(["touch", "/tmp/two"])

    listed = await asyncio.gather(one.directory("/tmp").entries(), two.directory("/tmp").entries())

    assert list(listed) == [["one"], ["two"]]
