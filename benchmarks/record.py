"""Results that can be traced: what was measured, on what, when, and by which command."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "data" / "results"
STARTED = time.time()


def processor() -> str:
    """Name of the CPU."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] \
        if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str:
    """Short name of the commit that is checked out, with a plus sign where tracked files differ from it."""
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def write(name: str, results: dict, *, device: str, seed: int | None, module: str) -> Path:
    """Store ``results`` as ``data/results/<name>.json`` with where they come from; complete or not at all.

    Parameters
    ----------
    name : str
    results : dict
        Anything JSON can hold.
    device : str
        What did the work.
    seed : int or None
        None where nothing was drawn at random.
    module : str
        The ``benchmarks`` module that ran, for the command line.

    Returns
    -------
    Path
    """
    about = {"device": device, "cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "commit": commit(),
             "date": datetime.date.today().isoformat(), "seed": seed,
             "command": " ".join(["python", "-m", module, *sys.argv[1:]]),
             "wall_seconds": round(time.time() - STARTED, 1)}
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(about | {"results": results}, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path
