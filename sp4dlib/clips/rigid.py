"""How rigid parts are: what is left of their motion when the best rigid one is taken away."""

from __future__ import annotations

import numpy as np

from sp4dlib.clips.clip import Parts
from sp4dlib.clips.parts import vertex_areas
from sp4dlib.rigs.rig import Rig

ROUNDS = 3              # of fitting motions and averaging the shape; residuals change by under 1 % after the second


def rigid_residuals(rig: Rig, parts: Parts, frames: int = 16) -> np.ndarray:
    """Residual of the best rigid motion of each part in each frame of all animations, in object sizes.

    A part's points ``x_i(t)`` of area ``a_i`` are explained by one shape ``s_i`` that a rotation and a shift carry to
    each frame; the residual is the root mean square of ``x_i(t) - R(t) s_i - c(t)`` over the area. Shape and motions
    are those of least squares over all frames together (generalised Procrustes analysis, Gower 1975), so that no pose
    is favoured, the bind pose included.

    Parameters
    ----------
    rig : Rig
    parts : Parts
        Of this rig.
    frames : int
        Moments of each animation, from its first to its last.

    Returns
    -------
    ndarray, shape (K, T)
        NaN for parts without area; T is 0 for a rig without animation.
    """
    moving = [animation for animation in rig.animations if animation.duration > 0]
    out = np.full((len(parts), frames * len(moving)), np.nan)
    if not moving:
        return out
    posed = np.concatenate([rig.pose(a, np.linspace(0, a.duration, frames)) for a in moving])
    areas = vertex_areas(rig.vertices[None], rig.faces)[0]
    for part in range(len(parts)):
        chosen = (parts.labels == part) & (areas > 0)
        if chosen.any():
            out[part] = procrustes_residuals(posed[:, chosen], areas[chosen]) / rig.size
    return out


def procrustes_residuals(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Root mean square residuals (T,) of points (T, n, 3) with weights (n,) against one shape in rigid motion."""
    weights = weights / weights.sum()
    points = points - np.einsum("i,tic->tc", weights, points)[:, None]
    shape = points[0]
    for _ in range(ROUNDS):
        u, _, vt = np.linalg.svd(np.einsum("i,tir,ic->trc", weights, points, shape, optimize=True))
        u[..., 2] *= np.linalg.det(u @ vt)[..., None]
        back = np.einsum("trc,tir->tic", u @ vt, points, optimize=True)             # x(t) in the shape's axes
        shape = back.mean(0)
    away = back - shape
    return np.sqrt(np.einsum("i,tic,tic->t", weights, away, away, optimize=True))
