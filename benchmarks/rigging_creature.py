"""A creature of capsules whose skinning weights are known in closed form, for :mod:`benchmarks.rigging`.

Twenty-two bones: a spine with neck and head, two arms and two legs of three bones each with collar bones, a tail of
three. No solver has a part in its weights, so none is favoured: for joint c a gate goes smoothly from 0 to 1 as a
vertex crosses the plane that bisects the joint, or, where a limb leaves a thicker part sideways, as it comes nearer
to the limb's capsules than to all others. Gates multiply down the chain, so nothing leaks between limbs that merely
come close.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sp4dlib.lifting.surface import weld
from sp4dlib.rigs import Mesh, Rig, Skeleton

BLEND = 0.9             # half-width of a gate over the radius of the limb
INFLUENCES = 4
SHARPNESS = 60.0        # of the smooth union, per unit of length
GRAIN = 0.004           # height of the bumps that keep the surface from being exactly round


@dataclass(frozen=True)
class Bone:
    """A round cone: ``head`` and ``tail`` (3,), a radius at each; ``parent`` is an index, -1 at the root."""

    name: str
    parent: int
    head: np.ndarray
    tail: np.ndarray
    radii: tuple[float, float]

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance to the cone, near enough: points (N, 3) to (N,), negative inside."""
        along = self.tail - self.head
        t = np.clip((points - self.head) @ along / (along @ along), 0, 1)
        away = np.linalg.norm(points - self.head - t[:, None] * along, axis=1)
        return away - (self.radii[0] + (self.radii[1] - self.radii[0]) * t)


@lru_cache
def bones() -> tuple[Bone, ...]:
    """The bones, parents first; y is up and the creature looks along +z."""
    made: list[Bone] = []

    def add(name, parent, head, tail, *radii) -> str:
        index = -1 if parent is None else [b.name for b in made].index(parent)
        made.append(Bone(name, index, np.array(head, float), np.array(tail, float), radii))
        return name

    add("pelvis", None, (0, .95, 0), (0, 1.15, -.02), .17, .16)
    add("spine", "pelvis", (0, 1.15, -.02), (0, 1.38, 0), .15, .17)
    add("chest", "spine", (0, 1.38, 0), (0, 1.60, .01), .18, .15)
    add("neck", "chest", (0, 1.60, .01), (0, 1.74, .03), .07, .07)
    add("head", "neck", (0, 1.74, .03), (0, 1.98, .06), .13, .15)
    for side, s in (("left", 1), ("right", -1)):
        collar = add(f"collar_{side}", "chest", (s * .05, 1.55, 0), (s * .20, 1.55, 0), .09, .09)
        upper = add(f"upper_arm_{side}", collar, (s * .20, 1.55, 0), (s * .36, 1.27, 0), .075, .06)
        lower = add(f"lower_arm_{side}", upper, (s * .36, 1.27, 0), (s * .47, 1.02, .06), .058, .045)
        add(f"hand_{side}", lower, (s * .47, 1.02, .06), (s * .53, .86, .10), .05, .04)
        thigh = add(f"upper_leg_{side}", "pelvis", (s * .115, .93, 0), (s * .14, .53, .02), .105, .08)
        shin = add(f"lower_leg_{side}", thigh, (s * .14, .53, .02), (s * .15, .12, -.03), .075, .055)
        add(f"foot_{side}", shin, (s * .15, .12, -.03), (s * .17, .06, .15), .055, .045)
    add("tail_1", "pelvis", (0, .98, -.10), (0, .86, -.34), .06, .05)
    add("tail_2", "tail_1", (0, .86, -.34), (0, .90, -.56), .05, .04)
    add("tail_3", "tail_2", (0, .90, -.56), (0, 1.04, -.74), .04, .028)
    return tuple(made)


def creature(vertices: int = 5000, seed: int = 0) -> Rig:
    """The creature with about ``vertices`` vertices and weights by :func:`creature_weights`.

    Marching cubes at half as many vertices again, decimated: the triangles are as uneven as those of real files.
    """
    import fast_simplification

    dense = _marching_cubes(vertices, np.random.default_rng(seed))
    points, faces = fast_simplification.simplify(dense.vertices.astype(np.float32), dense.faces.astype(np.int32),
                                                 target_count=2 * vertices - 4)
    surface = weld(Mesh(points.astype(np.float64), faces.astype(np.int64)))
    weights = creature_weights(surface.vertices)
    return Rig(surface.vertices, surface.faces, weights, skeleton(), name=f"creature{len(surface.vertices)}")


def skeleton() -> Skeleton:
    """One joint at the head of each bone; bind matrices are translations."""
    bind = np.tile(np.eye(4), (len(bones()), 1, 1))
    bind[:, :3, 3] = [bone.head for bone in bones()]
    return Skeleton([bone.parent for bone in bones()], tuple(bone.name for bone in bones()), bind)


