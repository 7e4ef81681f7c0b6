"""One watertight skin over a skeleton, from distances: how animals and hands are made.

A body is a trunk and limbs, each a chain of tapered capsules. Their smooth union is a signed distance; its zero level
is meshed by marching cubes, and the skinning weights come from the same distances, so they are exact by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sp4dlib.rigs.bones import Bones
from sp4dlib.rigs.paint import smooth_step


@dataclass(frozen=True)
class Cone:
    """A tapered capsule of the joint ``joint`` from ``a`` to ``b``; ``width`` stretches it sideways."""

    joint: int
    a: np.ndarray
    b: np.ndarray
    ra: float
    rb: float
    width: float = 1.0

    def distance(self, p: np.ndarray) -> np.ndarray:
        stretch = np.array([1 / self.width, 1, 1])
        ab = (self.b - self.a) * stretch
        offset = (p - self.a) * stretch
        along, squared = offset @ ab, max(ab @ ab, 1e-12)
        t = np.clip(along / squared, 0, 1)
        # |offset - t ab|^2, expanded: most of the time that an animal takes is spent here
        away = np.einsum("na,na->n", offset, offset) - t * (2 * along - t * squared)
        return np.sqrt(np.maximum(away, 0)) - (self.ra + (self.rb - self.ra) * t)


@dataclass(frozen=True)
class Limb:
    """What grows from the trunk: joints from its base outwards, capsules, and the blending radius at its base."""

    joints: list[int]
    cones: list[Cone]
    blend: float


class Body:
    """Implicit shape of one creature over its joints.

    Only the bases of limbs blend with the trunk: limbs never blend with each other.

    Parameters
    ----------
    bones : Bones
    girth : float
        Trunk capsules blend over 0.35 of their radius, or of this one where that is less.
    symmetric : bool
        The body is its own mirror image in x = 0, and its limbs are named ``..._left`` and ``..._right``.

    Attributes
    ----------
    trunk : list of Cone
    trunk_joints, trunk_widths : list
        The chain of the trunk, and half the width of the band over which each joint after the first takes over, as a
        share of its radius.
    limbs : dict of str to Limb
    """

    def __init__(self, bones: Bones, girth: float, symmetric: bool = True) -> None:
        self.bones, self.girth, self.symmetric = bones, girth, symmetric
        self.trunk: list[Cone] = []
        self.trunk_joints: list[int] = []
        self.trunk_widths: list[float] = []
        self.limbs: dict[str, Limb] = {}

    @property
    def cones(self) -> list[Cone]:
        """All capsules."""
        return self.trunk + [cone for limb in self.limbs.values() for cone in limb.cones]

    def trunk_distance(self, points: np.ndarray) -> np.ndarray:
        out = self.trunk[0].distance(points)
        for cone in self.trunk[1:]:
            out = smooth_min(out, cone.distance(points), 0.35 * min(cone.ra, self.girth))
        return out

    def limb_distance(self, points: np.ndarray, limb: str) -> np.ndarray:
        cones = self.limbs[limb].cones
        out = cones[0].distance(points)
        for cone in cones[1:]:
            out = smooth_min(out, cone.distance(points), 0.5 * cone.ra)
        return out

    def field(self, points: np.ndarray) -> np.ndarray:
        """Signed distance, near enough: negative inside. Of a symmetric body the left half tells all."""
        if self.symmetric:
            points = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], 1)
        trunk = self.trunk_distance(points)
        out = trunk
        for name, limb in self.limbs.items():
            if not (self.symmetric and name.endswith("_right")):
                out = np.minimum(out, smooth_min(trunk, self.limb_distance(points, name), limb.blend))
        return out


def smooth_min(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Cubic smooth minimum: differs from ``min`` only where \\|a - b\\| < radius (Quilez, "smooth minimum")."""
    h = np.maximum(radius - np.abs(a - b), 0) / radius
    return np.minimum(a, b) - h**3 * radius / 6


def surface(body: Body, wanted: int, step: float = 0.06) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mesh of the zero level with about ``wanted`` vertices, and its normals; ``step`` as for :func:`surface_at`."""
    count = len(_marching_cubes(body, step)[0])
    return surface_at(body, step * np.sqrt(count / wanted))                  # the count goes with 1 / step^2


def surface_at(body: Body, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mesh of the zero level: marching cubes on a grid of ``step``, then evened out along the surface.

    Returns
    -------
    points, faces, normals : ndarray, shapes (N, 3), (F, 3), (N, 3)
    """
    points, faces = _marching_cubes(body, step)
    neighbours = _averaging(faces, len(points))
    for _ in range(4):
        points = _to_surface(body, points + 0.7 * (neighbours @ points - points), 1)
    points = _to_surface(body, points, 2)
    _, gradient = _value_and_gradient(body, points)
    return points, faces, gradient / np.linalg.norm(gradient, axis=1, keepdims=True)


