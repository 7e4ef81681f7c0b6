"""Skinning weights from part labels: harmonic in a band round the borders.

SP4D (arXiv 2509.10687) lets the weight ``w_p`` of part p solve ``Laplace w_p = 0`` with its border values prescribed:
``w_p(x) = 1`` if x is in p and 0 if not, at every vertex of an edge whose two ends have different parts. Read to the
letter this is degenerate. Both ends of each cut edge are prescribed, so the surface falls into pieces, each within
one part, and all the border values that a piece touches are equal: 1 within p, 0 elsewhere. A harmonic function
takes no value beyond those on its border, so it is constant on each piece, and ``w_p`` is the 0/1 label again: no
blending at all. :func:`literal_harmonic_weights` solves that problem, for whoever wants to see it.

:func:`harmonic_weights` prescribes the same values where they are certain, in the cores of the parts, and leaves a
band round each border free. The band is as wide as a share of the limb's thickness there, for that is how far the
flesh round a joint gives.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from sp4dlib.lifting.linear import cotangent_laplacian, laplacian, lifted, solve
from sp4dlib.lifting.surface import Borders, Surface, check_labels, part_borders, weld

WIDTH = 0.3         # half the band over the border's radius; of 0.1 to 0.5 the best mean over 38 train and val rigs


def harmonic_weights(mesh, labels, width=WIDTH, *, max_influences: int | None = 4,
                     parts: int | None = None) -> np.ndarray:
    """Skinning weights of the parts, harmonic in a free band round their borders.

    With ``r`` the radius of the nearest border loop of the vertex's own part and ``d`` the distance to it, a vertex
    with ``d >= width * r`` is core and keeps its label. Elsewhere ``Laplace w_p = 0`` with ``w_p = [label is p]`` on
    the cores, for all parts from one factorisation. The Laplacian is the tufted one, so that open, non-manifold and
    degenerate meshes do, and every row is non-negative and sums to 1.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
    labels : array_like of int, shape (N,)
        Part of each vertex. Duplicates of one position count as one vertex and get equal rows.
    width : float or array_like, shape (K,)
        Half-width of the band over the loop's radius. An array gives one for each part; a border takes the mean of
        its two.
    max_influences : int or None
        Keep this many largest weights in a row and divide by their sum (glTF stores 4); None keeps all.
    parts : int or None
        Number of columns K; default the highest label + 1. A part without vertices has a column of zeros.

    Returns
    -------
    ndarray, shape (N, K)

    Raises
    ------
    ValueError
        If the mesh has no faces or is not finite, labels do not fit, or the width is negative.
    """
    surface, welded, count = _prepare(mesh, labels, parts)
    width = np.asarray(width, np.float64)
    if width.shape not in ((), (count,)):
        raise ValueError(f"width must be one number, or one for each of {count} parts; got shape {width.shape}")
    width = np.broadcast_to(width, (count,))
    if not np.all(width >= 0):
        raise ValueError(f"width must be 0 (rigid) or more, in radii of the border; got {width.min()}")
    relative = band_distance(surface, welded, part_borders(surface, welded), width)
    fixed = pinned(surface, welded, relative)
    weights = dirichlet(surface, fixed, np.eye(count)[welded])
    return limit_influences(weights, max_influences)[surface.index]


def literal_harmonic_weights(mesh, labels, *, parts: int | None = None) -> np.ndarray:
    """SP4D's equation to the letter: both ends of every cut edge are prescribed, so the weights are the 0/1 labels.

    See :mod:`sp4dlib.lifting.harmonic` for why. The values are solved for, not copied. A shell that no border crosses
    has no prescribed vertex; one of its vertices is given its label, for else nothing defines the solution.

    Parameters and errors are those of :func:`harmonic_weights`; returns weights of shape (N, K).
    """
    surface, welded, count = _prepare(mesh, labels, parts)
    fixed = np.zeros(len(welded), bool)
    fixed[surface.edges[welded[surface.edges[:, 0]] != welded[surface.edges[:, 1]]]] = True
    # An intrinsic Delaunay flip could join a vertex of p to one beyond the border; the plain Laplacian has no flips.
    fixed = _anchor_shells(surface, fixed)
    return dirichlet(surface, fixed, np.eye(count)[welded], cotangent_laplacian)[surface.index]


def band_distance(surface: Surface, labels: np.ndarray, borders: Borders, width: np.ndarray) -> np.ndarray:
    """Distance of each vertex to the nearest border of its own part, in half-widths of that border's band.

    Parameters
    ----------
    surface : Surface
    labels : ndarray of int, shape (M,)
    borders : Borders
    width : ndarray, shape (K,)

    Returns
    -------
    ndarray, shape (M,)
        Below 1 inside a band; infinite where no band is near.

    Notes
    -----
    The distance is straight, to the border itself, which runs between vertices, so that the band does not depend on
    how fine the mesh is. A geodesic would differ by the surface's curvature along a fifth of the limb's radius, and a
    path on the mesh counts whole edges. Only borders of the vertex's own part count, so nothing leaks to a limb that
    merely passes by.
    """
    relative = np.full(len(labels), np.inf)
    half = borders.radii * width[borders.pairs].mean(1)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(len(width) + 1))
    rows = np.argsort(borders.loop, kind="stable")
    cuts = np.searchsorted(borders.loop[rows], np.arange(len(borders) + 1))
    for loop in range(len(borders)):
        if half[loop] <= 1e-12 * surface.size:
            continue
        segments = borders.segments[rows[cuts[loop]:cuts[loop + 1]]]
        members = np.concatenate([order[starts[p]:starts[p + 1]] for p in borders.pairs[loop]])
        points = surface.vertices[members]
        low, high = segments.min((0, 1)) - half[loop], segments.max((0, 1)) + half[loop]
        near = np.all((points > low) & (points < high), axis=1)
        members = members[near]
        if len(members):
            distance = _segment_distance(points[near], segments)
            relative[members] = np.minimum(relative[members], distance / half[loop])
    return relative


def _segment_distance(points: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Distance of each point to the polyline, by way of the nearest three of its segments' middles."""
    count = min(3, len(segments))
    nearest = cKDTree(segments.mean(1)).query(points, k=count)[1].reshape(len(points), count)
    start, along = segments[nearest, 0], segments[nearest, 1] - segments[nearest, 0]
    square = np.maximum(np.sum(along * along, axis=-1), np.finfo(float).tiny)
    t = np.clip(np.sum((points[:, None] - start) * along, axis=-1) / square, 0, 1)
    return np.linalg.norm(points[:, None] - start - t[..., None] * along, axis=-1).min(1)


