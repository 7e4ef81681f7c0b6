"""From bones to kinematic parts."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from sp4dlib.clips.clip import Parts
from sp4dlib.rigs.rig import Rig

MIN_SHARE = 0.01


def kinematic_parts(rig: Rig, min_share: float = MIN_SHARE) -> Parts:
    """The regions of a rig that move with one bone, as SP4D labels them (arXiv 2509.10687, section 4.1).

    Each vertex belongs to the joint with its largest weight (the first of equals). A region below ``min_share`` of the
    surface is folded, leaves first, so that a finger's three joints become part of the hand before the hand is judged.
    It goes to the nearest ancestor whose region it touches, or, where it touches none, to the neighbour with which it
    shares the longest border: many artists hang a foot from a handle at the root, and two paws of one handle are no
    part. A region that touches nothing goes to its joint's parent. Parts that move alike are not merged here: this
    looks at areas alone.

    Parameters
    ----------
    rig : Rig
    min_share : float
        Smallest share of the bind pose's surface, in [0, 1); 0 folds only joints that own nothing.

    Returns
    -------
    Parts
        At least one part. Labels run from 0 to K - 1 and part 0 is the root: the largest of the parts that have no
        other part among their joint's ancestors; the rest of these hang from it. Each part has the name of its joint.

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
    into = _fold(area, border_lengths(rig.vertices, rig.faces, owner, joints), parents, least)
    kept = np.flatnonzero(into == np.arange(joints))
    above = np.full(joints, -1)                              # nearest ancestor that is a part
    for joint in range(1, joints):
        parent = parents[joint]
        above[joint] = parent if into[parent] == parent else above[parent]
    tops = kept[above[kept] < 0]
    root = tops[area[tops].argmax()]
    into[into < 0] = root                                    # an empty root, its handles, or its lone small shells
    order = np.r_[root, kept[kept != root]]
    part = np.full(joints, -1)
    part[order] = np.arange(len(order))
    joint_part = part[into]
    hangs = np.where(above[order] >= 0, part[above[order]], 0)
    hangs[0] = -1
    return Parts(joint_part[owner], joint_part, hangs, tuple(rig.skeleton.names[joint] for joint in order))


def _fold(area: np.ndarray, touch: np.ndarray, parents: np.ndarray, least: float) -> np.ndarray:
    """Which joint's region each joint's region ends in, (J,); -1 for those that end nowhere. ``area`` is updated."""
    joints = len(area)
    into = np.arange(joints)
    for joint in range(joints - 1, -1, -1):                  # parents precede children
        if area[joint] >= least:
            continue
        target = parents[joint]
        if touch[joint].any():
            while target >= 0 and not touch[joint, target]:
                target = parents[target]
            target = touch[joint].argmax() if target < 0 else target
        into[joint] = target
        if target >= 0:
            area[target] += area[joint]
            touch[target] += touch[joint]
            touch[:, target] = touch[target]
            touch[target, target] = 0
        touch[joint] = touch[:, joint] = 0
    for _ in range(joints):
        further = np.where(into >= 0, into[into], -1)
        if np.array_equal(further, into):
            break
        into = further
    return into


def border_lengths(vertices: np.ndarray, faces: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Length of the border between each two labels on the surface.

    The border crosses a triangle between the middles of its two cut edges; where three labels meet, from each edge's
    middle to the triangle's.

    Parameters
    ----------
    vertices : ndarray, shape (N, 3)
    faces : ndarray of int, shape (F, 3)
    labels : ndarray of int, shape (N,)
    count : int
        Number of labels.

    Returns
    -------
    ndarray, shape (count, count)
        Symmetric, zero on the diagonal.
    """
    out = np.zeros((count, count))
    corner, points = labels[faces], vertices[faces]
    for k in range(3):
        a, b, c = k, (k + 1) % 3, (k + 2) % 3
        alone = (corner[:, a] == corner[:, b]) & (corner[:, a] != corner[:, c])
        length = np.linalg.norm(points[alone, a] - points[alone, b], axis=1) / 2
        np.add.at(out, (corner[alone, a], corner[alone, c]), length)
        three = (corner[:, a] != corner[:, b]) & (corner[:, b] != corner[:, c]) & (corner[:, c] != corner[:, a])
        middle = (points[three, a] + points[three, b]) / 2
        length = np.linalg.norm(points[three].mean(1) - middle, axis=1)
        np.add.at(out, (corner[three, a], corner[three, b]), length)
    return out + out.T


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
    across = face_vectors(vertices, faces)
    thirds = np.sqrt((across * across).sum(1)) / 6                                # (F, T)
    around = csr_matrix((np.ones(faces.size), (faces.ravel(), np.repeat(np.arange(len(faces)), 3))),
                        shape=(vertices.shape[1], len(faces)))
    return (around @ thirds).T


def face_vectors(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Cross products of two sides of each face: normals as long as twice the area.

    Parameters
    ----------
    vertices : ndarray, shape (T, N, 3)
    faces : ndarray of int, shape (F, 3)

    Returns
    -------
    ndarray, shape (F, 3, T)
        Frames last, so that a face gathers whole rows and a sparse product moves all frames at once.
    """
    columns = np.ascontiguousarray(vertices.transpose(1, 2, 0))                    # (N, 3, T)
    a, b, c = (columns[faces[:, k]] for k in range(3))
    b -= a
    c -= a
    out = np.empty_like(a)
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        np.multiply(b[:, i], c[:, j], out=out[:, k])
        out[:, k] -= b[:, j] * c[:, i]
    return out