def _marching_cubes(body: Body, step: float) -> tuple[np.ndarray, np.ndarray]:
    # Lewiner's tables in scikit-image have no ambiguous cells, so the surface is closed; writing 256 cases anew isn't.
    from skimage.measure import marching_cubes

    cones = body.cones
    reach = [max(c.ra, c.rb) * np.array([max(c.width, 1), 1, 1]) for c in cones]
    low = np.min([np.minimum(c.a, c.b) - r for c, r in zip(cones, reach)], axis=0) - 2.5 * step
    high = np.max([np.maximum(c.a, c.b) + r for c, r in zip(cones, reach)], axis=0) + 2.5 * step
    axes = [np.arange(a, b + step, step) for a, b in zip(low, high)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    values = body.field(grid.reshape(-1, 3)).reshape(grid.shape[:3])
    points, faces, _, _ = marching_cubes(values, 0.0, spacing=(step,) * 3, gradient_direction="descent")
    return points + low, faces.astype(np.int64)


def _averaging(faces: np.ndarray, count: int):
    """Sparse matrix that replaces each vertex by the mean of its neighbours."""
    from scipy.sparse import coo_matrix, diags

    i, j = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T     # each edge once each way
    links = coo_matrix((np.ones(len(i)), (i, j)), shape=(count, count)).tocsr()
    return diags(1 / np.asarray(links.sum(1)).ravel()) @ links


def _value_and_gradient(body: Body, points: np.ndarray, eps: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])       # a tetrahedron: four values give both
    values = np.stack([body.field(points + eps * corner) for corner in corners], 1)
    return values.mean(1), values @ corners / (4 * eps)


def _to_surface(body: Body, points: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):                  # Newton along the gradient
        value, gradient = _value_and_gradient(body, points)
        squared = np.maximum((gradient**2).sum(1), 0.05)
        points = points - (value / squared)[:, None] * gradient
    return points


def weights(body: Body, points: np.ndarray) -> np.ndarray:
    """Weights from smooth gates: one where a limb leaves the trunk, one across each joint of a chain.

    A vertex follows the trunk and at most one limb, the nearest, so nothing leaks between limbs that merely come
    close. Along a chain the gates multiply, and a joint's weight is its gate minus its child's.
    """
    out = np.zeros((len(points), len(body.bones.heads)))
    out[:, body.trunk_joints] = _chain(body, points, body.trunk_joints, body.trunk_widths)
    distance = np.stack([body.limb_distance(points, limb) for limb in body.limbs], 1)
    nearest = distance.argmin(1)
    away = body.trunk_distance(points) - distance.min(1)         # > 0: the limb's own skin
    for i, limb in enumerate(body.limbs.values()):
        mine = nearest == i
        width = 1.4 * limb.cones[0].ra
        gate = smooth_step(away[mine] / width + 0.5)[:, None]
        chain = _chain(body, points[mine], limb.joints, [0.9] * (len(limb.joints) - 1))
        out[mine] *= 1 - gate
        out[np.ix_(mine, limb.joints)] += gate * chain
    out[out < 1e-3] = 0
    fifth = np.sort(out, 1)[:, -5][:, None]
    out[out <= fifth] = 0
    return out / out.sum(1, keepdims=True)


def _chain(body: Body, points: np.ndarray, joints: list[int], widths: list[float]) -> np.ndarray:
    """Weights (N, len(joints)) along a chain; each gate opens across the plane that bisects its joint."""
    limbs = [cone for limb in body.limbs.values() for cone in limb.cones]
    radius = {cone.joint: cone.ra for cone in limbs[::-1] + body.trunk[::-1]}
    heads = body.bones.heads
    gate = np.ones((len(points), len(joints) + 1))
    gate[:, -1] = 0
    for k in range(1, len(joints)):
        at = heads[joints[k]]
        before = at - heads[joints[k - 1]]
        after = heads[joints[k + 1]] - at if k + 1 < len(joints) else before
        normal = before / np.linalg.norm(before) + after / np.linalg.norm(after)
        along = (points - at) @ (normal / np.linalg.norm(normal))
        gate[:, k] = gate[:, k - 1] * smooth_step(along / (2 * widths[k - 1] * radius[joints[k]]) + 0.5)
    return gate[:, :-1] - gate[:, 1:]
