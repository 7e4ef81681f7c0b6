"""Results that can be traced: what was measured, on what, when, and by which command."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from sp4dlib.provenance import ROOT, about, commit, processor

__all__ = ["RESULTS", "ROOT", "STARTED", "anywhere", "commit", "processor", "write"]

RESULTS = ROOT / "data" / "results"
STARTED = time.time()


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
    origin = about(device=device, seed=seed, command=" ".join(["python", "-m", module, *map(anywhere, sys.argv[1:])]),
                   wall_seconds=time.time() - STARTED)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(origin | {"results": results}, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def anywhere(argument: str) -> str:
    """An argument without the paths of one machine: absolute ones from the root of the project, or the name alone."""
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
