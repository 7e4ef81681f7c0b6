"""Skinning weights from bones alone: heat that flows from each bone to the skin it can see."""

from __future__ import annotations

import numpy as np
from scipy.sparse import diags

from sp4dlib.lifting.harmonic import limit_influences
from sp4dlib.lifting.linear import laplacian, lifted, solve
from sp4dlib.lifting.skeleton import END
from sp4dlib.lifting.surface import Surface, weld
from sp4dlib.lifting.votes import ray_caster
from sp4dlib.rigs.rig import Skeleton

STRENGTH = 12.0     # how closely skin follows its bone; Pinocchio has 1, Blender about 6
FADE = 0.05         # weights below it fade out, below half of it vanish


def bone_weights(mesh, skeleton: Skeleton, *, strength: float = STRENGTH, max_influences: int | None = 4) -> np.ndarray:
    """Skinning weights of a skeleton's joints by heat equilibrium on the surface.

    Pinocchio's equation (Baran and Popovic 2007, "Automatic Rigging and Animation of 3D Characters"):
    ``(L + M H) w_j = M H p_j``, where p_j is 1 where j's bone is the nearest that the vertex sees, and
    ``H = strength / d^2`` with the distance d to that bone. As in Blender, a bone that the skin turns away from counts
    as farther. L is the tufted Laplacian. A shell that sees no bone follows its nearest bones through walls, so that
    every vertex has weights.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
    skeleton : Skeleton
        Bones run from each joint to its children. A leaf joint's bone runs on by half its parent's bone; one
        whose name ends in ``_end`` has no bone, so its weights are zero.
    strength : float
        Higher is more rigid.
    max_influences : int or None
        Largest weights kept in a row; None keeps all.

    Returns
    -------
    ndarray, shape (N, J)
        Rows sum to 1.

    Raises
    ------
    ValueError
        If the mesh has no faces or is not finite, or the strength is not positive.
    """
    if not strength > 0:
        raise ValueError(f"strength must be positive; got {strength}")
    surface = weld(mesh)
    owners, starts, stops = bones(skeleton)
    distance, foot = _bone_distance(surface.vertices, starts, stops)
    distance = np.maximum(distance, 1e-4 * surface.size)
    visible = _visible(surface, foot, distance)
    apparent = distance / (0.5 * (_facing(surface, foot, distance.argmin(1)) + 1.001))
    lit = np.zeros(surface.shells.max() + 1, bool)
    np.logical_or.at(lit, surface.shells, visible.any(1))
    visible |= ~lit[surface.shells][:, None]
    seen = np.where(visible, apparent, np.inf)
    nearest, least = seen.argmin(1), seen.min(1)
    heat = np.where(np.isfinite(least), strength / least**2, 0)
    stiffness, mass = laplacian(surface.vertices, surface.faces)
    source = np.zeros((len(heat), len(skeleton)))
    source[np.arange(len(heat)), owners[nearest]] = mass * heat
    weights = np.clip(solve(lifted(stiffness + diags(mass * heat)), source), 0, 1)
    weights = np.where(weights < FADE, np.maximum(2 * weights - FADE, 0), weights)
    weights /= weights.sum(1, keepdims=True)
    return limit_influences(weights, max_influences)[surface.index]


def bones(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments of a skeleton: the joint that each belongs to (S,), its start and its stop (S, 3)."""
    joints, parents = skeleton.joints, skeleton.parents
    owners, starts, stops = [], [], []
    for joint in range(len(skeleton)):
        children = np.flatnonzero(parents == joint)
        if not len(children) and skeleton.names[joint].endswith(END) and joint:
            continue
        bone = joints[joint] - joints[parents[joint]] if joint else np.zeros(3)
        targets = joints[children] if len(children) else joints[joint][None] + bone / 2
        owners += [joint] * len(targets)
        starts += [joints[joint]] * len(targets)
        stops += list(targets)
    return np.array(owners), np.array(starts), np.array(stops)


def _bone_distance(points: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each point to each segment (M, S), and the nearest point on it (M, S, 3)."""
    along = stops - starts
    square = np.maximum(np.sum(along * along, axis=1), np.finfo(float).tiny)
    t = np.clip(np.einsum("msk,sk->ms", points[:, None] - starts, along) / square, 0, 1)
    foot = starts + t[..., None] * along
    return np.linalg.norm(points[:, None] - foot, axis=-1), foot


def _facing(surface: Surface, foot: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Cosine between each vertex' normal and the way from each bone to it, (M, S).

    Normals of a shell that mostly point towards the nearest bones are turned: the shell is inside out.
    """
    a, b, c = np.moveaxis(surface.vertices[surface.faces], 1, 0)
    cross = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    normal = np.stack([np.bincount(surface.faces.ravel(), cross[:, k], minlength=len(surface.vertices))
                       for k in range(3)], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), np.finfo(float).tiny)
    way = surface.vertices[:, None] - foot
    way /= np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), np.finfo(float).tiny)
    cosine = np.einsum("msk,mk->ms", way, normal)
    outward = np.bincount(surface.shells, surface.areas * cosine[np.arange(len(cosine)), nearest])
    return cosine * np.where(outward < 0, -1, 1)[surface.shells][:, None]


def _visible(surface: Surface, foot: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Whether the straight way from each bone's nearest point to each vertex is free, bool (M, S)."""
    center, scale = surface.vertices.mean(0), 1 / surface.size          # Embree computes in float32
    caster = ray_caster((surface.vertices - center) * scale, surface.faces)
    free = np.empty(distance.shape, bool)
    for bone in range(distance.shape[1]):
        way = (surface.vertices - foot[:, bone]) * scale
        length = np.linalg.norm(way, axis=1)
        directions = way / np.maximum(length, 1e-12)[:, None]
        origins = (foot[:, bone] - center) * scale
        hit = caster.run(origins.astype(np.float32), directions.astype(np.float32), output=True)
        free[:, bone] = hit["tfar"] >= 0.999 * length - 1e-4            # the vertex itself is the first thing met
    return free
