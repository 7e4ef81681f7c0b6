"""How well a rig agrees with a reference rig of the same mesh: skinning weights, deformation, joints and tree.

Names and units follow RigNet (Xu et al. 2020, arXiv 2005.00559), MagicArticulate (Song et al. 2025, arXiv 2502.12135)
and Puppeteer (arXiv 2508.10898); where these differ or are silent, each function says what is done here. Lengths are
shares of the longest side of the mesh's bounding box: deformation in permille, distances of joints and bones in 1e-2.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

SEED = 7                # of the random poses
POSES = 10
DEGREES = 30.0          # every joint but the root turns by U(0, DEGREES) about a random axis
THRESHOLD = 1e-4        # a weight above it is an influence (RigNet)
STEP = 0.005            # spacing of samples on bones, in longest sides (RigNet, MagicArticulate, Puppeteer)


def skinning_scores(vertices, weights, reference, joints, parents, *, seed: int = SEED, poses: int = POSES,
                    degrees: float = DEGREES, threshold: float = THRESHOLD) -> dict:
    """Compare skinning weights with reference weights of the same columns.

    Parameters
    ----------
    vertices : array_like, shape (N, 3)
    weights, reference : array_like, shape (N, K)
        A row of ``weights`` without a positive entry is an unweighted vertex; NaN and negative entries count as 0,
        other rows are divided by their sums.
    joints : array_like, shape (K, 3)
        Where each column's joint is.
    parents : array_like of int, shape (K,)
        Parent of each joint, -1 at roots.
    seed, poses, degrees
        As for :func:`random_poses`.
    threshold : float
        Weights above it are influences.

    Returns
    -------
    dict
        ``l1``: mean over vertices of ``sum_k |w - w*|``, in [0, 2] (an unweighted vertex counts 1). ``deformation``,
        ``deformation_max``: mean and mean-over-poses-of-maximum of the distance between vertices posed with both, by
        linear blend skinning, in permille of the longest side; an unweighted vertex stays where it is.
        ``precision``, ``recall``: of influences, pooled over the mesh. ``dominant``: share of vertices whose
        largest weight is of the reference's largest column. ``unweighted``: number of vertices.

    Raises
    ------
    ValueError
        If shapes do not fit, or the reference is not finite.
    """
    vertices, reference = np.asarray(vertices, np.float64), np.asarray(reference, np.float64)
    weights, unweighted = normalized(weights)
    if weights.shape != reference.shape or len(vertices) != len(weights) or len(joints) != weights.shape[1]:
        raise ValueError(f"weights {weights.shape}, reference {reference.shape}, vertices {vertices.shape} and "
                         f"{len(joints)} joints do not fit each other")
    if not np.isfinite(reference).all():
        raise ValueError("reference weights hold NaN or infinity")
    distance = deformation(vertices, weights, reference, joints, parents, seed=seed, poses=poses, degrees=degrees)
    precision, recall = influence_scores(weights, reference, threshold)
    return {"l1": float(np.abs(weights - reference).sum(1).mean()), "deformation": 1e3 * float(distance.mean()),
            "deformation_max": 1e3 * float(distance.max(1).mean()), "precision": precision, "recall": recall,
            "dominant": float(np.mean((weights.argmax(1) == reference.argmax(1)) & ~unweighted)),
            "unweighted": int(unweighted.sum())}


def normalized(weights) -> tuple[np.ndarray, np.ndarray]:
    """Weights (N, K) with rows that sum to 1, or to 0 where a row has no positive entry; and which those are (N,)."""
    weights = np.maximum(np.nan_to_num(np.asarray(weights, np.float64), nan=0, posinf=0, neginf=0), 0)
    total = weights.sum(1)
    unweighted = total < 1e-8
    return weights * ~unweighted[:, None] / np.where(unweighted, 1, total)[:, None], unweighted


def influence_scores(weights: np.ndarray, reference: np.ndarray, threshold: float = THRESHOLD) -> tuple[float, float]:
    """Precision and recall of the weights above ``threshold``, pooled over all vertices.

    Precision is NaN without predicted influences, recall without reference influences.
    """
    predicted, true = np.asarray(weights) > threshold, np.asarray(reference) > threshold
    hits = float((predicted & true).sum())
    return tuple(hits / count if count else float("nan") for count in (float(predicted.sum()), float(true.sum())))


def deformation(vertices, weights, reference, joints, parents, *, seed: int = SEED, poses: int = POSES,
                degrees: float = DEGREES) -> np.ndarray:
    """Distance of each vertex between its places under two sets of weights, in longest sides; shape (poses, N).

    Parameters are those of :func:`skinning_scores`; rows that sum to 0 stay where they are.
    """
    vertices = np.asarray(vertices, np.float64)
    transforms = random_poses(joints, parents, seed=seed, poses=poses, degrees=degrees)     # (T, K, 3, 4)
    homogeneous = np.concatenate([vertices, np.ones((len(vertices), 1))], 1)
    # Both are linear in the weights, so the difference of places is the place under the difference of weights; what a
    # row lacks to 1 stays where it is.
    difference = np.asarray(weights, np.float64) - reference
    lacking = -difference.sum(1)
    columns = transforms.transpose(1, 0, 2, 3).reshape(transforms.shape[1], -1)              # (K, T * 12)
    blended = (difference @ columns).reshape(len(vertices), len(transforms), 3, 4)
    moved = np.einsum("ntab,nb->nta", blended, homogeneous) + (lacking[:, None] * vertices)[:, None]
    return np.linalg.norm(moved, axis=-1).T / np.ptp(vertices, axis=0).max()


def random_poses(joints, parents, *, seed: int = SEED, poses: int = POSES, degrees: float = DEGREES) -> np.ndarray:
    """Random poses of a tree of joints: every joint but the roots turns about itself.

    Axes are uniform on the sphere, angles U(0, ``degrees``), drawn for all joints in their order, pose by pose, from
    ``numpy.random.default_rng(seed)``; a root's draws are not used.

    Returns
    -------
    ndarray, shape (poses, K, 3, 4)
        From bind pose to posed space.
    """
    joints, parents = np.asarray(joints, np.float64), np.asarray(parents)
    generator = np.random.default_rng(seed)
    axes = generator.normal(size=(poses, len(joints), 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    angles = np.radians(generator.uniform(0, degrees, (poses, len(joints))))
    local = _rotations(axes, angles)
    turned = np.tile(np.eye(3), (poses, len(joints), 1, 1))
    shift = np.zeros((poses, len(joints), 3))
    for joint in topological(parents):
        parent = parents[joint]
        if parent < 0:
            continue
        turned[:, joint] = turned[:, parent] @ local[:, joint]
        place = turned[:, parent] @ joints[joint] + shift[:, parent]
        shift[:, joint] = place - turned[:, joint] @ joints[joint]
    return np.concatenate([turned, shift[..., None]], axis=-1)


def _rotations(axes: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Rodrigues' formula: unit axes (..., 3) and radians (...) to matrices (..., 3, 3)."""
    cross = np.zeros((*angles.shape, 3, 3))
    for i, j, k, sign in ((0, 1, 2, -1), (0, 2, 1, 1), (1, 2, 0, -1)):
        cross[..., i, j], cross[..., j, i] = sign * axes[..., k], -sign * axes[..., k]
    s, c = np.sin(angles)[..., None, None], np.cos(angles)[..., None, None]
    return np.eye(3) + s * cross + (1 - c) * (cross @ cross)


