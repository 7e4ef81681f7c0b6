"""Tune the baselines of the evaluation on the val rigs: ``python -m benchmarks.baselines``.

Writes ``data/results/baselines.json``: all constants that were tried, with their mean mIoU and ARI over the clips of
both protocols, and the best, which :data:`sp4dlib.evaluation.tuning.TUNED` holds.
"""

from __future__ import annotations

import argparse

from tqdm import tqdm

from benchmarks import record
from sp4dlib.clips import kinematic_parts
from sp4dlib.clips.sources import load_entry
from sp4dlib.diffusion.recipe import read_recipe
from sp4dlib.evaluation.protocols import EvaluationConfig
from sp4dlib.evaluation.subjects import Scene, draw_scene, list_subjects
from sp4dlib.evaluation.tuning import GRIDS, tune

GROUP = "quaternius"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = EvaluationConfig("val", size=args.size, seed=args.seed)
    scenes = []
    for entry in list_subjects(read_recipe("mini").data.set, "val")[0]:
        if entry.source != GROUP:
            continue
        rig = load_entry(entry)[0]
        drawn = [draw_scene(entry, rig, kinematic_parts(rig), protocol, config.rule, config.seed)
                 for protocol in ("multi-view", "multi-frame")]
        scenes += [scene for scene in drawn if isinstance(scene, Scene)]
    results = {"clips": [f"{scene.key} {scene.protocol}" for scene in scenes], "size": args.size, "methods": {}}
    for method in GRIDS:
        with tqdm(desc=method) as bar:
            best, tried = tune(scenes, method, after=lambda _, bar=bar: bar.update())
        results["methods"][method] = {"best": best, "tried": tried}
        print(method, best, max(tried, key=lambda row: row["miou"] + row["ari"]), flush=True)
    record.write("baselines", results, device=record.processor(), seed=args.seed, module="benchmarks.baselines")


if __name__ == "__main__":
    main()
