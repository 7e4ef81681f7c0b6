"""Four-legged animals made from numbers alone: mesh, skeleton, exact weights, walk.

A family of animals rather than one: :class:`~sp4dlib.rigs.proportions.Proportions` holds every length and colour, and
:func:`~sp4dlib.rigs.proportions.sample_proportions` draws them, so that a data set can be made with no asset at hand.
Because the skinning weights are computed from the shape's own formula, they are a ground truth that favours no
skinning method.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from sp4dlib.rigs.bones import Bones
from sp4dlib.rigs.gait import look, walk
from sp4dlib.rigs.paint import linear, marks, smooth_step
from sp4dlib.rigs.proportions import Proportions, sample_proportions
from sp4dlib.rigs.rig import Animation, Appearance, Material, Rig
from sp4dlib.rigs.welded import Body, Cone, Limb, surface, weights

EYE, NOSE = "#14100e", "#2a2020"


def quadruped(generator: np.random.Generator | int | None = None, *, vertices: int = 2500, **proportions) -> Rig:
    """A rigged four-legged animal, facing +z, y up, feet at y = 0.

    Parameters
    ----------
    generator : numpy Generator, int seed, or None
        Draws the proportions, the coat's pattern and the gait. None gives the default animal.
    vertices : int
        Wanted number of vertices, met to about a tenth; at least 1000, so that ears and tail survive the grid.
    **proportions
        Fields of :class:`Proportions`; they override what was drawn.

    Returns
    -------
    Rig
        One watertight surface; 22 joints with bind matrices that only translate; at most four influences, no vertex
        follows two limbs; vertex colours; animations ``walk`` (1 s for the default animal), ``look`` (3 s) and, for
        drawn animals, ``trot``; all loop in place.

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
    animal = _Animal(chosen)
    points, faces, normals = surface(animal.body, vertices)
    skeleton = animal.bones.skeleton()
    colors = _paint(animal, points, normals, generator or np.random.default_rng(0))
    fur = Material("fur", (1.0, 1.0, 1.0, 1.0), double_sided=False)
    look_at = Appearance((fur,), np.zeros(len(faces), np.int64), vertex_colors=colors)
    return Rig(points, faces, weights(animal.body, points), skeleton, _motions(animal, generator), look_at, name)


def _motions(animal: _Animal, generator: np.random.Generator | None) -> tuple[Animation, ...]:
    skeleton = animal.bones.skeleton()
    if generator is None:
        return walk(skeleton, animal.toes), look(skeleton)
    duration, stride, lift = (generator.uniform(*bounds) for bounds in ((0.85, 1.2), (0.44, 0.58), (0.12, 0.20)))
    trot = walk(skeleton, animal.toes, 0.6 * duration, stride=1.1 * stride, lift=1.2 * lift, gait="trot")
    return walk(skeleton, animal.toes, duration, stride=stride, lift=lift), look(skeleton), trot