def topological(parents) -> np.ndarray:
    """Joints in an order in which parents come first; parents (K,), -1 at roots.

    Raises
    ------
    ValueError
        If the parents run in a circle.
    """
    parents = np.asarray(parents)
    done, order = np.zeros(len(parents), bool), []
    while len(order) < len(parents):
        ready = np.flatnonzero(~done & ((parents < 0) | done[parents]))
        if not len(ready):
            raise ValueError(f"the parents of joints {np.flatnonzero(~done).tolist()} run in a circle")
        order += ready.tolist()
        done[ready] = True
    return np.array(order, np.int64)


def skeleton_scores(joints, parents, reference_joints, reference_parents, size: float, *, step: float = STEP) -> dict:
    """Chamfer distances between two skeletons, in 1e-2 of ``size``.

    Each is half the sum of the two directions' mean nearest distances: from joints to joints, from joints to the other
    skeleton's bones, from bones to bones. A bone runs from a joint's parent to the joint and is sampled every ``step``
    longest sides with both ends, as RigNet, MagicArticulate and Puppeteer do (UniRig takes 100 points a bone).

    Parameters
    ----------
    joints, reference_joints : array_like, shapes (J, 3), (R, 3)
        End joints, which carry no weight, are the caller's to leave out.
    parents, reference_parents : array_like of int, shapes (J,), (R,)
        -1 at roots.
    size : float
        Longest side of the mesh's bounding box.
    step : float

    Returns
    -------
    dict
        ``j2j``, ``j2b``, ``b2b``. A skeleton of one joint has its joint for a bone.
    """
    first, second = np.asarray(joints, np.float64) / size, np.asarray(reference_joints, np.float64) / size
    first_bones, second_bones = bone_samples(first, parents, step), bone_samples(second, reference_parents, step)
    to_bones = (_nearest(first, second_bones) + _nearest(second, first_bones)) / 2
    return {"j2j": 100 * chamfer(first, second), "j2b": 100 * to_bones, "b2b": 100 * chamfer(first_bones, second_bones)}


def bone_samples(joints: np.ndarray, parents, step: float) -> np.ndarray:
    """Points along the bones of a tree, both ends included, at most ``step`` apart; shape (P, 3)."""
    out = []
    for joint, parent in enumerate(parents):
        if parent >= 0:
            count = max(2, int(np.ceil(np.linalg.norm(joints[joint] - joints[parent]) / step)) + 1)
            out.append(joints[parent] + np.linspace(0, 1, count)[:, None] * (joints[joint] - joints[parent]))
    return np.concatenate(out) if out else np.asarray(joints, np.float64)


def chamfer(first: np.ndarray, second: np.ndarray) -> float:
    """Half the sum of both directions' mean nearest distances between points (P, 3) and (Q, 3)."""
    return (_nearest(first, second) + _nearest(second, first)) / 2


def _nearest(points: np.ndarray, others: np.ndarray) -> float:
    return float(cKDTree(others).query(points)[0].mean())


def tree_scores(edges, reference_edges) -> dict:
    """Share of a tree's edges that are right, whichever way they point.

    Parameters
    ----------
    edges, reference_edges : iterable of pairs of int
        Ids of joints that hang together; a joint and its reference have one id.

    Returns
    -------
    dict
        ``edge_recall``: share of the reference's edges that were found. ``edge_precision``: share of the found edges
        that the reference has. 1 where there is no edge to count.
    """
    found, true = ({frozenset(map(int, edge)) for edge in pairs} for pairs in (edges, reference_edges))
    both = len(found & true)
    return {"edge_recall": both / len(true) if true else 1.0, "edge_precision": both / len(found) if found else 1.0}
