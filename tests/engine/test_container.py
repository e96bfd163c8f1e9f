"""Containers as values: configuration, files, mounts and commands, by the rules of the API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.engine import actions, ops
from pipeline.engine.configured import BadArgument
from pipeline.engine.container import Container, NoCommand
from pipeline.engine.durations import BadDuration
from pipeline.engine.files import Directory, File
from pipeline.engine.oci.config import ImageConfig

TREE = ops.Pinned(content=ops.Scratch().digest)
OTHER = ops.Edit(base=TREE, action=actions.MakeDirectory(path="/other"))
EMPTY = Container(platform="linux/amd64")
FULL = replace(EMPTY, rootfs=TREE, image_ref="image@sha256:0")
DIRECTORY = Directory(tree=OTHER)
FILE = File(tree=OTHER, path="/f.txt")
IN_SHELL: Any = {"shell": True}  # apart, for linters take it for a process
CACHE = ops.CacheVolume(key="k")


def secret(name: str = "s") -> ops.SecretHandle:
    return ops.SecretHandle(handle=name, read=lambda: b"value")


# ---- configuration -------------------------------------------------------------------------


def test_variables_keep_their_place() -> None:
    made = EMPTY.with_env_variable("A", "1").with_env_variable("B", "2").with_env_variable("A", "3")

    assert made.config.env == (("A", "3"), ("B", "2"))
    assert made.without_env_variable("A").without_env_variable("none").config.env == (("B", "2"),)


def test_variables_are_expanded_from_what_is_set() -> None:
    """An unknown one is empty; without being asked, the text stays as it is."""
    base = EMPTY.with_env_variable("PATH", "/bin")

    assert base.with_env_variable("P", "/x:$PATH$NONE", expand=True).env_value("P") == "/x:/bin"
    assert base.with_env_variable("P", "$PATH").env_value("P") == "$PATH"


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (EMPTY.with_secret_variable("X", secret()), "secret"),
        (EMPTY.with_volatile_variable("X", "1"), "volatile"),
    ],
    ids=["secret", "volatile"],
)
def test_secrets_and_volatile_variables_are_never_expanded(made: Container, kind: str) -> None:
    with pytest.raises(BadArgument, match=f'expand cannot be used with {kind} env variable "X"'):
        made.with_exec(["echo", "$X"], expand=True)


def test_setting_the_entrypoint_clears_the_default_args_unless_they_are_kept() -> None:
    base = EMPTY.with_default_args(["a"])

    assert base.with_entrypoint(["e"]).config.cmd is None
    assert base.with_entrypoint(["e"], keep_default_args=True).config.cmd == ("a",)
    assert base.with_entrypoint(["e"]).without_entrypoint().config.entrypoint is None
    assert base.without_entrypoint(keep_default_args=True).config.cmd == ("a",)


def test_the_working_directory_joins() -> None:
    made = EMPTY.with_workdir("a").with_workdir("b/../c")

    assert EMPTY.config.workdir == ""
    assert made.config.workdir == "/a/c"
    assert made.without_workdir().config.workdir == ""


def test_ports_are_replaced_by_number_and_protocol_and_listed_with_the_images() -> None:
    image = replace(EMPTY, config=ImageConfig(exposed_ports=("53/udp", "80/tcp")))
    made = image.with_exposed_port(80, description="a").with_exposed_port(80, description="b")

    assert made.exposed_ports() == (
        ops.Port(port=53, protocol="UDP"),
        ops.Port(port=80, description="b"),
    )
    assert made.ports == (ops.Port(port=80, description="b"),)
    assert made.without_exposed_port(80).exposed_ports() == (ops.Port(port=53, protocol="UDP"),)


def test_a_health_check_is_read_when_it_is_set() -> None:
    made = EMPTY.with_docker_healthcheck(["curl x"], interval="1m30s", retries=2, **IN_SHELL)

    assert made.config.healthcheck == ops.Healthcheck(
        args=("curl x",), interval_s=90.0, retries=2, **IN_SHELL
    )
    assert made.without_docker_healthcheck().config.healthcheck is None
    with pytest.raises(BadArgument, match="must be a single element when shell mode is set"):
        EMPTY.with_docker_healthcheck(["a", "b"], **IN_SHELL)
    with pytest.raises(BadDuration):
        EMPTY.with_docker_healthcheck(["a"], timeout="soon")
    with pytest.raises(BadArgument, match=r"^health check start period cannot be negative, got -1s$"):
        EMPTY.with_docker_healthcheck(["a"], start_period="-1s")


def test_an_image_brings_its_configuration_and_some_of_ours_is_merged() -> None:
    """Variables, labels, ports and triggers are merged; the rest is the image's, also where it is empty."""
    own = (
        EMPTY.with_env_variable("A", "mine")
        .with_env_variable("B", "mine")
        .with_label("l", "mine")
        .with_workdir("/mine")
        .with_user("me")
        .with_default_args(["mine"])
    )
    config = ImageConfig(env=(("A", "image"),), labels=(("m", "image"),), exposed_ports=("80/tcp",))

    made = own.from_image(config=config, rootfs=TREE, platform="linux/arm64", reference="ref")

    assert made.config == ImageConfig(
        env=(("A", "image"), ("B", "mine")),
        labels=(("l", "mine"), ("m", "image")),
        exposed_ports=("80/tcp",),
    )
    assert (made.rootfs, made.platform, made.image_ref) == (TREE, "linux/arm64", "ref")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.with_env_variable("A", "1"),
        lambda c: c.with_rootfs(DIRECTORY),
        lambda c: c.with_new_file("/a", "x"),
        lambda c: c.without(["/a"]),
        lambda c: c.with_exec(["true"]),
        lambda c: c.with_mounted_directory("/m", DIRECTORY),
        lambda c: c.with_secret_variable("S", secret()),
    ],
    ids=["config", "rootfs", "file", "removal", "exec", "mount", "secret"],
)
def test_what_changes_an_image_takes_its_name(change: Any) -> None:
    assert change(FULL).image_ref == ""


