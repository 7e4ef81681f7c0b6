"""Where a result comes from: processor, commit, date, command."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def processor() -> str:
    """Name of the CPU."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] \
        if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def commit(root: str | Path = ROOT) -> str:
    """Short name of the commit that is checked out, with a plus sign where tracked files differ from it.

    "unknown" where the library does not lie in a repository.
    """
    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True).stdout.strip()
        except OSError:
            return ""

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def about(*, device: str, seed: int | None, command: str, wall_seconds: float) -> dict:
    """What every stored result begins with.

    Parameters
    ----------
    device : str
        What did the work.
    seed : int or None
        None where nothing was drawn at random.
    command : str
    wall_seconds : float
    """
    return {"device": device, "cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "commit": commit(),
            "date": datetime.date.today().isoformat(), "seed": seed, "command": command,
            "wall_seconds": round(wall_seconds, 1)}
