"""A project drawn by lot: secrets and look-alikes in many kinds of files, and where each of them is.

`python -m tests.unit.scan.secrets.corpus SEED FOLDER` writes it down.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.unit.scan.secrets.kinds import NAMED, TOKENS, Corpus, Mark
from tests.unit.scan.secrets.listings import LISTINGS
from tests.unit.scan.secrets.look_alikes import LOOK_ALIKES
from tests.unit.scan.secrets.specials import SPECIALS

if TYPE_CHECKING:
    from collections.abc import Callable


def camel(name: str) -> str:
    first, *rest = name.lower().replace("-", "_").split("_")
    return first + "".join(word.title() for word in rest) if "_" in name or "-" in name else name


def snake(name: str) -> str:
    return name.replace("-", "_")


# How each kind of file gives a value to a name: lines before, the line itself, lines after.
FORMS: Final[dict[str, tuple[Callable[[str, str], str], ...]]] = {
    "py": (
        lambda n, v: f"{snake(n).upper()} = {v!r}",
        lambda n, v: f'    client = Client({snake(n)}="{v}", timeout=30)',
        lambda n, v: f'    settings["{n}"] = "{v}"',
        lambda n, v: f'    {snake(n)}: str = "{v}"',
        lambda n, v: f'    "{n}": "{v}",',
        lambda n, v: f'    os.environ.setdefault("{snake(n).upper()}", "{v}")',
    ),
    "js": (
        lambda n, v: f"const {camel(n)} = '{v}';",
        lambda n, v: f'  {camel(n)}: "{v}",',
        lambda n, v: f"  '{n}': '{v}',",
        lambda n, v: f"config.{camel(n)} = `{v}`;",
    ),
    "ts": (
        lambda n, v: f'export const {camel(n)}: string = "{v}";',
        lambda n, v: f"  private readonly {camel(n)} = '{v}';",
    ),
    "java": (
        lambda n, v: f'    private static final String {snake(n).upper()} = "{v}";',
        lambda n, v: f'        props.setProperty("{n}", "{v}");',
    ),
    "go": (
        lambda n, v: f'\t{camel(n)} := "{v}"',
        lambda n, v: f'\t\t{camel(n).title()}: "{v}",',
        lambda n, v: f'const {camel(n)} = "{v}"',
    ),
    "rb": (lambda n, v: f"  config.{snake(n)} = '{v}'", lambda n, v: f"  :{snake(n)} => '{v}',"),
    "php": (lambda n, v: f"define('{snake(n).upper()}', '{v}');", lambda n, v: f"    '{n}' => '{v}',"),
    "cs": (lambda n, v: f'    public const string {camel(n).title()} = "{v}";',),
    "yaml": (
        lambda n, v: f"  {n}: {v}",
        lambda n, v: f'  {n}: "{v}"',
        lambda n, v: f"  {n}: '{v}'  # used by the worker",
    ),
    "json": (lambda n, v: f'    "{n}": "{v}",',),
    "toml": (lambda n, v: f'{n} = "{v}"',),
    "ini": (lambda n, v: f"{n} = {v}", lambda n, v: f"{n}={v}"),
    "properties": (lambda n, v: f"app.{n.replace('_', '.').lower()}={v}", lambda n, v: f"{n}: {v}"),
    "env": (lambda n, v: f"{snake(n).upper()}={v}", lambda n, v: f'export {snake(n).upper()}="{v}"'),
    "sh": (
        lambda n, v: f"export {snake(n).upper()}='{v}'",
        lambda n, v: f'{snake(n).upper()}="{v}" ./deploy',
    ),
    "tf": (lambda n, v: f'  {snake(n)} = "{v}"',),
    "xml": (
        lambda n, v: f"    <{camel(n)}>{v}</{camel(n)}>",
        lambda n, v: f'    <add key="{n}" value="{v}" />',
    ),
    "ipynb": (lambda n, v: f'    "{snake(n).upper()} = \\"{v}\\"\\n",',),
    "Dockerfile": (
        lambda n, v: f"ENV {snake(n).upper()}={v}",
        lambda n, v: f"ARG {snake(n).upper()}={v}",
        lambda n, v: f"ENV {snake(n).upper()} {v}",
    ),
    "deployment.yaml": (lambda n, v: f"        - name: {snake(n).upper()}\n          value: {v}",),
    "md": (lambda n, v: f"    export {snake(n).upper()}={v}",),
}
PLACES: Final = {
    "py": "src/app/{w}.py",
    "js": "web/src/{w}.js",
    "ts": "web/src/{w}.ts",
    "java": "server/src/main/java/io/acme/{W}.java",
    "go": "cmd/{w}/main.go",
    "rb": "config/initializers/{w}.rb",
    "php": "public/{w}.php",
    "cs": "Api/{W}.cs",
    "yaml": "config/{w}.yaml",
    "json": "config/{w}.json",
    "toml": "config/{w}.toml",
    "ini": "etc/{w}.ini",
    "properties": "src/main/resources/{w}.properties",
    "env": "deploy/{w}.env",
    "sh": "scripts/{w}.sh",
    "tf": "infra/{w}.tf",
    "xml": "conf/{w}.xml",
    "ipynb": "notebooks/{w}.ipynb",
    "Dockerfile": "images/{w}/Dockerfile",
    "deployment.yaml": "k8s/{w}-deployment.yaml",
    "md": "runbooks/{w}.md",
}
WORDS: Final = (
    "orders",
    "billing",
    "mailer",
    "search",
    "worker",
    "gateway",
    "reports",
    "catalog",
    "session",
    "payments",
)
FILLER: Final = {
    "py": [
        "import os",
        "",
        "RETRIES = 3",
        "def load(path: str) -> dict[str, str]:",
        "    return parse(path)",
    ],
    "js": [
        "import { api } from './api';",
        "const retries = 3;",
        "export default function run() { return api.get('/v1/items'); }",
    ],
    "yaml": ["service:", "  replicas: 3", "  image: acme/api:1.4.2", "  port: 8080"],
    "ini": ["[server]", "port = 8080", "debug = false"],
    "Dockerfile": [
        "FROM python:3.12-slim",
        "WORKDIR /app",
        "RUN pip install --no-cache-dir -r requirements.txt",
    ],
}
BARE: Final = {"yaml", "ini", "properties", "env", "Dockerfile", "deployment.yaml", "md"}


def make_corpus(seed: int, *, secrets: int = 150, decoys: int = 400) -> Corpus:
    """Draw a project; the same seed draws the same one."""
    r = random.Random(seed)  # noqa: S311 - the same project every time
    corpus = Corpus()
    slots = [(form, f"{word}{index}") for index in range(2) for form in FORMS for word in r.sample(WORDS, 3)]
    lines: dict[tuple[str, str], list[tuple[str, str, str, str]]] = {slot: [] for slot in slots}
    kinds = [*TOKENS, *NAMED]
    for index in range(secrets):
        kind = kinds[index % len(kinds)] if index < 2 * len(kinds) else r.choice(kinds)
        put(r, lines, kind, "secret")
    for index in range(decoys):
        put(r, lines, list(LOOK_ALIKES)[index % len(LOOK_ALIKES)], "decoy")
    for (form, word), rows in lines.items():
        write(r, corpus, form, word, rows)
    for special in (*SPECIALS, *LISTINGS):
        special(r, corpus)
    return corpus


def put(
    r: random.Random, lines: dict[tuple[str, str], list[tuple[str, str, str, str]]], kind: str, what: str
) -> None:
    slot = r.choice(list(lines))
    if what == "secret" and kind in TOKENS:
        name, make = TOKENS[kind]
        value = make(r)
    else:
        names, make = (NAMED if what == "secret" else LOOK_ALIKES)[kind]
        name, value = r.choice(names), make(r)
    form = slot[0]
    if form in BARE and (" " in value or value[0] in "!*&%@{[<>|`#") and what == "secret":
        value = value.replace(" ", "").lstrip("!*&%@{[<>|`#")
    if form == "xml" and any(c in value for c in "<>&"):
        value = value.replace("<", "").replace(">", "").replace("&", "")
    text = r.choice(FORMS[form])(name, value)
    lines[slot].append((text, kind, what, value))


def write(
    r: random.Random, corpus: Corpus, form: str, word: str, rows: list[tuple[str, str, str, str]]
) -> None:
    path = PLACES[form].format(w=word, W=word.title())
    out: list[str] = []
    r.shuffle(rows)
    for text, kind, what, value in rows:
        out += r.choices(FILLER.get(form, [""]), k=r.randint(0, 3))
        line = len(out) + 1 + text.count("\n")
        out += text.split("\n")
        (corpus.secrets if what == "secret" else corpus.decoys).append(Mark(path, line, kind, value))
    corpus.files[path] = "\n".join(out) + "\n"


if __name__ == "__main__":
    for name, text in make_corpus(int(sys.argv[1])).files.items():
        place = Path(sys.argv[2]) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