# ---- files and mounts ----------------------------------------------------------------------


def test_files_go_where_the_path_shows_through_mounts() -> None:
    """A copy below a mounted directory is made in the mount; the root stays."""
    mounted = FULL.with_mounted_directory("/m", DIRECTORY.directory("sub"))

    made = mounted.with_new_file("/m/a", "x")

    [mount] = made.mounts
    assert isinstance(mount, ops.TreeMount)
    assert mount.tree == ops.Edit(
        base=OTHER, action=actions.WriteFile(path="/sub/a", content=b"x", into=True)
    )
    assert made.rootfs is TREE
    assert made.file("/m/a") == File(tree=mount.tree, path="/sub/a")


@pytest.mark.parametrize(
    ("mount", "kind"),
    [
        (lambda c: c.with_mounted_cache("/m", CACHE), "cache"),
        (lambda c: c.with_mounted_temp("/m"), "tmpfs"),
    ],
    ids=["cache", "tmpfs"],
)
def test_nothing_is_read_from_or_written_to_what_only_commands_see(mount: Any, kind: str) -> None:
    made = mount(FULL)

    with pytest.raises(BadArgument, match=f"cannot retrieve path from {kind}"):
        made.file("/m/a")
    with pytest.raises(BadArgument, match=f"cannot write into {kind}"):
        made.with_new_file("/m/a", "x")


def test_a_file_written_exactly_at_a_mount_replaces_it() -> None:
    for mounted in (FULL.with_mounted_directory("/m", DIRECTORY), FULL.with_mounted_file("/m", FILE)):
        made = mounted.with_file("/m", FILE)

        assert made.mounts == ()
        assert made.rootfs == FULL.with_file("/m", FILE).rootfs


def test_a_directory_written_at_a_mounted_directory_goes_into_it() -> None:
    made = FULL.with_mounted_directory("/m", DIRECTORY).with_directory("/m", Directory(tree=TREE))

    assert len(made.mounts) == 1
    assert made.rootfs is TREE


def test_mounting_over_a_path_drops_what_is_there_and_below_but_secrets() -> None:
    made = (
        FULL.with_mounted_temp("/a/b")
        .with_mounted_secret("/a/s", secret())
        .with_mounted_temp("/ab")
        .with_mounted_directory("/a", DIRECTORY)
    )

    assert made.mount_paths() == ("/ab", "/a")
    assert [m.path for m in made.mounts] == ["/a/s", "/ab", "/a"]


def test_removing_a_mount_takes_one_secret_at_a_time() -> None:
    first, second = secret("first"), secret("second")
    made = FULL.with_mounted_secret("/s", first).with_mounted_secret("/s", second).with_mounted_temp("/t")

    once = made.without_mount("/s").without_mount("/none")

    assert once.mounts == (ops.SecretMount(path="/s", secret=first), ops.TempMount(path="/t"))
    assert once.without_mount("/s").without_mount("/t").mounts == ()


