"""Seconds and megabytes from labels to weights, beside Blender's bone heat: the section ``speed``.

The creature at 50,000 and 200,000 vertices, its tail one part: 20 parts. Every run has a process of its own, the
methods take turns, and the median of three runs counts (of one where a run takes over 20 s). Blender is given
the bones of the same 20 parts. Seconds are those of the call alone; megabytes the process' peak, imports included.

    python -m benchmarks.rigging_speed METHOD GIVEN.npz MADE.npz      (the child)
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import record, rigging_anchors
from benchmarks.rigging_anchor_child import Clock, peak_megabytes
from benchmarks.rigging_anchors import Run
from benchmarks.rigging_creature import bones, creature

SIZES = ("creature50000", "creature200000")
REPEATS, LONG = 3, 20.0


def speed(name: str, run: Run) -> dict:
    """Median seconds, CPU seconds and peak MB of each method at one size, and the library's share of Blender's."""
    rig = creature(int(name.removeprefix("creature")))
    names = [bone.name for bone in bones()]
    part = np.array([min(i, names.index("tail_1")) for i in range(len(names))])
    kept = np.unique(part)
    tails = np.array([bone.tail for bone in bones()])
    tails[names.index("tail_1")] = bones()[-1].tail
    # Blender's heat does not depend on the scale; the longest side of 2 is that of the other sections.
    low, unit = rig.vertices.min(0), rig.size / 2
    data = {"vertices": (rig.vertices - low) / unit, "faces": rig.faces, "labels": part[rig.weights.argmax(1)],
            "starts": (rig.skeleton.joints[kept] - low) / unit, "stops": (tails[kept] - low) / unit}
    methods = ["ours", "band"] + (["blender"] if run.programs.blender else [])
    runs: dict[str, list[dict]] = {method: [] for method in methods}
    for turn in range(REPEATS):
        for method in methods:
            if turn and runs[method][0].get("seconds", 2 * LONG) > LONG:
                continue
            runs[method].append(own_process(method, data, run))
    out = {method: summary(done) for method, done in runs.items()}
    result = {"vertices": len(rig.vertices), "parts": len(kept), "cpus": os.cpu_count(),
              "load": round(os.getloadavg()[0], 2), "times": out}
    if "seconds" in out.get("blender", {}) and "seconds" in out["ours"]:
        result["of_blender"] = {key: out["ours"][key] / out["blender"][key] for key in ("seconds", "cpu_seconds")}
    return result


def summary(runs: list[dict]) -> dict:
    """Medians over runs, or the first error."""
    failed = [run for run in runs if "error" in run]
    if failed:
        return {"error": failed[0]["error"]}
    return {key: statistics.median(run[key] for run in runs) for key in ("seconds", "cpu_seconds", "peak_mb")} | {
        "runs": len(runs), "version": runs[0]["version"]}


def own_process(method: str, data: dict, run: Run) -> dict:
    """One run in a process of its own."""
    if method == "blender":
        return rigging_anchors.run_child(method, data, run.programs)[1]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "given.npz"), Path(folder, "made.json")
        np.savez(given, **data)
        done = subprocess.run([sys.executable, "-m", "benchmarks.rigging_speed", method, str(given), str(made)],
                              capture_output=True, text=True, cwd=record.ROOT)
        return json.loads(made.read_text()) if made.is_file() else {"error": done.stderr.strip().splitlines()[-1]}


def child(method: str, given: str, made: str) -> None:
    """What runs in the process: weights once, seconds and peak to a file."""
    from sp4dlib.lifting import harmonic_weights
    from sp4dlib.lifting.surface import weld
    from sp4dlib.rigs import Mesh

    with np.load(given) as stored:
        data = {name: stored[name] for name in ("vertices", "faces", "labels")}
    mesh, count = Mesh(data["vertices"], data["faces"]), int(data["labels"].max()) + 1
    tiny = Mesh(np.eye(3), np.array([[0, 1, 2]]))
    harmonic_weights(tiny, np.array([0, 0, 1]))                 # loads what is loaded lazily
    weld(tiny)
    with Clock() as clock:
        if method == "ours":
            harmonic_weights(mesh, data["labels"])
        else:
            rigging_anchors.plain_band(data["vertices"], data["faces"], data["labels"], count)
    Path(made).write_text(json.dumps({"seconds": clock.wall, "cpu_seconds": clock.cpu, "peak_mb": peak_megabytes(),
                                      "version": record.commit()}))


if __name__ == "__main__":
    child(*sys.argv[1:])
