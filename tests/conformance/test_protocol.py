"""The session's HTTP and GraphQL, asked without the SDK's help where the wire matters."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagger
import graphql
import httpx
import pytest

if TYPE_CHECKING:
    from tests.conformance.conftest import Engines, Wire

pytestmark = [pytest.mark.anyio, pytest.mark.root]


async def post(wire: Wire, query: str) -> httpx.Response:
    """Ask with a connection of its own."""
    async with httpx.AsyncClient(auth=(wire.token, "")) as client:
        return await client.post(wire.url, json={"query": query}, timeout=None)


@pytest.mark.parametrize("header", [None, "Basic " + base64.b64encode(b"wrong:").decode()])
async def test_a_missing_or_wrong_token_gets_a_challenge(wire: Wire, header: str | None) -> None:
    """1, 2. Without the token, or with another, the answer is 401 and no body is read."""
    headers = {"Authorization": header} if header else {}
    async with httpx.AsyncClient() as client:
        answer = await client.post(wire.url, content=b"{", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")


async def test_the_introspection_answer_builds_a_schema(wire: Wire) -> None:
    """3. GraphQL tools can build a schema from the answer."""
    query = graphql.get_introspection_query(input_value_deprecation=True)

    answer = await post(wire, query)

    assert answer.status_code == 200
    schema = graphql.build_client_schema(answer.json()["data"])
    assert "Container" in schema.type_map


@pytest.mark.differs("the SDK is newer than that engine")
async def test_every_call_of_the_client_is_in_the_schema(wire: Wire) -> None:
    """4. Each field and argument that the SDK's classes can ask for is answered by introspection."""
    from tests.unit.session.test_schema import client_calls

    answer = await post(wire, graphql.get_introspection_query())

    types = {entry["name"]: entry for entry in answer.json()["data"]["__schema"]["types"]}
    told = {
        name: {field["name"]: {a["name"] for a in field["args"]} for field in types[name]["fields"]}
        for name in client_calls()
    }
    assert told == client_calls()


async def test_an_id_loads_the_same_object_from_anywhere(dag: dagger.Client, wire: Wire) -> None:
    """5, 10. An id is the same object by `load`, by `node`, and on another connection of the session."""
    identifier = await dag.container().with_env_variable("A", "1").id()

    by_load = dag.load_container_from_id(dagger.ContainerID(identifier))
    node = f'node(id: "{identifier}") {{ ... on Container {{ id envVariable(name: "A") }} }}'
    by_node = await post(wire, f"{{ {node} }}")

    assert await by_load.env_variable("A") == "1"
    assert await by_load.id() == identifier
    assert by_node.json() == {"data": {"node": {"id": identifier, "envVariable": "1"}}}


async def test_an_id_of_another_type_is_refused_with_both_types(dag: dagger.Client) -> None:
    """6. An id of another type is refused with the names of both."""
    identifier = await dag.directory().id()

    with pytest.raises(dagger.QueryError, match=r"expected Container, got Directory"):
        await dag.load_container_from_id(dagger.ContainerID(identifier)).user()


async def test_a_fragment_on_another_type_answers_an_empty_object(dag: dagger.Client, wire: Wire) -> None:
    """6. A fragment on a type that the node is not selects nothing."""
    identifier = await dag.directory().id()

    answer = await post(wire, f'{{ node(id: "{identifier}") {{ ... on Container {{ user }} }} }}')

    assert answer.json() == {"data": {"node": {}}}


async def test_an_unknown_id_is_a_graphql_error(wire: Wire) -> None:
    """7. Garbage for an id is an error in an answer with status 200."""
    answer = await post(wire, '{ node(id: "garbage") { id } }')

    assert answer.status_code == 200
    assert "garbage" in answer.json()["errors"][0]["message"]


async def test_the_same_chain_has_the_same_id_and_another_has_another(dag: dagger.Client) -> None:
    """8. Ids are equal for equal chains, and for no others."""
    ids = [await dag.directory().with_new_file("a", text).id() for text in ("1", "1", "2")]

    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


async def test_asking_for_an_id_runs_nothing(dag: dagger.Client) -> None:
    """9. The id of a command that cannot run is there all the same."""
    assert await dag.container().with_exec(["/no/such/command"]).id()


@pytest.mark.differs("there null is the empty value")
async def test_null_means_the_default(wire: Wire) -> None:
    """11. `null` for an argument with a default is as if it were left out."""
    field = "withExposedPort(port: 80, protocol: null, description: null)"

    answer = await post(wire, f"{{ container {{ {field} {{ exposedPorts {{ protocol }} }} }} }}")

    assert answer.json()["data"]["container"]["withExposedPort"]["exposedPorts"] == [{"protocol": "TCP"}]


async def test_fields_are_answered_under_their_aliases(wire: Wire) -> None:
    """12. An alias is the name in the answer."""
    answer = await post(wire, '{ c: container { x: withUser(name: "me") { who: user } } }')

    assert answer.json() == {"data": {"c": {"x": {"who": "me"}}}}


@pytest.mark.differs("there it is supported")
async def test_an_unsupported_field_fails_when_it_is_evaluated(dag: dagger.Client, wire: Wire) -> None:
    """13. What is not there says so by name, once something is asked of it."""
    chained = dag.llm().with_model("x")

    with pytest.raises(dagger.QueryError, match="not supported by the embedded engine") as caught:
        await chained.model()

    assert caught.value.errors[0].extensions == {"_type": "UNSUPPORTED", "field": "Query.llm"}


