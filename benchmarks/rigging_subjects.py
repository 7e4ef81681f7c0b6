"""What :mod:`benchmarks.rigging` measures on: a welded mesh, its parts, and the reference weights and tree of these.

**Parts.** A vertex belongs to the joint of its largest reference weight. On the five rigs that packages carry, a joint
that is no vertex' largest is folded into the nearest part up its chain; on the rigs of the archive, regions below 1 %
of the surface are folded too (:func:`sp4dlib.clips.kinematic_parts`; what moves alike is not merged). The reference
weight of a part is the sum over its joints.

**Reference trees.** Joints without weight are dropped, and so is the file's root if it is no vertex' largest; children
go to the nearest ancestor that is left. Many artists hang hands and feet from handles at the file's root, beside the
chain that they end, or all limbs from one weightless joint. So where several trees remain, the one with the
most skin grows by the others, those with more skin first: the root of each hangs from the joint of the nearest bone. A
bone runs from a joint to each of its children, at a leaf through the middle of the leaf's own skin to its end. A part's
parent is the part of the nearest joint above its own that is a part's own joint; the root, where there is none. A part
whose own joint was dropped, as feet that were folded into a weightless root, stands at the heaviest of its joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks import rigging_references
from benchmarks.rigging_creature import bones as creature_bones
from benchmarks.rigging_creature import creature
from sp4dlib.clips import MergeRule, kinematic_parts
from sp4dlib.clips.parts import vertex_areas
from sp4dlib.evaluation.rigging import topological
from sp4dlib.lifting.surface import weld
from sp4dlib.rigs import Mesh, Rig, Skeleton, assets

FIVE = ("creature", "hand", "rodent", "dog", "jersey")
LONGEST = 2.0           # longest side that every mesh is scaled to

MIN_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Subject:
    """A mesh with everything that is known about its parts.

    Attributes
    ----------
    name : str
    vertices, faces : ndarray, shapes (N, 3), (F, 3)
        Welded, longest side 2, every vertex in a face.
    labels : ndarray of int, shape (N,)
    reference : ndarray, shape (N, K)
        Reference weights of the parts.
    joints, parents : ndarray, shapes (K, 3), (K,)
        Joint of each part and its parent part, -1 at the root.
    names : tuple of str
    skeleton : Skeleton
        All joints that carry weight, by the rule above, and an end joint ``_end`` at each leaf.
    joint_part : ndarray of int, shape (J,)
        Part of each joint of ``skeleton``, -1 at end joints.
    joint_reference : ndarray, shape (N, J)
        Reference weights of the joints of ``skeleton``.
    own : ndarray of int, shape (K,)
        Joint of ``skeleton`` that gives each part its name and place.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    labels: np.ndarray
    reference: np.ndarray
    joints: np.ndarray
    parents: np.ndarray
    names: tuple[str, ...]
    skeleton: Skeleton
    joint_part: np.ndarray
    joint_reference: np.ndarray
    own: np.ndarray

    @property
    def size(self) -> float:
        """Longest side."""
        return float(np.ptp(self.vertices, axis=0).max())

    def by_part(self, weights: np.ndarray) -> np.ndarray:
        """Weights of ``skeleton``'s joints (N, J) summed over the joints of each part, (N, K)."""
        out = np.zeros((len(weights), len(self.joints)))
        for part in range(len(self.joints)):
            out[:, part] = weights[:, self.joint_part == part].sum(1)
        return out

    def by_joint(self, weights: np.ndarray) -> np.ndarray:
        """Weights of the parts (N, K) as weights of the joints that own them, (N, J)."""
        out = np.zeros((len(weights), len(self.skeleton)))
        out[:, self.own] = weights
        return out


def names(which: str) -> list[str]:
    """Names of the rigs in a comma-separated list of ``five``, ``train``, ``val``, ``test`` and single names."""
    out: list[str] = []
    for word in which.split(","):
        out += FIVE if word == "five" else assets.names(word) if word in assets.SPLITS else [word]
    return list(dict.fromkeys(out))


