"""How fast training sets are made, beside Blender Cycles in the same run, and whether memory stays flat.

* **draw**: random clips at the quality of the default set (24 frames x 24 views at 256 x 256: posed, lit at random,
  four samples a pixel, colour and exact ids), in pictures a second, on one core and with a process on each of two.
* **make**: the same with everything that ``sp4d data build`` does for a clip, PNG files and tar included.
* **cycles**: the same rig, moments and cameras by Blender Cycles on one core with 4 samples and no bounces, PNG files
  included; ``ratio`` is *make* on one core over it, ``cpu_ratio`` the same by the processor's clock, which a busy
  machine disturbs less. Runs alternate.
* **memory**: resident memory of one process over many objects that are loaded, drawn and packed.

    python -m benchmarks.data --bpy-python PATH [--seconds 20] [--memory-clips 1000]
"""

from __future__ import annotations

import os

ONE_THREAD = ("LP_NUM_THREADS", "0"), ("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1"), ("MKL_NUM_THREADS", "1")
os.environ.update(ONE_THREAD)           # read when the libraries are loaded, so before their import

import argparse  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import multiprocessing  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from benchmarks import record  # noqa: E402
from benchmarks.render import opengl, subjects  # noqa: E402
from sp4dlib import rigs  # noqa: E402
from sp4dlib.clips import DrawRule, MergeRule, Skip, Source, kinematic_parts, list_entries, plan_clip  # noqa: E402
from sp4dlib.clips import make_clip, render_draw  # noqa: E402
from sp4dlib.clips.objects import Job, make_object  # noqa: E402
from sp4dlib.clips.shards import pack_clip  # noqa: E402
from sp4dlib.rigs import assets  # noqa: E402

SEED = 0
SAMPLES = 4             # of Cycles, for a pixel
CHILD = Path(__file__).with_name("cycles_child.py")
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

log = logging.getLogger("benchmarks.data")


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("--seconds", type=float, default=20.0, help="of each measurement of ours")
    add("--frames", type=int, default=24, help="of a clip")
    add("--views", type=int, default=24, help="of a clip")
    add("--size", type=int, default=256, help="pixels of an image side")
    add("--workers", type=int, default=2, help="processes of the parallel measurement")
    add("--bpy-python", help="interpreter that can import bpy; without it Cycles is left out")
    add("--shots", type=int, default=12, help="pictures by Cycles for each rig, after one that is not counted")
    add("--memory-clips", type=int, default=1000, help="0 leaves memory out")
    add("--name", default="data", help="of the file in data/results")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results = {"gl_renderer": opengl(), "size": options.size, "frames": options.frames, "views": options.views,
               "rigs": [measure(number, rig, options) for number, rig in enumerate(subjects())]}
    if options.memory_clips:
        results["memory"] = in_process(memory, options.memory_clips, options.size)
    path = record.write(options.name, results, device=record.processor(), seed=SEED, module="benchmarks.data")
    log.info("wrote %s", path)


def measure(number: int, rig: rigs.Rig, options: argparse.Namespace) -> dict:
    """All speeds for one of the subjects."""
    rule = DrawRule(frames=options.frames, views=options.views, size=options.size)
    out = {"rig": rig.name, "vertices": len(rig.vertices), "triangles": len(rig.faces),
           "draw": parallel(number, rule, options.seconds, 1, pack=False)[0]}
    before = parallel(number, rule, options.seconds / 2, 1, pack=True)
    if options.bpy_python:
        out["cycles"] = cycles(rig, options)
    after = parallel(number, rule, options.seconds / 2, 1, pack=True)
    out["make"], out["make_by_cpu_second"] = (round((a + b) / 2, 1) for a, b in zip(before, after))
    out[f"draw_{options.workers}_workers"] = parallel(number, rule, options.seconds, options.workers, pack=False)[0]
    out[f"make_{options.workers}_workers"] = parallel(number, rule, options.seconds, options.workers, pack=True)[0]
    if "cycles" in out:
        out["ratio"] = round(out["make"] / out["cycles"]["pictures_per_second"], 1)
        out["cpu_ratio"] = round(out["make_by_cpu_second"] / out["cycles"]["pictures_per_cpu_second"], 1)
    log.info("%s", out)
    return out