async def test_twenty_requests_at_once_are_all_answered(base: dagger.Container) -> None:
    """14. Requests at the same time do not wait for each other."""
    texts = await asyncio.gather(*(base.with_exec(["echo", "-n", str(n)]).stdout() for n in range(20)))

    assert texts == [str(n) for n in range(20)]


@pytest.mark.usefixtures("embedded")
async def test_a_request_cut_by_the_client_stops_the_process(base: dagger.Container, unique: str) -> None:
    """15. A command ends with the last request that waits for it."""
    marked = asyncio.create_task(base.with_env_variable("MARK", unique).with_exec(["sleep", "601"]).sync())
    await wait_for(lambda: has_process(["sleep", "601"]))

    marked.cancel()
    await asyncio.wait([marked])

    await wait_for(lambda: not has_process(["sleep", "601"]), within_s=1.5)


async def test_after_stdin_closes_nothing_is_left(engines: Engines, rootfs: Path) -> None:
    """16. When the session ends, commands are killed and requests refused."""
    from tests.conformance.conftest import busybox, connected

    engine = engines.start()
    async with connected(engine, "embedded", engine.workdir) as dag:
        running = asyncio.create_task(busybox(dag, rootfs).with_exec(["sleep", "602"]).sync())
        await wait_for(lambda: has_process(["sleep", "602"]))

        code = await asyncio.to_thread(engine.end)

        with pytest.raises(dagger.DaggerError):
            await running
    assert code == 0, engine.words.read_text()
    assert not has_process(["sleep", "602"])
    with pytest.raises(httpx.ConnectError):
        await post(engine.wire, "{ version }")


async def test_version_and_platform(dag: dagger.Client) -> None:
    """17. The version is a semantic one; the platform is the host's."""
    version, platform = await dag.version(), await dag.default_platform()

    assert re.match(r"v\d+\.\d+\.\d+", version)
    assert platform == {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[os.uname().machine]


@pytest.mark.parametrize("body", [b"nonsense", b"[1]", b'{"query": "{ a"}', b'{"query": "{ nothing }"}'])
async def test_a_malformed_request_gets_a_list_of_errors(wire: Wire, body: bytes) -> None:
    """18. Every request gets an answer that clients can read."""
    async with httpx.AsyncClient(auth=(wire.token, "")) as client:
        answer = await client.post(
            wire.url,
            content=body,
            headers={"Content-Type": "application/json"},
        )

    assert answer.json()["errors"][0]["message"]


async def test_the_port_is_told_soon(engines: Engines) -> None:
    """The engine's start is a part of what a run costs; the limit is wide for a busy machine."""
    began = time.monotonic()
    engine = engines.start()
    took = time.monotonic() - began

    assert engine.end() == 0
    assert took < 2.0


SCRIPT = """
import sys
import anyio
import dagger
from dagger import dag

async def main():
    async with dagger.connection():
        root = dag.host().directory(sys.argv[1])
        done = dag.container().with_rootfs(root).with_exec(["/bin/echo", "from a script"])
        await done.file("/etc/passwd").export("passwd")
        print(await done.stdout(), end="")

anyio.run(main)
"""


@pytest.mark.parametrize("way", ["cli", "shell"])
@pytest.mark.usefixtures("engines")
async def test_a_script_for_dagger_runs_unchanged(way: str, rootfs: Path, tmp_path: Path) -> None:
    """One variable, or a shell with a session, gives an existing script the embedded engine."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DAGGER_")}
    environ = {**clean, "PIPELINE_STORE": str(tmp_path / "store")}
    argv = [sys.executable, str(script), str(rootfs)]
    if way == "cli":
        program = Path(sys.executable).parent / "pipeline-engine"
        if not program.exists():
            pytest.skip("this Python runs the project from its sources: nothing is installed beside it")
        environ["_EXPERIMENTAL_DAGGER_CLI_BIN"] = str(program)
    else:
        argv = [sys.executable, "-m", "pipeline", "engine", "shell", "--", *argv]

    done = await asyncio.to_thread(
        subprocess.run, argv, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "from a script\n"), done.stderr
    assert (tmp_path / "passwd").read_text() == (rootfs / "etc/passwd").read_text()


async def test_a_shell_has_the_session_in_its_environment(engines: Engines, tmp_path: Path) -> None:
    """A program in the shell finds the session in its environment; its exit code is the shell's."""
    query = json.dumps({"query": "{ version }"})
    script = (
        "import os, urllib.request, base64\n"
        "token = base64.b64encode((os.environ['DAGGER_SESSION_TOKEN'] + ':').encode()).decode()\n"
        "url = f\"http://127.0.0.1:{os.environ['DAGGER_SESSION_PORT']}/query\"\n"
        f"request = urllib.request.Request(url, {query.encode()!r}, "
        "{'Authorization': 'Basic ' + token, 'Content-Type': 'application/json'})\n"
        "print(urllib.request.urlopen(request).read().decode())\n"
        "raise SystemExit(7)\n"
    )
    argv = [sys.executable, "-m", "pipeline.session", "shell", "--store", str(tmp_path / "s"), "--"]

    done = await asyncio.to_thread(
        subprocess.run, [*argv, sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert done.returncode == 7, done.stderr
    assert json.loads(done.stdout)["data"]["version"].startswith("v0.21")


def has_process(argv: list[str]) -> bool:
    """Is there a process with just these arguments?"""
    wanted = "\0".join(argv).encode() + b"\0"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                if stream.read() == wanted:
                    return True
        except OSError:
            continue
    return False


async def wait_for(is_so: Any, within_s: float = 10.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.05)
