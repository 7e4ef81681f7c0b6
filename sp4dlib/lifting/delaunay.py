"""The intrinsic Delaunay Laplacian of an edge-manifold mesh, with all edge flips of a round done at once."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, csc_matrix

ROUNDS = 200        # a decimated mesh of 200,000 vertices takes some 15
THIN = 1e-10        # double area over the longest side squared below which lengths alone say too little of an angle


def delaunay_laplacian(vertices: np.ndarray, faces: np.ndarray) -> tuple[csc_matrix, np.ndarray] | None:
    """Cotangent Laplacian after intrinsic edge flips (Bobenko and Springborn 2007; Fisher et al. 2007).

    An edge whose cotangents sum to less than 0 is replaced by the other diagonal of its two triangles, unfolded into
    a plane, until there is none: the surface stays as it is, and no edge has a negative weight. Flips of one round
    share no triangle. On a closed surface this is what the tufted Laplacian is, in less time. A rim has no diagonal
    to flip to; a negative weight there counts as 0.

    Parameters
    ----------
    vertices : ndarray, shape (M, 3)
    faces : ndarray of int, shape (G, 3)

    Returns
    -------
    (stiffness (M, M), mass (M,)) or None
        None where the mesh is not one for it: an edge of three or more faces, neighbours of opposite orientation,
        or triangles without area.
    """
    twins = _twins(faces, len(vertices))
    if twins is None:
        return None
    corners = faces.copy()
    lengths = np.linalg.norm(vertices[faces[:, [1, 2, 0]]] - vertices[faces], axis=2)   # of corner k to corner k + 1
    cotangents, areas = _cotangents(lengths)
    if not _sound(areas, lengths):
        return None
    suspects = np.flatnonzero(twins > np.arange(twins.size))
    for _ in range(ROUNDS):
        flat = cotangents.ravel()
        weight = flat[suspects] + flat[twins[suspects]]
        suspects, weight = suspects[weight < -1e-9], weight[weight < -1e-9]
        if not len(suspects):
            break
        if np.any(twins[suspects] // 3 == suspects // 3):
            return None
        chosen = _independent(suspects, twins, weight, len(faces))
        changed = _flip(suspects[chosen], corners, lengths, twins)
        cotangents[changed], areas[changed] = _cotangents(lengths[changed])
        if not _sound(areas[changed], lengths[changed]):
            return None
        suspects = np.concatenate([suspects[~chosen], (3 * changed[:, None] + np.arange(3)).ravel()])
        suspects = suspects[twins[suspects] >= 0]
        suspects = np.unique(np.minimum(suspects, twins[suspects]))
    else:
        return None
    rim = twins.reshape(-1, 3) < 0
    cotangents[rim] = np.maximum(cotangents[rim], 0)
    mass = np.bincount(corners.ravel(), np.repeat(areas / 3, 3), minlength=len(vertices))
    return _assemble(corners, cotangents, twins, len(vertices)), mass


def _twins(faces: np.ndarray, count: int) -> np.ndarray | None:
    """Half-edge that runs against each half-edge ``3 face + k``, from corner k to k + 1; -1 at rims, (3 G,).

    None where a half-edge occurs twice.
    """
    start, stop = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    low, high = np.minimum(start, stop), np.maximum(start, stop)
    keys = low.astype(np.int64) * count + high
    order = np.argsort(keys)
    same = keys[order[1:]] == keys[order[:-1]]
    if np.any(same[1:] & same[:-1]):
        return None
    first, second = order[:-1][same], order[1:][same]
    if np.any(start[first] == start[second]):
        return None
    twins = np.full(len(keys), -1)
    twins[first], twins[second] = second, first
    return twins


def _cotangents(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half cotangents of the angles opposite the sides (G, 3), and areas (G,); Kahan's form of Heron's formula."""
    # Column by column: numpy reduces rows of three many times slower.
    first, second, third = lengths.T
    low, high = np.minimum(first, second), np.maximum(first, second)
    a, b, c = np.maximum(high, third), np.maximum(low, np.minimum(high, third)), np.minimum(low, third)
    square = (a + (b + c)) * (c - (a - b)) * (c + (a - b)) * (a + (b - c))
    area = np.sqrt(np.maximum(square, 0)) / 4
    squares = lengths**2
    least = 1e-12 * a**2 + np.finfo(float).tiny                    # such triangles are turned away by their areas
    total = squares[:, 0] + squares[:, 1] + squares[:, 2]
    return (total[:, None] - 2 * squares) / np.maximum(8 * area, least)[:, None], area


