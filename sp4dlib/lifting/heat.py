"""Skinning weights from bones alone: heat from the nearest bones that the skin sees."""

from __future__ import annotations

import numpy as np
from scipy.sparse import diags

from sp4dlib.lifting.harmonic import fade, limit_influences
from sp4dlib.lifting.linear import cotangent_laplacian, lifted, solve
from sp4dlib.lifting.sight import face_normals, goes_round, holds, sees, unit
from sp4dlib.lifting.skeleton import END
from sp4dlib.lifting.surface import Surface, weld
from sp4dlib.lifting.winding import turned_outward
from sp4dlib.rigs.rig import Skeleton

# Chosen together on the five rigs that packages carry and the train and val rigs of the archive.
STRENGTH = 4.0      # how closely weights follow the nearest bone; what Blender's heat comes to
DOUBT = 0.01        # heat of a vertex whose nearest bone lies behind other skin
CLOTH = 0.2         # share of a shell's area that looks at the bones which the shell goes round, from which it is cloth
NEAR = 1.5          # times the distance to the nearest bone within which cloth looks at all bones
COAT = 0.05         # share of a shell's area that sees its bone, up to which the shell is a coat if it goes round bones
PIECES = 0.2        # share of the skin below which no shell is a body, and the mesh is put together from pieces
FOREIGN = 4.0       # times that the body's bones count as farther for a shell that sees no bone
BODY = 0.1          # share of a bone's skin that lies on the largest shell, from which the bone is the body's
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
      little, a hundredth, so that every shell gets weights. What hides is skin through which the way to the bone
      *enters*: the far side of an eye or of a plate of armour sees the bones beyond its own near side.
    * Cloth goes round bones and looks at them with its inner side, a fifth of its area or more. Nothing hides its bones
      and its inner side has no wrong ones: it is not in doubt, and facing a bone makes that no farther.
    * A shell that hardly sees its bones but goes round them is a coat, and no less sure than the body below it.
    * Another that sees no bone at all, as the barrel of a pistol in a hand, belongs to what it is fixed to: bones with
      skin on the largest shell that sees any are the body's, and count four times as far for it as other bones.
    * Where no shell is large, the mesh is put together from pieces whose ends lie in each other: they see the bones
      that they hold.
    * Where the skeleton is one bone on a root at its start, the root holds the largest of several shells: the socket
      of a lever.

    Raises
    ------
    ValueError
        If the strength is not positive.
    """
    if not strength > 0:
        raise ValueError(f"strength must be positive; got {strength}")
    owners, close, least, sure = _sources(surface, skeleton)
    held, columns = np.unique(owners, return_inverse=True)
    share = np.stack([close[:, columns == joint].sum(1) for joint in range(len(held))], axis=1)
    stiffness, mass = cotangent_laplacian(surface.vertices, surface.faces)
    pull = np.maximum(mass, 1e-9 * mass.mean() or 1) * strength * np.where(sure, 1, DOUBT) / least**2
    found = solve(lifted(stiffness + diags(pull * share.sum(1))), pull[:, None] * share)
    out = np.zeros((len(surface.vertices), len(skeleton)))
    out[:, held] = np.maximum(found, 0)                                 # obtuse triangles let some run below 0
    return out / out.sum(1, keepdims=True)


def _sources(surface: Surface, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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
    """
    owners, starts, stops = bones(skeleton)
    distance, foot = _bone_distance(surface.vertices, starts, stops)
    distance = np.maximum(distance, 1e-4 * surface.size)
    faces = turned_outward(surface)
    facing = _facing(surface, faces, foot)
    cloth, inner = _cloth(surface, distance, foot, facing)
    apparent = distance * np.where(inner[:, None], 1, 2 / (1.001 + facing))      # never infinitely far
    socket = np.all(starts == stops, axis=1)                            # the root's point beside the only bone
    if socket.any() and len(socket) > 1:
        largest = surface.shells == np.bincount(surface.shells, surface.areas).argmax()
        holder = largest & (surface.shells.max() > 0)
        apparent[holder[:, None] != socket] = np.inf
    close, sure = _nearest(surface, faces, foot, apparent, facing, cloth)
    area, seeing = (np.bincount(surface.shells, w)[surface.shells] for w in (surface.areas, surface.areas * sure))
    coat = (seeing <= COAT * area) & _round(surface, np.flatnonzero(~sure), distance, foot)
    sure, lost = sure | coat, (seeing == 0) & ~coat
    if lost.any() and not lost.all():
        body = np.bincount(surface.shells, surface.areas * ~lost).argmax()
        of_body = _of_body(surface, close[sure], owners, np.flatnonzero(sure), body)
        apparent[lost] = distance[lost]
        close[lost] = _candidates(distance[lost] * np.where(of_body, FOREIGN, 1))
    return owners, close, np.where(close, apparent, np.inf).min(1), sure


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


