"""Constants of the baselines, and how they were found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

import numpy as np

from sp4dlib.evaluation.baselines import BASELINES
from sp4dlib.evaluation.metrics import segmentation_scores
from sp4dlib.evaluation.subjects import Scene

# Found by `python -m benchmarks.baselines` on the val rigs; data/results/baselines.json holds the whole search.
TUNED = {"multi-view": {"kmeans": {"space": "rgb", "position": 32.0}, "components": {"levels": 24, "position": 8.0}},
         "multi-frame": {"kmeans": {"space": "lab", "position": 16.0}, "components": {"levels": 12, "position": 8.0},
                         "flow": {"method": "tvl1", "motion": 0.25, "color": 0.1}}}
GRIDS = {"kmeans": {"space": ("rgb", "lab"), "position": (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)},
         "components": {"levels": (6, 12, 24), "position": (0.5, 1.0, 2.0, 4.0, 8.0)},
         "flow": {"method": ("tvl1", "ilk"), "motion": (0.0, 0.25, 0.5, 1.0, 2.0), "color": (0.0, 0.1)}}


def tuned(protocol: str) -> dict[str, dict]:
    """Constants of each baseline that a protocol has; rare poses are seen as `multi-view` is."""
    return TUNED["multi-frame" if protocol == "multi-frame" else "multi-view"]


def tune(scenes: Sequence[Scene], method: str, grid: Mapping[str, Iterable] | None = None,
         after: Callable[[dict], None] | None = None) -> tuple[dict, list[dict]]:
    """Try all constants of a grid on some scenes.

    Parameters
    ----------
    scenes : sequence of Scene
        Of one protocol, for constants of it; ``flow`` needs ``multi-frame``.
    method : {"kmeans", "components", "flow"}
    grid : mapping, optional
        Values of each constant; those of `GRIDS` by default.
    after : callable, optional
        Called with each result, for showing progress.

    Returns
    -------
    best : dict
        Constants of the highest mean of mIoU and ARI; of equal ones the first.
    tried : list of dict
        All constants with ``miou`` and ``ari``, means over scenes.
    """
    grid = GRIDS[method] if grid is None else grid
    if not scenes:
        raise ValueError(f"there is no scene on which {method} can be tuned")
    tried = []
    for values in product(*grid.values()):
        constants = dict(zip(grid, values))
        scores = [segmentation_scores(BASELINES[method](scene.rgb, scene.parts >= 0, scene.num_parts, **constants),
                                      scene.parts) for scene in scenes]
        result = constants | {name: float(np.mean([score[name] for score in scores])) for name in ("miou", "ari")}
        tried.append(result)
        if after is not None:
            after(result)
    best = max(tried, key=lambda result: result["miou"] + result["ari"])
    return {name: best[name] for name in grid}, tried
