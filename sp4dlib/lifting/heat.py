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
STRENGTH = 4.0      # how closely weights follow the nearest bone; so near, they are most like Blender's
TURNED = 3.0        # times that a bone counts as farther, at most, because the skin faces it
DOUBT = 0.2         # heat of a vertex whose nearest bone lies behind other skin
CLOTH = 0.1         # share of the way from vertex to bone, at its start, within which other skin hides nothing
THROUGH = 64        # walls that a way is followed through
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

    A bone that the skin faces, as the trunk faces an arm beside it, counts as farther: by ``2 / (1 + c)``, c being the
    cosine between the normal and the way from the bone, as in Blender. There a bone that the skin faces squarely is out
    of the question; here it is three times as far at most, and no farther than it is where the skin faces all bones
    that are near, as the inner side of a sleeve does.

    Pinocchio and Blender give heat only to vertices that see their bone, so that loose cloth, or a fin whose bones run
    outside of it, gets none and takes any weights that reach it. Here a vertex whose nearest bone is hidden follows it
    as well, at a fifth of the heat: it gives way to neighbours that are sure. What hides is skin through which the way
    to the bone *enters*: the far side of an eye or of a plate of armour sees the bones beyond its own near side.

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
    faces = _outward(surface, foot, distance.argmin(1))
    apparent = distance * _times_farther(distance, _facing(surface, faces, foot))
    rows, nearest = np.arange(len(distance)), apparent.argmin(1)
    least = apparent[rows, nearest]
    sure = _visible(surface, faces, foot[rows, nearest])
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


def _outward(surface: Surface, foot: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """The faces (G, 3), turned so that their normals point away from the nearest of each vertex' bones.

    Faces that run against their neighbours are turned, and all faces of a shell whose normals mostly point towards the
    nearest bones: the shell is inside out.
    """
    faces = turned_alike(surface)
    way = surface.vertices - foot[np.arange(len(foot)), nearest]
    cosine = np.sum(_unit(way) * _normals(surface, faces, face_areas=True), axis=1)
    inward = np.bincount(surface.shells, surface.areas * cosine) < 0
    return np.where(inward[surface.shells[faces[:, 0]]][:, None], faces[:, ::-1], faces)


def _facing(surface: Surface, faces: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Cosine between each vertex' normal and the way from each bone to it, (M, S)."""
    normals = _normals(surface, faces, face_areas=False)
    return np.einsum("msk,mk->ms", _unit(surface.vertices[:, None] - foot), normals)


def _times_farther(distance: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """How many times farther bones count than they are, (M, S), by the cosines ``facing`` (M, S)."""
    near = distance <= TURNED * distance.min(1, keepdims=True)
    inner = np.where(near, facing, -1).max(1) < 0
    return np.where(inner[:, None], 1, np.minimum(2 / np.maximum(1 + facing, 1e-9), TURNED))


def _normals(surface: Surface, faces: np.ndarray, face_areas: bool) -> np.ndarray:
    """Normal of each vertex (M, 3): the mean over its faces, weighted by their areas or all alike.

    All alike, one large face beside a joint does not turn the normals of the whole ring there.
    """
    a, b, c = np.moveaxis(surface.vertices[faces], 1, 0)
    cross = np.cross(b - a, c - a)
    cross = np.repeat(cross if face_areas else _unit(cross), 3, axis=0)
    return _unit(np.stack([np.bincount(faces.ravel(), cross[:, k], minlength=len(surface.vertices))
                           for k in range(3)], axis=1))


def _visible(surface: Surface, faces: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Whether the straight way from each vertex to its bone's point (M, 3) enters no skin, but at its start; bool (M,).

    Skin through which it leaves does not count: what it leaves was entered at the vertex itself, or holds the vertex,
    as a head does the inner half of an eye. ``faces`` (G, 3) are turned outward.
    """
    center, scale = surface.vertices.mean(0), 1 / surface.size          # Embree computes in float32
    points, targets = (surface.vertices - center) * scale, (foot - center) * scale
    a, b, c = np.moveaxis(points[faces], 1, 0)
    normals = _unit(np.cross(b - a, c - a))
    caster = ray_caster(points, surface.faces)
    length = np.linalg.norm(targets - points, axis=1)
    ways, done = _unit(targets - points), CLOTH * length
    seen, going = np.ones(len(points), bool), np.flatnonzero(length > 0)
    for _ in range(THROUGH):
        if not len(going):
            break
        starts = points[going] + done[going, None] * ways[going]
        hit = caster.run(starts.astype(np.float32), ways[going].astype(np.float32), output=True)
        reached, face = done[going] + hit["tfar"], hit["primID"]
        met = (face >= 0) & (reached < (1 - 1e-4) * length[going])
        going, reached, face = going[met], reached[met], face[met]
        enters = np.sum(normals[face] * ways[going], axis=1) < -1e-5
        seen[going[enters]] = False
        going, reached = going[~enters], reached[~enters]
        done[going] = reached + 1e-5                                    # beyond the wall, whatever float32 makes of it
    return seen


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at length 1; those of no length stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(float).tiny)