@lru_cache(maxsize=2)
def load(name: str, references: str | Path | None = None) -> Subject:
    """A subject by name: one of :data:`FIVE`, ``creature<N>`` for another size, or a rig of the archive."""
    if name.startswith("creature"):
        rig = creature(int(name.removeprefix("creature") or 5000)).replace(name=name)
        tips = {bone.name: bone.tail for bone in creature_bones()}
        return subject(rig, 0, {joint: tips[joint] for joint in _leaves(rig.skeleton)})
    if name in rigging_references.FILES:
        return subject(rigging_references.load(name, references), 0)
    return subject(assets.load(name))


def subject(rig: Rig, min_share: float = MIN_SHARE, tips: dict[str, np.ndarray] | None = None) -> Subject:
    """Weld and scale a rig, and find its parts and its reference tree.

    Parameters
    ----------
    rig : Rig
    min_share : float
        Smallest share of the surface, as in :class:`sp4dlib.clips.MergeRule`.
    tips : dict of str to ndarray (3,), optional
        Known ends of leaf joints' bones; the others run on inside the mesh.
    """
    rig, scale = welded(rig)
    parts = kinematic_parts(rig, MergeRule(motion=0, min_share=min_share))      # the artist's own: none merged
    joint_part = np.where(rig.weights.sum(0) > 1e-9, parts.joint_part, -1)
    count = len(parts)
    reference = np.stack([rig.weights[:, joint_part == part].sum(1) for part in range(count)], 1)
    skeleton, kept = deforming(rig, joint_part >= 0)
    own_joint = own_joints(parts.joint_part[kept], rig.weights[:, kept].sum(0), parts.names, skeleton.names)
    tree = part_tree(skeleton, own_joint)
    tips = {joint: scale(tip) for joint, tip in (tips or {}).items()}
    ended = with_ends(skeleton, rig, tips)
    joint_part = np.concatenate([joint_part[kept], np.full(len(ended) - len(skeleton), -1)])
    joint_reference = np.zeros((len(rig.vertices), len(ended)))
    joint_reference[:, :len(kept)] = rig.weights[:, kept]
    return Subject(rig.name, rig.vertices, rig.faces, parts.labels, reference, skeleton.joints[own_joint], tree,
                   parts.names, ended, joint_part, joint_reference, own_joint)


def own_joints(joint_part: np.ndarray, weight: np.ndarray, parts: tuple[str, ...],
               names: tuple[str, ...]) -> np.ndarray:
    """The joint (K,) that each part stands at: its namesake, or the heaviest of its joints where that was dropped."""
    return np.array([names.index(part) if part in names else int(np.where(joint_part == number, weight, -1).argmax())
                     for number, part in enumerate(parts)])


def welded(rig: Rig):
    """The rig with one vertex for each position and longest side 2, and the function that scales points likewise.

    The copies' weights are averaged; vertices of no face are dropped.
    """
    surface = weld(rig)
    count, low, size = len(surface.vertices), rig.vertices.min(0), rig.size / LONGEST
    gather = csr_matrix((np.ones(len(surface.index)), (surface.index, np.arange(len(surface.index)))),
                        shape=(count, len(surface.index)))
    weights = gather @ rig.weights
    weights /= weights.sum(1, keepdims=True)
    used, faces = np.unique(surface.faces, return_inverse=True)

    def scale(points):
        return (np.asarray(points) - low) / size

    bind = rig.skeleton.bind.copy()
    bind[:, :3, 3] = scale(rig.skeleton.joints)
    skeleton = Skeleton(rig.skeleton.parents, rig.skeleton.names, bind)
    made = Rig(scale(surface.vertices[used]), faces.reshape(-1, 3), weights[used], skeleton, name=rig.name)
    return made, scale


