"""Nothing secret is kept or told: values are planted wherever a user can give one, and looked for."""

from __future__ import annotations

import os
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pipeline.connect import open_session, parse_target
from pipeline.engine.settings import EngineSettings, NetworkSettings
from pipeline.text import secret_forms
from tests.engine import busybox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import dagger

pytestmark = [pytest.mark.root, pytest.mark.anyio]

SHOW = r"""
cat > /tmp/value
for around in "" u user: ; do { printf %s "$around"; cat /tmp/value; printf more; } | base64; done
base64 < /tmp/value | tr '+/' '-_'; base64 < /tmp/value | tr -d '\n'; echo
sed 's/%/%25/g; s/@/%40/g; s/ /%20/g; s#/#%2F#g; s/+/%2B/g' /tmp/value; echo
sed 's/@/%40/g; s/ /+/g; s#/#%2f#g; s/+/%2b/g' /tmp/value; echo
cat /tmp/value; head -n 1 /tmp/value >&2; sed 's/$/\r/' /tmp/value >&2
for i in $(seq 200); do cut -c 1-9 /tmp/value | head -n 1 | head -c 7; cat /tmp/value; done
rm /tmp/value
"""


@dataclass(kw_only=True)
class Planted:
    """A session whose engine was told secrets, what it told, and the values."""

    client: dagger.Client
    root: dagger.Directory
    store: Path
    values: dict[str, bytes]
    told: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        return self.values[name].decode()

    def show(self, command: str, code: int) -> list[str]:
        return ["sh", "-c", f"{command} | {{ {SHOW} }}; exit {code}"]


def make_value(kind: str) -> bytes:
    return f"{kind} p@ss/word+{secrets.token_hex(12)}\nsecond line of {secrets.token_hex(12)}".encode()


@asynccontextmanager
async def planted(folder: Path) -> AsyncIterator[Planted]:
    busybox.require_launcher()
    busybox.fill(folder / "root")
    (folder / "root/Dockerfile").write_text(
        "FROM scratch\nCOPY . /\nENV PATH=/bin\nCOPY show /show\n"
        "RUN --mount=type=secret,id=token cat /run/secrets/token | sh /show\n"
        "RUN --mount=type=secret,id=token cat /run/secrets/token | sh /show; exit 3\n"
    )
    (folder / "root/show").write_text(SHOW)
    values = {kind: make_value(kind) for kind in ("variable", "mount", "uri", "build", "registry")}
    values["index"] = f"p@ss+{secrets.token_hex(12)}".encode()
    (folder / "kept").write_bytes(values["uri"])
    index = f"https://user:{values['index'].decode()}@index.example/simple"
    network = NetworkSettings(env=(("PIP_INDEX_URL", index),), secrets=(values["index"].decode(), index))
    store = folder / "store"
    settings = EngineSettings(store=str(store), offline=True, network=network)
    told: list[str] = []
    async with open_session(
        parse_target("embedded"), settings, workdir=folder, observer=lambda event: told.append(repr(event))
    ) as client:
        root = client.host().directory(str(folder / "root"))
        yield Planted(client=client, root=root, store=store, values=values, told=told)


async def run_everything(lab: Planted) -> list[str]:
    """Let each value be printed by a command that succeeds and by one that fails; return what is told."""
    import dagger

    client = lab.client
    from_uri = client.secret(f"file://{lab.store.parent}/kept")
    box = (
        client.container()
        .with_rootfs(lab.root)
        .with_env_variable("PATH", "/bin")
        .with_secret_variable("VARIABLE", client.set_secret("variable", lab.text("variable")))
        .with_mounted_secret("/mount", client.set_secret("mount", lab.text("mount")))
        .with_mounted_secret("/uri", from_uri)
        .with_secret_variable("URI", from_uri)
    )
    said: list[str] = []
    for command in ('printf %s "$VARIABLE"', "cat /mount", "cat /uri", 'printf %s "$URI"', "env"):
        done = box.with_exec(lab.show(command, 0), redirect_stdout="/out")
        said += [await done.stdout(), await done.stderr(), await done.combined_output()]
        said += [await done.file("/out").contents(), await done.directory("/tmp").id(), await done.id()]
        with pytest.raises(dagger.ExecError) as caught:
            await box.with_exec(lab.show(command, 3)).sync()
        said += [repr(caught.value), str(caught.value), caught.value.stdout, caught.value.stderr]
    build = lab.root.docker_build(secrets=[client.set_secret("token", lab.text("build"))])
    with pytest.raises(dagger.QueryError) as failed:
        await build.sync()
    assert "exit code: 3" in str(failed.value)
    said += [str(failed.value), repr(failed.value.errors)]
    password = client.set_secret("registry", lab.text("registry"))
    with pytest.raises(dagger.QueryError) as refused:
        await box.with_registry_auth("127.0.0.1:9", "user", password).publish("127.0.0.1:9/x:y")
    return [*said, str(refused.value), repr(refused.value.errors)]


def shown(text: bytes, values: dict[str, bytes]) -> list[str]:
    """Return which forms of which values are in a text."""
    return sorted({f"{name}: {form!r}" for name, value in values.items() for form in secret_forms(value)
                   if form in text})  # fmt: skip


def kept(store: Path) -> bytes:
    """Return all that lies in a store: names, links and contents, the database and its journal included."""
    parts: list[bytes] = []
    for folder, directories, files in os.walk(os.fsencode(store)):
        for name in (*directories, *files):
            place = os.path.join(folder, name)
            parts.append(name)
            if os.path.islink(place):
                parts.append(os.readlink(place))
            elif os.path.isfile(place) and os.path.getsize(place) < 1 << 20:  # busybox and the like
                with open(place, "rb") as file:
                    parts.append(file.read())
    return b"\n".join(parts)


async def test_planted_values_are_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in outputs, errors, ids, events, the engine's words or its store, whether it runs or has ended."""
    async with planted(tmp_path) as lab:
        said = await run_everything(lab)
        while_it_runs = kept(lab.store)

    told = "\n".join(lab.told)
    words = capfd.readouterr()
    places = {
        "said": "\n".join(said).encode(),
        "told": told.encode("utf-8", "surrogateescape"),
        "words": (words.out + words.err).encode(),
        "store while it runs": while_it_runs,
        "store afterwards": kept(lab.store),
    }
    assert {name: found for name, text in places.items() if (found := shown(text, lab.values))} == {}
    assert told.count("***") > 2000
    assert "exit code: 3" in "\n".join(said)


async def test_the_search_finds_what_is_kept(tmp_path: Path) -> None:
    """A value that a command writes to a file is kept with the file: nothing looks into those."""
    async with planted(tmp_path) as lab:
        secret = lab.client.set_secret("variable", lab.text("variable"))
        box = lab.client.container().with_rootfs(lab.root).with_secret_variable("V", secret)
        await box.with_exec(["/bin/sh", "-c", '/bin/busybox printf %s "$V" > /file']).sync()
        found = shown(kept(lab.store), lab.values)

    assert f"variable: {lab.values['variable']!r}" in found
