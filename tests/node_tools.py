"""What the tests use of Node.js: the packages of tests/node, installed once, and the Khronos glTF validator."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import in_ci

NODE = Path(__file__).parent / "node"


def install(package: str) -> Path:
    """Folder of a package of tests/node/package-lock.json; skips where it cannot be had, and fails where CI is true."""
    if not (shutil.which("node") and shutil.which("npm")):
        message = f"{package}: install Node.js 18 or newer"
        if in_ci():
            pytest.fail(f"CI must have {message}")
        pytest.skip(f"needs {message}")
    folder = NODE / "node_modules" / package
    with open(NODE / ".lock", "w") as lock:                     # several test processes, one installation
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=NODE,
                                  capture_output=True, text=True, timeout=300)
            if done.returncode and not in_ci():
                pytest.skip(f"needs {package}; npm cannot install it:\n{done.stderr[-500:]}")
            assert done.returncode == 0, done.stderr
    return folder


def validate(files) -> list[dict]:
    """Reports of the Khronos validator: ``errors``, ``warnings``, ``messages`` of each file."""
    done = subprocess.run(["node", "validate.js", *map(str, files)], cwd=NODE, capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
