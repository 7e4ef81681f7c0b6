"""The band round each border in which parts share the skin: how wide it is, and how far a vertex lies within it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sp4dlib.lifting.interior import directions
from sp4dlib.lifting.surface import Borders, Surface

# Chosen together on five rigs that packages carry and the train and val rigs of the archive (see band_widths).
BODY, EDGE, POWER = 0.114, 1.0, 0.6
OUTLINES, SAMPLES, CELLS = 9, 12_000, 40        # views, points and cells along the root of the area (see extent)
NEAR = 4.0          # lengths of a border's segment, beyond which the middle of the nearest says how far it is


@dataclass(frozen=True)
class Band:
    """Where each vertex lies with regard to the borders of its own part.

    Attributes
    ----------
    relative : ndarray, shape (M,)
        Distance to the nearest border in half-widths of that border's band; infinite where no band is near.
    half : ndarray, shape (M,)
        Half-width of the band at the vertex, a mean over the borders near it; 0 where none is.
    """

    relative: np.ndarray
    half: np.ndarray


def band_widths(surface: Surface, labels: np.ndarray, borders: Borders) -> np.ndarray:
    r"""Estimated half-width of the band at each border, shape (L,), in the mesh's unit.

    .. math:: h = r \sqrt{\left(0.114\,(S/r)^{0.6}\right)^2 + \left((e/r)^{0.6}\right)^2}

    with r the radius of the border's loop, S the :func:`extent` of the surface and e the mean length of the edges that
    the two parts' border cuts. Artists blend over a share of the limb's thickness, but over a larger share
    of thin limbs of a big body; and over no less than about an edge, because a blend needs a vertex that holds it.
    On a fine mesh the second term vanishes, and the width does not depend on the resolution.

    Notes
    -----
    What else was tried, by regression of the best width of each of 1,084 borders of 73 rigs, does not carry over to
    rigs left out: the lengths of the adjoining parts, roundness and winding of the loop, its size in the body, the
    number of parts, whether the joint is one of parent and child (root mean square error of log width 0.43 to 0.51,
    of a constant share of r 0.47).
    """
    if not len(borders):
        return np.zeros(0)
    radius = np.maximum(borders.radii, 1e-9 * surface.size)
    body = extent(surface)
    return radius * np.hypot(BODY * (body / radius)**POWER, EDGE * (borders.spacing / radius)**POWER)


def extent(surface: Surface) -> float:
    """Square root of the area that the surface shows: four times its mean outline's.

    By Cauchy's formula that is the area itself of a convex body. Unlike the area it does not grow by what lies within:
    clothes over skin, shells that overlap, faces that are there twice. Outlines are counted in cells that points
    spread evenly over the surface fall into.
    """
    total = np.cumsum(surface.face_areas)
    if not total[-1] > 0:
        return surface.size
    number = np.arange(SAMPLES)
    face = np.searchsorted(total, (number + 0.5) / SAMPLES * total[-1])
    u, v = ((0.5 + number * share) % 1 for share in (0.7548776662466927, 0.5698402909980532))     # Roberts' sequence
    u, v = np.where(u + v > 1, [1 - u, 1 - v], [u, v])
    corners = np.sort(surface.faces[np.minimum(face, len(total) - 1)], axis=1)        # whichever way it is turned
    a, b, c = np.moveaxis(surface.vertices[corners], 1, 0)
    points = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    step = np.sqrt(total[-1]) / CELLS
    count = 0
    for view in directions(OUTLINES):
        flat = points @ np.linalg.svd(view[None])[2][1:].T
        column, row = np.floor((flat - flat.min(0)) / step).astype(np.int64).T
        count += len(np.unique(column * (row.max() + 1) + row))
    return float(np.sqrt(4 * count / OUTLINES) * step)


def band(surface: Surface, labels: np.ndarray, borders: Borders, half: np.ndarray, reach: float = 1.0) -> Band:
    """Measure the way of each vertex to the borders of its own part.

    Parameters
    ----------
    surface : Surface
    labels : ndarray of int, shape (M,)
    borders : Borders
    half : ndarray, shape (L,)
        Half-width of each border's band; 0 makes the border sharp.
    reach : float
        Distances are measured up to this many half-widths.

    Notes
    -----
    The distance is straight, to the border itself, which runs between vertices, so that the band does not depend on
    how fine the mesh is. A geodesic would differ by the surface's curvature along a fifth of the limb's radius, and a
    path on the mesh counts whole edges. Only borders of the vertex's own part count, so nothing leaks to a limb that
    merely passes by.
    """
    relative, total, weight = np.full(len(labels), np.inf), np.zeros(len(labels)), np.zeros(len(labels))
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max() + 2))
    rows = np.argsort(borders.loop, kind="stable")
    cuts = np.searchsorted(borders.loop[rows], np.arange(len(borders) + 1))
    for loop in np.flatnonzero(half > 1e-12 * surface.size):
        far = reach * half[loop]
        segments = borders.segments[rows[cuts[loop]:cuts[loop + 1]]]
        members = np.concatenate([order[starts[p]:starts[p + 1]] for p in borders.pairs[loop]])
        points = surface.vertices[members]
        near = np.ones(len(points), bool)
        for axis, (low, high) in enumerate(zip(segments.min((0, 1)) - far, segments.max((0, 1)) + far)):
            near &= (points[:, axis] > low) & (points[:, axis] < high)
        members = members[near]
        if not len(members):
            continue
        distance = _segment_distance(points[near], segments, far)
        relative[members] = np.minimum(relative[members], distance / half[loop])
        # Near a border its own width counts; where two are near, the width passes steadily from one to the other.
        share = np.maximum((far / np.maximum(distance, 1e-3 * far))**2 - 1, 1e-9)
        total[members] += share * half[loop]
        weight[members] += share
    return Band(relative, np.where(weight > 0, total / np.where(weight > 0, weight, 1), 0))


def _segment_distance(points: np.ndarray, segments: np.ndarray, limit: float) -> np.ndarray:
    """Distance of each point to the polyline; infinite for some of those beyond ``limit``.

    By way of the nearest three of its segments' middles; of points far from it, to the nearest middle, which is too far
    by a hundredth of the distance at most.
    """
    length = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1).max()
    tree = cKDTree(segments.mean(1))
    distance = tree.query(points, distance_upper_bound=limit + length)[0]
    near = np.flatnonzero(distance < NEAR * length)
    count = min(3, len(segments))
    nearest = tree.query(points[near], k=count)[1].reshape(len(near), count)
    start, along = segments[nearest, 0], segments[nearest, 1] - segments[nearest, 0]
    square = np.maximum(np.sum(along * along, axis=-1), np.finfo(float).tiny)
    way = points[near, None] - start
    t = np.clip(np.sum(way * along, axis=-1) / square, 0, 1)
    distance[near] = np.linalg.norm(way - t[..., None] * along, axis=-1).min(1)
    return distance
