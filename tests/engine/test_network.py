"""Networks of execs: namespaces on a bridge of the engine's own, and nothing left behind."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.runtime import nat
from pipeline.engine.runtime.dns import DnsForwarder, find_nameservers, is_local
from pipeline.engine.runtime.network import Network

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.anyio]


async def test_a_namespace_has_loopback_and_a_way_to_the_gateway(tmp_path: Path) -> None:
    """Each lease is another one, and two can talk to each other."""
    network = await Network.open(tmp_path, offline=True)

    async with network.lease() as one, network.lease() as two:
        shown = _inside(one.path, "ip", "-o", "-4", "address")
        listener = await network.socket_inside(two)
        listener.bind((two.address, 4000))
        listener.listen()
        client = await network.socket_inside(one)
        await asyncio.get_running_loop().sock_connect(client, (two.address, 4000))
        client.close()
        listener.close()

    await network.close()
    assert re.findall(r"inet (\S+)", shown) == ["127.0.0.1/8", f"{one.address}/24"]
    assert one.address != two.address
    assert network.limits == ()


async def test_two_engines_have_bridges_of_their_own(tmp_path: Path) -> None:
    """Even with the same state directory."""
    first = await Network.open(tmp_path, offline=True)
    second = await Network.open(tmp_path, offline=True)

    assert first.gateway != second.gateway

    await first.close()
    await second.close()


async def test_nothing_is_left_when_it_is_closed(tmp_path: Path) -> None:
    """No interface, no rule, no address; closing twice is no error."""
    network = await Network.open(tmp_path)
    gateway = network.gateway
    async with network.lease():
        during = _traces(gateway)

    await network.close()
    await network.close()

    assert len(during) >= 2
    assert await _traces_without_links_in_removal(gateway) == []


DOOMED = """
import asyncio, sys, time
from pathlib import Path
from pipeline.engine.runtime.network import Network

async def main():
    network = await Network.open(Path(sys.argv[1]))
    async with network.lease():
        print(network.gateway, flush=True)
        time.sleep(100)

asyncio.run(main())
"""


async def test_what_a_killed_engine_left_is_swept_by_the_next(tmp_path: Path) -> None:
    """Its bridge and its rules; those of a living engine stay."""
    living = await Network.open(tmp_path)
    doomed = subprocess.Popen([sys.executable, "-c", DOOMED, tmp_path], stdout=subprocess.PIPE, text=True)
    assert doomed.stdout is not None
    gateway = doomed.stdout.readline().strip()
    doomed.stdout.close()
    doomed.kill()
    doomed.wait()
    assert _traces(gateway) != []

    third = await Network.open(tmp_path / "other")

    left, kept = await _traces_without_links_in_removal(gateway), _traces(living.gateway)
    await third.close()
    await living.close()
    assert left == []
    assert kept != []


NUMBER = """
import asyncio, sys
from pathlib import Path
from pipeline.engine.runtime.network import Network

async def main():
    network = await Network.open(Path(sys.argv[1]), offline=True)
    print(network.gateway)
    await network.close()

asyncio.run(main())
"""
SWEEPER = """
import asyncio, subprocess, sys
from pathlib import Path
from pipeline.engine.runtime.network import Network

def show():
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    print(*(line for line in saved.splitlines() if line.startswith("-A")), sep=chr(10))

async def main():
    subprocess.run(["iptables-restore", "--noflush"], input=sys.argv[2], text=True, check=True)
    network = await Network.open(Path(sys.argv[1]), offline=sys.argv[3] == "offline")
    print(network.gateway)
    show()
    await network.close()
    print("closed")
    show()

