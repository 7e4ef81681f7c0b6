"""The browser test is collected only when a built book is named: ``pytest tests/browser --book _build/html``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
# Without these headless Chromium has no WebGL and three-dimensional figures stay blank; the name lookup is shut off so
# that a page which needs another host fails here as it would in a room with no network.
FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox",
         "--host-resolver-rules=MAP * ~NOTFOUND"]


def pytest_addoption(parser):
    parser.addoption("--book", help="folder of the built book to open in Chromium")


def pytest_ignore_collect(collection_path, config):
    if collection_path.name.startswith("test_") and not config.getoption("book", None):
        return True
    return None


def pytest_generate_tests(metafunc):
    if "page_path" in metafunc.fixturenames:
        folder = Path(metafunc.config.getoption("book")).resolve()
        pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
        # index.html only sends the reader on; listings of code are all alike and have a test of their own.
        written = [page for page in pages if not page.startswith(("_static", "_modules")) and page != "index.html"]
        metafunc.parametrize("page_path", written)


@pytest.fixture(scope="session")
def book(request) -> Path:
    return Path(request.config.getoption("book")).resolve()


def find_chromium() -> str | None:
    """A Chromium of the system, or the one that ``playwright install`` brought."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


@pytest.fixture(scope="session")
def chromium():
    """A running Chromium; skips by name where there is none, and fails where CI is true."""
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    if path is None:
        message = "browser test: Chromium is missing (Debian: apt install chromium; else: playwright install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shots(book) -> Path:
    """Where screenshots are kept: ``_build/screenshots``."""
    folder = REPO / "_build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