def test_a_socket_replaces_one_at_its_path() -> None:
    made = FULL.with_unix_socket("/s", "/one").with_unix_socket("/s", "/two")

    assert made.mounts == (ops.SocketMount(path="/s", host_path="/two"),)
    assert made.without_unix_socket("/s").mounts == ()


def test_arguments_of_a_cache_mount_override_those_of_the_volume() -> None:
    volume = ops.CacheVolume(key="k", sharing="LOCKED", owner="1")

    plain = FULL.with_mounted_cache("/c", volume)
    other = FULL.with_mounted_cache("/c", volume, sharing="SHARED", owner="2", source=DIRECTORY)

    assert plain.mounts == (ops.CacheMount(path="/c", volume=volume),)
    assert other.mounts == (
        ops.CacheMount(path="/c", volume=ops.CacheVolume(key="k", source=OTHER, owner="2", sharing="SHARED")),
    )


# ---- commands ------------------------------------------------------------------------------


def exec_of(container: Container) -> ops.Exec:
    assert container.last_exec is not None
    return container.last_exec


def test_a_command_sees_all_of_the_container() -> None:
    made = (
        FULL.with_env_variable("A", "1")
        .with_secret_variable("S", secret())
        .with_volatile_variable("V", "v")
        .with_user("me")
        .with_workdir("/w")
        .with_mounted_temp("/t")
        .with_exec(["a", "b"], stdin="in", redirect_stdout="out", expect="ANY", no_init=True, insecure=True)
    )

    assert exec_of(made) == ops.Exec(
        base=TREE,
        argv=("a", "b"),
        env=(("A", "1"),),
        secret_env=(("S", exec_of(made).secret_env[0][1]),),
        volatile_names=("V",),
        volatile_env=(("V", "v"),),
        user="me",
        workdir="/w",
        mounts=(ops.TempMount(path="/t"),),
        stdin="in",
        redirect_stdout="out",
        expect="ANY",
        init=False,
        insecure=True,
        platform="linux/amd64",
    )


def test_a_command_leaves_its_root_and_its_writable_mounts() -> None:
    made = (
        FULL.with_mounted_directory("/rw", DIRECTORY)
        .with_mounted_directory("/ro", DIRECTORY, read_only=True)
        .with_exec(["true"])
    )
    node = exec_of(made)

    assert made.rootfs == ops.ExecTree(exec=node)
    assert [m.tree for m in made.mounts if isinstance(m, ops.TreeMount)] == [
        ops.ExecTree(exec=node, mount="/rw"),
        OTHER,
    ]


def test_what_runs_without_arguments() -> None:
    base = FULL.with_entrypoint(["e"]).with_default_args(["d"])

    assert exec_of(base.with_exec([])).argv == ("d",)
    assert exec_of(base.with_exec([], use_entrypoint=True)).argv == ("e", "d")
    assert exec_of(base.with_exec(["x"], use_entrypoint=True)).argv == ("e", "x")
    with pytest.raises(NoCommand, match="no command has been set"):
        FULL.with_exec([])
    with pytest.raises(BadArgument, match="both stdin and redirectStdin"):
        FULL.with_exec(["x"], stdin="a", redirect_stdin="b")


def test_what_a_service_runs() -> None:
    """As `docker run` would, unless the default args were set here."""
    image = FULL.from_image(
        config=ImageConfig(entrypoint=("e",), cmd=("c",)), rootfs=TREE, platform="linux/amd64", reference=""
    )

    assert image.as_service().exec.argv == ("e", "c")
    assert image.as_service(args=["x"]).exec.argv == ("x",)
    assert image.as_service(args=["x"], use_entrypoint=True).exec.argv == ("e", "x")
    assert image.with_default_args(["d"]).as_service().exec.argv == ("d",)
    with pytest.raises(NoCommand, match="no service command has been set"):
        FULL.as_service()


def test_a_service_sees_no_volatile_variables_and_only_ports_that_were_exposed_here() -> None:
    image = replace(FULL, config=ImageConfig(exposed_ports=("80/tcp",)))

    service = image.with_volatile_variable("V", "1").with_exposed_port(8080).as_service(args=["x"])

    assert service.exec.volatile_names == ()
    assert service.ports == (ops.Port(port=8080),)


def test_a_binding_travels_with_all_that_is_made_of_the_container() -> None:
    service = FULL.as_service(args=["x"])

    made = FULL.with_service_binding("db", service).with_exec(["a"]).with_exec(["b"])

    assert exec_of(made).bindings == (ops.ServiceBinding(alias="db", service=service),)
