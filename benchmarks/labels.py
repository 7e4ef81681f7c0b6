"""Two ways from colours to ids and three ways to tidy the surface: ``python -m benchmarks.labels``.

Writes data/results/labels.json. Every rig is drawn in part colours at 512 x 512 from 12 and from 4 cameras as in
:mod:`benchmarks.rigging`, section ``lifted``. ``clean`` pictures are lifted as they are. ``soft`` and ``rough``
ones are what a sampler makes of them, at 256 x 256: noise of 12 of 255 levels and the resolution of a 128 x 128 latent;
or blobs of wrong colours over 2 % of the object, noise of 24 levels and 64 x 64.

Ids: ``decode`` (:func:`sp4dlib.coding.decode`) or ``hdbscan`` on pixel colours, as SP4D (arXiv 2509.10687) has it;
neither is told the number of parts. Surface: ``none``, a vertex takes the id with most votes; ``ours``, as
:func:`sp4dlib.lifting.vertex_labels`; ``potts``, the labelling that minimises
``sum_i -log p_i + beta sum_ij w_ij [l_i != l_j]`` by alpha expansion (Boykov, Veksler and Zabih 2001), p the vote
shares with a twentieth of the median added to each, w the off-diagonals of the surface Laplacian over their mean. In
all three a vertex that no pixel reached takes what the nearest that one did has.

Scores: mean over parts of at least 1 % of the area of the vertices' IoU, ids matched to the true ones one to one by
the Hungarian algorithm, 0 where none is left; and how many ids were ``found`` where how many parts (``of``) could be
seen. The Potts model is shown at several prices ``beta`` of a border, none of them chosen beforehand: where the best of
them is no better than ``ours``, tuning would not help.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from scipy.spatial import cKDTree

from benchmarks import record, rigging_sections, rigging_subjects
from benchmarks.rigging_subjects import Subject, bare_rig, mesh
from sp4dlib import coding, lifting
from sp4dlib.clips import Clip, Parts, make_clip
from sp4dlib.clips.parts import vertex_areas
from sp4dlib.lifting.linear import laplacian
from sp4dlib.lifting.surface import Surface, weld
from sp4dlib.lifting.votes import color_ids

BETAS = 0.1, 0.3, 1.0
SEED = 5
SPECKLE, BLOB = 0.02, 5         # share of the object's pixels, and a blob's radius in pixels of 256
DAMAGE = {"clean": None, "soft": (0.0, 12 / 255, 2), "rough": (SPECKLE, 24 / 255, 4)}
CLUSTERINGS = "decode", "hdbscan"
log = logging.getLogger("benchmarks.labels")


def rig_result(name: str, damages: list[str]) -> dict:
    """Scores of all combinations on one rig."""
    subject = rigging_subjects.load(name)
    surface, out = weld(mesh(subject)), {"vertices": len(subject.vertices), "parts": len(subject.joints)}
    generator = np.random.default_rng([SEED, len(subject.vertices), len(subject.joints)])
    for views in rigging_sections.VIEWS:
        clip = drawn(subject, views)
        seen = len(np.unique(clip.parts[clip.parts >= 0]))
        for kind in damages:
            damage = DAMAGE[kind]
            pictures = clip.part_images if damage is None else damaged(clip, *damage, generator)
            for clustering in CLUSTERINGS:
                worked = time.process_time()
                ids = color_ids(pictures, clustering=clustering)
                worked = time.process_time() - worked
                entry = {"found": int(ids.max()) + 1, "of": seen, "cpu_seconds": round(worked, 2)}
                found = lifting.label_report(mesh(subject), ids, clip.cameras)
                for way, labels in tidied(surface, found).items():
                    entry[way] = round(matched_miou(subject, labels), 4)
                out[f"{views} views, {kind}, {clustering}"] = entry
    return out


def drawn(subject: Subject, views: int) -> Clip:
    """A clip of one frame from the cameras of :func:`benchmarks.rigging_sections.lifted_labels`."""
    azimuths, elevations = np.arange(views) * 360 / views, np.resize(rigging_sections.ELEVATIONS, views)
    parts = Parts(subject.labels, np.zeros(1, int), subject.parents, subject.names)
    return make_clip(bare_rig(subject), None, [0], azimuths, elevations, rigging_sections.SIZE, parts=parts)


def damaged(clip: Clip, speckle: float, sigma: float, factor: int, generator: np.random.Generator) -> np.ndarray:
    """Part images (1, V, 256, 256, 3) with blobs of other parts' colours, noise and lost resolution."""
    ids = clip.parts[:, :, ::2, ::2].copy()
    size = ids.shape[-1]
    rows, columns = np.mgrid[:size, :size]
    for frame, view in np.ndindex(ids.shape[:2]):
        image = ids[frame, view]
        inside = np.argwhere(image >= 0)
        for _ in range(int(round(speckle * len(inside) / (np.pi * BLOB**2 / 2)))):
            row, column = inside[generator.integers(len(inside))]
            radius = generator.uniform(0.3, 1) * BLOB
            blob = ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2) & (image >= 0)
            image[blob] = generator.integers(len(clip.colors))
    return coding.corrupt(coding.encode(ids, clip.colors), sigma, factor, generator)


