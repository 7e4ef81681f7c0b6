"""Tune the baselines of the evaluation on the val rigs: ``python -m benchmarks.baselines``.

Writes ``data/results/baselines.json``: for each protocol all constants that were tried, with their mean mIoU and ARI
over its clips, and the best, which :data:`sp4dlib.evaluation.tuning.TUNED` holds.
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
from sp4dlib.evaluation.tuning import tune, tuned

GROUP = "quaternius"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = EvaluationConfig("val", size=args.size, seed=args.seed)
    scenes = {"multi-view": [], "multi-frame": []}
    for entry in list_subjects(read_recipe("mini").data.set, "val")[0]:
        if entry.source != GROUP:
            continue
        rig = load_entry(entry)[0]
        for protocol, found in scenes.items():
            scene = draw_scene(entry, rig, kinematic_parts(rig), protocol, config.rule, config.seed)
            found += [scene] if isinstance(scene, Scene) else []
    results: dict = {"size": args.size, "frames": config.frames, "views": config.views, "protocols": {}}
    for protocol, found in scenes.items():
        search = results["protocols"][protocol] = {"subjects": [scene.key for scene in found], "methods": {}}
        for method in tuned(protocol):
            with tqdm(desc=f"{protocol} {method}") as bar:
                best, tried = tune(found, method, after=lambda _, bar=bar: bar.update())
            search["methods"][method] = {"best": best, "tried": tried}
            print(protocol, method, max(tried, key=lambda row: row["miou"] + row["ari"]), flush=True)
    record.write("baselines", results, device=record.processor(), seed=args.seed, module="benchmarks.baselines")


if __name__ == "__main__":
    main()