def pinned(surface: Surface, labels: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Which vertices keep their label, bool (M,): the cores, and at least one of each part and of each shell."""
    fixed = relative >= 1
    for part in np.setdiff1d(labels, labels[fixed]):
        members = np.flatnonzero(labels == part)
        fixed[members[relative[members].argmax()]] = True
    return _anchor_shells(surface, fixed)


def _anchor_shells(surface: Surface, fixed: np.ndarray) -> np.ndarray:
    """Pin the first vertex of each shell that has none pinned."""
    shells, first = np.unique(surface.shells, return_index=True)
    lone = ~np.isin(shells, surface.shells[fixed])
    fixed = fixed.copy()
    fixed[first[lone]] = True
    return fixed


def dirichlet(surface: Surface, fixed: np.ndarray, values: np.ndarray, operator=laplacian) -> np.ndarray:
    """Harmonic functions with ``values`` (M, K) prescribed where ``fixed`` (M,); returns (M, K), rows sum to 1."""
    out = values.astype(np.float64)
    free = ~fixed
    if not free.any():
        return out
    # Rows of free vertices see only the faces round them: the rest of the mesh need not enter the Laplacian.
    faces = surface.faces[free[surface.faces].any(1)]
    used, local = np.unique(faces, return_inverse=True)
    stiffness, _ = operator(surface.vertices[used], local.reshape(-1, 3))
    inner, outer = np.flatnonzero(free[used]), np.flatnonzero(fixed[used])
    rows = stiffness[inner]
    columns = np.flatnonzero(values[used[outer]].any(0))
    right = -(rows[:, outer] @ values[used[outer]][:, columns])
    solution = np.zeros((len(inner), values.shape[1]))
    solution[:, columns] = solve(lifted(rows[:, inner]), right)
    solution = np.clip(solution, 0, 1)
    out[used[inner]] = solution / solution.sum(1, keepdims=True)
    return out


def limit_influences(weights: np.ndarray, count: int | None) -> np.ndarray:
    """Keep the ``count`` largest weights of each row (ties to the lower column) and make rows sum to 1 again."""
    if count is None or count >= weights.shape[1]:
        return weights
    if count < 1:
        raise ValueError(f"max_influences must be at least 1; got {count}")
    crowded = np.flatnonzero((weights > 0).sum(1) > count)
    rows = weights[crowded]
    np.put_along_axis(rows, np.argsort(-rows, axis=1, kind="stable")[:, count:], 0, axis=1)
    out = weights.copy()
    out[crowded] = rows / rows.sum(1, keepdims=True)
    return out


def _prepare(mesh, labels, parts: int | None) -> tuple[Surface, np.ndarray, int]:
    surface = weld(mesh)
    labels = check_labels(labels, len(surface.index))
    count = int(labels.max()) + 1 if parts is None else int(parts)
    if labels.max() >= count:
        raise ValueError(f"labels go up to {labels.max()}, but only {count} parts were asked for")
    return surface, surface.gather(labels), count
