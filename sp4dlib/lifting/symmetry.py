"""The plane of symmetry of a shape, and the parts that it mirrors onto each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sp4dlib.lifting.surface import Surface

SAMPLES = 1500      # points that are mirrored to find the plane
ROUNDS = 8
TOLERANCE = 0.01    # mean distance of the mirrored points from the shape, in longest sides, below which it is symmetric


@dataclass(frozen=True)
class Mirror:
    """A plane of symmetry.

    Attributes
    ----------
    normal : ndarray, shape (3,)
        Unit; points to the left side.
    point : ndarray, shape (3,)
        On the plane.
    partner : ndarray of int, shape (K,)
        The part that each part is mirrored onto, itself if it lies on the plane, -1 if none.
    """

    normal: np.ndarray
    point: np.ndarray
    partner: np.ndarray

    def image(self, points: np.ndarray) -> np.ndarray:
        """Mirror points (..., 3)."""
        return points - 2 * ((points - self.point) @ self.normal)[..., None] * self.normal


def find_mirror(surface: Surface, labels: np.ndarray, count: int) -> Mirror | None:
    """The best plane of symmetry, or None if the shape has none.

    Planes across the world's and the principal axes, through the centroid, are refined in turns: mirror points of the
    surface, take the nearest vertices, fit the plane to the pairs. Two parts are partners if each one's image is by
    more than half the other.

    Parameters
    ----------
    surface : Surface
    labels : ndarray of int, shape (M,)
    count : int
        Number of parts K.
    """
    areas = np.maximum(surface.areas, 1e-12 * surface.areas.sum() + np.finfo(float).tiny)
    weight = areas / areas.sum()
    center = weight @ surface.vertices
    offsets = surface.vertices - center
    principal = np.linalg.eigh((offsets * weight[:, None]).T @ offsets)[1].T
    chosen = np.random.default_rng(0).choice(len(weight), min(len(weight), SAMPLES), p=weight)
    tree = cKDTree(surface.vertices)
    best = (TOLERANCE * surface.size, None)
    for normal in (*np.eye(3), *principal):
        plane = Mirror(normal, center, np.zeros(0, int))
        for _ in range(ROUNDS):
            plane = _refit(plane, surface.vertices[chosen], tree)
        error = tree.query(plane.image(surface.vertices[chosen]))[0].mean()
        if error < best[0]:
            best = (error, plane)
    if best[1] is None:
        return None
    plane = best[1]
    # glTF's front is +z and its left +x; a shape that lies across has +x in front, and one drawn with z up has +y left.
    side = int(np.abs(plane.normal).argmax())
    left = plane.normal * np.sign(plane.normal[side]) * (-1 if side == 2 else 1)
    image = tree.query(plane.image(surface.vertices))[1]
    table = np.zeros((count, count))
    np.add.at(table, (labels, labels[image]), areas)
    to = table.argmax(1)
    mutual = (to[to] == np.arange(count)) & (table.max(1) > 0.5 * table.sum(1))
    return Mirror(left, plane.point, np.where(mutual, to, -1))


def _refit(plane: Mirror, points: np.ndarray, tree: cKDTree) -> Mirror:
    """The plane that mirrors points best onto what is now nearest to their images; the worst fifth is left out."""
    distance, nearest = tree.query(plane.image(points))
    kept = distance <= np.quantile(distance, 0.8)
    mirrored = tree.data[nearest[kept]]
    across = points[kept] - mirrored
    normal = np.linalg.eigh(across.T @ across)[1][:, 2]
    return Mirror(normal, (points[kept] + mirrored).mean(0) / 2, plane.partner)