def _sound(areas: np.ndarray, lengths: np.ndarray) -> bool:
    """Whether no triangle is so thin that its sides' lengths say too little of its angles."""
    longest = np.maximum(np.maximum(lengths[:, 0], lengths[:, 1]), lengths[:, 2])
    return bool(np.all(2 * areas > THIN * longest**2))


def _independent(edges: np.ndarray, twins: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """Which edges may be flipped together, bool: those that are the most negative of both their faces."""
    rank = np.empty(len(edges), np.int64)
    rank[np.argsort(weight, kind="stable")] = np.arange(len(edges))
    best = np.full(count, len(edges))
    sides = edges // 3, twins[edges] // 3
    for side in sides:
        np.minimum.at(best, side, rank)
    return (best[sides[0]] == rank) & (best[sides[1]] == rank)


def _flip(edges: np.ndarray, corners: np.ndarray, lengths: np.ndarray, twins: np.ndarray) -> np.ndarray:
    """Flip half-edges that share no face, in place; returns the faces that changed.

    Faces a b c and b a d, which meet in the edge, become a d c and d b c.
    """
    other = twins[edges]
    f, g = edges // 3, other // 3
    ab, ba = edges % 3, other % 3
    bc, ca, ad, db = (ab + 1) % 3, (ab + 2) % 3, (ba + 1) % 3, (ba + 2) % 3
    a, b, c, d = corners[f, ab], corners[f, bc], corners[f, ca], corners[g, db]
    base = lengths[f, ab]
    sides = lengths[g, ad], lengths[f, ca], lengths[g, db], lengths[f, bc]
    l_ad, l_ca, l_db, l_bc = sides
    x_c, x_d = (base**2 + l_ca**2 - l_bc**2) / (2 * base), (base**2 + l_ad**2 - l_db**2) / (2 * base)
    height = sum(2 * _cotangents(lengths[face])[1] / base for face in (f, g))
    across = np.hypot(x_c - x_d, height)
    old = np.concatenate([3 * g + ad, 3 * f + ca, 3 * g + db, 3 * f + bc])
    new = np.concatenate([3 * f, 3 * f + 2, 3 * g, 3 * g + 1])
    renamed = np.arange(twins.size)
    renamed[old] = new
    neighbours = twins[old]
    inner = neighbours >= 0
    neighbours = np.where(inner, renamed[neighbours], -1)
    twins[new] = neighbours
    twins[neighbours[inner]] = new[inner]
    twins[3 * f + 1], twins[3 * g + 2] = 3 * g + 2, 3 * f + 1
    corners[f], corners[g] = np.stack([a, d, c], 1), np.stack([d, b, c], 1)
    lengths[f], lengths[g] = np.stack([l_ad, across, l_ca], 1), np.stack([l_db, l_bc, across], 1)
    return np.concatenate([f, g])


def _assemble(corners: np.ndarray, cotangents: np.ndarray, twins: np.ndarray, count: int) -> csc_matrix:
    """The matrix of the half-edges' weights (G, 3); flipped edges may be loops, which cancel."""
    once = np.flatnonzero(twins < np.arange(twins.size))                # of twins the latter, and the rims
    weight, other = cotangents.ravel()[once], twins[once]
    weight = weight + np.where(other >= 0, cotangents.ravel()[other], 0)
    i, j = corners.ravel()[once], corners[:, [1, 2, 0]].ravel()[once]
    edge = i != j
    i, j, weight = i[edge], j[edge], weight[edge]
    diagonal = np.bincount(i, weight, count) + np.bincount(j, weight, count)
    own = np.arange(count)
    entries = np.concatenate([-weight, -weight, diagonal])
    return coo_matrix((entries, (np.concatenate([i, j, own]), np.concatenate([j, i, own]))),
                      shape=(count, count)).tocsc()
