"""The band round each border in which parts share the skin: how wide it is, and how far a vertex lies within it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sp4dlib.lifting.surface import Borders, Surface

# Chosen together on five rigs that packages carry and the train and val rigs of the archive (see band_widths).
BODY, EDGE, POWER = 0.11, 1.0, 0.6


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

    .. math:: h = r \sqrt{\left(0.11\,(S/r)^{0.6}\right)^2 + \left((e/r)^{0.6}\right)^2}

    with r the radius of the border's loop, S the square root of the whole surface's area and e the mean length of the
    edges that the two parts' border cuts. Artists blend over a share of the limb's thickness, but over a larger share
    of thin limbs of a big body; and over no less than about an edge, because a blend needs a vertex that holds it.
    On a fine mesh the second term vanishes, and the width does not depend on the resolution.

    Notes
    -----
    What else was tried, by regression of the best width of each of 1,084 borders of 73 rigs, does not carry over to
    rigs left out: the lengths of the adjoining parts, roundness and winding of the loop, its size in the body, the
    number of parts, whether the joint is one of parent and child (root mean square error of log width 0.43 to 0.50,
    of a constant share of r 0.47).
    """
    if not len(borders):
        return np.zeros(0)
    count = labels.max() + 1
    ends = np.sort(labels[surface.edges], axis=1)
    cut = ends[:, 0] != ends[:, 1]
    length = np.linalg.norm(np.diff(surface.vertices[surface.edges[cut]], axis=1)[:, 0], axis=1)
    keys, inverse = np.unique(ends[cut] @ [count, 1], return_inverse=True)
    mean = np.bincount(inverse, length) / np.bincount(inverse)
    edge = mean[np.searchsorted(keys, borders.pairs @ [count, 1])]
    body = np.sqrt(surface.face_areas.sum())
    radius = np.maximum(borders.radii, 1e-9 * surface.size)
    return radius * np.hypot(BODY * (body / radius)**POWER, EDGE * (edge / radius)**POWER)


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
        near = np.all((points > segments.min((0, 1)) - far) & (points < segments.max((0, 1)) + far), axis=1)
        members = members[near]
        if not len(members):
            continue
        distance = _segment_distance(points[near], segments)
        relative[members] = np.minimum(relative[members], distance / half[loop])
        # Near a border its own width counts; where two are near, the width passes steadily from one to the other.
        share = np.maximum((far / np.maximum(distance, 1e-3 * far))**2 - 1, 1e-9)
        total[members] += share * half[loop]
        weight[members] += share
    return Band(relative, np.where(weight > 0, total / np.where(weight > 0, weight, 1), 0))


def _segment_distance(points: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Distance of each point to the polyline, by way of the nearest three of its segments' middles."""
    count = min(3, len(segments))
    nearest = cKDTree(segments.mean(1)).query(points, k=count)[1].reshape(len(points), count)
    start, along = segments[nearest, 0], segments[nearest, 1] - segments[nearest, 0]
    square = np.maximum(np.sum(along * along, axis=-1), np.finfo(float).tiny)
    t = np.clip(np.sum((points[:, None] - start) * along, axis=-1) / square, 0, 1)
    return np.linalg.norm(points[:, None] - start - t[..., None] * along, axis=-1).min(1)
