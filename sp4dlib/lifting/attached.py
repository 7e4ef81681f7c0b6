"""Shells of a mesh that skin alone says too little of: cloth, coats, what a body carries, and loose pieces."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from sp4dlib.lifting.sight import goes_round
from sp4dlib.lifting.surface import Surface

# Chosen with those of :mod:`sp4dlib.lifting.heat`.
CLOTH = 0.35        # share of a shell's area that looks at the bones which the shell goes round, from which it is cloth
NEAR = 1.5          # times the distance to the nearest bone within which cloth looks at all bones
BODY = 0.1          # share of a bone's skin that lies on the largest shell, from which the bone is the body's


def cloth(surface: Surface, distance: np.ndarray, foot: np.ndarray,
          facing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which vertices are on cloth, and on its inner side, bool (M,) each.

    Cloth goes round bones and looks at them with its inner side.

    Parameters
    ----------
    surface : Surface
    distance : ndarray, shape (M, S)
        From each vertex to each bone.
    foot : ndarray, shape (M, 3)
        The point of the nearest bone that is nearest to each vertex.
    facing : ndarray, shape (M, S)
        Cosine between the vertex' normal and the way from the bone.
    """
    near = distance <= NEAR * distance.min(1, keepdims=True)
    inner = np.where(near, facing, -1).max(1) < 0
    looking = np.flatnonzero(inner)
    areas = np.bincount(surface.shells, surface.areas)
    seeing = np.bincount(surface.shells[looking], surface.areas[looking], minlength=len(areas))
    found = (seeing > CLOTH * areas)[surface.shells] & _round(surface, looking, foot)
    return found, inner & found


def coats(surface: Surface, foot: np.ndarray, sure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which vertices are on coats, and which on other shells that see no bone, bool (M,) each.

    A coat goes round the bones that other skin hides from it. ``sure`` (M,) are the vertices that see their bones;
    the others are as for
    :func:`cloth`.
    """
    lost = np.bincount(surface.shells, sure)[surface.shells] == 0
    coat = lost & _round(surface, np.flatnonzero(lost), foot)
    return coat, lost & ~coat


def _round(surface: Surface, vertices: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Vertices (M,) of shells that go round the bones nearest to most of their given ``vertices`` (R,), by area."""
    around = goes_round(surface, vertices, foot[vertices])
    balance = np.bincount(surface.shells[vertices], np.where(around, 1, -1) * surface.areas[vertices],
                          minlength=surface.shells.max() + 1)
    return (balance > 0)[surface.shells]


def bones_of_body(surface: Surface, owners: np.ndarray, close: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Which bones have some of their skin on the largest shell that sees any, or have none at all; bool (S,).

    Parameters
    ----------
    surface : Surface
    owners : ndarray of int, shape (S,)
        The joint that each bone is of; a joint's bones go together.
    close : ndarray of bool, shape (M, S)
        The bones nearest to each vertex.
    sure : ndarray of bool, shape (M,)
        Vertices that see them.
    """
    areas = surface.areas * sure
    body = surface.shells == np.bincount(surface.shells, areas).argmax()
    skin = np.array([close[:, owners == owner].any(1) @ np.stack([areas, areas * body], axis=1) for owner in owners])
    return (skin[:, 1] > BODY * skin[:, 0]) | (skin[:, 0] == 0)


def moved_along(surface: Surface, weights: np.ndarray, adrift: np.ndarray) -> np.ndarray:
    """Weights (M, J) where each shell ``adrift`` (M,) moves as one with what is nearest to it.

    It gets the joint that has the most weight at the vertices of other shells that are nearest to its own.
    """
    left, done, out = np.flatnonzero(adrift), np.flatnonzero(~adrift), weights.copy()
    votes = weights[done[cKDTree(surface.vertices[done]).query(surface.vertices[left])[1]]]
    for shell in np.unique(surface.shells[left]):
        of_shell = surface.shells[left] == shell
        out[left[of_shell]] = np.eye(out.shape[1])[votes[of_shell].sum(0).argmax()]
    return out
