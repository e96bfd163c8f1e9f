"""YAML of others: plain values, and a sentence for what is nested to break the reader."""

from __future__ import annotations

import pytest
import yaml

from pipeline.scan.yamls import load_yaml


def test_ordinary_yaml_is_read() -> None:
    assert load_yaml("a: [1, {b: c}]\n") == {"a": [1, {"b": "c"}]}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 200_000, id="brackets"),
        pytest.param("{a: " * 100_000, id="braces"),
        pytest.param("- " * 200_000, id="dashes"),
        pytest.param("? " * 200_000, id="keys"),
        pytest.param("\n".join(" " * depth + "a:" for depth in range(3000)), id="indentation"),
    ],
)
def test_what_is_nested_too_deeply_is_refused(text: str) -> None:
    """The reader in C would end the whole process; newer ones refuse some of it themselves."""
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
