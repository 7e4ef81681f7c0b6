"""Four-legged animals made from numbers alone: mesh, skeleton, exact weights, walk.

A family of animals rather than one: :class:`~sp4dlib.rigs.proportions.Proportions` holds every length and colour, and
:func:`~sp4dlib.rigs.proportions.sample_proportions` draws them, so that a data set can be made with no asset at hand.
Because the skinning weights are computed from the shape's own formula, they are a ground truth that favours no
skinning method.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from sp4dlib.rigs.gait import look, walk
from sp4dlib.rigs.proportions import Proportions, sample_proportions
from sp4dlib.rigs.rig import Appearance, Material, Rig, Skeleton

EYE, NOSE = "#14100e", "#2a2020"


def quadruped(generator: np.random.Generator | int | None = None, *, vertices: int = 2500, **proportions) -> Rig:
    """A rigged four-legged animal, facing +z, y up, feet at y = 0.

    Parameters
    ----------
    generator : numpy Generator, int seed, or None
        Draws the proportions and the coat's pattern. None gives the default animal.
    vertices : int
        Wanted number of vertices, met to about a tenth; at least 1000, so that ears and tail survive the grid.
    **proportions
        Fields of :class:`Proportions`; they override what was drawn.

    Returns
    -------
    Rig
        One watertight surface; 22 joints with bind matrices that only translate; at most four influences, no vertex
        follows two limbs; vertex colours; animations ``walk`` (1 s, loops, in place) and ``look`` (3 s, loops).

    Raises
    ------
    ValueError
        For an unknown proportion, a length that is not positive, or too few vertices.

    Examples
    --------
    >>> rig = quadruped(tail_length=0.3)
    >>> len(rig.skeleton), [a.name for a in rig.animations]
    (22, ['walk', 'look'])
    """
    if vertices < 1000:
        raise ValueError(f"{vertices} vertices are too few for ears and tail; ask for 1000 or more")
    unknown = set(proportions) - {item.name for item in fields(Proportions)}
    if unknown:
        raise ValueError(f"unknown proportions {sorted(unknown)}; choose from {[f.name for f in fields(Proportions)]}")
    name = "quadruped" if not isinstance(generator, (int, np.integer)) else f"quadruped_{generator}"
    if isinstance(generator, (int, np.integer)):
        generator = np.random.default_rng(generator)
    chosen = Proportions() if generator is None else sample_proportions(generator)
    chosen = replace(chosen, **proportions)
    body = _Body(chosen)
    points, faces, normals = _surface(body, vertices)
    skeleton = Skeleton(body.parents, body.names, _translations(body.heads))
    colors = _paint(body, points, normals, generator or np.random.default_rng(0))
    fur = Material("fur", (1.0, 1.0, 1.0, 1.0), double_sided=False)
    look_at = Appearance((fur,), np.zeros(len(faces), np.int64), vertex_colors=colors)
    return Rig(points, faces, _weights(body, points), skeleton, (walk(skeleton, body.toes), look(skeleton)), look_at,
               name)


@dataclass(frozen=True)
class _Cone:
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


class _Body:
    """Joints and implicit shape of one animal.

    ``limbs`` maps a limb's name to (joints from its base outwards, cones, blending radius at its base); everything
    else is the trunk. Only bases blend with the trunk: limbs never blend with each other.
    """

    TRUNK = ("pelvis", "spine", "chest", "neck", "head")

    def __init__(self, p: Proportions) -> None:
        self.proportions = p
        self._names: list[str] = []
        self._parents: list[int] = []
        self._heads: list[np.ndarray] = []
        self.limbs: dict[str, tuple[list[int], list[_Cone], float]] = {}
        self.toes: dict[str, np.ndarray] = {}
        self.trunk = self._make_trunk(p)
        for side, s in (("left", 1), ("right", -1)):     # facing +z with y up, the animal's left is +x
            self._make_ear(p, side, s)
            self._make_leg(p, side, s, front=True)
            self._make_leg(p, side, s, front=False)
        self._make_tail(p)
        self.names, self.parents, self.heads = tuple(self._names), np.array(self._parents), np.array(self._heads)

    def _joint(self, name: str, parent: str | None, at) -> int:
        self._names.append(name)
        self._parents.append(-1 if parent is None else self._names.index(parent))
        self._heads.append(np.asarray(at, float))
        return len(self._names) - 1

    def at(self, name: str) -> np.ndarray:
        return self._heads[self._names.index(name)]

    def _make_trunk(self, p: Proportions) -> list[_Cone]:
        r, half = p.body_radius, p.body_length / 2
        y = p.leg_length + 0.55 * r
        pitch = np.radians(p.neck_angle)
        withers = np.array([0, y + 0.40 * r, half + 0.10 * r])
        poll = withers + p.neck_length * np.array([0, np.sin(pitch), np.cos(pitch)])
        where = ((0, y, -half), (0, y + 0.06 * r, -half / 3), (0, y, half / 3), withers, poll)
        for i, name in enumerate(self.TRUNK):
            self._joint(name, self.TRUNK[i - 1] if i else None, where[i])
        pelvis, spine, chest = (np.array(v, float) for v in where[:3])
        hr, shoulder = p.head_radius, np.array([0, y - 0.05 * r, half])
        skull = poll + [0, 0.25 * hr, 0.35 * hr]
        self.muzzle = skull + np.array([0, -0.45 * hr, 0.75 * hr + p.snout_length])
        self.eyes = [skull + hr * np.array([s * 0.66, 0.30, 0.66]) for s in (1, -1)]
        slim = 0.92
        return [_Cone(0, pelvis, spine, 0.88 * r, 0.86 * r, slim), _Cone(1, spine, chest, 0.86 * r, 0.98 * r, slim),
                _Cone(2, chest, shoulder, 0.98 * r, 0.92 * r, slim),
                _Cone(3, withers + [0, -0.35 * r, -0.1 * r], poll, 0.66 * r, 0.70 * hr, slim),
                _Cone(4, skull, skull + [0, 0, 0.1 * hr], hr, 0.96 * hr),
                _Cone(4, skull, self.muzzle, 0.72 * hr, 0.42 * hr),
                *(_Cone(4, e, e, 0.20 * hr, 0.20 * hr) for e in self.eyes)]

    def _make_ear(self, p: Proportions, side: str, s: int) -> None:
        hr = p.head_radius
        base = self.at("head") + hr * np.array([s * 0.55, 0.95, 0.15])
        tip = base + p.ear_length * np.array([s * 0.35, 0.92, -0.10])
        j = self._joint(f"ear_{side}", "head", base)
        middle = base + 0.5 * (tip - base)
        cones = [_Cone(j, base, middle, 0.34 * hr, 0.36 * hr), _Cone(j, middle, tip, 0.36 * hr, 0.20 * hr)]
        self.limbs[f"ear_{side}"] = ([j], cones, 0.25 * hr)

    def _make_leg(self, p: Proportions, side: str, s: int, front: bool) -> None:
        r, half, h, w = p.body_radius, p.body_length / 2, p.leg_length, p.leg_radius
        x = s * max(0.60 * r, 1.5 * w)
        z = half - 0.05 * r if front else -half + 0.05 * r
        # Knees point forward behind, elbows point backward in front; bind pose is nearly but not quite stretched.
        bends = (0, -0.055, 0.02, 0.035) if front else (0, 0.075, -0.085, -0.02)
        heights = (1.0, 0.58, 0.20, 0.0) if front else (1.0, 0.60, 0.27, 0.0)
        knots = [np.array([x, h * y, z + h * dz]) for y, dz in zip(heights, bends)]
        toe = knots[3] + [0, 1.04 * w, 0.4 * w]
        kind = "front" if front else "hind"
        parent, joints = "chest" if front else "pelvis", []
        for part, knot in zip(("upper", "lower", "foot"), knots):
            joints.append(self._joint(f"{kind}_{part}_{side}", parent, knot))
            parent = f"{kind}_{part}_{side}"
        thigh = (1.7 if front else 2.0) * w + 0.12 * r
        cones = [_Cone(joints[0], knots[0], knots[1], thigh, 1.25 * w, 0.85),
                 _Cone(joints[1], knots[1], knots[2], 1.25 * w, w), _Cone(joints[2], knots[2], toe, w, 0.95 * w),
                 _Cone(joints[2], toe, toe + [0, -0.16 * w, 0.9 * w], 1.05 * w, 0.88 * w)]
        self.limbs[f"{kind}_{side}"] = (joints, cones, 0.5 * r)
        self.toes[f"{kind}_{side}"] = np.array([x, 0.0, toe[2] + w])

    def _make_tail(self, p: Proportions) -> None:
        base = self.at("pelvis") + [0, 0.35 * p.body_radius, -0.62 * p.body_radius]
        # A long tail that would reach the ground is held higher; its mean slope is a bend less than the first third's.
        lowest = -np.arcsin(min(0.75 * base[1] / p.tail_length, 1))
        pitch = max(np.radians(p.tail_angle), lowest + 0.22)
        parent, at, joints, cones = "pelvis", base, [], []
        for i in range(3):      # each third droops a little more than the one before
            bend = pitch - 0.22 * i
            step = p.tail_length / 3 * np.array([0, np.sin(bend), -np.cos(bend)])
            j = self._joint(f"tail_{i + 1}", parent, at)
            radii = [p.tail_radius * f for f in ((0.80, 0.95), (0.95, 1.05), (1.05, 0.60))[i]]
            cones.append(_Cone(j, at, at + step, *radii))
            joints.append(j)
            parent, at = f"tail_{i + 1}", at + step
        self.limbs["tail"] = (joints, cones, 0.3 * p.body_radius)

    def trunk_distance(self, points: np.ndarray) -> np.ndarray:
        out = self.trunk[0].distance(points)
        for cone in self.trunk[1:]:
            out = _smooth_min(out, cone.distance(points), 0.35 * min(cone.ra, self.proportions.body_radius))
        return out

    def limb_distance(self, points: np.ndarray, limb: str) -> np.ndarray:
        _, cones, _ = self.limbs[limb]
        out = cones[0].distance(points)
        for cone in cones[1:]:
            out = _smooth_min(out, cone.distance(points), 0.5 * cone.ra)
        return out

    def field(self, points: np.ndarray) -> np.ndarray:
        """Signed distance, near enough: negative inside. The body is symmetric, so its left half tells all."""
        points = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], 1)
        trunk = self.trunk_distance(points)
        out = trunk
        for limb, (_, _, blend) in self.limbs.items():
            if not limb.endswith("_right"):
                out = np.minimum(out, _smooth_min(trunk, self.limb_distance(points, limb), blend))
        return out


def _smooth_min(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Cubic smooth minimum: differs from ``min`` only where \\|a - b\\| < radius (Quilez, "smooth minimum")."""
    h = np.maximum(radius - np.abs(a - b), 0) / radius
    return np.minimum(a, b) - h**3 * radius / 6


