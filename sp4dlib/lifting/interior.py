"""The inside of a surface, shared out among its parts: volumes, and where parts meet within."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sp4dlib.lifting.surface import Borders, Surface

CELLS = 96          # of the grid along the longest side
DIRECTIONS = 32     # rays from each cell
ENCLOSED = 0.8      # share of the rays that must meet the surface for the cell to lie inside


@dataclass(frozen=True)
class Interior:
    """Volumes of parts and the interfaces between them.

    Attributes
    ----------
    volumes : ndarray, shape (K,)
    centers : ndarray, shape (K, 3)
        Centroids of the volumes.
    contact : ndarray, shape (K, K)
        Area of each two parts' interface within the solid; symmetric.
    places : ndarray, shape (K, K, 3)
        Centroid of each interface; zeros where two parts do not meet.
    """

    volumes: np.ndarray
    centers: np.ndarray
    contact: np.ndarray
    places: np.ndarray


def part_interior(surface: Surface, labels: np.ndarray, borders: Borders, count: int, cells: int = CELLS) -> Interior:
    """Share the inside among the parts: every cell of a grid belongs to the part of the nearest vertex.

    A joint lies inside a limb. The centroid of a border on the surface does too where the border runs round the limb,
    but not where it is a strip along one side, as where many parts meet in a palm or a torso; the centroid of the
    interface inside does. The grid misses half a cell under the surface, and all of what is thinner than a cell; the
    surface, half a cell thick, is counted for it, so that a sheet or a thin tail has volume and interfaces as well.

    Parameters
    ----------
    surface : Surface
    labels : ndarray of int, shape (M,)
    borders : Borders
    count : int
        Number of parts K.
    cells : int
    """
    step = surface.size / cells
    grid, shape = _inside(surface, step)
    low = surface.vertices.min(0)
    owner = np.full(np.prod(shape), -1)
    points = low + (np.stack(np.unravel_index(grid, shape), axis=1) + 0.5) * step
    if len(grid):
        owner[grid] = labels[cKDTree(surface.vertices).query(points)[1]]
    contact, places = _interfaces(owner.reshape(shape), low, step, count)
    for (a, b), length, center in zip(borders.pairs, np.maximum(borders.lengths, 1e-12 * surface.size),
                                      borders.centers):
        for i, j in ((a, b), (b, a)):
            contact[i, j] += step / 2 * length
            places[i, j] += step / 2 * length * center
    # The floor keeps parts of lone vertices defined.
    skin = step / 2 * np.maximum(surface.areas, 1e-9 * surface.areas.mean() + np.finfo(float).tiny)
    volumes = np.bincount(labels, skin, count) + step**3 * np.bincount(owner[grid], minlength=count)
    centers = np.stack([np.bincount(labels, skin * surface.vertices[:, k], count)
                        + step**3 * np.bincount(owner[grid], points[:, k], count) for k in range(3)], axis=1)
    return Interior(volumes, centers / volumes[:, None], contact,
                    places / np.where(contact > 0, contact, 1)[..., None])


def _inside(surface: Surface, step: float) -> tuple[np.ndarray, tuple[int, ...]]:
    """Flat indices of the cells inside, and the grid's shape.

    Rays in all directions rather than a winding number: this holds for open, torn and wrongly turned surfaces, and
    the inside of a garment is what its wearer fills.
    """
    from sp4dlib.lifting.votes import ray_caster

    low = surface.vertices.min(0)
    shape = tuple(np.ceil(np.ptp(surface.vertices, axis=0) / step).astype(int) + 1)
    alive = np.arange(np.prod(shape))
    misses = np.zeros(len(alive), int)
    caster = ray_caster(surface.vertices - low, surface.faces)
    for direction in directions(DIRECTIONS):
        origins = ((np.stack(np.unravel_index(alive, shape), axis=1) + 0.5) * step).astype(np.float32)
        struck = caster.run(origins, np.tile(direction.astype(np.float32), (len(origins), 1)))
        misses += struck < 0
        keep = misses <= (1 - ENCLOSED) * DIRECTIONS
        alive, misses = alive[keep], misses[keep]
        if not len(alive):
            break
    return alive, shape


def directions(count: int) -> np.ndarray:
    """Unit vectors evenly over the sphere (Fibonacci lattice), neighbours far apart in the order."""
    i = np.arange(count) * 13 % count + 0.5
    z = 1 - 2 * i / count
    turn = np.pi * (1 + 5**0.5) * i
    flat = np.sqrt(1 - z * z)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)


def _interfaces(owner: np.ndarray, low: np.ndarray, step: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Area (K, K) and area-weighted sum of positions (K, K, 3) of the cell walls between two parts."""
    contact, places = np.zeros((count, count)), np.zeros((count, count, 3))
    for axis in range(3):
        first, second = np.moveaxis(owner, axis, 0)[:-1], np.moveaxis(owner, axis, 0)[1:]
        walls = np.argwhere((first >= 0) & (second >= 0) & (first != second))
        a, b = first[tuple(walls.T)], second[tuple(walls.T)]
        position = walls + [1.0, 0.5, 0.5]
        order = [axis, *(k for k in range(3) if k != axis)]
        position = low + step * position[:, np.argsort(order)]
        for i, j in ((a, b), (b, a)):
            np.add.at(contact, (i, j), step**2)
            np.add.at(places, (i, j), step**2 * position)
    return contact, places