asyncio.run(main())
"""
OTHERS_RULE = '-A FORWARD -i pipeline300 -m comment --comment "not pipeline7" -j ACCEPT'


def _rules(number: int | str, *, nat: int, filtering: int) -> str:
    """Write rules of an engine of this number, so many of each table, and one of somebody else."""
    tag = f"-m comment --comment pipeline{number}"
    translate = f"-A POSTROUTING -s 10.87.{number}.0/24 ! -o pipeline{number} {tag} -j MASQUERADE\n"
    accept = f"-A FORWARD -i pipeline{number} {tag} -j ACCEPT\n"
    return f"*nat\n{translate * nat}COMMIT\n*filter\n{accept * filtering}{OTHERS_RULE}\nCOMMIT\n"


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize(
    "left",
    [
        pytest.param(_rules("DEAD", nat=1, filtering=1), id="without a bridge"),
        pytest.param(_rules("DEAD", nat=1, filtering=0), id="of one table alone"),
        pytest.param(_rules("DEAD", nat=3, filtering=3), id="three times"),
        pytest.param(_rules("NEXT", nat=1, filtering=0), id="of the number that is taken next"),
    ],
)
async def test_rules_of_a_dead_engine_are_swept_without_its_bridge(
    left: str, mode: str, tmp_path: Path
) -> None:
    """All of them, when the next engine opens; somebody else's stay."""
    if shutil.which("iptables-save") is None:
        pytest.skip("no iptables here")
    number = int((await _in_a_namespace(NUMBER, str(tmp_path))).split(".")[2])
    dead = (number + 1) % 256
    rules = left.replace("NEXT", str(number)).replace("DEAD", str(dead))

    shown = await _in_a_namespace(SWEEPER, str(tmp_path), rules, mode)

    gateway, *during, closed, after = shown.splitlines()
    assert (gateway, closed) == (f"10.87.{number}.1", "closed")
    assert len(during) == (4 if mode == "online" else 1)
    assert OTHERS_RULE in during
    assert [line for line in during if f"pipeline{dead} " in line and line != OTHERS_RULE] == []
    assert after == OTHERS_RULE


STUCK = """
import asyncio, os, socket, subprocess, sys
from pathlib import Path
from pipeline.engine.runtime.network import Network

def bridges():
    # The kernel removes the devices of a namespace some time after the namespace.
    names = sorted(name for _, name in socket.if_nameindex())
    return [name for name in names if name == "lo" or name.startswith("pipeline")]

async def main():
    subprocess.run(["ip", "link", "add", "pipeline" + sys.argv[4], "type", "bridge"], check=True)
    subprocess.run(["iptables-restore", "--noflush"], input=sys.argv[2], text=True, check=True)
    whole = os.environ["PATH"]
    os.environ["PATH"] = sys.argv[3] + ":" + whole
    network = await Network.open(Path(sys.argv[1]))
    print(network.gateway)
    await network.close()
    print(*bridges())
    os.environ["PATH"] = whole
    network = await Network.open(Path(sys.argv[1]))
    print(network.gateway)
    await network.close()
    print(*bridges())
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    print(*(line for line in saved.splitlines() if line.startswith("-A")), sep=chr(10))

asyncio.run(main())
"""


async def test_a_bridge_whose_rules_cannot_be_removed_waits_for_the_next_engine(tmp_path: Path) -> None:
    """Its number is passed over meanwhile."""
    if shutil.which("iptables-save") is None:
        pytest.skip("no iptables here")
    number = int((await _in_a_namespace(NUMBER, str(tmp_path))).split(".")[2])
    rules = _rules(number, nat=1, filtering=1)
    tool = tmp_path / "bin/iptables-restore"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho not now >&2\nexit 1\n")
    tool.chmod(0o755)

    shown = await _in_a_namespace(STUCK, str(tmp_path), rules, str(tool.parent), str(number))

    other = f"10.87.{(number + 1) % 256}.1"
    here = f"10.87.{number}.1"
    assert shown.splitlines() == [other, f"lo pipeline{number}", here, "lo", OTHERS_RULE]


NFT_ALONE = """
import asyncio, os, subprocess, sys
from pathlib import Path
from pipeline.engine.runtime import nat
from pipeline.engine.runtime.network import Network

def show():
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    print(*tables.splitlines(), sep=", ")

async def main():
    os.environ["PATH"] = sys.argv[2]
    subprocess.run(["nft", "add", "table", "ip", "mine"], check=True)
    nat.add_rules("pipeline" + sys.argv[3], "10.87.1.0/24")
    nat.add_rules("pipeline" + sys.argv[4], "10.87.1.0/24")
    network = await Network.open(Path(sys.argv[1]))
    show()
    print(*subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout.split())
    await network.close()
    show()

asyncio.run(main())
"""


async def test_without_iptables_nft_translates_and_is_swept_alike(tmp_path: Path) -> None:
    """A table for each bridge: those of dead engines go, of the number that is taken next too."""
    if (nft := shutil.which("nft")) is None:
        pytest.skip("no nft here")
    number = int((await _in_a_namespace(NUMBER, str(tmp_path))).split(".")[2])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nft").symlink_to(nft)

    shown = await _in_a_namespace(
        NFT_ALONE, str(tmp_path), str(tmp_path / "bin"), str(number), str((number + 1) % 256)
    )

    during, ruleset, after = shown.splitlines()
    rule = f'ip saddr 10.87.{number}.0/24 oifname != "pipeline{number}" masquerade'
    assert during == f"table ip mine, table ip pipeline{number}"
    assert ruleset.count("masquerade") == 1
    assert rule in ruleset
    assert after == "table ip mine"


