"""A tree of joints from part labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree, shortest_path
from scipy.spatial import cKDTree

from sp4dlib.lifting.surface import Borders, Surface, check_labels, part_borders, weld
from sp4dlib.rigs.rig import Skeleton

PROBES = 1000       # points of a part, evenly taken, whose distance to other shells is measured
END = "_end"        # suffix of joints that carry no weight and only give the last bone its tip


@dataclass(frozen=True)
class _Links:
    """Which parts could hang together, by how much, and where."""

    strength: np.ndarray        # (K, K) symmetric, 0 = not at all
    places: np.ndarray          # (K, K, 3)


def extract_skeleton(mesh, labels, names=None, *, ends: bool = True, return_parts: bool = False):
    """One joint for each part, at the border with its parent part.

    Parts that touch are linked by the length of their common border, and the maximum spanning tree of the links is the
    hierarchy. Shells that touch nothing are hung on the part that comes nearest. The root is the part with the
    smallest area-weighted mean distance, in links, to all others; its joint is its centroid. Every
    other joint is the length-weighted centroid of the border with the parent.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
    labels : array_like of int, shape (N,)
        Part of each vertex. Ids without vertices get no joint.
    names : sequence of str, optional
        Name of each part id; default ``part_<id>``.
    ends : bool
        Give leaf parts a weightless end joint ``<name>_end`` at their tip.
    return_parts : bool
        Also return the part of each joint.

    Returns
    -------
    skeleton : Skeleton
        Bind matrices are translations: all joints have the world's axes, so that a rotation means the same at each.
    joint_part : ndarray of int, shape (J,), only with ``return_parts``
        Part id of each joint, -1 at end joints. Joints come in breadth-first order from the root, ends last.

    Raises
    ------
    ValueError
        If labels do not fit the mesh, or a name is missing or used twice.
    """
    surface = weld(mesh)
    labels = surface.gather(check_labels(labels, len(surface.index)))
    ids, compact = np.unique(labels, return_inverse=True)
    names = _part_names(names, ids)
    areas, centroids = _moments(surface, compact, len(ids))
    links = _part_links(surface, compact, part_borders(surface, compact), len(ids))
    order, parents = _spanning_tree(links.strength, areas)
    positions = centroids.copy()
    child = parents >= 0
    positions[child] = links.places[np.flatnonzero(child), parents[child]]
    rank = np.argsort(order)
    tree = np.where(parents[order] < 0, -1, rank[parents[order]])
    joints, joint_names, joint_part = positions[order], [names[p] for p in order], ids[order]
    if ends:
        leaves = np.setdiff1d(np.arange(len(order)), tree)
        tips = [_tip(surface.vertices[compact == order[leaf]], joints[leaf], centroids[order[leaf]]) for leaf in leaves]
        tree = np.concatenate([tree, leaves])
        joints = np.concatenate([joints, np.reshape(tips, (-1, 3))])
        joint_names += [joint_names[leaf] + END for leaf in leaves]
        joint_part = np.concatenate([joint_part, np.full(len(leaves), -1)])
    bind = np.tile(np.eye(4), (len(joints), 1, 1))
    bind[:, :3, 3] = joints
    skeleton = Skeleton(tree, tuple(joint_names), bind)
    return (skeleton, joint_part) if return_parts else skeleton


def _part_names(names, ids: np.ndarray) -> list[str]:
    """Names of the parts that occur."""
    if names is None:
        return [f"part_{i}" for i in ids]
    names = list(names)
    if len(names) <= ids.max():
        raise ValueError(f"labels go up to part {ids.max()}, but only {len(names)} names were given")
    chosen = [str(names[i]) for i in ids]
    if len(set(chosen)) < len(chosen):
        raise ValueError("two parts have one name: " + ", ".join(sorted({n for n in chosen if chosen.count(n) > 1})))
    return chosen


def _moments(surface: Surface, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Area (K,) and area-weighted centroid (K, 3) of each part."""
    # The floor keeps parts of lone vertices defined: their centroid is the plain mean.
    weight = np.maximum(surface.areas, 1e-9 * surface.areas.mean() + np.finfo(float).tiny)
    areas = np.bincount(labels, weight, minlength=count)
    sums = [np.bincount(labels, weight * surface.vertices[:, k], minlength=count) for k in range(3)]
    return areas, np.stack(sums, axis=1) / areas[:, None]