def _smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x**3 * (x * (6 * x - 15) + 10)


def _translations(points: np.ndarray) -> np.ndarray:
    out = np.repeat(np.eye(4)[None], len(points), axis=0)
    out[:, :3, 3] = points
    return out


def _surface(body: _Body, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mesh of the zero level with about ``wanted`` vertices: marching cubes, then evened out along the surface."""
    step = 0.06
    count = len(_marching_cubes(body, step)[0])
    points, faces = _marching_cubes(body, step * np.sqrt(count / wanted))    # the count goes with 1 / step^2
    neighbours = _averaging(faces, len(points))
    for _ in range(4):
        points = _to_surface(body, points + 0.7 * (neighbours @ points - points), 1)
    points = _to_surface(body, points, 2)
    _, gradient = _value_and_gradient(body, points)
    return points, faces, gradient / np.linalg.norm(gradient, axis=1, keepdims=True)


def _marching_cubes(body: _Body, step: float) -> tuple[np.ndarray, np.ndarray]:
    # Lewiner's tables in scikit-image have no ambiguous cells, so the surface is closed; writing 256 cases anew isn't.
    from skimage.measure import marching_cubes

    cones = body.trunk + [c for _, limb, _ in body.limbs.values() for c in limb]
    low = np.min([np.minimum(c.a, c.b) - max(c.ra, c.rb) for c in cones], axis=0) - 2.5 * step
    high = np.max([np.maximum(c.a, c.b) + max(c.ra, c.rb) for c in cones], axis=0) + 2.5 * step
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


def _value_and_gradient(body: _Body, points: np.ndarray, eps: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])       # a tetrahedron: four values give both
    values = np.stack([body.field(points + eps * corner) for corner in corners], 1)
    return values.mean(1), values @ corners / (4 * eps)


def _to_surface(body: _Body, points: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):                  # Newton along the gradient
        value, gradient = _value_and_gradient(body, points)
        squared = np.maximum((gradient**2).sum(1), 0.05)
        points = points - (value / squared)[:, None] * gradient
    return points


def _weights(body: _Body, points: np.ndarray) -> np.ndarray:
    """Weights from smooth gates: one where a limb leaves the trunk, one across each joint of a chain.

    A vertex follows the trunk and at most one limb, the nearest, so nothing leaks between limbs that merely come
    close. Along a chain the gates multiply, and a joint's weight is its gate minus its child's.
    """
    weights = np.zeros((len(points), len(body.heads)))
    trunk = [body.names.index(name) for name in body.TRUNK]
    weights[:, trunk] = _chain(body, points, trunk, [1.0, 1.0, 0.75, 0.9])
    distance = np.stack([body.limb_distance(points, limb) for limb in body.limbs], 1)
    nearest = distance.argmin(1)
    away = body.trunk_distance(points) - distance.min(1)         # > 0: the limb's own skin
    for i, (joints, cones, _) in enumerate(body.limbs.values()):
        mine = nearest == i
        width = 1.4 * cones[0].ra
        gate = _smooth_step(away[mine] / width + 0.5)[:, None]
        chain = _chain(body, points[mine], joints, [0.9] * (len(joints) - 1))
        weights[mine] *= 1 - gate
        weights[np.ix_(mine, joints)] += gate * chain
    weights[weights < 1e-3] = 0
    fifth = np.sort(weights, 1)[:, -5][:, None]
    weights[weights <= fifth] = 0
    return weights / weights.sum(1, keepdims=True)


def _chain(body: _Body, points: np.ndarray, joints: list[int], widths: list[float]) -> np.ndarray:
    """Weights (N, len(joints)) along a chain; each gate opens across the plane that bisects its joint."""
    radius = {cone.joint: cone.ra for cone in [c for _, limb, _ in body.limbs.values() for c in limb][::-1]
              + body.trunk[::-1]}
    gate = np.ones((len(points), len(joints) + 1))
    gate[:, -1] = 0
    for k in range(1, len(joints)):
        at = body.heads[joints[k]]
        before = at - body.heads[joints[k - 1]]
        after = body.heads[joints[k + 1]] - at if k + 1 < len(joints) else before
        normal = before / np.linalg.norm(before) + after / np.linalg.norm(after)
        along = (points - at) @ (normal / np.linalg.norm(normal))
        gate[:, k] = gate[:, k - 1] * _smooth_step(along / (2 * widths[k - 1] * radius[joints[k]]) + 0.5)
    return gate[:, :-1] - gate[:, 1:]


def _paint(body: _Body, points: np.ndarray, normals: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Vertex colours, linear RGBA (N, 4): coat, pale underside, pattern, dark socks, nose and eyes."""
    p = body.proportions
    coat, belly, marking, eye, nose = (_linear(c) for c in (p.coat, p.belly, p.marking, EYE, NOSE))
    leg = np.min([body.limb_distance(points, name) for name in body.toes], axis=0) < 0.02
    under = _smooth_step((-normals[:, 1] - 0.15) / 0.5) * ~leg
    color = coat + under[:, None] * (belly - coat)
    mask = _pattern(p, points, generator) * (1 - 0.7 * under)
    socks = _smooth_step((0.24 * p.leg_length - points[:, 1]) / (0.10 * p.leg_length)) * leg
    ears = [body.limbs[f"ear_{side}"][1][1].b for side in ("left", "right")]
    tips = np.min([np.linalg.norm(points - tip, axis=1) for tip in ears], axis=0)
    mask = np.maximum.reduce([mask, socks, _smooth_step(1.5 - tips / (0.45 * p.ear_length))])
    color = color + mask[:, None] * (marking - color)
    for spot, radius, paint in ((body.muzzle + [0, 0.02, 0.4 * p.head_radius], 0.30 * p.head_radius, nose),
                                *((e, 0.25 * p.head_radius, eye) for e in body.eyes)):
        inside = _smooth_step(1.5 - np.linalg.norm(points - spot, axis=1) / radius)
        color = color + inside[:, None] * (paint - color)
    return np.concatenate([color, np.ones((len(points), 1))], 1)


def _pattern(p: Proportions, points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """How much of the marking colour each point takes, (N,) in [0, 1]."""
    if p.pattern == "plain":
        return np.zeros(len(points))
    if p.pattern == "stripes":
        wave = points[:, 2] + 0.06 * np.sin(6 * points[:, 1] + generator.uniform(0, 2 * np.pi))
        return _smooth_step((np.sin(2 * np.pi * wave / 0.17) - 0.1) / 0.5)
    count, low, high = (9, 0.10, 0.20) if p.pattern == "patches" else (60, 0.035, 0.06)
    centres = points[generator.choice(len(points), count, replace=False)]
    radii = generator.uniform(low, high, count)
    nearest = (np.linalg.norm(points[:, None] - centres, axis=2) / radii).min(1)
    return _smooth_step((1.2 - nearest) / 0.4)


def _linear(color: str) -> np.ndarray:
    """Linear RGB of an sRGB ``#rrggbb`` (IEC 61966-2-1)."""
    srgb = np.array([int(color[i:i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