def deforming(rig: Rig, carries: np.ndarray) -> tuple[Skeleton, np.ndarray]:
    """The tree of the joints that carry weight, by the module's rule.

    Returns
    -------
    skeleton : Skeleton
        Axes are the world's.
    kept : ndarray of int
        Where each of its joints comes from.
    """
    owner = rig.weights.argmax(1)
    carries = carries.copy()
    carries[0] &= np.any(owner == 0)
    above = np.full(len(rig.skeleton), -1)
    for joint in range(1, len(above)):                          # parents precede children
        parent = rig.skeleton.parents[joint]
        above[joint] = parent if carries[parent] else above[parent]
    above = rooted(above, carries, owner, rig)
    kept = np.flatnonzero(carries)
    number = np.full(len(above), -1)
    number[kept] = np.arange(len(kept))
    parents = np.where(above[kept] >= 0, number[above[kept]], -1)
    order = topological(parents)
    rank = np.argsort(order)
    bind = np.tile(np.eye(4), (len(order), 1, 1))
    kept, parents = kept[order], parents[order]
    bind[:, :3, 3] = rig.skeleton.joints[kept]
    skeleton = Skeleton(np.where(parents >= 0, rank[parents], -1), tuple(rig.skeleton.names[j] for j in kept), bind)
    return skeleton, kept


def rooted(above: np.ndarray, carries: np.ndarray, owner: np.ndarray, rig: Rig) -> np.ndarray:
    """Hang all trees of the joints that carry weight from one of them; see the module's rule."""
    above = above.copy()
    trees = {int(top): _below(above, top) for top in np.flatnonzero(carries & (above < 0))}
    area = vertex_areas(rig.vertices[None], rig.faces)[0]
    owned = np.bincount(owner, area, len(above))
    tops = sorted(trees, key=lambda top: -owned[trees[top]].sum())
    grown = trees[tops[0]]
    for top in tops[1:]:
        owners, starts, stops = _own_bones(grown, above, owner, area, rig)
        above[top] = owners[segment_distance(rig.skeleton.joints[top], starts, stops).argmin()]
        grown = grown + trees[top]
    return above


def _own_bones(joints: list[int], above: np.ndarray, owner: np.ndarray, area: np.ndarray, rig: Rig):
    """Bones of ``joints`` by the module's rule: the joint of each, starts and stops (S, 3)."""
    owners, starts, stops = [], [], []
    for joint in joints:
        start, skin = rig.skeleton.joints[joint], owner == joint
        ends = [rig.skeleton.joints[child] for child in joints if above[child] == joint]
        if not ends and area[skin].sum() > 0:
            along = area[skin] @ rig.vertices[skin] / area[skin].sum() - start
            along /= max(np.linalg.norm(along), 1e-12)
            ends = [start + along * max(0, np.max((rig.vertices[skin] - start) @ along))]
        ends = ends or [start]
        owners, starts, stops = owners + [joint] * len(ends), starts + [start] * len(ends), stops + ends
    return owners, np.array(starts), np.array(stops)


