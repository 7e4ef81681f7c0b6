"""How well damaged part images decode: ``python -m benchmarks.coding``; writes data/results/coding.json.

For each rig of the validation split: one clip of 4 frames and 4 views at 256 x 256, parts under 1 % of the foreground
folded into their parents, Gaussian noise of 12 levels of 255 and 2x down- and upsampling. ``interior`` is the mIoU
over pixels whose 5 x 5 neighbourhood holds one true id, ``ceiling`` that of the argmax of the resampled one-hot maps.
Damage comes in both orders; ``noise_first`` is the acceptance test, ``noise_last`` leaves the noise at full strength.
The number of parts is once told and once estimated.

``--small`` measures pictures of 64 x 64 pixels instead and writes data/results/coding_small.json: after a linear code
of 8 numbers for each patch of 2 x 2 pixels (``coded``), and after a Gaussian blur of 0.5 pixels and noise of 5 levels
(``blurred``). ``scored`` is the mean IoU of parts with at least 16 pixels and 0.5 % of the foreground.
"""

from __future__ import annotations

import argparse
import logging
import time

import numpy as np
from scipy import ndimage

from benchmarks import record
from sp4dlib import coding, evaluation
from sp4dlib.clips import make_clip
from sp4dlib.rigs import assets

FRAMES, VIEWS, SIZE, SIGMA, FACTOR, SMALL = 4, 4, 256, 12 / 255, 2, 0.01
log = logging.getLogger("benchmarks.coding")


def folded_clip(name: str, generator: np.random.Generator, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Part ids (T, V, H, W) and colours (K, 3) of a clip of a rig."""
    rig = assets.load(name)
    animation = rig.animations[generator.integers(len(rig.animations))] if rig.animations else None
    times = np.linspace(0, animation.duration if animation else 0, FRAMES, endpoint=False)
    azimuths = generator.uniform(0, 360) + np.arange(VIEWS) * 360 / VIEWS
    clip = make_clip(rig, animation, times, azimuths, 10.0, size)
    parts, kept = coding.fold_small_parts(clip.parts, clip.part_parents, SMALL)
    return parts, coding.part_colors(clip.centers[0, kept], clip.boxes[0, 0], clip.cameras.rotation(0))


def measure(parts: np.ndarray, damaged: np.ndarray, told: int | None, inside: np.ndarray, ceiling: float) -> dict:
    """Scores and seconds of one decoding."""
    started, worked = time.perf_counter(), time.process_time()
    decoded = coding.decode(damaged, told)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    plain = evaluation.segmentation_scores(decoded, parts)["miou"]
    return {"found": int(decoded.max()) + 1,
            "interior": round(evaluation.segmentation_scores(decoded[inside], parts[inside])["miou"], 4),
            "plain": round(plain, 4), "ratio": round(plain / ceiling, 4), "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu, 2)}


def rig_result(name: str, seed: int) -> dict:
    """All measurements on one rig."""
    generator = np.random.default_rng([seed, assets.names().index(name)])
    parts, colors = folded_clip(name, generator)
    images = coding.encode(parts, colors)
    inside = evaluation.interior(parts, 5)
    ceiling = evaluation.segmentation_scores(coding.resampled_parts(parts, FACTOR), parts)["miou"]
    exact = evaluation.segmentation_scores(coding.decode(images), parts)["miou"] == 1
    result = {"parts": len(colors), "clean_is_exact": exact, "ceiling": round(ceiling, 4)}
    for order, last in (("noise_first", False), ("noise_last", True)):
        damaged = coding.corrupt(images, SIGMA, FACTOR, generator, noise_last=last)
        result[order] = {"told": measure(parts, damaged, len(colors), inside, ceiling),
                         "estimated": measure(parts, damaged, None, inside, ceiling)}
    return result


def small_result(name: str, seed: int) -> dict:
    """Measurements on one rig at 64 x 64 pixels."""
    generator = np.random.default_rng([seed, assets.names().index(name)])
    parts, colors = folded_clip(name, generator, 64)
    images = coding.encode(parts, colors)
    soft = ndimage.gaussian_filter(images.astype(np.float32), (0, 0, 0.5, 0.5, 0))
    noisy = np.clip(np.round(soft + generator.normal(0, 5, soft.shape)), 0, 255).astype(np.uint8)
    ids, sizes = np.unique(parts[parts >= 0], return_counts=True)
    large = ids[sizes >= max(16, 0.005 * sizes.sum())]
    result = {"parts": len(colors)}
    for damage, damaged in (("coded", coding.code_patches(images, 2, 8)), ("blurred", noisy)):
        result[damage] = {}
        for told in (len(colors), None):
            worked = time.process_time()
            decoded = coding.decode(damaged, told)
            cpu = time.process_time() - worked
            scores = evaluation.segmentation_scores(decoded, parts)
            scored = np.mean([iou for part, iou in zip(scores["ids"], scores["iou"]) if part in large])
            result[damage]["estimated" if told is None else "told"] = {
                "found": int(decoded.max()) + 1, "scored": round(float(scored), 4), "plain": round(scores["miou"], 4),
                "cpu_seconds": round(cpu, 2)}
    return result


def measure_small(split: str, every: int, seed: int) -> None:
    """All rigs at 64 x 64 pixels; writes data/results/coding_small.json."""
    rigs = {}
    for name in assets.names(split)[::every]:
        rigs[name] = small_result(name, seed)
        log.info("%-36s %s", name, rigs[name])
    means = {damage: {count: round(float(np.mean([rig[damage][count]["scored"] for rig in rigs.values()])), 4)
                      for count in ("told", "estimated")} for damage in ("coded", "blurred")}
    path = record.write("coding_small" if split == "val" else f"coding_small_{split}",
                        {"settings": {"split": split, "frames": FRAMES, "views": VIEWS, "size": 64, "small": SMALL},
                         "mean_scored": means, "rigs": rigs},
                        device=record.processor(), seed=seed, module="benchmarks.coding")
    log.info("wrote %s: %s", path, means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", default="val", choices=["train", "val"])
    parser.add_argument("--every", type=int, default=1, help="take every n-th rig")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="pictures of 64 x 64 pixels")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.small:
        measure_small(options.split, options.every, options.seed)
        return
    rigs = {}
    for name in assets.names(options.split)[::options.every]:
        rigs[name] = rig_result(name, options.seed)
        told = rigs[name]["noise_first"]["told"]
        log.info("%-36s %2d parts, interior %.3f, plain %.3f of %.3f, %.1f s", name, rigs[name]["parts"],
                 told["interior"], told["plain"], rigs[name]["ceiling"], told["cpu_seconds"])
    worst = {order: {key: min(rig[order]["told"][key] for rig in rigs.values()) for key in ("interior", "ratio")}
             for order in ("noise_first", "noise_last")}
    counted = {order: float(np.mean([rig[order]["estimated"]["found"] == rig["parts"] for rig in rigs.values()]))
               for order in worst}
    settings = {"split": options.split, "frames": FRAMES, "views": VIEWS, "size": SIZE, "sigma_levels": 12,
                "factor": FACTOR, "small": SMALL}
    name = "coding" if options.split == "val" else f"coding_{options.split}"
    path = record.write(name, {"settings": settings, "worst": worst, "count_estimated_right": counted, "rigs": rigs},
                        device=record.processor(), seed=options.seed, module="benchmarks.coding")
    log.info("wrote %s: worst %s; number of parts right %s", path, worst, counted)


if __name__ == "__main__":
    main()
