"""From bones to kinematic parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from sp4dlib.clips.clip import Parts
from sp4dlib.clips.merging import RULE, MergeRule, Pair, Regions, merge_alike
from sp4dlib.rigs.rig import Rig


class TooManyParts(ValueError):
    """An object with more parts than a data set takes; the message says how many."""


@dataclass(frozen=True)
class MergeStep:
    """One joint's region became part of another's.

    Attributes
    ----------
    reason : {"alike", "small"}
        It moves and looks like its neighbour, or it is too small.
    joint, into : int
    share : float
        Of the surface, that the region had.
    motion, appearance : float or None
        Differences at that moment, as in :class:`~sp4dlib.clips.merging.Pair`; None for small regions, of which
        nobody asks.
    """

    reason: str
    joint: int
    into: int
    share: float
    motion: float | None = None
    appearance: float | None = None


def kinematic_parts(rig: Rig, rule: MergeRule = RULE) -> Parts:
    """The regions of a rig that move with one bone, as SP4D labels them (arXiv 2509.10687, section 4.1).

    Each vertex belongs to the joint with its largest weight (the first of equals). Connected regions that neither move
    against each other nor differ in colour are merged (:mod:`sp4dlib.clips.merging`). Then a region below
    ``min_share`` of the surface is folded, leaves first, so that a finger's three joints become part of the hand
    before the hand is judged. It goes to the nearest ancestor whose region it touches, or, where it touches none, to
    the neighbour with which it shares the longest border: many artists hang a foot from a handle at the root, and two
    paws of one handle are no part. A region that touches nothing goes to its joint's parent.

    Parameters
    ----------
    rig : Rig
    rule : MergeRule
        Thresholds. ``MergeRule(motion=0)`` folds and does not merge.

    Returns
    -------
    Parts
        At least one part. Labels run from 0 to K - 1 and part 0 is the root: the largest of the parts that have no
        other part among their joint's ancestors; the rest of these hang from it. Each part has the name of its
        uppermost joint.

    Raises
    ------
    ValueError
        If the surface has no area.
    TooManyParts
        If more than ``rule.max_parts`` are left.
    """
    owner, area, merged, into, _ = _gather(rig, rule)
    joints, parents = len(into), rig.skeleton.parents
    kept = np.flatnonzero(into == np.arange(joints))
    above = np.full(joints, -1)                              # nearest ancestor that is a part
    for joint in range(1, joints):
        upper = merged[parents[joint]]
        above[joint] = upper if into[upper] == upper else above[upper] if upper < joint else -1
    tops = kept[above[kept] < 0]
    root = tops[area[tops].argmax()]
    into[into < 0] = root                                    # an empty root, its handles, or its lone small shells
    # A top may have taken in another and that one's children, which may precede it: tops go first.
    order = np.r_[root, tops[tops != root], np.setdiff1d(kept, tops)]
    if len(order) > rule.max_parts:
        raise TooManyParts(f"{rig.name} has {len(order)} parts after merging; {rule.max_parts} are the most")
    part = np.full(joints, -1)
    part[order] = np.arange(len(order))
    joint_part = part[into]
    hangs = np.where(above[order] >= 0, part[above[order]], 0)
    hangs[0] = -1
    return Parts(joint_part[owner], joint_part, hangs, tuple(rig.skeleton.names[joint] for joint in order))


def merge_steps(rig: Rig, rule: MergeRule = RULE) -> list[MergeStep]:
    """How :func:`kinematic_parts` came to its parts: what was merged into what, in order, and why."""
    return _gather(rig, rule)[-1]


def connected_pairs(rig: Rig, rule: MergeRule = RULE) -> list[Pair]:
    """How far connected regions differ before any is merged, in the order of their lower joint."""
    owner, areas = _owned(rig)
    pairs = Regions(rig, owner, areas, rule).pairs
    return [pairs[joint] for joint in sorted(pairs)]


def _owned(rig: Rig) -> tuple[np.ndarray, np.ndarray]:
    """Joint that each vertex follows, and the area of each vertex, (N,)."""
    areas = vertex_areas(rig.vertices[None], rig.faces)[0]
    if not areas.sum() > 0:
        raise ValueError(f"{rig.name}: the surface has no area, so it has no parts")
    return rig.weights.argmax(1), areas


def _gather(rig: Rig, rule: MergeRule) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[MergeStep]]:
    """Of the regions what :func:`kinematic_parts` needs.

    Returns
    -------
    owner : ndarray of int, shape (N,)
        Joint that each vertex follows.
    area : ndarray, shape (J,)
        What each joint's region ends with.
    merged, into : ndarray of int, shape (J,)
        Where each joint's region goes by likeness alone, and in the end; -1 is nowhere.
    steps : list of MergeStep
    """
    owner, areas = _owned(rig)
    joints = len(rig.skeleton)
    area = np.bincount(owner, areas, joints)
    total = area.sum()
    touch = border_lengths(rig.vertices, rig.faces, owner, joints)
    into = np.arange(joints)
    steps = []
    if rule.motion > 0 and rule.appearance > 0:
        for pair in merge_alike(Regions(rig, owner, areas, rule)):
            steps.append(MergeStep("alike", pair.lower, pair.upper, area[pair.lower] / total, pair.motion,
                                   pair.appearance))
            _join(area, touch, into, pair.lower, pair.upper)
    merged = _ends(into)
    least = max(rule.min_share * total, np.finfo(float).eps * total)
    for joint, target, small in _fold(area, touch, into, rig.skeleton.parents, least):
        if small > 0:
            steps.append(MergeStep("small", joint, target, small / total))
    return owner, area, merged, _ends(into), steps


def _join(area: np.ndarray, touch: np.ndarray, into: np.ndarray, joint: int, target: int) -> None:
    """Add one region to another; all three arrays are updated."""
    into[joint] = target
    area[target] += area[joint]
    touch[target] += touch[joint]
    touch[:, target] = touch[target]
    touch[target, target] = 0
    area[joint] = touch[joint] = touch[:, joint] = 0


def _fold(area: np.ndarray, touch: np.ndarray, into: np.ndarray, parents: np.ndarray, least: float) -> list[tuple]:
    """Fold small regions: (joint, target, area) of each. The arrays are updated; ``into`` is -1 without a target."""
    steps = []
    for joint in range(len(area) - 1, -1, -1):               # parents precede children
        if area[joint] >= least or into[joint] != joint:
            continue
        touching = touch[joint].any()
        target = parents[joint]
        while target >= 0 and (_end(into, target) == joint or touching and not touch[joint, _end(into, target)]):
            target = parents[target]
        target = int(touch[joint].argmax()) if target < 0 and touching else _end(into, target)
        steps.append((joint, target, area[joint]))
        if target >= 0:
            _join(area, touch, into, joint, target)
        else:
            into[joint] = -1
            touch[joint] = touch[:, joint] = 0
    return [step for step in steps if step[1] >= 0]


def _end(into: np.ndarray, joint: int) -> int:
    while joint >= 0 and into[joint] != joint:
        joint = into[joint]
    return int(joint)


def _ends(into: np.ndarray) -> np.ndarray:
    return np.array([_end(into, joint) for joint in range(len(into))])


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
