"""Resolve the ranges of pyproject.toml in a fresh environment and write ``requirements/lock.txt``.

torch stays out of the lock, and with it the CUDA packages that some of its builds bring: it is installed first, in the
version named by tools/setup_env.py, from whichever index suits the machine.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from setup_env import LOCK, LOCKED_PYTHON, ROOT, call, install_torch, make_venv

OF_TORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*|sp4dlib|pip|setuptools|wheel)$", re.I)
HEADER = """# One set of versions that is known to work, resolved from the ranges of pyproject.toml by `make lock`
# on Python 3.11, Linux x86-64. torch is installed before it and is not in it: see tools/setup_env.py.
"""


def main() -> None:
    if sys.version_info[:2] != LOCKED_PYTHON:
        sys.exit(f"the lock is made with Python {'.'.join(map(str, LOCKED_PYTHON))}, this is {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as folder:
        python = make_venv(Path(folder, "venv"))
        install_torch(python)
        call(python, "-m", "pip", "install", "-q", "-e", f"{ROOT}[book,cluster,humans,official,test]")
        call(python, "-m", "pip", "check")
        frozen = subprocess.run([python, "-m", "pip", "freeze", "--exclude-editable"], capture_output=True, text=True,
                                check=True).stdout.splitlines()
    pins = [line for line in frozen if not OF_TORCH.match(line.split("==")[0].split(" @")[0])]
    odd = [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)]
    if odd:
        sys.exit(f"these packages did not come from an index, so the lock cannot name them: {odd}")
    partial = LOCK.with_suffix(".part")
    partial.write_text(HEADER + "\n".join(pins) + "\n", encoding="utf-8")
    partial.replace(LOCK)
    print(f"{LOCK}: {len(pins)} packages")


if __name__ == "__main__":
    main()
