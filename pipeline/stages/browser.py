"""A browser for tests that drive one with Playwright: Debian's Chromium, where its own download would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.stages.containers import with_debian_packages, with_env

if TYPE_CHECKING:
    import dagger

    from pipeline.graph.context import Context

FOLDER: Final = "/opt/browsers"
PACKAGES: Final = ("chromium", "fonts-liberation")
ENV: Final = {"PLAYWRIGHT_BROWSERS_PATH": FOLDER, "PLAYWRIGHT_SKIP_VALIDATE_HOST_REQUIREMENTS": "1"}
# Traces and screenshots of what failed; Playwright's plugin for pytest knows these options.
OPTIONS: Final = "--tracing=retain-on-failure --screenshot=only-on-failure --output=/reports/browser"
# Each version of Playwright looks for one revision of its browsers, and newer ones in other folders.
SCRIPT: Final = r"""
import importlib.util, json, os, pathlib, sys

PLACES = {
    "chromium": ("chrome-linux/chrome", "chrome-linux64/chrome"),
    "chromium-headless-shell": (
        "chrome-linux/headless_shell",
        "chrome-headless-shell-linux64/chrome-headless-shell",
    ),
}
spec = importlib.util.find_spec("playwright")
if spec is None:
    sys.exit(0)
package = pathlib.Path(spec.origin).parent / "driver" / "package"
for browser in json.loads((package / "browsers.json").read_text())["browsers"]:
    top = pathlib.Path(os.environ["PLAYWRIGHT_BROWSERS_PATH"])
    top /= f"{browser['name'].replace('-', '_')}-{browser['revision']}"
    for place in PLACES.get(browser["name"], ()):
        (top / place).parent.mkdir(parents=True, exist_ok=True)
        (top / place).symlink_to("/usr/bin/chromium")
        (top / "INSTALLATION_COMPLETE").touch()
if importlib.util.find_spec("pytest_playwright") or importlib.util.find_spec("pytest_playwright_asyncio"):
    print("has the plugin")
"""


async def with_browser(ctx: Context, container: dagger.Container) -> dagger.Container:
    """Add Chromium to a container of tests; with Playwright's plugin for pytest, keep traces of failures."""
    container = await with_debian_packages(ctx, container, PACKAGES)
    container = with_env(container, ENV).with_exec(["python", "-c", SCRIPT])
    if not await container.stdout():
        return container
    own = await container.env_variable("PYTEST_ADDOPTS") or ""
    return container.with_env_variable("PYTEST_ADDOPTS", f"{own} {OPTIONS}".lstrip())