def parallel(number: int, rule: DrawRule, seconds: float, workers: int, pack: bool) -> tuple[float, float]:
    """Pictures a second, and a CPU second, of some processes together, each on a core of its own, once all are ready.
    """
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(workers), context.SimpleQueue()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    processes = [context.Process(target=draw_on, args=(number, rule, seconds, pack, cores[-1 - k % len(cores)] if cores
                                                       else None, barrier, answers)) for k in range(workers)]
    for process in processes:
        process.start()
    speeds = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return tuple(round(sum(column), 1) for column in zip(*speeds))


def draw_on(number: int, rule: DrawRule, seconds: float, pack: bool, core: int | None, barrier, answers) -> None:
    """Draw clips on one core for some seconds and answer with pictures a second and a CPU second."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    rig = subjects()[number]
    parts, generator = kinematic_parts(rig), np.random.default_rng(SEED)

    def clip(rule: DrawRule) -> int:
        drawn = plan_clip(rig, generator, rule, parts=parts, animation=index_of(rig))
        made = render_draw(rig, drawn, rule, parts=parts)
        if isinstance(made, Skip):
            raise RuntimeError(made.detail)
        if pack:
            pack_clip(made, "clip", {})
        return made.rgb.shape[0] * made.rgb.shape[1]

    for flat in (0.0, 1.0):                                             # compiles shaders
        clip(DrawRule(frames=2, views=2, size=rule.size, flat=flat))
    barrier.wait()
    began, used, pictures = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - began) < seconds:
        pictures += clip(rule)
    answers.put((pictures / passed, pictures / (time.process_time() - used)))


def index_of(rig: rigs.Rig) -> int:
    """Number of the walk."""
    return rig.animations.index(rig.animation("walk"))


def cycles(rig: rigs.Rig, options: argparse.Namespace) -> dict:
    """Pictures a second of Cycles, with the moments and cameras of a clip of ours."""
    count = options.shots + 1
    drawn = plan_clip(rig, np.random.default_rng(SEED), DrawRule(frames=count, views=count, size=options.size),
                      animation=index_of(rig))
    ours = make_clip(rig, drawn.animation, drawn.times, drawn.azimuths, drawn.elevations, 32, fill=drawn.fill)
    target = np.linalg.inv(ours.cameras.normalize)[:3, 3]
    shots = [{"time": time, "position": ours.cameras.position(view).tolist()}
             for view, time in enumerate(drawn.times)]
    with tempfile.TemporaryDirectory() as folder:
        rigs.save(rig, Path(folder) / "rig.glb")
        job = {"file": str(Path(folder) / "rig.glb"), "animation": rig.animations[drawn.animation].name,
               "samples": SAMPLES, "size": options.size, "fov": ours.cameras.fov, "target": target.tolist(),
               "shots": shots}
        (Path(folder) / "job.json").write_text(json.dumps(job), encoding="utf-8")
        run = subprocess.run([options.bpy_python, str(CHILD), str(Path(folder) / "job.json")], capture_output=True,
                             text=True, env={**os.environ, "PYTHONPATH": ""})
    if run.returncode:
        raise RuntimeError(f"Cycles: {run.stderr.strip()[-400:]}")
    answer = json.loads(next(line for line in reversed(run.stdout.splitlines()) if line.startswith("{")))
    cover = [float((ours.parts[n, n] >= 0).mean()) for n in range(count)]
    return {"blender": answer["blender"], "samples": SAMPLES, "pictures": options.shots,
            "pictures_per_second": round(1 / statistics.median(answer["seconds"][1:]), 2),
            "pictures_per_cpu_second": round(1 / statistics.median(answer["cpu_seconds"][1:]), 2),
            "covered": round(float(np.mean(answer["covered"])), 4), "covered_by_ours": round(float(np.mean(cover)), 4)}


def in_process(function, *arguments):
    """What a function returns, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(function, arguments)


def memory(count: int, size: int) -> dict:
    """Resident MiB of this process after each tenth of so many objects."""
    sources = [Source("procedural", "procedural", count=20)]
    if assets.available():
        sources.append(Source("assets", "quaternius"))
    entries, _ = list_entries(sources)
    order = np.random.default_rng(SEED).permutation(len(entries))
    rule, seen, kept, began = DrawRule(frames=4, views=4, size=size), [], 0, time.perf_counter()
    for number in range(count):
        made = make_object(Job(entries[order[number % len(entries)]], rule, MergeRule(), 1, number))
        kept += len(made.clips)
        if (number + 1) % max(1, count // 10) == 0:
            seen.append(round(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20, 1))
    return {"objects": count, "clips": kept, "frames": 4, "views": 4, "resident_mib": seen,
            "seconds": round(time.perf_counter() - began, 1)}


if __name__ == "__main__":
    main()
