"""Skinning weights from bones alone: heat from the nearest bones, sharpened by the band of the labels it gives."""

from __future__ import annotations

import numpy as np
from scipy.sparse import diags

from sp4dlib.lifting.harmonic import blend, fade, limit_influences
from sp4dlib.lifting.linear import laplacian, lifted, solve
from sp4dlib.lifting.skeleton import END
from sp4dlib.lifting.surface import Surface, weld
from sp4dlib.lifting.votes import ray_caster
from sp4dlib.lifting.winding import turned_alike
from sp4dlib.rigs.rig import Skeleton

# Chosen together on the five rigs that packages carry and the train and val rigs of the archive.
STRENGTH = 5.0      # how closely weights follow the nearest bone; Pinocchio's have 1
TURNED = 1.4        # a bone that the skin faces squarely away from counts as farther by this share
DOUBT = 0.2         # heat of a vertex whose nearest bone lies behind other skin
CLOTH = 0.1         # share of the way from bone to vertex, at its end, within which other skin hides nothing
TIED = 1e-4         # bones whose distances differ by less than this share are equally near
BAND = 0.15         # share of the weights that the labels' band gives; heat gives the others


def bone_weights(mesh, skeleton: Skeleton, *, strength: float = STRENGTH, max_influences: int | None = 4) -> np.ndarray:
    """Skinning weights of a skeleton's joints: heat, sharpened by the band round the borders of its labels.

    :func:`bone_heat` spreads each bone's weight by how near the skin is to it, as in Pinocchio and Blender. That blend
    is too wide on stout limbs. So 15 % of the weights come from the labels, which are the largest of the heat's
    weights, blended in a band as wide as the limb says (:func:`sp4dlib.lifting.harmonic_weights`).

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
    skeleton : Skeleton
        Bones run from each joint to its children. A leaf joint's bone runs on by half its parent's bone; one
        whose name ends in ``_end`` has no bone, so its weights are zero.
    strength : float
        As for :func:`bone_heat`.
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
    heat = bone_heat(surface, skeleton, strength)
    weights = (1 - BAND) * fade(heat) + BAND * blend(surface, heat.argmax(1), len(skeleton))
    return limit_influences(weights, max_influences)[surface.index]


def bone_labels(surface: Surface, skeleton: Skeleton, strength: float = STRENGTH) -> np.ndarray:
    """The joint whose skin each vertex is, by the largest :func:`bone_heat`; shape (M,)."""
    return bone_heat(surface, skeleton, strength).argmax(1)


def bone_heat(surface: Surface, skeleton: Skeleton, strength: float = STRENGTH) -> np.ndarray:
    """Share of each joint at each vertex, by heat equilibrium on the surface; shape (M, J), rows sum to 1.

    Pinocchio's equation (Baran and Popovic 2007, "Automatic Rigging and Animation of 3D Characters"):
    ``(L + M H) w_j = M H p_j``, where p_j is 1 where j's bone is the nearest, and ``H = strength / d^2`` with the
    distance d to that bone. L is the tufted Laplacian. Where the nearest point is a joint, several bones are equally
    near, the joint's own, its siblings' and its parent's: they share p, and each adds its heat.

    A bone that the skin faces, as the trunk faces an arm beside it, counts as farther. Pinocchio and Blender give heat
    only to vertices that see their bone, so that loose cloth, or a fin whose bones run outside of it, gets none and
    takes any weights that reach it. Here a vertex whose nearest bone is hidden follows it as well, at a fifth of the
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
    least = apparent[rows, nearest]
    sure = _visible(surface, foot[rows, nearest], distance[rows, nearest])
    held, columns = np.unique(owners, return_inverse=True)
    share = np.stack([(apparent[:, columns == joint] <= (1 + TIED) * least[:, None]).sum(1)
                      for joint in range(len(held))], axis=1)
    stiffness, mass = laplacian(surface.vertices, surface.faces)
    pull = np.maximum(mass, 1e-9 * mass.mean()) * strength * np.where(sure, 1, DOUBT) / least**2
    found = solve(lifted(stiffness + diags(pull * share.sum(1))), pull[:, None] * share)
    out = np.zeros((len(rows), len(skeleton)))
    out[:, held] = np.maximum(found, 0)
    return out / out.sum(1, keepdims=True)


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

    Faces that run against their neighbours are turned, and so are the normals of a shell that mostly point towards the
    nearest bones: the shell is inside out.
    """
    faces = turned_alike(surface)
    a, b, c = np.moveaxis(surface.vertices[faces], 1, 0)
    cross = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    normal = np.stack([np.bincount(faces.ravel(), cross[:, k], minlength=len(surface.vertices))
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
