"""What the documentation says is there, is there: links, settings, commands, code."""

from __future__ import annotations

import ast
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Final

import pytest

from pipeline.cli.app import COMMANDS
from pipeline.config import Config
from pipeline.config.values import PolicyRules, ServiceSettings, StageSettings, key_of

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))

    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_in_the_documentation_can_be_read(page: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)

    for block in blocks:
        ast.parse(block)


def test_every_setting_is_documented() -> None:
    """Each key of each table of `[tool.pipeline]`, and of a stage's table."""
    text = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    default = Config()
    tables = {
        item.name: fields(getattr(default, item.name))
        for item in fields(Config)
        if is_dataclass(getattr(default, item.name))
    }

    of_many = (fields(StageSettings), fields(ServiceSettings), fields(PolicyRules))
    keys = {key_of(item.name) for table in (*tables.values(), *of_many) for item in table}

    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")

    assert [name for name in COMMANDS if f"`{name}" not in text and f"pipeline {name}" not in text] == []


def test_every_stage_is_documented() -> None:
    text = (ROOT / "docs/reference/stages.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "pipeline/stages").glob("*.py")]
    found = [
        re.findall(r'@stage(?:\((?:name="(\w+)")?[^\n]*)?\nasync def (\w+)', source) for source in sources
    ]
    stages = {given or own for rows in found for given, own in rows}

    assert [name for name in sorted(stages) if f"`{name}`" not in text] == []