def _bone_distance(points: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each point to each segment (M, S), and the nearest point on it (M, S, 3)."""
    along = stops - starts
    square = np.maximum(np.sum(along * along, axis=1), np.finfo(float).tiny)
    t = np.clip(np.einsum("msk,sk->ms", points[:, None] - starts, along) / square, 0, 1)
    foot = starts + t[..., None] * along
    return np.linalg.norm(points[:, None] - foot, axis=-1), foot


def _facing(surface: Surface, faces: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Cosine between each vertex' normal and the way from each bone to it, (M, S).

    The normal is the mean over the faces round the vertex, all alike: one large face beside a joint does not turn the
    normals of the whole ring there.
    """
    normals = np.repeat(face_normals(surface.vertices, faces), 3, axis=0)
    normals = unit(np.stack([np.bincount(faces.ravel(), axis, minlength=len(surface.vertices)) for axis in normals.T],
                            axis=1))
    return np.einsum("msk,mk->ms", unit(surface.vertices[:, None] - foot), normals)


def _of_body(surface: Surface, close: np.ndarray, owners: np.ndarray, sure: np.ndarray, body: int) -> np.ndarray:
    """Whether some skin of each segment's joint is on the shell ``body``, or it has none; bool (S,).

    ``close`` (R, S) are the bones of the vertices ``sure`` (R,) that see them.
    """
    areas, on_body = surface.areas[sure], surface.shells[sure] == body
    skin = np.array([close[:, owners == owner].any(1) @ np.stack([areas, areas * on_body], axis=1) for owner in owners])
    return (skin[:, 1] > BODY * skin[:, 0]) | (skin[:, 0] == 0)


def _cloth(surface: Surface, distance: np.ndarray, foot: np.ndarray,
           facing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which vertices are on cloth, and on its inner side, bool (M,) each."""
    near = distance <= NEAR * distance.min(1, keepdims=True)
    inner = np.where(near, facing, -1).max(1) < 0
    looking = np.flatnonzero(inner)
    areas = np.bincount(surface.shells, surface.areas)
    seeing = np.bincount(surface.shells[looking], surface.areas[looking], minlength=len(areas))
    cloth = (seeing > CLOTH * areas)[surface.shells] & _round(surface, looking, distance, foot)
    return cloth, inner & cloth


def _round(surface: Surface, vertices: np.ndarray, distance: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Vertices (M,) of shells that go round the bones nearest to most of their given ``vertices`` (R,), by area."""
    around = goes_round(surface, vertices, foot[vertices, distance[vertices].argmin(1)])
    balance = np.bincount(surface.shells[vertices], np.where(around, 1, -1) * surface.areas[vertices],
                          minlength=surface.shells.max() + 1)
    return (balance > 0)[surface.shells]


def _candidates(apparent: np.ndarray) -> np.ndarray:
    """Which bones are nearest to each vertex, ties included; bool (M, S)."""
    return apparent <= (1 + TIED) * apparent.min(1, keepdims=True)


def _nearest(surface: Surface, faces: np.ndarray, foot: np.ndarray, apparent: np.ndarray,
             facing: np.ndarray, cloth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest bones (M, S) of each vertex, those that it sees if it sees any; and whether it does (M,)."""
    candidates = _candidates(apparent)
    vertex, bone = np.nonzero(candidates)
    seen = sees(surface, faces, vertex, foot[vertex, bone]) | cloth[vertex]
    sizes = np.bincount(surface.shells, surface.areas)
    if sizes.max() < PIECES * sizes.sum():
        seen |= (facing[vertex, bone] > 0) & holds(surface, vertex, foot[vertex, bone])
    close = np.zeros_like(candidates)
    close[vertex[seen], bone[seen]] = True
    sure = close.any(1)
    return np.where(sure[:, None], close, candidates), sure
