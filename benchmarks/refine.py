"""What known poses add to skinning weights: ``python -m benchmarks.refine``; writes data/results/refine.json.

Starting weights are those of perfect labels. The mesh is posed by its reference weights, in 1, 2, 4 or 8 random poses
(every joint but the root turns by U(0, 30) degrees), with Gaussian noise of 0, 0.1 or 0.5 % of the longest side on each
coordinate; ``sp4dlib.lifting.refine_weights`` sees these poses and nothing else. Scores are those of
:func:`sp4dlib.evaluation.rigging.skinning_scores`: ``l1`` to the reference weights and ``deformation``, in permille of
the longest side, over ten other poses, drawn with another seed.

``animation``: instead of random poses, frames of the rig's own animations at even steps, in which the joints that a
part was folded from move apart, as no weights of the parts can follow. Rigs without animations have no such entry.

Means are over rigs; ``worse`` names rigs whose deformation grew by more than 1 % and 0.02 permille. The defaults of
``refine_weights`` were chosen on ``train`` (three rigs and the default quadruped); the file holds ``val`` and creatures
made by :func:`sp4dlib.rigs.creature`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time

import numpy as np

from benchmarks import record, rigging_subjects
from benchmarks.rigging_subjects import LONGEST, Subject, mesh
from sp4dlib import lifting, rigs
from sp4dlib.evaluation import rigging as scores
from sp4dlib.lifting.surface import weld
from sp4dlib.rigs import assets

FRAMES, NOISES, SEED = (1, 2, 4, 8), (0.0, 0.001, 0.005), 11
MADE = ("quadruped", "biped", "bird", "hand")
log = logging.getLogger("benchmarks.refine")


def subject_of(name: str) -> Subject:
    """A rig of the archive, or one of those that are made here."""
    if name not in MADE:
        return rigging_subjects.load(name)
    return rigging_subjects.subject(made_rig(name))


def made_rig(name: str) -> rigs.Rig:
    """The first creature of a family."""
    return rigs.creature(name, 0, vertices=2000)


def rig_result(name: str, options: dict) -> dict:
    """All measurements on one rig."""
    subject = subject_of(name)
    start = lifting.harmonic_weights(mesh(subject), subject.labels, parts=len(subject.joints))
    generator = np.random.default_rng([SEED, len(subject.vertices), len(subject.joints)])
    every = scores.random_poses(subject.joints, subject.parents, seed=SEED, poses=max(FRAMES))
    posed = skinned(subject.vertices, subject.reference, every)
    out = {"vertices": len(subject.vertices), "parts": len(subject.joints), "start": scored(subject, start),
           "random": {}, "animation": {}}
    moving = animated(name, max(FRAMES))
    for kind, poses in (("random", posed), ("animation", moving)):
        if poses is None:
            continue
        disturbance = generator.normal(size=poses.shape) * subject.size
        for noise in NOISES:
            for frames in FRAMES:
                chosen = np.linspace(0, len(poses) - 1, frames + 2)[1:-1].round().astype(int) \
                    if kind == "animation" else np.arange(frames)
                worked = time.process_time()
                made = lifting.refine_weights(mesh(subject), start, poses[chosen] + noise * disturbance[chosen],
                                              **options)
                worked = time.process_time() - worked
                out[kind][f"{frames} frames, noise {noise}"] = scored(subject, made.weights) | {
                    "rms_before": 1e3 * made.rms_before / subject.size,
                    "rms_after": 1e3 * made.rms_after / subject.size,
                    "noise_found": made.noise / subject.size, "cpu_seconds": worked}
    return out


def scored(subject: Subject, weights: np.ndarray) -> dict:
    """L1 and deformation in poses that were not shown."""
    made = scores.skinning_scores(subject.vertices, weights, subject.reference, subject.joints, subject.parents)
    return {key: made[key] for key in ("l1", "deformation")}


def skinned(vertices: np.ndarray, weights: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """Linear blend skinning by motions (F, K, 3, 4) from bind pose; (F, N, 3)."""
    blended = np.einsum("nk,fkab->fnab", weights, transforms)
    return np.einsum("fnab,nb->fna", blended[..., :3], vertices) + blended[..., 3]


def animated(name: str, count: int) -> np.ndarray | None:
    """The subject's vertices at ``count`` + 2 even steps through the longest animation, or None if it has none."""
    rig = made_rig(name) if name in MADE else assets.load(name)
    moves = [animation for animation in rig.animations if animation.duration > 0]
    if not moves:
        return None
    longest = max(moves, key=lambda animation: animation.duration)
    surface = weld(rig)
    first = np.zeros(len(surface.vertices), int)
    first[surface.index] = np.arange(len(surface.index))
    posed = rig.pose(longest, np.linspace(0, longest.duration, count + 2))
    return (posed[:, first[np.unique(surface.faces)]] - rig.vertices.min(0)) / (rig.size / LONGEST)