class _Animal:
    """Joints, shape, and where each foot stands."""

    TRUNK = ("pelvis", "spine", "chest", "neck", "head")

    def __init__(self, p: Proportions) -> None:
        self.proportions, self.bones = p, Bones()
        self.body = Body(self.bones, p.body_radius)
        self.toes: dict[str, np.ndarray] = {}
        self.body.trunk = self._make_trunk(p)
        self.body.trunk_joints, self.body.trunk_widths = list(range(5)), [1.0, 1.0, 0.75, 0.9]
        for side, s in (("left", 1), ("right", -1)):     # facing +z with y up, the animal's left is +x
            self._make_ear(p, side, s)
            self._make_leg(p, side, s, front=True)
            self._make_leg(p, side, s, front=False)
        self._make_tail(p)

    def _make_trunk(self, p: Proportions) -> list[Cone]:
        r, half = p.body_radius, p.body_length / 2
        y = p.leg_length + 0.55 * r
        pitch = np.radians(p.neck_angle)
        withers = np.array([0, y + 0.40 * r, half + 0.10 * r])
        poll = withers + p.neck_length * np.array([0, np.sin(pitch), np.cos(pitch)])
        where = ((0, y, -half), (0, y + 0.06 * r, -half / 3), (0, y, half / 3), withers, poll)
        for i, name in enumerate(self.TRUNK):
            self.bones.joint(name, self.TRUNK[i - 1] if i else None, where[i])
        pelvis, spine, chest = (np.array(v, float) for v in where[:3])
        hr, shoulder = p.head_radius, np.array([0, y - 0.05 * r, half])
        skull = poll + [0, 0.25 * hr, 0.35 * hr]
        self.muzzle = skull + np.array([0, -0.45 * hr, 0.75 * hr + p.snout_length])
        self.eyes = [skull + hr * np.array([s * 0.66, 0.30, 0.66]) for s in (1, -1)]
        slim = 0.92
        return [Cone(0, pelvis, spine, 0.88 * r, 0.86 * r, slim), Cone(1, spine, chest, 0.86 * r, 0.98 * r, slim),
                Cone(2, chest, shoulder, 0.98 * r, 0.92 * r, slim),
                Cone(3, withers + [0, -0.35 * r, -0.1 * r], poll, 0.66 * r, 0.70 * hr, slim),
                Cone(4, skull, skull + [0, 0, 0.1 * hr], hr, 0.96 * hr),
                Cone(4, skull, self.muzzle, 0.72 * hr, 0.42 * hr),
                *(Cone(4, e, e, 0.20 * hr, 0.20 * hr) for e in self.eyes)]

    def _make_ear(self, p: Proportions, side: str, s: int) -> None:
        hr = p.head_radius
        base = self.bones.at("head") + hr * np.array([s * 0.55, 0.95, 0.15])
        tip = base + p.ear_length * np.array([s * 0.35, 0.92, -0.10])
        j = self.bones.joint(f"ear_{side}", "head", base)
        middle = base + 0.5 * (tip - base)
        cones = [Cone(j, base, middle, 0.34 * hr, 0.36 * hr), Cone(j, middle, tip, 0.36 * hr, 0.20 * hr)]
        self.body.limbs[f"ear_{side}"] = Limb([j], cones, 0.25 * hr)

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
            joints.append(self.bones.joint(f"{kind}_{part}_{side}", parent, knot))
            parent = f"{kind}_{part}_{side}"
        thigh = (1.7 if front else 2.0) * w + 0.12 * r
        cones = [Cone(joints[0], knots[0], knots[1], thigh, 1.25 * w, 0.85),
                 Cone(joints[1], knots[1], knots[2], 1.25 * w, w), Cone(joints[2], knots[2], toe, w, 0.95 * w),
                 Cone(joints[2], toe, toe + [0, -0.16 * w, 0.9 * w], 1.05 * w, 0.88 * w)]
        self.body.limbs[f"{kind}_{side}"] = Limb(joints, cones, 0.5 * r)
        self.toes[f"{kind}_{side}"] = np.array([x, 0.0, toe[2] + w])

    def _make_tail(self, p: Proportions) -> None:
        base = self.bones.at("pelvis") + [0, 0.35 * p.body_radius, -0.62 * p.body_radius]
        # A long tail that would reach the ground is held higher; its mean slope is a bend less than the first third's.
        lowest = -np.arcsin(min(0.75 * base[1] / p.tail_length, 1))
        pitch = max(np.radians(p.tail_angle), lowest + 0.22)
        parent, at, joints, cones = "pelvis", base, [], []
        for i in range(3):      # each third droops a little more than the one before
            bend = pitch - 0.22 * i
            step = p.tail_length / 3 * np.array([0, np.sin(bend), -np.cos(bend)])
            j = self.bones.joint(f"tail_{i + 1}", parent, at)
            radii = [p.tail_radius * f for f in ((0.80, 0.95), (0.95, 1.05), (1.05, 0.60))[i]]
            cones.append(Cone(j, at, at + step, *radii))
            joints.append(j)
            parent, at = f"tail_{i + 1}", at + step
        self.body.limbs["tail"] = Limb(joints, cones, 0.3 * p.body_radius)


def _paint(animal: _Animal, points: np.ndarray, normals: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Vertex colours, linear RGBA (N, 4): coat, pale underside, pattern, dark socks, nose and eyes."""
    p, body = animal.proportions, animal.body
    coat, belly, marking, eye, nose = (linear(c) for c in (p.coat, p.belly, p.marking, EYE, NOSE))
    leg = np.min([body.limb_distance(points, name) for name in animal.toes], axis=0) < 0.02
    under = smooth_step((-normals[:, 1] - 0.15) / 0.5) * ~leg
    color = coat + under[:, None] * (belly - coat)
    mask = marks(p.pattern, points, generator) * (1 - 0.7 * under)
    socks = smooth_step((0.24 * p.leg_length - points[:, 1]) / (0.10 * p.leg_length)) * leg
    ears = [body.limbs[f"ear_{side}"].cones[1].b for side in ("left", "right")]
    tips = np.min([np.linalg.norm(points - tip, axis=1) for tip in ears], axis=0)
    mask = np.maximum.reduce([mask, socks, smooth_step(1.5 - tips / (0.45 * p.ear_length))])
    color = color + mask[:, None] * (marking - color)
    for spot, radius, paint in ((animal.muzzle + [0, 0.02, 0.4 * p.head_radius], 0.30 * p.head_radius, nose),
                                *((e, 0.25 * p.head_radius, eye) for e in animal.eyes)):
        inside = smooth_step(1.5 - np.linalg.norm(points - spot, axis=1) / radius)
        color = color + inside[:, None] * (paint - color)
    return np.concatenate([color, np.ones((len(points), 1))], 1)
