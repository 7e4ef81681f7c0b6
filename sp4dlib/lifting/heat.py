"""Skinning weights from bones alone: heat tells whose skin each vertex is, and the labels' band blends."""

from __future__ import annotations

import numpy as np
from scipy.sparse import diags

from sp4dlib.lifting.harmonic import blend, limit_influences
from sp4dlib.lifting.linear import laplacian, lifted, solve
from sp4dlib.lifting.skeleton import END
from sp4dlib.lifting.surface import Surface, weld
from sp4dlib.lifting.votes import ray_caster
from sp4dlib.rigs.rig import Skeleton

STRENGTH = 50.0     # how closely labels follow the nearest bone; Pinocchio's weights have 1, Blender's about 6
TURNED = 0.5        # a bone that the skin faces squarely counts as farther by this share
DOUBT = 0.1         # heat of a vertex whose nearest bone lies behind other skin
CLOTH = 0.1         # share of the way from bone to vertex, at its end, within which other skin hides nothing


def bone_weights(mesh, skeleton: Skeleton, *, strength: float = STRENGTH, max_influences: int | None = 4) -> np.ndarray:
    """Skinning weights of a skeleton's joints: labels from its bones, blended as labels are.

    :func:`bone_labels` gives each vertex to a joint; the labels then flow in a band round their borders, whose width
    follows the limb (:func:`sp4dlib.lifting.harmonic_weights`). Heat alone, as in Pinocchio and Blender, blends by the
    distance from skin to bone: too wide on stout limbs, and not at all where bones lie beneath loose cloth.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
    skeleton : Skeleton
        Bones run from each joint to its children. A leaf joint's bone runs on by half its parent's bone; one
        whose name ends in ``_end`` has no bone, so its weights are zero.
    strength : float
        As for :func:`bone_labels`.
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
    surface = weld(mesh)
    weights = blend(surface, bone_labels(surface, skeleton, strength), len(skeleton))
    return limit_influences(weights, max_influences)[surface.index]


def bone_labels(surface: Surface, skeleton: Skeleton, strength: float = STRENGTH) -> np.ndarray:
    """The joint whose skin each vertex is, by heat equilibrium on the surface; shape (M,).

    Pinocchio's equation (Baran and Popovic 2007, "Automatic Rigging and Animation of 3D Characters"):
    ``(L + M H) w_j = M H p_j``, where p_j is 1 where j's bone is the nearest, and ``H = strength / d^2`` with the
    distance d to that bone. The largest w_j wins. L is the tufted Laplacian.

    A bone that the skin faces, as the trunk faces an arm beside it, counts as farther. Pinocchio and Blender give heat
    only to vertices that see their bone, so that loose cloth, or a fin whose bones run outside of it, gets none and
    takes any weights that reach it. Here a vertex whose nearest bone is hidden follows it as well, at a tenth of the
    heat: it gives way to neighbours that are sure.

    Raises
    ------
    ValueError
        If the strength is not positive.
    """
    if not strength > 0:
        raise ValueError(f"strength must be positive; got {strength}")
    owners, starts, stops = bones(skeleton)
    distance, foot = _bone_distance(surface.vertices, starts, stops)
    distance = np.maximum(distance, 1e-4 * surface.size)
    apparent = distance * (1 + TURNED * (1 - _facing(surface, foot, distance.argmin(1))) / 2)
    rows, nearest = np.arange(len(distance)), apparent.argmin(1)
    sure = _visible(surface, foot[rows, nearest], distance[rows, nearest])
    heat = strength * np.where(sure, 1, DOUBT) / apparent[rows, nearest]**2
    stiffness, mass = laplacian(surface.vertices, surface.faces)
    held, columns = np.unique(owners[nearest], return_inverse=True)
    source = np.zeros((len(rows), len(held)))
    pull = np.maximum(mass, 1e-9 * mass.mean()) * heat
    source[rows, columns] = pull
    return held[solve(lifted(stiffness + diags(pull)), source).argmax(1)]


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
    """Whether the straight way from a bone's point (M, 3) to each vertex is free, but for its end; bool (M,)."""
    center, scale = surface.vertices.mean(0), 1 / surface.size          # Embree computes in float32
    caster = ray_caster((surface.vertices - center) * scale, surface.faces)
    directions = (surface.vertices - foot) / np.maximum(distance, np.finfo(float).tiny)[:, None]
    origins = (foot - center) * scale
    hit = caster.run(origins.astype(np.float32), directions.astype(np.float32), output=True)
    return hit["tfar"] >= (1 - CLOTH) * distance * scale
