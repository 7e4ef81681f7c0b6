"""From bones to kinematic parts."""

from __future__ import annotations

import numpy as np

from sp4dlib.clips.clip import Parts
from sp4dlib.rigs.rig import Rig

MIN_SHARE = 0.01


def kinematic_parts(rig: Rig, min_share: float = MIN_SHARE) -> Parts:
    """The regions of a rig that move with one bone, as SP4D labels them (arXiv 2509.10687, section 4.1).

    Each vertex belongs to the joint with its largest weight (the first of equals). A joint whose region has no area,
    or less than ``min_share`` of the surface, is folded into its parent, leaves first, so that a finger's three
    joints become part of the hand before the hand is judged. If the root's own region is too small, the root joins
    the largest part below it, and the other parts below the root hang from that one. Parts that move alike are not
    merged here: this looks at areas alone.

    Parameters
    ----------
    rig : Rig
    min_share : float
        Smallest share of the bind pose's surface, in [0, 1); 0 folds only joints that own nothing.

    Returns
    -------
    Parts
        At least one part. Labels run from 0 to K - 1, part 0 is the root, each part has the name of the joint that
        it was folded into.

    Raises
    ------
    ValueError
        If ``min_share`` is out of range, or the surface has no area.
    """
    if not 0 <= min_share < 1:
        raise ValueError(f"min_share is a share of the surface, in [0, 1); got {min_share}")
    owner = rig.weights.argmax(1)
    joints, parents = len(rig.skeleton), rig.skeleton.parents
    area = np.bincount(owner, vertex_areas(rig.vertices[None], rig.faces)[0], joints)
    total = area.sum()
    if not total > 0:
        raise ValueError(f"{rig.name}: the surface has no area, so it has no parts")
    least = max(min_share * total, np.finfo(float).eps * total)
    into = np.arange(joints)
    for joint in range(joints - 1, 0, -1):                   # parents precede children
        if area[joint] < least:
            into[joint] = parents[joint]
            area[parents[joint]] += area[joint]
    for joint in range(1, joints):
        into[joint] = into[into[joint]]
    kept = np.unique(into)
    if area[0] < least and len(kept) > 1:
        top = [joint for joint in kept[1:] if into[parents[joint]] == 0]
        heir = max(top, key=lambda joint: area[joint])
        into[into == 0] = heir
        kept = np.r_[heir, kept[(kept != 0) & (kept != heir)]]
    part = np.full(joints, -1)
    part[kept] = np.arange(len(kept))
    joint_part = part[into]
    above = np.array([-1 if number == 0 else joint_part[parents[joint]] for number, joint in enumerate(kept)])
    return Parts(joint_part[owner], joint_part, above, tuple(rig.skeleton.names[joint] for joint in kept))


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """A third of the area of the faces round each vertex.

    Parameters
    ----------
    vertices : ndarray, shape (T, N, 3)
    faces : ndarray of int, shape (F, 3)

    Returns
    -------
    ndarray, shape (T, N)
    """
    out = np.empty(vertices.shape[:2])
    for row, points in zip(out, vertices):
        a, b, c = (points[faces[:, k]] for k in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
        row[:] = np.bincount(faces.ravel(), np.repeat(area, 3), len(points))
    return out
