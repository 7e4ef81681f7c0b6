"""Skinning weights from bones alone: heat from the nearest bones that the skin sees."""

from __future__ import annotations

import numpy as np
from scipy.sparse import diags

from sp4dlib.lifting.attached import bones_of_body, cloth, coats, moved_along
from sp4dlib.lifting.harmonic import fade, limit_influences
from sp4dlib.lifting.linear import cotangent_laplacian, lifted, solve
from sp4dlib.lifting.sight import face_normals, holds, sees, unit
from sp4dlib.lifting.skeleton import END
from sp4dlib.lifting.surface import Surface, weld
from sp4dlib.lifting.winding import turned_outward
from sp4dlib.rigs.rig import Skeleton

# Chosen together on the five rigs that packages carry and the train and val rigs of the archive; DOUBT also after one
# test rig, Bee, had been found worse than Blender's.
STRENGTH = 4.0      # how closely weights follow the nearest bone; what Blender's heat comes to
DOUBT = 0.001       # heat of a vertex whose nearest bone lies behind other skin
PIECES = 0.95       # share of the skin within whose shell its nearest bone is, from which other shells hide nothing
CARRIED = 0.5       # share of the joints that are the body's, from which what sees no bone is carried by a body
FOREIGN = 4.0       # times that the body's bones count as farther for a shell that sees no bone
TIED = 1e-4         # bones whose distances differ by less than this share are equally near


def bone_weights(mesh, skeleton: Skeleton, *, strength: float = STRENGTH, max_influences: int | None = 4) -> np.ndarray:
    """Skinning weights of a skeleton's joints, by heat: how near the skin is to each bone, spread along the skin.

    As in Pinocchio and Blender where skin sees its bones; :func:`bone_heat` says what is different. Weights below 0.05
    run out at half of that.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
    skeleton : Skeleton
        Bones run from each joint to its children. A leaf joint's bone runs on by half its parent's bone; one
        whose name ends in ``_end`` has no bone, so its weights are zero. So are those of a joint that lies on its
        only child.
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
    return limit_influences(fade(bone_heat(surface, skeleton, strength)), max_influences)[surface.index]


def bone_heat(surface: Surface, skeleton: Skeleton, strength: float = STRENGTH) -> np.ndarray:
    """Share of each joint at each vertex, by heat equilibrium on the surface; shape (M, J), rows sum to 1.

    Pinocchio's equation (Baran and Popovic 2007, "Automatic Rigging and Animation of 3D Characters"):
    ``(L + M H) w_j = M H p_j``, where p_j is 1 where j's bone is the nearest, and ``H = strength / d^2`` with the
    distance d to that bone. L is the cotangent Laplacian, M the area. Where the nearest point is a joint, several bones
    are equally near, the joint's own, its siblings' and its parent's: they share p, and each adds its heat.

    What follows agrees with Blender's "automatic weights" where these are sure, and departs from them elsewhere:

    * A bone that the skin faces, as the trunk faces an arm beside it, counts as farther: by ``2 / (1 + c)``, c being
      the cosine between the normal and the way from the bone.
    * Only vertices that see their bone have heat; the others take what reaches them along the skin. Here they have a
      little, a thousandth, so that every shell gets weights. What hides is skin through which the way to the bone
      *enters*: the far side of an eye or of a plate of armour sees the bones beyond its own near side.
    * Cloth goes round bones and looks at them with its inner side, a third of its area or more. Nothing hides its bones
      and its inner side has no wrong ones: it is not in doubt, and facing a bone makes that no farther.
    * A shell that sees no bone at all but goes round them is a coat, and no less sure than the body below it.
    * Another such shell, as the barrel of a pistol in a hand, is carried by a body, if most joints have skin on the
      largest shell: these joints' bones count four times as far for it as others, as the pistol's.
    * If not, the mesh is put together from pieces, and a piece that sees no bone moves as one with what is near.
    * Where nearly all shells hold their bones, as where each limb is a capsule of its own, no shell hides another's.
    * Where the skeleton is one bone on a root at its start, the root holds the largest of several shells: the socket
      of a lever.

    Raises
    ------
    ValueError
        If the strength is not positive.
    """
    if not strength > 0:
        raise ValueError(f"strength must be positive; got {strength}")
    owners, close, least, sure, adrift = _sources(surface, skeleton)
    held, columns = np.unique(owners, return_inverse=True)
    share = np.stack([close[:, columns == joint].sum(1) for joint in range(len(held))], axis=1)
    stiffness, mass = cotangent_laplacian(surface.vertices, surface.faces)
    pull = np.maximum(mass, 1e-9 * mass.mean() or 1) * strength * np.where(sure, 1, DOUBT) / least**2
    found = solve(lifted(stiffness + diags(pull * share.sum(1))), pull[:, None] * share)
    out = np.zeros((len(surface.vertices), len(skeleton)))
    out[:, held] = np.maximum(found, 0)                                 # obtuse triangles let some run below 0
    out /= out.sum(1, keepdims=True)
    return moved_along(surface, out, adrift) if adrift.any() else out


def _sources(surface: Surface, skeleton: Skeleton) -> tuple[np.ndarray, ...]:
    """What heats each vertex.

    Returns
    -------
    owners : ndarray of int, shape (S,)
        Joint of each segment, as of :func:`bones`.
    close : ndarray of bool, shape (M, S)
        The nearest segments of each vertex.
    least : ndarray, shape (M,)
        How far these count as being.
    sure : ndarray of bool, shape (M,)
        Whether the vertex sees them, or needs not to.
    adrift : ndarray of bool, shape (M,)
        Vertices of shells whose bones none of these is.
    """
    owners, starts, stops = bones(skeleton)
    faces = turned_outward(surface)
    distance, facing = _from_bones(surface, faces, starts, stops)
    distance = np.maximum(distance, 1e-4 * surface.size)
    nearest = distance.argmin(1)
    foot = _feet(surface.vertices, starts[nearest], stops[nearest])
    woven, inner = cloth(surface, distance, foot, facing)
    apparent = distance * np.where(inner[:, None], 1, 2 / (1.001 + facing))      # never infinitely far
    socket = np.all(starts == stops, axis=1)                            # the root's point beside the only bone
    if socket.any() and len(socket) > 1:
        largest = surface.shells == np.bincount(surface.shells, surface.areas).argmax()
        holder = largest & (surface.shells.max() > 0)
        apparent[holder[:, None] != socket] = np.inf
    close, sure = _nearest(surface, faces, starts, stops, apparent, facing, woven)
    coat, lost = coats(surface, foot, sure)
    of_body = bones_of_body(surface, owners, close, sure)
    carried = len(np.unique(owners[of_body])) > CARRIED * len(np.unique(owners))
    apparent[lost] = distance[lost]
    close[lost] = _candidates(distance[lost] * np.where(carried & of_body, FOREIGN, 1))
    adrift = lost & (not carried and not lost.all())
    return owners, close, np.where(close, apparent, np.inf).min(1), sure | coat, adrift


def bones(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments of a skeleton: the joint that each belongs to (S,), its start and its stop (S, 3).

    None has length 0, but the root's where it has no other and the skeleton one other segment at most.
    """
    joints, parents = skeleton.joints, skeleton.parents
    owners, stops = [], []
    for joint in range(len(skeleton)):
        children = np.flatnonzero(parents == joint)
        if not len(children) and skeleton.names[joint].endswith(END) and joint:
            continue
        bone = joints[joint] - joints[parents[joint]] if joint else np.zeros(3)
        targets = joints[children] if len(children) else joints[joint][None] + bone / 2
        targets = targets[np.linalg.norm(targets - joints[joint], axis=1) > 1e-6 * np.ptp(joints, axis=0).max()]
        owners += [joint] * len(targets)
        stops += list(targets)
    if len(owners) <= 1 and 0 not in owners:
        owners, stops = [0, *owners], [joints[0], *stops]
    return np.array(owners), joints[owners], np.array(stops)


