"""Skin that nobody sees because it lies inside other shells, and the band on it."""

from __future__ import annotations

import numpy as np

from sp4dlib.lifting.band import Band
from sp4dlib.lifting.interior import directions
from sp4dlib.lifting.surface import Surface

RAYS = 16           # from each vertex
BURIED = 0.75       # share of them that must meet the surface; from a convex shell's outside half of them do
AWAY = 1e-4         # of the longest side: how far from the vertex they start


def fitted(surface: Surface, labels: np.ndarray, around: Band, reach: float) -> Band:
    """The band, no wider on buried ends than these are long.

    Where closed shells overlap, as limbs that are modelled one by one do, the end of one lies within the next and
    belongs to the next one's part. That part has its core on its own shell; the end has none, and a band wider
    than the end would leave it blended throughout, deep within the neighbour. So its farthest vertex is given its
    label, and distances and width on the end are scaled to that. Ends in sight, as a sleeve's, are left alone: they
    move with the skin beneath, which blends as well. So are slivers, less than half as deep as the band: a label that
    runs a little over a seam has no end there.

    Parameters
    ----------
    surface : Surface
    labels : ndarray of int, shape (M,)
    around : Band
    reach : float
        Half-widths from the border at which labels are certain.
    """
    piece, ends = _ends(surface, labels)
    deep = np.zeros(len(ends))
    np.maximum.at(deep, piece, around.relative)
    among = np.flatnonzero(ends[piece] & (deep[piece] < reach) & (deep[piece] > reach / 2))
    if not len(among):
        return around
    hits = np.bincount(piece[among], _enclosed(surface, among), len(ends)) / np.maximum(
        np.bincount(piece[among], minlength=len(ends)), 1)
    among = among[hits[piece[among]] >= BURIED]
    relative, half = around.relative.copy(), around.half.copy()
    factor = reach / deep[piece[among]]
    relative[among] *= factor
    half[among] /= factor
    return Band(relative, half)


def _ends(surface: Surface, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected piece of one label that each vertex belongs to (M,), and whether its part has more area on another
    shell, bool (P,)."""
    shells = surface.shells
    if not shells.any():
        return np.zeros(len(labels), int), np.zeros(1, bool)
    area = np.zeros((labels.max() + 1, shells.max() + 1))
    np.add.at(area, (labels, shells), surface.areas)
    first, second = surface.edges.T
    piece = surface.pieces(labels[first] == labels[second])
    ends = np.zeros(piece.max() + 1, bool)
    ends[piece] = shells != area.argmax(1)[labels]
    return piece, ends


def _enclosed(surface: Surface, vertices: np.ndarray) -> np.ndarray:
    """Share of the rays from each of the ``vertices`` (n,) that meet the surface."""
    from sp4dlib.lifting.votes import ray_caster

    center, scale = surface.vertices.mean(0), 1 / surface.size          # Embree computes in float32
    caster = ray_caster((surface.vertices - center) * scale, surface.faces)
    points = (surface.vertices[vertices] - center) * scale
    hits = np.zeros(len(points))
    for way in directions(RAYS):
        origins = (points + AWAY * way).astype(np.float32)
        hits += caster.run(origins, np.tile(way.astype(np.float32), (len(points), 1))) >= 0
    return hits / RAYS
