"""Records in a cluster: a real one, or what a real one has answered (see `test_kubernetes_target`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from pipeline.deploy.state import StateChanged
from pipeline.deploy.target import TargetFailed
from pipeline.deploy.targets.kubernetes_calls import Kubectl
from pipeline.deploy.targets.kubernetes_state import KubernetesState

if TYPE_CHECKING:
    from tests.deploy.kubernetes.conftest import Cluster

pytestmark = pytest.mark.anyio


def _state(cluster: Cluster, namespace: str = "") -> KubernetesState:
    return KubernetesState(kubectl=Kubectl(namespace=namespace or cluster.namespace), environment="staging")


async def test_a_document_is_replaced_by_who_has_read_it_last(cluster: Cluster) -> None:
    """The server refuses all others; what was never written has no version."""
    state = _state(cluster)
    nothing = await state.read("a/lease.json")
    first = await state.write("a/lease.json", b"1\n", version="")
    second = await state.write("a/lease.json", b"2\n", version=first)

    for version in (first, "", "nonsense"):
        with pytest.raises(StateChanged, match=r"cannot write the record `a/lease\.json`"):
            await state.write("a/lease.json", b"3\n", version=version)

    assert (nothing, await state.read("a/lease.json")) == ((b"", ""), (b"2\n", second))


async def test_values_of_secrets_are_secrets(cluster: Cluster) -> None:
    """They are read like other records, and named among them."""
    state = _state(cluster)
    await state.write("secrets/DB/v-1.json", b"hunter2\n", version="")
    await state.write("lease.json", b"1\n", version="")

    kinds = await state.kubectl.call("look", "get", "secrets", "--output=jsonpath={.items[*].type}")

    assert (await state.read("secrets/DB/v-1.json"))[0] == b"hunter2\n"
    assert (kinds, await state.names("")) == (b"Opaque", ("lease.json", "secrets/DB/v-1.json"))


async def test_lines_of_one_deployer_do_not_mix(cluster: Cluster) -> None:
    """Though many of its tasks write at once."""
    state, line = _state(cluster), b'{"n": "' + b"x" * 500 + b'"}\n'

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(state.append, "history.jsonl", line)

    assert (await state.read("history.jsonl"))[0] == line * 4


async def test_lines_of_two_deployers_do_not_mix(cluster: Cluster) -> None:
    """Who does not know the last line looks again."""
    one, other = _state(cluster), _state(cluster)

    for number in range(2):
        await one.append("history.jsonl", b"one %d\n" % number)
        await other.append("history.jsonl", b"other %d\n" % number)

    assert (await one.read("history.jsonl"))[0] == b"one 0\nother 0\none 1\nother 1\n"


async def test_a_long_log_is_in_pieces(cluster: Cluster) -> None:
    """No object gets larger than a server takes."""
    kubectl = Kubectl(namespace=cluster.namespace)
    state, line = KubernetesState(kubectl=kubectl, environment="staging", piece_bytes=20), b"123456789 1\n"

    for _ in range(3):
        await state.append("log.jsonl", line)

    found = await state.kubectl.call("look", "get", "configmaps", "--output=name")
    assert (await state.read("log.jsonl"))[0] == line * 3
    assert sum(name.endswith(("-000001", "-000002", "-000003")) for name in found.decode().split()) == 3


async def test_a_place_that_is_not_there_is_said(cluster: Cluster) -> None:
    """In the server's words; nothing is taken for a record that has changed."""
    state = _state(cluster, "nowhere")

    with pytest.raises(TargetFailed, match=r'cannot write the record `lease\.json`: .*"nowhere" not found'):
        await state.write("lease.json", b"1\n", version="")