def mean_scores(results: dict) -> dict:
    """Means over rigs of everything, and the rigs on which deformation grew."""
    out = {"rigs": len(results), "start": started(results)}
    for kind in ("random", "animation"):
        having = {name: one for name, one in results.items() if one[kind]}
        out[kind] = {"rigs": len(having), "start": started(having)} if having else {}
        for case in next(iter(having.values()))[kind] if having else ():
            rows = [one[kind][case] for one in having.values()]
            worse = [name for name, one in having.items() if one[kind][case]["deformation"]
                     > 1.01 * one["start"]["deformation"] + 0.02]
            out[kind][case] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} | {"worse": worse}
    return out


def started(results: dict) -> dict:
    """Mean scores of the weights to start from."""
    return {key: float(np.mean([one["start"][key] for one in results.values()])) for key in ("l1", "deformation")}


def rounded(value):
    """Floats to five digits, all the way down."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def table(means: dict) -> str:
    """Means as lines of text."""
    lines = [f"{'start':32s} l1 {means['start']['l1']:.4f}  deformation {means['start']['deformation']:.3f}"]
    for kind in ("random", "animation"):
        for case, row in means[kind].items():
            if case == "rigs":
                continue
            if "rms_after" in row:
                lines.append(f"{kind + ', ' + case:32s} l1 {row['l1']:.4f}  deformation {row['deformation']:.3f}  rms "
                             f"{row['rms_before']:.2f} -> {row['rms_after']:.2f}  {row['cpu_seconds']:.1f} s  worse: "
                             f"{', '.join(row['worse']) or 'none'}")
            else:
                lines.append(f"{kind + ', ' + case:32s} l1 {row['l1']:.4f}  deformation {row['deformation']:.3f}")
    return "\n".join(lines)


def main() -> None:
    """Run on the chosen rigs; store the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rigs", default="made,val", help="made, train, val, or names, comma-separated")
    parser.add_argument("--every", type=int, default=1, help="of the list, every so many")
    parser.add_argument("--options", type=json.loads, default={}, help="of refine_weights, as JSON, to choose defaults")
    parser.add_argument("--dry", action="store_true", help="print the tables only; store nothing")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    chosen = [name for word in options.rigs.split(",")
              for name in (list(MADE) if word == "made" else rigging_subjects.names(word))][::options.every]
    results = {}
    for name in chosen:
        results[name] = rig_result(name, options.options)
        log.info("%s: %d vertices", name, results[name]["vertices"])
    groups = {"made": {name: results[name] for name in chosen if name in MADE},
              "archive": {name: results[name] for name in chosen if name not in MADE}}
    means = {group: mean_scores(rows) for group, rows in groups.items() if rows}
    for group, rows in means.items():
        log.info("%s\n%s", group, table(rows))
    if not options.dry:
        stored = {"settings": {"frames": FRAMES, "noises": NOISES, "pose_seed": SEED, "held_out_seed": scores.SEED,
                               "options": options.options}, "means": means, "rigs": results}
        device = f"{record.processor()}, {os.environ.get('OMP_NUM_THREADS', 'all')} threads"
        record.write("refine", rounded(stored), device=device, seed=SEED, module="benchmarks.refine")


if __name__ == "__main__":
    main()