def _feet(points: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """The point of each segment (R,) or of the only one that is nearest to each point (R, 3)."""
    along = stops - starts
    square = np.maximum(np.sum(along * along, axis=-1), np.finfo(float).tiny)
    t = np.clip(np.sum((points - starts) * along, axis=-1) / square, 0, 1)
    return starts + t[..., None] * along


def _from_bones(surface: Surface, faces: np.ndarray, starts: np.ndarray,
                stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each vertex to each bone, and the cosine between its normal and the way from there, (M, S) each.

    The normal is the mean over the faces round the vertex, all alike: one large face beside a joint does not turn the
    normals of the whole ring there.
    """
    normals = np.repeat(face_normals(surface.vertices, faces), 3, axis=0)
    normals = unit(np.stack([np.bincount(faces.ravel(), axis, minlength=len(surface.vertices)) for axis in normals.T],
                            axis=1))
    distance, facing = np.empty((2, len(normals), len(starts)))
    for bone, (start, stop) in enumerate(zip(starts, stops)):           # one at a time: all at once need gigabytes
        way = surface.vertices - _feet(surface.vertices, start, stop)
        distance[:, bone] = np.linalg.norm(way, axis=1)
        facing[:, bone] = np.sum(unit(way) * normals, axis=1)
    return distance, facing


def _candidates(apparent: np.ndarray) -> np.ndarray:
    """Which bones are nearest to each vertex, ties included; bool (M, S)."""
    return apparent <= (1 + TIED) * apparent.min(1, keepdims=True)


def _nearest(surface: Surface, faces: np.ndarray, starts: np.ndarray, stops: np.ndarray, apparent: np.ndarray,
             facing: np.ndarray, woven: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest bones (M, S) of each vertex, those that it sees if it sees any; and whether it does (M,)."""
    candidates = _candidates(apparent)
    vertex, bone = np.nonzero(candidates)
    foot = _feet(surface.vertices[vertex], starts[bone], stops[bone])
    seen = sees(surface, faces, vertex, foot) | woven[vertex]
    if surface.shells.max() > 0 and not seen.all():                     # one shell hides nothing that it holds
        within = (facing[vertex, bone] > 0) & holds(surface, vertex, foot)
        held = np.bincount(vertex, within, minlength=len(candidates)) > 0
        if surface.areas[held].sum() > PIECES * surface.areas.sum():
            seen |= within
    close = np.zeros_like(candidates)
    close[vertex[seen], bone[seen]] = True
    sure = close.any(1)
    return np.where(sure[:, None], close, candidates), sure