def tidied(surface: Surface, found: lifting.votes.VertexLabels) -> dict[str, np.ndarray]:
    """Labels (N,) by votes as they are, by the library, and by the Potts model at each price."""
    first = np.zeros(len(surface.vertices), int)
    first[surface.index] = np.arange(len(surface.index))
    votes = found.votes[first]
    hit = votes.any(1)
    nearest = np.flatnonzero(hit)[cKDTree(surface.vertices[hit]).query(surface.vertices)[1]]
    votes = np.where(hit[:, None], votes, votes[nearest])
    return {"none": votes.argmax(1)[surface.index], "ours": found.labels} | {
        f"potts {beta}": potts(surface, votes, beta)[surface.index] for beta in BETAS}


def potts(surface: Surface, votes: np.ndarray, beta: float, sweeps: int = 4) -> np.ndarray:
    """Labels (M,) by alpha expansion; see the module."""
    prior = 0.05 * np.median(votes.sum(1))
    cost = -np.log((votes + prior) / (votes.sum(1, keepdims=True) + prior * votes.shape[1]))
    stiffness = coo_matrix(laplacian(surface.vertices, surface.faces)[0])
    once = stiffness.row < stiffness.col
    first, second = stiffness.row[once], stiffness.col[once]
    weight = np.maximum(-stiffness.data[once], 0)
    weight *= beta / weight.mean()
    labels = cost.argmin(1)
    energy = potts_energy(cost, first, second, weight, labels)
    for _ in range(sweeps):
        before = energy
        for label in np.unique(votes.argmax(1)):
            grown = np.where(expansion(cost, first, second, weight, labels, label), label, labels)
            lower = potts_energy(cost, first, second, weight, grown)
            if lower < energy:
                labels, energy = grown, lower
        if energy >= before:
            break
    return labels


def potts_energy(cost, first, second, weight, labels) -> float:
    """The Potts model's energy of ``labels``."""
    return float(cost[np.arange(len(labels)), labels].sum() + weight[labels[first] != labels[second]].sum())


def expansion(cost, first, second, weight, labels, label: int) -> np.ndarray:
    """Which vertices had best take ``label`` at once, bool (M,): a minimum cut (Kolmogorov and Zabih 2004).

    The cut's source side keeps its labels. scipy's flows are whole numbers, so capacities are scaled to a billion.
    """
    count = len(labels)
    now, left, right = weight * (labels[first] != labels[second]), weight * (labels[first] != label), \
        weight * (labels[second] != label)
    balance = cost[:, label] - cost[np.arange(count), labels]           # of taking the label over keeping one's own
    balance = balance + np.bincount(first, right - now, count) - np.bincount(second, right, count)
    source, sink, every = count, count + 1, np.arange(count)
    rows = np.concatenate([first, np.full(count, source), every])
    columns = np.concatenate([second, every, np.full(count, sink)])
    capacity = np.concatenate([left + right - now, np.maximum(balance, 0), np.maximum(-balance, 0)])
    scale = 1e9 / max(capacity.sum(), 1e-9)
    graph = csr_matrix((np.round(capacity * scale).astype(np.int32), (rows, columns)), shape=(count + 2,) * 2)
    graph.eliminate_zeros()
    residual = graph - maximum_flow(graph, source, sink).flow           # the flow is antisymmetric
    residual.data = np.where(residual.data > 0, residual.data, 0)
    residual.eliminate_zeros()
    kept = np.zeros(count + 2, bool)
    kept[breadth_first_order(residual, source, return_predecessors=False)] = True
    return ~kept[:count]


def matched_miou(subject: Subject, labels: np.ndarray) -> float:
    """Mean IoU of the parts of at least 1 % of the area over vertices, ids matched one to one."""
    area = vertex_areas(subject.vertices[None], subject.faces)[0]
    share = np.bincount(subject.labels, area, len(subject.joints)) / area.sum()
    large = np.flatnonzero(share >= rigging_sections.LEAST)
    both = np.zeros((len(subject.joints), labels.max() + 1))
    np.add.at(both, (subject.labels, labels), 1)
    iou = both / np.maximum(both.sum(1, keepdims=True) + both.sum(0) - both, 1)
    rows, columns = linear_sum_assignment(-iou)
    best = np.zeros(len(subject.joints))
    best[rows] = iou[rows, columns]
    return float(best[large].mean())


def mean_scores(results: dict) -> dict:
    """Means over rigs of each case."""
    cases = [key for key in next(iter(results.values())) if "views" in key]
    out = {}
    for case in cases:
        rows = [one[case] for one in results.values()]
        out[case] = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
        out[case]["count_right"] = round(float(np.mean([row["found"] == row["of"] for row in rows])), 4)
    return out


def main() -> None:
    """Run on the chosen rigs; what is done is stored after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rigs", default="val", help="train, val, or names, comma-separated")
    parser.add_argument("--damage", nargs="+", default=list(DAMAGE), choices=DAMAGE, help="kinds of pictures")
    parser.add_argument("--dry", action="store_true", help="print the table only; store nothing")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = {"seed": SEED, "betas": BETAS, "views": rigging_sections.VIEWS, "size": rigging_sections.SIZE,
                "damage": {kind: DAMAGE[kind] for kind in options.damage}, "least_area": rigging_sections.LEAST,
                "damaged_size": rigging_sections.SIZE // 2}
    results = {}
    for name in rigging_subjects.names(options.rigs):
        results[name] = rig_result(name, options.damage)
        log.info("%s\n%s", name, json.dumps(results[name], indent=None))
        if not options.dry:
            record.write("labels", {"settings": settings, "means": mean_scores(results), "rigs": results},
                         device=f"{record.processor()}, {os.environ.get('OMP_NUM_THREADS', 'all')} threads", seed=SEED,
                         module="benchmarks.labels")
    for case, row in mean_scores(results).items():
        log.info("%-28s %s", case, "  ".join(f"{key} {value:g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
