"""What the thresholds of bone merging rest on, and how rigid the parts are that come of them.

Thresholds are looked for on the train and val rigs of the asset list, each pack counting once whatever its size:

* ``motion``: the largest of a list at which parts are as rigid as where only bones are merged that stand still against
  each other (``STILL``): the median residual of the best rigid motion rises by less than 5 %. No merging at all is no
  yardstick: a pair that stands still is as rigid together, but two rigid pieces count twice in a median.
* ``appearance``: what 9 of 10 regions differ by from one half to the other is no difference between two of them.
* ``swing``: the one of a list at which rigs without their animations get nearest to as many parts as with them.

Then parts and residuals of each rig of val, and with ``--test`` of test, which is looked at only where the rule's
thresholds are those found.

    python -m benchmarks.parts [--test]
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace

import numpy as np

from benchmarks import record
from sp4dlib.clips import MergeRule, kinematic_parts
from sp4dlib.clips.looks import color_distance, color_quantiles, face_colors
from sp4dlib.clips.merging import RULE
from sp4dlib.clips.rigid import rigid_residuals
from sp4dlib.rigs import Rig, RigError, assets

MOTIONS = (0, 0.0025, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05)
APPEARANCES = (5, 10, 20, 40, 1000)
SWINGS = (7.5, 10, 12.5, 15, 17.5, 20, 25, 30)
STILL = 0.0025
TOLERANCE = 1.05
SAME = 0.9
STAGES = {"bones": replace(RULE, motion=0, min_share=0), "merged": replace(RULE, min_share=0), "parts": RULE}

log = logging.getLogger("benchmarks.parts")


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--test", action="store_true", help="look at the test rigs too; thresholds must be final")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    known = {split: load(split) for split in ("train", "val")}
    both = known["train"] + known["val"]
    found = {**motion(both), **appearance(both), **swing(both)}
    results = {"rule": vars(RULE), "found": found, "splits": {"val": stages(known["val"])}}
    agreed = all(found[name] == getattr(RULE, name) for name in ("motion", "appearance", "swing"))
    if arguments.test and not agreed:
        log.error("MergeRule's thresholds are not those found: the test rigs are left alone")
    elif arguments.test:
        results["splits"]["test"] = stages(load("test"))
    path = record.write("parts", results, device=record.processor(), seed=None, module="benchmarks.parts")
    log.info("wrote %s", path)


def load(split: str) -> list[Rig]:
    """The rigs of a split that can be read here."""
    found = []
    for name in assets.names(split, plain=False):
        try:
            found.append(assets.load(name))
        except RigError as error:
            log.warning("without %s: %s", name, error)
    return found


def animated(rig: Rig) -> bool:
    """Whether merging can look at motion."""
    return any(animation.duration > 0 for animation in rig.animations)


def by_pack(rigs: list[Rig], values) -> float:
    """Mean over packs of the mean over a pack's rigs."""
    packs: dict[str, list[float]] = {}
    for rig, value in zip(rigs, values):
        packs.setdefault(rig.name.split("/")[0], []).append(value)
    return float(np.mean([np.mean(each) for each in packs.values()]))


def motion(rigs: list[Rig]) -> dict:
    """Parts and residuals for each threshold of motion, at the rule's appearance, and for each of appearance."""
    rigs = [rig for rig in rigs if animated(rig)]
    seen: dict[tuple, np.ndarray] = {}

    def measure(rule: MergeRule) -> dict:
        counts, medians, tails = [], [], []
        for rig in rigs:
            parts = kinematic_parts(rig, rule)
            key = rig.name, parts.labels.tobytes()
            if key not in seen:
                seen[key] = rigid_residuals(rig, parts)
            counts.append(len(parts))
            medians.append(np.nanmedian(seen[key]))
            tails.append(np.nanquantile(seen[key], 0.9))
        out = {"motion": rule.motion, "appearance": rule.appearance, "parts": round(by_pack(rigs, counts), 2),
               "residual_median": round(by_pack(rigs, medians), 6), "residual_90": round(by_pack(rigs, tails), 6)}
        log.info("%s", out)
        return out

    rows = [measure(replace(RULE, motion=threshold)) for threshold in MOTIONS]
    limit = TOLERANCE * next(row["residual_median"] for row in rows if row["motion"] == STILL)
    rigid = [row["motion"] for row in rows if row["residual_median"] <= limit]
    return {"motion": max(rigid), "motion_rows": rows,
            "appearance_rows": [measure(replace(RULE, appearance=threshold)) for threshold in APPEARANCES],
            "animated_rigs": len(rigs)}


def appearance(rigs: list[Rig]) -> dict:
    """How far the two halves of a bone's region differ in colour, along the region's longest direction."""
    quantiles = []
    for rig in rigs:
        owner, colors = rig.weights.argmax(1)[rig.faces], face_colors(rig.faces, rig.appearance)
        triangles = rig.vertices[rig.faces]
        area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
        total, found = area.sum(), []
        for joint in np.unique(owner):
            chosen = np.flatnonzero((owner == joint).all(1))
            if area[chosen].sum() < RULE.min_share * total:
                continue
            middle = triangles[chosen].mean(1)
            along = np.linalg.svd(middle - middle.mean(0), full_matrices=False)[2][0] @ middle.T
            far = along > np.median(along)
            if far.any() and not far.all():
                halves = (color_quantiles(colors[chosen[side]].reshape(-1, 3), np.repeat(area[chosen[side]], 4))
                          for side in (far, ~far))
                found.append(color_distance(*halves))
        quantiles.append(np.quantile(found, SAME))
    out = {"appearance": round(2 * by_pack(rigs, quantiles)) / 2}
    log.info("%s", out)
    return out


def swing(rigs: list[Rig]) -> dict:
    """Parts that are found by geometry for each swing, beside those found by motion."""
    rigs = [rig for rig in rigs if animated(rig)]
    wanted = by_pack(rigs, [len(kinematic_parts(rig)) for rig in rigs])
    stripped = [rig.replace(animations=()) for rig in rigs]
    rows = []
    for degrees in SWINGS:
        counts = [len(kinematic_parts(rig, replace(RULE, swing=degrees))) for rig in stripped]
        rows.append({"swing": degrees, "parts": round(by_pack(rigs, counts), 2)})
        log.info("%s", rows[-1])
    nearest = min(rows, key=lambda row: abs(row["parts"] - wanted))
    return {"swing": nearest["swing"], "swing_rows": rows, "parts_by_motion": round(wanted, 2)}


def stages(rigs: list[Rig]) -> dict:
    """Parts and residuals of each rig before merging, after it, and after folding small parts."""
    rows = []
    for rig in rigs:
        row = {"rig": rig.name, "joints": len(rig.skeleton), "animated": animated(rig)}
        for stage, rule in STAGES.items():
            parts = kinematic_parts(rig, rule)
            row[stage] = len(parts)
            if animated(rig):
                row[f"{stage}_residual"] = round(float(np.nanmedian(rigid_residuals(rig, parts))), 6)
        rows.append(row)
        log.info("%s", row)
    moving = [row for row in rows if row["animated"]]
    return {"rigs": rows, **{f"median_{name}": float(np.median([row[name] for row in rows])) for name in STAGES},
            **{f"median_{name}_residual": float(np.median([row[f"{name}_residual"] for row in moving]))
               for name in STAGES}}


if __name__ == "__main__":
    main()
