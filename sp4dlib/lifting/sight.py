"""Which bones the skin sees, and which shells hold them or go round them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sp4dlib.lifting.surface import Surface
from sp4dlib.lifting.votes import ray_caster

START = 1e-5        # share of its way at which a ray starts, off the skin that it leaves
BEYOND = 2e-6       # share of the mesh's size by which a ray goes on behind a wall, whatever float32 makes of it
THROUGH = 64        # walls that a ray is followed through


def sees(surface: Surface, faces: np.ndarray, vertices: np.ndarray, feet: np.ndarray) -> np.ndarray:
    """Whether the straight way from each vertex (R,) to a bone's point ``feet`` (R, 3) enters no skin; bool (R,).

    Skin through which it leaves does not count: what it leaves was entered at the vertex itself, or holds the vertex,
    as a head does the inner half of an eye. ``faces`` (G, 3) are turned outward.
    """
    normals = face_normals(surface.vertices, faces)
    ways = feet - surface.vertices[vertices]
    lengths = np.linalg.norm(ways, axis=1)
    ways = unit(ways)
    return ~_meets(surface, surface.vertices[vertices], ways, lengths,
                   lambda rays, hits: np.sum(normals[hits] * ways[rays], axis=1) < -1e-5)


def goes_round(surface: Surface, vertices: np.ndarray, feet: np.ndarray) -> np.ndarray:
    """Whether behind the bone's point ``feet`` (R, 3), as each vertex (R,) looks at it, is skin of the same shell.

    A sleeve goes round its bone; an eye, a horn or a shield does not. bool (R,).
    """
    shells = surface.shells
    owner = shells[surface.faces[:, 0]]
    ways = unit(feet - surface.vertices[vertices])
    return _meets(surface, feet, ways, np.full(len(feet), np.inf),
                  lambda rays, hits: owner[hits] == shells[vertices[rays]])


def holds(surface: Surface, vertices: np.ndarray, feet: np.ndarray) -> np.ndarray:
    """Whether the bone's point ``feet`` (R, 3) is within the shell of each vertex (R,), as that looks at it; bool (R,).

    On the way to it is no skin of the shell, and behind it there is.
    """
    owner = surface.shells[surface.faces[:, 0]]
    ways = feet - surface.vertices[vertices]
    lengths = np.linalg.norm(ways, axis=1)
    return goes_round(surface, vertices, feet) & ~_meets(
        surface, surface.vertices[vertices], unit(ways), lengths,
        lambda rays, hits: owner[hits] == surface.shells[vertices[rays]])


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normal of each face (G, 3); zero where it has no area."""
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return unit(np.cross(b - a, c - a))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at length 1; those of no length stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(float).tiny)


def _meets(surface: Surface, starts: np.ndarray, ways: np.ndarray, lengths: np.ndarray,
           counts: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Whether each ray (R,) meets, within its length, a face that ``counts(rays, faces)``; it passes the others."""
    met, going = np.zeros(len(starts), bool), np.flatnonzero(lengths > 0)
    if not len(going):
        return met
    center, scale = surface.vertices.mean(0), 1 / surface.size          # Embree computes in float32
    caster = ray_caster((surface.vertices - center) * scale, surface.faces)
    starts, lengths = (starts - center) * scale, lengths * scale
    done = np.where(np.isfinite(lengths), START * lengths, 0)
    step = np.full(len(starts), BEYOND)
    for _ in range(THROUGH):
        if not len(going):
            break
        origins = starts[going] + done[going, None] * ways[going]
        hit = caster.run(origins.astype(np.float32), ways[going].astype(np.float32), output=True)
        reached, faces = done[going] + hit["tfar"], hit["primID"]
        # Within the plane of a face a ray meets it again and again: it goes on in steps that double.
        step[going] = np.where(hit["tfar"] < BEYOND, 2 * step[going], BEYOND)
        within = (faces >= 0) & (reached < (1 - START) * lengths[going])
        going, reached, faces = going[within], reached[within], faces[within]
        good = counts(going, faces)
        met[going[good]] = True
        going, reached = going[~good], reached[~good]
        done[going] = reached + step[going]
    return met
