"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sp4dlib.rigs import assets as registry


def in_ci() -> bool:
    """Whether skips for want of a tool are forbidden."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


@pytest.fixture(scope="session")
def assets() -> Path:
    """Folder of the Quaternius rigs (packs below it); load one with ``sp4dlib.rigs.assets.load(name)``."""
    if not os.environ.get(registry.VARIABLE):
        message = (f"the real rigs: set {registry.VARIABLE} to a folder or .tar.xz archive of them "
                   "(`python -m sp4dlib.rigs.assets fetch` downloads them and prints the folder)")
        if in_ci():
            pytest.fail(f"CI must run the tests that need {message}")
        pytest.skip(f"needs {message}")
    return registry.path("animals_pack/Fox").parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items) -> None:
    """Mark every test that uses the archive, so that ``-m "not assets"`` leaves them out."""
    for item in items:
        if "assets" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.assets)
