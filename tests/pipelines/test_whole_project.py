"""Linters that hold files against each other, in their containers: real answers of jactionlint and jscpd."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.pipelines.projects import new_repository

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

FUNCTIONS: Final = "".join(
    f"export function f{number}(a, b) {{\n  return [a * {number}, b - {number}];\n}}\n"
    for number in range(12)
)
FILES: Final = {
    ".gitignore": ".pipeline\n",
    ".github/actionlint.yaml": "self-hosted-runner:\n  labels: [big]\n",
    ".github/actions/greet/action.yml": (
        "name: greet\ndescription: says hello\ninputs:\n  who:\n    description: who\n    required: true\n"
        "runs:\n  using: composite\n  steps:\n    - run: echo hello\n      shell: bash\n"
    ),
    ".github/workflows/check.yml": (
        "on: push\npermissions: {}\njobs:\n  check:\n    runs-on: big\n    steps:\n"
        "      - uses: ./.github/actions/greet\n        with: {whom: you}\n"
    ),
    "web/one.js": FUNCTIONS,
    "web/two.js": f"// Another one.\n\n{FUNCTIONS}",
    "web/.jscpd.json": '{"ignore": ["**/*"]}\n',
}


def test_an_input_an_action_has_not_and_code_that_stands_twice_are_told(tmp_path: Path, store: Path) -> None:
    """An action in the repository is known, and so are its own runners; both tools looked at all."""
    project = new_repository(tmp_path / "project", store, FILES)

    ran = project.run("--only", "quality")

    kept: dict[str, Any] = json.loads((ran.files("quality") / "findings.json").read_text())
    states = {one["scanner"]: (one["state"], one["coverage"]["seen"]) for one in kept["scans"]}
    found = [one["finding"] for one in kept["verdict"]["judged"]]
    told = {(one["witnesses"][0]["tool"], one["rule"]["id"], one["place"]["path"]) for one in found}
    workflow = ".github/workflows/check.yml"
    assert (states["jactionlint"], states["duplicates"]) == (("complete", 2), ("complete", 2))
    assert {one for one in told if one[0] in ("jactionlint", "jscpd")} == {
        ("jactionlint", "local-action-checkout", workflow),
        ("jactionlint", "missing-action-input", workflow),
        ("jactionlint", "unknown-action-input", workflow),
        ("jscpd", "duplicate-code", "web/one.js"),
    }
    [copied] = [one for one in found if one["rule"]["id"] == "duplicate-code"]
    assert copied["message"] == "lines 1-36 are the same as web/two.js:3-38"