def creature_weights(points: np.ndarray) -> np.ndarray:
    """Skinning weights of any points near the creature.

    Parameters
    ----------
    points : ndarray, shape (N, 3)

    Returns
    -------
    ndarray, shape (N, J)
        At most four influences in a row, none below 1e-3; rows sum to 1.
    """
    gates = _gates(np.asarray(points, np.float64))
    parents = np.array([bone.parent for bone in bones()])
    mass = np.zeros_like(gates)                     # weight of a joint's whole subtree
    weights = np.zeros_like(gates)
    mass[:, 0] = 1
    for joint in range(len(parents)):               # parents precede children
        children = np.flatnonzero(parents == joint)
        wanted = gates[:, children]
        share = np.minimum(1, mass[:, joint] / np.maximum(wanted.sum(1), 1e-12))
        mass[:, children] = wanted * share[:, None]
        weights[:, joint] = mass[:, joint] - mass[:, children].sum(1)
    weights[weights < 1e-3] = 0
    weights[weights < np.sort(weights, 1)[:, -INFLUENCES][:, None]] = 0
    return weights / weights.sum(1, keepdims=True)


def owners(points: np.ndarray) -> np.ndarray:
    """The bone whose cone is nearest to each point, (N,)."""
    return np.stack([bone.distance(points) for bone in bones()], 1).argmin(1)


def _gates(points: np.ndarray) -> np.ndarray:
    """How far each point has passed into the subtree of each joint, (N, J) in [0, 1], gates of ancestors multiplied."""
    parents = np.array([bone.parent for bone in bones()])
    distance = np.stack([bone.distance(points) for bone in bones()], 1)
    nearest = distance.argmin(1)
    below = _subtrees(parents)
    out = np.ones((len(points), len(parents)))
    for joint in range(1, len(parents)):
        bone, parent = bones()[joint], parents[joint]
        above = bones()[parent]
        if np.allclose(above.tail, bone.head):      # in line: the plane that bisects the joint
            normal = _unit(bone.tail - bone.head) + _unit(above.tail - above.head)
            passed = (points - bone.head) @ _unit(normal) / (2 * BLEND * bone.radii[0]) + 0.5
            round_it = np.isin(parents, (joint, parent)) | np.isin(np.arange(len(parents)), (joint, parent,
                                                                                             parents[parent]))
            gate = np.where(round_it[nearest], _smooth_step(passed), below[joint][nearest])
        else:                                       # a branch: nearer to its capsules than to all others
            lead = distance[:, below[joint]].min(1) - distance[:, ~below[joint]].min(1)
            gate = _smooth_step(0.5 - lead / (BLEND * bone.radii[0]))
        out[:, joint] = gate * out[:, parent]
    return out


def _subtrees(parents: np.ndarray) -> np.ndarray:
    """Which joints (columns) hang below each joint (rows), itself included."""
    below = np.eye(len(parents), dtype=bool)
    for joint in range(len(parents) - 1, 0, -1):
        below[parents[joint]] |= below[joint]
    return below


def _field(points: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Smooth union of the cones with some bumps, negative inside; (N,)."""
    total = np.zeros(len(points))
    for bone in bones():
        total += np.exp(np.clip(-SHARPNESS * bone.distance(points), -60, 60))
    bumps = sum(np.sin(9 * points[:, k] + phases[k, 0]) * np.sin(7 * points[:, (k + 1) % 3] + phases[k, 1])
                for k in range(3))
    return -np.log(total) / SHARPNESS + GRAIN * bumps


def _marching_cubes(vertices: int, generator: np.random.Generator) -> Mesh:
    """The zero level at a step that gives about one and a half times ``vertices``; its largest shell."""
    from skimage.measure import marching_cubes

    phases = generator.uniform(0, 2 * np.pi, (3, 2))
    step = float(np.sqrt(2.55 / vertices))
    ends = np.concatenate([[bone.head for bone in bones()], [bone.tail for bone in bones()]])
    low, high = ends.min(0) - 0.25, ends.max(0) + 0.25
    coarse = np.ceil((high - low) / (4 * step)).astype(int) + 1
    values = _on_grid(low, 4 * step, coarse, phases)
    # Of the fine grid only cells near the surface need values of their own: the rest take the nearest coarse one.
    fine = 4 * (coarse - 1) + 1
    index = [np.minimum((np.arange(n) + 2) // 4, m - 1) for n, m in zip(fine, coarse)]
    values = values[np.ix_(*index)]
    band = np.argwhere(np.abs(values) < 7.2 * step)
    values[tuple(band.T)] = _in_chunks(low + step * band, phases)
    points, faces, _, _ = marching_cubes(values, 0.0, spacing=(step,) * 3, gradient_direction="descent")
    surface = weld(Mesh(points + low, faces.astype(np.int64)))
    kept = surface.shells == np.bincount(surface.shells).argmax()
    number = np.cumsum(kept) - 1
    return Mesh(surface.vertices[kept], number[surface.faces[kept[surface.faces].all(1)]])


def _on_grid(low: np.ndarray, step: float, shape: np.ndarray, phases: np.ndarray) -> np.ndarray:
    axes = [low[k] + step * np.arange(shape[k]) for k in range(3)]
    return _in_chunks(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3), phases).reshape(shape)


def _in_chunks(points: np.ndarray, phases: np.ndarray, size: int = 400_000) -> np.ndarray:
    return np.concatenate([_field(points[i:i + size], phases) for i in range(0, len(points), size)])


def _smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x**3 * (x * (6 * x - 15) + 10)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
