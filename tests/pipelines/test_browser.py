"""End-to-end tests that drive a real Chromium with Playwright against a service of the project."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.pipelines.projects import new_repository

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]

SITE = {
    "site/index.html": """
<!doctype html><title>Shop</title><button id="buy">Buy</button><p id="said"></p>
<script>
buy.onclick = () => fetch("price.txt").then(answer => answer.text()).then(text => { said.textContent = text })
</script>
""",
    "site/price.txt": "seven\n",
    "requirements.txt": "pytest-playwright\n",
    "compose.yaml": """
services:
  web:
    image: python:3.13-slim
    command: python -m http.server 8000
    working_dir: /srv
    volumes: ["./site:/srv"]
    ports: ["8000:8000"]
""",
    "tests/e2e/test_shop.py": """
from playwright.sync_api import Page, expect

def test_buying(page: Page):
    page.goto("http://web:8000/")
    page.click("#buy")
    expect(page.locator("#said")).to_have_text("seven")

def test_title(page: Page):
    page.goto("http://web:8000/")
    expect(page).to_have_title("Bank", timeout=500)
""",
    "tests/test_price.py": "def test_price():\n    assert 3 + 4 == 7\n",
    ".gitignore": ".pipeline\n",
}


def test_a_browser_drives_the_site_and_leaves_trace_and_screenshot_of_what_failed(
    tmp_path: Path, store: Path
) -> None:
    """Nothing is configured; the good test leaves nothing behind."""
    site = new_repository(tmp_path / "project", store, SITE)

    ran = site.run("--only", "e2e")

    assert ran.outcomes["e2e"] == "failure", ran.stdout
    message = ran.result("e2e")["failure"]["message"]
    assert message.startswith("1 of 2 tests failed; first: tests/e2e/test_shop.py::test_title[chromium]: ")
    assert "Page title expected to be 'Bank'" in message
    kept = ran.files("e2e")
    left = sorted(str(path.relative_to(kept)) for path in (kept / "browser").rglob("*") if path.is_file())
    folder = "browser/tests-e2e-test-shop-py-test-title-chromium"
    assert left == [f"{folder}/test-failed-1.png", f"{folder}/trace.zip"]
    assert (kept / left[0]).read_bytes().startswith(b"\x89PNG")
    assert "trace.trace" in zipfile.ZipFile(kept / left[1]).namelist()