async def test_offline_adds_no_rule(tmp_path: Path) -> None:
    """There is a bridge, and no translation."""
    if shutil.which("iptables-save") is None:
        pytest.skip("no iptables here")
    network = await Network.open(tmp_path, offline=True)

    traces = _traces(network.gateway)

    await network.close()
    assert [line for line in traces if line.startswith("-A")] == []


async def test_without_a_tool_for_translation_the_network_works_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Execs keep loopback and bridge; it is told once."""
    monkeypatch.setenv("PATH", "/nowhere")

    network = await Network.open(tmp_path)
    async with network.lease() as namespace:
        address = namespace.address

    await network.close()
    told = (
        "execs cannot reach the outside: cannot translate addresses: "
        "neither `iptables` nor `nft` is installed"
    )
    assert network.limits == (told,)
    assert caplog.messages == [told]
    assert address


async def test_many_namespaces_in_turn_use_the_addresses_again(tmp_path: Path) -> None:
    """More leases than addresses, and no address twice at once."""
    network = await Network.open(tmp_path, offline=True)

    addresses = set()
    for _ in range(270):
        async with network.lease() as namespace:
            addresses.add(namespace.address)

    await network.close()
    assert len(addresses) == 253


async def test_a_name_server_on_loopback_is_reached_through_a_forwarder() -> None:
    """By UDP and by TCP."""
    loop = asyncio.get_running_loop()
    port = _free_port()

    class Server(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            udp.sendto(b"answer to " + data, addr)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"answer to " + await reader.read(100))
        writer.close()

    udp, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", port))
    tcp = await asyncio.start_server(serve, "127.0.0.1", port)
    forwarder = DnsForwarder("127.0.0.1", port=port)
    await forwarder.open(
        "127.0.0.2",
        datagrams=socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK),
        streams=socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK),
        port=port,
    )

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.2", port))
        await loop.sock_sendall(client, b"udp")
        by_udp = await loop.sock_recv(client, 100)
    reader, writer = await asyncio.open_connection("127.0.0.2", port)
    writer.write(b"tcp")
    by_tcp = await reader.read()

    writer.close()
    forwarder.close()
    tcp.close()
    udp.close()
    await asyncio.sleep(0)
    assert (by_udp, by_tcp) == (b"answer to udp", b"answer to tcp")


async def test_name_servers_are_read_from_the_host_s_file(tmp_path: Path) -> None:
    """IPv4 only, in order; a missing file names none."""
    file = tmp_path / "resolv.conf"
    file.write_text("# x\nsearch a\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\n")

    assert find_nameservers(file) == ("127.0.0.53", "192.0.2.1")
    assert find_nameservers(tmp_path / "none") == ()
    assert (is_local("127.0.0.53"), is_local("192.0.2.1")) == (True, False)


async def test_a_refused_rule_is_reported_with_what_the_tool_said() -> None:
    """Whatever the tool is."""
    if shutil.which("iptables-restore") is None:
        pytest.skip("no iptables here")

    with pytest.raises(nat.NatRefused, match="cannot run `iptables-restore`"):
        nat.add_rules("pipeline0", "not-a-subnet")


async def _in_a_namespace(script: str, *argv: str) -> str:
    """Run Python in a network namespace of its own, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        "unshare", "--net", sys.executable, "-c", script, *argv, stdout=subprocess.PIPE
    )
    stdout, _ = await process.communicate()
    assert process.returncode == 0
    return stdout.decode()


def _inside(namespace: Path, *command: str) -> str:
    return subprocess.run(
        ["nsenter", f"--net={namespace}", *command], capture_output=True, text=True, check=True
    ).stdout


def _traces(gateway: str) -> list[str]:
    """Return what this machine has of the engine with this gateway: links, addresses and rules."""
    number = gateway.split(".")[2]
    links = subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout
    rules = ""
    if shutil.which("iptables-save"):
        rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    wanted = re.compile(rf"pipeline{number}\b|\bpl{number}x|10\.87\.{number}\.")
    return [line for line in (links + rules).splitlines() if wanted.search(line)]


async def _traces_without_links_in_removal(gateway: str) -> list[str]:
    """Wait up to five seconds for the kernel, which removes a namespace's interfaces in its own time."""
    for _ in range(100):
        if not (traces := _traces(gateway)):
            break
        await asyncio.sleep(0.05)
    return traces


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
