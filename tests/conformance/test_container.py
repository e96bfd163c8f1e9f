"""Containers: configuration."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import dagger
import pytest

from tests.conformance.test_protocol import post

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conformance.conftest import Wire

pytestmark = [pytest.mark.anyio, pytest.mark.root]


async def test_an_empty_container_has_nothing(dag: dagger.Client) -> None:
    """27. A new container has no files and no configuration."""
    container = dag.container()

    assert await container.env_variables() == []
    assert await container.user() == ""
    assert await container.workdir() == ""
    assert await container.entrypoint() == []
    assert await container.default_args() == []
    assert await container.rootfs().entries() == []
    assert await container.mounts() == []


async def test_output_without_a_command_is_an_error(dag: dagger.Client, base: dagger.Container) -> None:
    """28. Nothing was run, so there is no output and no exit code."""
    for work in (dag.container().stdout(), base.stderr(), base.exit_code()):
        with pytest.raises(dagger.QueryError, match="no command has been set"):
            await work


async def test_no_args_run_the_default_args(base: dagger.Container) -> None:
    """33. No arguments stand for the default ones, which have to be there."""
    assert await base.with_default_args(["echo", "hi"]).with_exec([]).stdout() == "hi\n"
    with pytest.raises(dagger.QueryError, match="no command has been set"):
        await base.with_exec([]).sync()


async def test_the_entrypoint_counts_when_it_is_wanted(base: dagger.Container) -> None:
    """34. The entrypoint goes before the arguments only when that is asked for."""
    container = base.with_entrypoint(["echo", "entry"])

    assert await container.with_exec(["echo", "bare"]).stdout() == "bare\n"
    assert await container.with_exec(["x"], use_entrypoint=True).stdout() == "entry x\n"


async def test_setting_the_entrypoint_clears_default_args_unless_kept(dag: dagger.Client) -> None:
    """35, 36. Default arguments go with the entrypoint they were for; an empty list is one too."""
    container = dag.container().with_default_args(["a"])

    assert await container.with_entrypoint(["e"]).default_args() == []
    assert await container.with_entrypoint(["e"], keep_default_args=True).default_args() == ["a"]
    assert await container.without_entrypoint().default_args() == []
    assert await container.without_entrypoint(keep_default_args=True).default_args() == ["a"]
    assert await container.with_default_args([]).default_args() == []
    assert await container.with_default_args([]).with_entrypoint(["e"]).entrypoint() == ["e"]
    assert await container.without_default_args().default_args() == []


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
    """37. A user is known by number or name, alone or with a group."""
    command = base.with_user(user).with_exec(["sh", "-c", "echo -n $(id -u) $(id -g)"])

    assert await command.stdout() == expected


async def test_an_unknown_user_fails_the_exec_not_the_chain(base: dagger.Container) -> None:
    """38. A name is looked up when a command runs."""
    container = base.with_user("nobody-here")

    assert await container.user() == "nobody-here"
    with pytest.raises(dagger.ExecError) as caught:
        await container.with_exec(["true"]).sync()
    assert caught.value.exit_code == -1


async def test_a_missing_workdir_is_made_for_the_user(base: dagger.Container) -> None:
    """39. The directory to run in is made, and belongs to who runs."""
    command = base.with_user("auser").with_workdir("/a/b").with_exec(["sh", "-c", "pwd; stat -c '%u %a' ."])

    assert await command.stdout() == "/a/b\n1234 755\n"


async def test_relative_workdirs_join(dag: dagger.Client) -> None:
    """40. A relative directory starts at the one before."""
    container = dag.container().with_workdir("/a").with_workdir("b")

    assert await container.workdir() == "/a/b"
    assert await container.with_workdir("../c").workdir() == "/a/c"
    assert await container.without_workdir().workdir() == ""


async def test_env_keeps_its_order_and_elements_are_found_by_id(dag: dagger.Client) -> None:
    """41, 42. Variables keep their places, and can be asked one by one."""
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


async def test_expand_composes_variables(dag: dagger.Client) -> None:
    """43. Variables are put in when that is asked for, and stay text when not."""
    container = dag.container().with_env_variable("PATH", "/bin")

    expanded = container.with_env_variable("PATH", "$PATH:${PATH}/x:$NONE", expand=True)
    literal = container.with_env_variable("PATH", "$PATH")

    assert await expanded.env_variable("PATH") == "/bin:/bin/x:"
    assert await literal.env_variable("PATH") == "$PATH"


async def test_expanding_a_secret_or_volatile_name_is_an_error(dag: dagger.Client) -> None:
    """44. A value that is in no key cannot be put into one."""
    secret = dag.set_secret("conformance-44", "x")
    container = dag.container().with_secret_variable("S", secret).with_volatile_variable("V", "y")

    with pytest.raises(dagger.QueryError, match='secret env variable "S"'):
        await container.with_env_variable("A", "$S", expand=True).id()
    with pytest.raises(dagger.QueryError, match='volatile env variable "V"'):
        await container.with_env_variable("A", "$V", expand=True).id()


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
        lambda dag, c: c.with_exec(["true"], redirect_stdout="/tmp/$X", expand=True).with_new_file(
            "/v/f", ""
        ),
        lambda dag, c: c.with_directory("/v", c.with_new_file("/v/f", "").directory("/$X", expand=True)),
        lambda dag, c: c.with_file("/v/", c.with_new_file("/v/f", "").file("/$X/f", expand=True)),
        lambda dag, c: (
            c.with_new_file("/v/f", "").with_new_file("/v/g", "").without_file("/$X/g", expand=True)
        ),
    ],
    ids=[
        "new-file",
        "file",
        "files",
        "directory",
        "mounted-directory",
        "mounted-file",
        "exec",
        "symlink",
        "redirect",
        "get-directory",
        "get-file",
        "without-file",
    ],
)
async def test_paths_are_expanded(
    dag: dagger.Client,
    base: dagger.Container,
    write: Callable[[dagger.Client, dagger.Container], dagger.Container],
) -> None:
    """45. Paths and commands take variables wherever they are given."""
    container = write(dag, base.with_env_variable("X", "v"))

    assert await container.exists("/$X/f", do_not_follow_symlinks=True, expand=True)
    assert await container.exists("/$X/g", expand=True) is False


async def test_mounts_and_exports_are_expanded(
    dag: dagger.Client, base: dagger.Container, tmp_path: Path
) -> None:
    """45. Mounts of every kind, what removes them, and paths of exports take variables as well."""
    container = base.with_env_variable("X", "v")
    mounted = (
        container.with_mounted_cache("/$X/cache", dag.cache_volume("conformance-45"), expand=True)
        .with_mounted_temp("/$X/temp", expand=True)
        .with_mounted_secret("/$X/secret", dag.set_secret("conformance-45", "x"), expand=True)
        .with_mounted_temp("/$X/gone", expand=True)
        .without_mount("/${X}/gone", expand=True)
    )

    listed = await mounted.with_exec(["ls", "/v"]).stdout()
    exported = await container.export(str(tmp_path / "$X.tar"), expand=True)

    assert listed == "cache\nsecret\ntemp\n"
    assert exported == str(tmp_path / "v.tar")
    assert (tmp_path / "v.tar").exists()


async def test_labels(dag: dagger.Client) -> None:
    """46. Labels can be set, replaced, removed and asked for; an unknown one is null."""
    container = dag.container().with_label("b", "1").with_label("a", "2").with_label("b", "3")

    listed = [(await x.name(), await x.value()) for x in await container.labels()]
    assert sorted(listed) == [("a", "2"), ("b", "3")]
    assert await container.label("b") == "3"
    assert await container.without_label("b").label("b") is None
    assert await dag.container().without_label("none").labels() == []


@pytest.mark.differs("there they are in the order in which they were first set, or in none")
async def test_labels_are_sorted(dag: dagger.Client) -> None:
    """46. Labels are listed by name."""
    container = dag.container().with_label("b", "1").with_label("a", "2")

    assert [await label.name() for label in await container.labels()] == ["a", "b"]


async def test_exposed_ports(dag: dagger.Client) -> None:
    """47. A port is known by number and protocol; a later one replaces it."""
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


async def test_ports_that_an_image_exposes(dag: dagger.Client, registry: str, unique: str) -> None:
    """47. They are listed without a description, and a service does not know of them."""
    image = dag.container().with_new_file("/f", unique).with_exposed_port(5000, description="gone")
    container = dag.container().from_(await image.publish(f"{registry}/ports:{unique}"))

    listed = [(await p.port(), await p.description()) for p in await container.exposed_ports()]

    assert listed == [(5000, None)]
    assert await container.with_default_args(["/f"]).as_service().ports() == []


async def test_without_a_health_check_there_is_none(wire: Wire) -> None:
    """48. What is not set, or was taken away, is null."""
    check = "dockerHealthcheck { args }"
    taken = f'withDockerHealthcheck(args: ["a"]) {{ withoutDockerHealthcheck {{ {check} }} }}'

    answer = await post(wire, f"{{ container {{ {check} {taken} }} }}")

    nothing = {"dockerHealthcheck": None}
    without = {"withDockerHealthcheck": {"withoutDockerHealthcheck": nothing}}
    assert answer.json() == {"data": {"container": nothing | without}}


async def test_healthcheck_getters(dag: dagger.Client) -> None:
    """48. A health check is told as it was set, with durations as Go writes them."""
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
    with pytest.raises(dagger.QueryError, match="args must be a single element when shell mode is set"):
        await dag.container().with_docker_healthcheck(["a", "b"], shell=in_shell).id()


async def test_the_platform_is_kept(dag: dagger.Client) -> None:
    """49. The platform is the one given, under its usual name."""
    assert await dag.container(platform=dagger.Platform("linux/arm64")).platform() == "linux/arm64"
    assert await dag.container(platform=dagger.Platform("linux/aarch64")).platform() == "linux/arm64"


async def test_two_mutations_of_one_parent_do_not_see_each_other(base: dagger.Container) -> None:
    """50. Two commands on one container do not see each other's files."""
    one, two = base.with_exec(["touch", "/tmp/one"]), base.with_exec(["touch", "/tmp/two"])

    listed = await asyncio.gather(one.directory("/tmp").entries(), two.directory("/tmp").entries())

    assert list(listed) == [["one"], ["two"]]