def _part_links(surface: Surface, labels: np.ndarray, borders: Borders, count: int) -> _Links:
    """Links by common border; parts in no contact are joined by their nearest points until all hang together."""
    strength, places = np.zeros((count, count)), np.zeros((count, count, 3))
    weight = np.maximum(borders.lengths, 1e-12 * surface.size)
    for (a, b), length, center in zip(borders.pairs, weight, borders.centers):
        for i, j in ((a, b), (b, a)):
            strength[i, j] += length
            places[i, j] += length * center
    places /= np.where(strength > 0, strength, 1)[..., None]
    island = connected_components(csr_matrix(strength > 0), directed=False)[1]
    if island.max() == 0:
        return _Links(strength, places)
    points = [surface.vertices[labels == part] for part in range(count)]
    trees = [cKDTree(p) for p in points]
    probes = [p[::-(-len(p) // PROBES)] for p in points]
    gaps = [(trees[a].query(probes[b])[0].min(), a, b) for a in range(count) for b in range(a)
            if island[a] != island[b]]
    for gap, a, b in sorted(gaps):                      # Kruskal: the narrowest gap first
        if island[a] == island[b]:
            continue
        # Any link across a gap is weaker than any border, and a wider gap is weaker than a narrow one.
        strength[a, b] = strength[b, a] = weight.min(initial=surface.size) * 1e-3 / (1 + gap / surface.size)
        places[a, b] = places[b, a] = _contact(points[a], trees[a], points[b], gap)
        island[island == island[a]] = island[b]
    return _Links(strength, places)


def _contact(first: np.ndarray, tree: cKDTree, second: np.ndarray, gap: float) -> np.ndarray:
    """Where two shells come together: mean of the nearly nearest points, half-way to the other shell."""
    reach = gap + 0.05 * min(np.ptp(first, axis=0).max(), np.ptp(second, axis=0).max()) * (1 + 1e-9)
    distance, nearest = tree.query(second)
    close = distance <= reach
    return (second[close].mean(0) + first[nearest[close]].mean(0)) / 2


def _spanning_tree(strength: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximum spanning tree: parts in breadth-first order (K,) and the parent of each part (K,), -1 at the root."""
    if len(areas) == 1:
        return np.zeros(1, int), np.full(1, -1)
    cost = np.where(strength > 0, 1 / np.where(strength > 0, strength, 1), 0)
    tree = minimum_spanning_tree(csr_matrix(cost))
    tree = csr_matrix(tree + tree.T)
    hops = shortest_path(tree, directed=False, unweighted=True)
    root = int((hops @ areas).argmin())
    order, parents = breadth_first_order(tree, root, directed=False)
    return order.astype(int), np.where(parents < 0, -1, parents).astype(int)


def _tip(points: np.ndarray, joint: np.ndarray, centroid: np.ndarray) -> np.ndarray:
    """Centre of the far end of a part: mean of the points ahead whose distance is at least 0.85 of the largest."""
    axis = centroid - joint
    length = np.linalg.norm(axis)
    # A root part alone, or one that lies round its joint evenly, has no direction of its own: its longest one does.
    axis = axis / length if length > 1e-9 * max(np.ptp(points), 1e-300) else np.eye(3)[np.ptp(points, axis=0).argmax()]
    reach = np.linalg.norm(points - joint, axis=1)
    ahead = (points - joint) @ axis >= 0
    reach = np.where(ahead, reach, -1) if ahead.any() else reach
    return points[reach >= 0.85 * reach.max()].mean(0)
