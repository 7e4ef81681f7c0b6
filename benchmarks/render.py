"""Pictures per second of the clip renderer on one core, and how far its two engines agree.

Everything that makes a clip is timed: posing, aiming the cameras, drawing antialiased colour and ids, reading them
back, centres and boxes of the parts. Compiling shaders, reading the rig and finding its parts are not. The process is
pinned to one core and llvmpipe draws in its only thread.

    python -m benchmarks.render [--size 256] [--repeats 7] [--name render]
"""

from __future__ import annotations

import os

ONE_THREAD = ("LP_NUM_THREADS", "0"), ("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1"), ("MKL_NUM_THREADS", "1")
os.environ.update(ONE_THREAD)           # read when the libraries are loaded, so before their import

import argparse  # noqa: E402
import logging  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402

import numpy as np  # noqa: E402

from benchmarks import record  # noqa: E402
from sp4dlib import rigs  # noqa: E402
from sp4dlib.clips import NoOpenGL, kinematic_parts, make_clip  # noqa: E402
from sp4dlib.rigs import assets  # noqa: E402

VERTICES = 5000
SEED = 0
LAYOUTS = {"gl": ((24, 1), (12, 4), (24, 24)), "embree": ((3, 1), (1, 4))}        # frames, views

log = logging.getLogger("benchmarks.render")


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", type=int, default=256, help="pixels of an image side")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each measurement; the median counts")
    parser.add_argument("--name", default="render", help="of the file in data/results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    renderer = opengl()
    engines = ["gl", "embree"] if renderer else ["embree"]
    results = {"size": arguments.size, "cores": 1, "gl_renderer": renderer, "rigs": []}
    for rig in subjects():
        parts = kinematic_parts(rig)
        speeds = [speed(rig, parts, engine, *layout, arguments.size, arguments.repeats)
                  for engine in engines for layout in LAYOUTS[engine]]
        entry = {"rig": rig.name, "vertices": len(rig.vertices), "triangles": len(rig.faces), "parts": len(parts),
                 "speeds": speeds}
        if len(engines) == 2:
            entry["agreement"] = agreement(rig, parts, arguments.size)
        results["rigs"].append(entry)
    path = record.write(arguments.name, results, device=record.processor(), seed=SEED, module="benchmarks.render")
    log.info("wrote %s", path)


def opengl() -> str | None:
    """Name of the OpenGL renderer, None without one."""
    from sp4dlib.clips import gl

    try:
        return gl.device().context.info["GL_RENDERER"]
    except NoOpenGL as error:
        log.warning("no OpenGL: %s", error)
        return None


def subjects() -> list[rigs.Rig]:
    """The real rig nearest to 5,000 vertices, where it can be had, and a procedural one of that size.

    The real one is flat-shaded, with about two vertices for a triangle; the other is smooth, with two triangles for a
    vertex, and twice the work.
    """
    chosen = [rigs.quadruped(SEED, vertices=VERTICES)]
    nearest = min(assets.names(), key=lambda name: abs(assets.find(name).vertices - VERTICES))
    try:
        chosen.insert(0, assets.load(nearest))
    except rigs.RigError as error:
        log.warning("without %s: %s", nearest, error)
    return chosen


def speed(rig, parts, engine: str, frames: int, views: int, size: int, repeats: int) -> dict:
    """Pictures per second of one engine for clips of ``frames`` by ``views``."""
    animation = rig.animation("walk")
    times = np.arange(frames) / frames * animation.duration
    wall, busy = [], []
    for _ in range(repeats + 1):                                        # the first compiles shaders
        start, used = time.perf_counter(), time.process_time()
        make_clip(rig, animation, times, np.arange(views) * 360 / views, 10, size, parts=parts, engine=engine)
        wall.append(time.perf_counter() - start)
        busy.append(time.process_time() - used)
    pictures = frames * views
    out = {"engine": engine, "frames": frames, "views": views,
           "pictures_per_second": round(pictures / statistics.median(wall[1:]), 1),
           "best_pictures_per_second": round(pictures / min(wall[1:]), 1),
           "cpu_milliseconds_per_picture": round(1e3 * statistics.median(busy[1:]) / pictures, 2)}
    log.info("%s: %s", rig.name, out)
    return out


def agreement(rig, parts, size: int) -> dict:
    """Share of foreground pixels to which both engines give one id, and their mean difference in colour."""
    animation = rig.animation("walk")
    times = np.arange(3) / 3 * animation.duration
    one, two = (make_clip(rig, animation, times, [0, 70, 160, 290], [0, 15, -10, 30], size, parts=parts, engine=engine)
                for engine in ("gl", "embree"))
    seen = (one.parts >= 0) | (two.parts >= 0)
    out = {"ids": round(float((one.parts == two.parts)[seen].mean()), 5),
           "rgb_mean_absolute_of_255": round(float(np.abs(one.rgb.astype(int) - two.rgb)[seen].mean()), 3),
           "pixels": int(seen.sum())}
    log.info("%s: engines agree: %s", rig.name, out)
    return out


if __name__ == "__main__":
    main()
