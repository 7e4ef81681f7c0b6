"""Nine broken twins of the creature, as scanners, decoders and modellers leave meshes; and inputs that are no mesh.

Every twin has reference weights of its own: those of the vertices it was made from, or the closed form at its new ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.rigging_creature import Bone, bones, creature, creature_weights, owners
from sp4dlib.rigs import Mesh, Rig

TWINS = ("clean", "specks", "jacket", "holes", "soup", "nonmanifold", "tjunctions", "flipped", "capsules")
VERTICES = 5000
SEED = 1


@dataclass(frozen=True)
class Twin:
    """A mesh (N, 3), (F, 3) and its reference weights (N, J)."""

    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray

    @property
    def mesh(self) -> Mesh:
        """The surface alone."""
        return Mesh(self.vertices, self.faces)


@lru_cache(maxsize=2)
def base(vertices: int = VERTICES) -> Rig:
    """The creature that twins are made of."""
    return creature(vertices)


def twin(name: str, vertices: int = VERTICES) -> Twin:
    """One of :data:`TWINS`; the same for the same arguments."""
    rig = base(vertices)
    whole = Twin(rig.vertices, rig.faces, rig.weights)
    if name == "clean":
        return whole
    return MAKERS[name](whole, np.random.default_rng([SEED, TWINS.index(name)]))


def _specks(whole: Twin, generator: np.random.Generator) -> Twin:
    """Thirteen little cubes afloat, as voxel meshers and decoders leave them."""
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3) - 0.5
    sides = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6],
                      [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])
    low, high = whole.vertices.min(0) - 0.1, whole.vertices.max(0) + 0.1
    points = np.concatenate([0.012 * corners + place for place in generator.uniform(low, high, (13, 3))])
    faces = np.concatenate([sides + 8 * i for i in range(13)])
    return _beside(whole, points, faces, creature_weights(points))


def _jacket(whole: Twin, _) -> Twin:
    """A second skin over the trunk and the upper arms, open at its borders."""
    dressed = [i for i, bone in enumerate(bones()) if bone.name.split("_")[0] in ("spine", "chest", "collar")
               or bone.name.startswith("upper_arm")]
    cloth = whole.faces[np.isin(owners(whole.vertices), dressed)[whole.faces].all(1)]
    used, faces = np.unique(cloth, return_inverse=True)
    points = whole.vertices[used] + 0.012 * _normals(whole)[used]
    return _beside(whole, points, faces.reshape(-1, 3), whole.weights[used])


def _holes(whole: Twin, generator: np.random.Generator) -> Twin:
    """A twentieth of the faces gone, and one hand cut off."""
    hand = next(i for i, bone in enumerate(bones()) if bone.name == "hand_left")
    kept = (generator.random(len(whole.faces)) > 0.05) & ~(owners(whole.vertices) == hand)[whole.faces].any(1)
    used, faces = np.unique(whole.faces[kept], return_inverse=True)
    return Twin(whole.vertices[used], faces.reshape(-1, 3), whole.weights[used])


def _soup(whole: Twin, _) -> Twin:
    """Triangles that share no vertex."""
    corners = whole.faces.ravel()
    return Twin(whole.vertices[corners], np.arange(len(corners)).reshape(-1, 3), whole.weights[corners])


def _nonmanifold(whole: Twin, generator: np.random.Generator) -> Twin:
    """A hundred and fifty fins, each a third face on an edge, and two hundred faces twice."""
    edges = whole.faces[generator.choice(len(whole.faces), 150, False), :2]
    tips = whole.vertices[edges].mean(1) - 0.03 * _normals(whole)[edges[:, 0]]
    fins = np.column_stack([edges, len(whole.vertices) + np.arange(len(edges))])
    doubled = whole.faces[generator.choice(len(whole.faces), 200, False)]
    return Twin(np.concatenate([whole.vertices, tips]), np.concatenate([whole.faces, fins, doubled]),
                np.concatenate([whole.weights, whole.weights[edges[:, 0]]]))


def _tjunctions(whole: Twin, generator: np.random.Generator) -> Twin:
    """Three hundred edges split in one of their two faces only, half of the gaps closed by a face without area."""
    chosen = generator.choice(len(whole.faces), 300, False)
    a, b, c = whole.faces[chosen].T
    middle = len(whole.vertices) + np.arange(len(chosen))
    faces = whole.faces.copy()
    faces[chosen] = np.column_stack([a, middle, c])
    closed = chosen % 2 == 1
    new = [faces, np.column_stack([middle, b, c]), np.column_stack([a, middle, b])[closed]]
    return Twin(np.concatenate([whole.vertices, (whole.vertices[a] + whole.vertices[b]) / 2]), np.concatenate(new),
                np.concatenate([whole.weights, (whole.weights[a] + whole.weights[b]) / 2]))


def _flipped(whole: Twin, generator: np.random.Generator) -> Twin:
    """A third of the faces inside out."""
    faces = whole.faces.copy()
    chosen = generator.random(len(faces)) < 1 / 3
    faces[chosen] = faces[chosen][:, ::-1]
    return Twin(whole.vertices, faces, whole.weights)


def _capsules(whole: Twin, _) -> Twin:
    """Every bone a closed capsule of its own, overlapping and never joined."""
    points, faces, count = [], [], 0
    for bone in bones():
        shell, sides = capsule(bone)
        points, faces, count = points + [shell], faces + [sides + count], count + len(shell)
    points = np.concatenate(points)
    return Twin(points, np.concatenate(faces), creature_weights(points))


def capsule(bone: Bone, around: int = 24, cap: int = 6, along: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Closed mesh of a bone's round cone: two half spheres and what lies between them."""
    axis = bone.tail - bone.head
    length = np.linalg.norm(axis)
    axis = axis / length
    side = np.cross(axis, [0.3, 1, 0.2])
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    first, last = bone.radii
    angle = np.linspace(0, np.pi / 2, cap, endpoint=False)
    share = np.linspace(0, 1, along + 2)[1:-1]
    radii = np.r_[first * np.sin(angle[1:]), first, first + (last - first) * share, last, last * np.cos(angle[1:])]
    heights = np.r_[-first * np.cos(angle[1:]), 0, length * share, length, length + last * np.sin(angle[1:])]
    turn = np.arange(around) * 2 * np.pi / around
    circle = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * other
    rings = bone.head + heights[:, None, None] * axis + radii[:, None, None] * circle
    points = np.concatenate([rings.reshape(-1, 3), [bone.head - first * axis, bone.tail + last * axis]])
    i, j = np.meshgrid(np.arange(len(radii) - 1), np.arange(around), indexing="ij")
    here, right = i * around + j, i * around + (j + 1) % around
    wall = [np.stack([here, right, here + around], -1), np.stack([right, right + around, here + around], -1)]
    rim, end = np.arange(around), (len(radii) - 1) * around
    low = np.stack([np.full(around, len(points) - 2), (rim + 1) % around, rim], 1)
    high = np.stack([np.full(around, len(points) - 1), end + rim, end + (rim + 1) % around], 1)
    return points, np.concatenate([*(faces.reshape(-1, 3) for faces in wall), low, high])


MAKERS = {"specks": _specks, "jacket": _jacket, "holes": _holes, "soup": _soup, "nonmanifold": _nonmanifold,
          "tjunctions": _tjunctions, "flipped": _flipped, "capsules": _capsules}


def _beside(whole: Twin, points: np.ndarray, faces: np.ndarray, weights: np.ndarray) -> Twin:
    return Twin(np.concatenate([whole.vertices, points]), np.concatenate([whole.faces, faces + len(whole.vertices)]),
                np.concatenate([whole.weights, weights]))


def _normals(whole: Twin) -> np.ndarray:
    """Unit normals of the vertices, (N, 3)."""
    a, b, c = np.moveaxis(whole.vertices[whole.faces], 1, 0)
    out = np.zeros_like(whole.vertices)
    np.add.at(out, whole.faces.ravel(), np.repeat(np.cross(b - a, c - a), 3, axis=0))
    return out / np.linalg.norm(out, axis=1, keepdims=True)