def segment_distance(point: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Distance of a point (3,) to each segment, (S,)."""
    along = stops - starts
    square = np.maximum(np.sum(along * along, axis=1), np.finfo(float).tiny)
    t = np.clip(np.sum((point - starts) * along, axis=1) / square, 0, 1)
    return np.linalg.norm(point - starts - t[:, None] * along, axis=1)


def part_tree(skeleton: Skeleton, own: np.ndarray) -> np.ndarray:
    """Parent part of each part (K,), ``own`` being the joint of each."""
    part = np.full(len(skeleton), -1)
    part[own] = np.arange(len(own))
    parents = np.full(len(own), -1)
    for i, joint in enumerate(own):
        above = skeleton.parents[joint]
        while above >= 0 and part[above] < 0:
            above = skeleton.parents[above]
        parents[i] = part[above] if above >= 0 else -1
    tops = np.flatnonzero(parents < 0)
    root = 0 if 0 in tops else tops[0]
    parents[tops[tops != root]] = root
    return parents


def with_ends(skeleton: Skeleton, rig: Rig, tips: dict[str, np.ndarray]) -> Skeleton:
    """The skeleton with an end joint at each leaf.

    Where ``tips`` knows none, the bone runs on from its parent's direction for 70 % of the way to the surface, or half
    its parent's length where it meets no surface within four of these.
    """
    leaves = [skeleton.names.index(name) for name in _leaves(skeleton)]
    stops = [tips.get(skeleton.names[leaf]) for leaf in leaves]
    for i, leaf in enumerate(leaves):
        if stops[i] is None:
            parent = skeleton.parents[leaf]
            along = skeleton.joints[leaf] - skeleton.joints[parent] if parent >= 0 else np.zeros(3)
            length = np.linalg.norm(along)
            if length < 1e-9:
                along, length = np.array([0, 0, 0.05 * LONGEST / 2]), 0.05 * LONGEST / 2
            exit_ = ray_exit(skeleton.joints[leaf], along / length, rig.vertices[rig.faces])
            reach = 0.7 * exit_ if exit_ < 4 * length else 0.5 * length
            stops[i] = skeleton.joints[leaf] + along / length * max(reach, 2.5e-3 * LONGEST)
    bind = np.tile(np.eye(4), (len(skeleton) + len(leaves), 1, 1))
    bind[:, :3, 3] = np.concatenate([skeleton.joints, np.reshape(stops, (-1, 3))])
    return Skeleton(np.concatenate([skeleton.parents, leaves]),
                    skeleton.names + tuple(f"{skeleton.names[leaf]}_end" for leaf in leaves), bind)


def ray_exit(origin: np.ndarray, direction: np.ndarray, triangles: np.ndarray) -> float:
    """Distance at which a ray first meets one of the triangles (F, 3, 3), infinite where it meets none.

    Moeller and Trumbore 1997, "Fast, Minimum Storage Ray/Triangle Intersection".
    """
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    normal = np.cross(direction, second)
    determinant = np.sum(first * normal, axis=1)
    fine = np.abs(determinant) > 1e-14
    inverse = 1 / np.where(fine, determinant, 1)
    away = origin - triangles[:, 0]
    u = inverse * np.sum(away * normal, axis=1)
    across = np.cross(away, first)
    v, t = inverse * (across @ direction), inverse * np.sum(second * across, axis=1)
    hit = fine & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-6)
    return float(t[hit].min()) if hit.any() else np.inf


def segments(subject: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bones that the anchors are given: joint of each (S,), start and stop (S, 3).

    One from each joint to each of its children, end joints included; none of length 0.
    """
    joints, parents = subject.skeleton.joints, subject.skeleton.parents
    children = np.flatnonzero(parents >= 0)
    long = np.linalg.norm(joints[children] - joints[parents[children]], axis=1) > 1e-6
    children = children[long]
    return parents[children], joints[parents[children]], joints[children]


def mesh(subject: Subject) -> Mesh:
    """The bare surface."""
    return Mesh(subject.vertices, subject.faces, name=subject.name)


def bare_rig(subject: Subject) -> Rig:
    """The surface as a rig of one joint, to draw part maps of."""
    skeleton = Skeleton([-1], ("root",), np.eye(4)[None])
    return Rig(subject.vertices, subject.faces, np.ones((len(subject.vertices), 1)), skeleton, name=subject.name)


def _leaves(skeleton: Skeleton) -> list[str]:
    return [skeleton.names[joint] for joint in np.setdiff1d(np.arange(len(skeleton)), skeleton.parents)]


def _below(parents: np.ndarray, root: int) -> list[int]:
    """A root and all joints below it."""
    out = [int(root)]
    for joint in out:                                           # grows while it is walked
        out += np.flatnonzero(parents == joint).tolist()
    return out
