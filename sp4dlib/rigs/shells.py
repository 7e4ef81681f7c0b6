"""Closed shells that many procedural rigs are put together from: lofts, tubes, turned profiles and rounded boxes.

Artists build so too: wings stuck into a body, wheels beside a hull. Each shell is closed, its faces look outwards, and
it follows one joint or blends along a chain of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sp4dlib.rigs.bones import Bones
from sp4dlib.rigs.paint import linear, mix, smooth_step
from sp4dlib.rigs.rig import Animation, Appearance, Material, Rig
from sp4dlib.rigs.welded import Body, surface_at, weights

Y = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class Shell:
    """A closed surface on its way into a rig.

    Attributes
    ----------
    points : ndarray, shape (N, 3)
    faces : ndarray of int, shape (F, 3)
        Looking outwards.
    along : ndarray, shape (N,)
        Length along the middle of a loft, from its first ring; zeros for a box.
    angle : ndarray, shape (N,)
        Place on the ring, in radians from the ring's first axis towards its second; zeros for a box.
    weights : dict of str to ndarray, shape (N,)
        Of the joints that move it.
    colors : ndarray, shape (N, 3)
        Linear RGB.
    material : Material
    """

    points: np.ndarray
    faces: np.ndarray
    along: np.ndarray
    angle: np.ndarray
    weights: dict[str, np.ndarray]
    colors: np.ndarray
    material: Material

    def on(self, joint: str) -> Shell:
        """Rigid: all of it follows one joint."""
        return replace(self, weights={joint: np.ones(len(self.points))})

    def chain(self, joints: list[str], starts: list[float], widths: list[float] | float) -> Shell:
        """Blend along the loft from each joint to the next.

        Parameters
        ----------
        joints : list of str
        starts : list of float
            Length along the middle at which each joint after the first takes over.
        widths : float or list of float
            Half the width of the band in which it does.
        """
        widths = np.broadcast_to(widths, len(starts))
        gates = [np.ones(len(self.points))]
        for start, width in zip(starts, widths):
            gates.append(np.minimum(gates[-1], smooth_step((self.along - start) / (2 * width) + 0.5)))
        gates.append(np.zeros(len(self.points)))
        return replace(self, weights={name: a - b for name, a, b in zip(joints, gates, gates[1:])})

    def painted(self, color) -> Shell:
        """In one ``#rrggbb``, or in linear colours (3,) or (N, 3)."""
        color = linear(color) if isinstance(color, str) else np.asarray(color, float)
        return replace(self, colors=np.broadcast_to(color, (len(self.points), 3)).copy())

    def marked(self, color: str, other: str, share: np.ndarray) -> Shell:
        """In one ``#rrggbb``, moved towards another by ``share`` (N,) in [0, 1]."""
        return replace(self, colors=mix(self.painted(color).colors, other, share))

    def made_of(self, material: Material) -> Shell:
        """Of a material, whose base colour multiplies the painted colours."""
        return replace(self, material=material)


SKIN = Material("skin", (1.0, 1.0, 1.0, 1.0), double_sided=False)


def _shell(points, faces, along=None, angle=None) -> Shell:
    points = np.asarray(points, float)
    faces = np.asarray(faces, np.int64)
    a, b, c = (points[faces[:, k]] for k in range(3))
    if np.einsum("ij,ij->", a, np.cross(b, c)) < 0:
        faces = faces[:, ::-1]
    zeros = np.zeros(len(points))
    return Shell(points, faces, zeros if along is None else along, zeros if angle is None else angle, {},
                 np.ones((len(points), 3)), SKIN)


def loft(centers: np.ndarray, us: np.ndarray, vs: np.ndarray, around: int) -> Shell:
    """Ellipses joined to a closed surface.

    Parameters
    ----------
    centers : ndarray, shape (M, 3)
        Middles of the rings; the first and the last are shrunk to a point and need only a place.
    us, vs : ndarray, shape (M, 3)
        Half axes of each ring, which need be neither equal nor at right angles to the way.
    around : int
        Vertices of a ring.
    """
    rings = len(centers) - 2
    angle = 2 * np.pi * np.arange(around) / around
    round_ = (centers[1:-1, None] + np.cos(angle)[:, None] * us[1:-1, None] + np.sin(angle)[:, None] * vs[1:-1, None])
    points = np.concatenate([centers[:1], round_.reshape(-1, 3), centers[-1:]])
    i = 1 + np.arange(rings)[:, None] * around
    k, after = np.arange(around), (np.arange(around) + 1) % around
    a, b = (i[:-1] + k).ravel(), (i[:-1] + after).ravel()
    c, d = (i[1:] + after).ravel(), (i[1:] + k).ravel()
    first = np.stack([np.zeros(around, int), 1 + after, 1 + k], 1)
    end, last = len(points) - 1, 1 + (rings - 1) * around
    faces = np.concatenate([first, np.stack([a, b, c], 1), np.stack([a, c, d], 1),
                            np.stack([last + k, last + after, np.full(around, end)], 1)])
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(centers, axis=0), axis=1))])
    along = np.concatenate([way[:1], np.repeat(way[1:-1], around), way[-1:]])
    return _shell(points, faces, along, np.concatenate([[0], np.tile(angle, rings), [0]]))


def tube(knots, radii, spacing: float, side=(1.0, 0.0, 0.0), round_ends=(1.0, 1.0), straight: bool = False) -> Shell:
    """A tube of elliptic section through knots, its ends rounded.

    Parameters
    ----------
    knots : array_like, shape (M, 3)
    radii : array_like, shape (M,) or (M, 2)
        Half width along ``side``, and half height across it.
    spacing : float
        Wanted length of an edge.
    side : array_like, shape (3,)
        Direction of the width; its part along the way is taken off.
    round_ends : (float, float)
        Length of each end's cap, in radii.
    straight : bool
        Straight from knot to knot; otherwise a smooth curve.
    """
    knots, radii = np.asarray(knots, float), np.asarray(radii, float)
    radii = np.stack([radii, radii], 1) if radii.ndim == 1 else radii
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    count = max(len(knots), int(np.ceil(way[-1] / spacing)) + 1)
    s = np.union1d(np.linspace(0, way[-1], count), way) if straight else np.linspace(0, way[-1], count)
    centers, r = _curve(way, knots, s, straight or len(knots) < 3), _curve(way, radii, s, len(knots) < 3, soft=False)
    tangents = np.gradient(centers, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    caps = np.radians([75, 45, 18])
    head = [(centers[0] - round_ends[0] * r[0].min() * np.sin(a) * tangents[0], np.cos(a) * r[0]) for a in caps]
    tail = [(centers[-1] + round_ends[1] * r[-1].min() * np.sin(a) * tangents[-1], np.cos(a) * r[-1])
            for a in caps[::-1]]
    ends = [centers[0] - round_ends[0] * r[0].min() * tangents[0],
            centers[-1] + round_ends[1] * r[-1].min() * tangents[-1]]
    middle = np.array([ends[0], *(c for c, _ in head), *centers, *(c for c, _ in tail), ends[1]])
    sizes = np.array([r[0], *(x for _, x in head), *r, *(x for _, x in tail), r[-1]])
    way_of = np.concatenate([tangents[:1].repeat(4, 0), tangents, tangents[-1:].repeat(4, 0)])
    side = np.asarray(side, float) - (way_of @ np.asarray(side, float))[:, None] * way_of
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    around = max(6, 2 * int(np.ceil(np.pi * r.mean(1).max() / spacing)))
    shell = loft(middle, side * sizes[:, :1], np.cross(way_of, side) * sizes[:, 1:], around)
    return replace(shell, along=np.clip(shell.along - np.linalg.norm(ends[0] - centers[0]), 0, way[-1]))


def _curve(way: np.ndarray, values: np.ndarray, s: np.ndarray, straight: bool, soft: bool = True) -> np.ndarray:
    if straight:
        return np.stack([np.interp(s, way, column) for column in values.T], 1)
    from scipy.interpolate import CubicSpline, PchipInterpolator

    return (CubicSpline if soft else PchipInterpolator)(way, values)(s)


def turned(profile, center, axis, spacing: float, bevel: float = 0.0, around: int | None = None) -> Shell:
    """A profile turned about an axis: discs, wheels, barrels.

    Parameters
    ----------
    profile : array_like, shape (M, 2)
        Radius and height along the axis of each corner, from one end to the other.
    center, axis : array_like, shape (3,)
        The axis goes through the centre, where height is 0.
    spacing : float
        Wanted length of an edge.
    bevel : float
        Corners are cut by it, so that they shade as edges.
    around : int, optional
        Vertices of a ring.
    """
    profile, axis = np.asarray(profile, float), np.asarray(axis, float) / np.linalg.norm(axis)
    corners = [[0.0, profile[0, 1]]]
    line = np.concatenate([[[0.0, profile[0, 1]]], profile, [[0.0, profile[-1, 1]]]])
    for before, at, after in zip(line[:-2], line[1:-1], line[2:]):
        for other in (before, after):
            gap = np.linalg.norm(other - at)
            if gap > 0:
                corners.append(at + (other - at) * min(bevel / gap, 0.45) if bevel else at)
    corners.append([0.0, profile[-1, 1]])
    line = np.array([corners[0]])
    for corner in corners[1:]:
        step = np.asarray(corner) - line[-1]
        pieces = max(1, int(np.ceil(np.linalg.norm(step) / spacing)))
        line = np.concatenate([line, line[-1] + step * np.arange(1, pieces + 1)[:, None] / pieces])
    keep = np.r_[True, np.linalg.norm(np.diff(line, axis=0), axis=1) > 1e-9]
    line = line[keep]
    around = around or max(10, 2 * int(np.ceil(np.pi * line[:, 0].max() / spacing)))
    first = np.cross(axis, Y if abs(axis[1]) < 0.9 else [0, 0, 1.0])
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)
    centers = np.asarray(center, float) + line[:, 1:] * axis
    return loft(centers, line[:, :1] * first, line[:, :1] * second, around)


def ball(center, radii, spacing: float, axis=(0.0, 0.0, 1.0)) -> Shell:
    """An ellipsoid with half axes (x, y, z), its poles on ``axis``; one radius makes a sphere."""
    radii = np.broadcast_to(np.asarray(radii, float), 3)
    rings = max(4, int(np.ceil(np.pi / 2 * radii.mean() * 2 / spacing)))
    slope = np.linspace(0, np.pi, rings + 1)
    axis = np.asarray(axis, float)
    first = np.array([1.0, 0, 0]) if abs(axis[0]) < 0.9 else Y
    second = np.cross(axis, first)
    centers = -np.cos(slope)[:, None] * axis
    unit = loft(centers, np.sin(slope)[:, None] * first, np.sin(slope)[:, None] * second, max(6, 2 * rings))
    along = unit.along * (radii @ np.abs(axis))
    return replace(unit, points=unit.points * radii + np.asarray(center, float), along=along)


def box(center, size, spacing: float, bevel: float, taper=(1.0, 1.0)) -> Shell:
    """A box with rounded edges.

    Parameters
    ----------
    center, size : array_like, shape (3,)
    spacing : float
        Wanted length of an edge.
    bevel : float
        Radius of the rounding.
    taper : (float, float)
        Factors on width (x) and length (z) at the top, as a hull or a cab has.
    """
    half = np.asarray(size, float) / 2
    bevel = min(bevel, 0.45 * half.min())
    inner = half - bevel
    lines = []
    for h, i in zip(half, inner):
        cells = max(1, int(np.ceil(2 * i / spacing)))
        flat = np.linspace(-i, i, cells + 1)
        lines.append(np.concatenate([[-h], [-i - 0.42 * bevel], flat, [i + 0.42 * bevel], [h]]))
    quads = []
    for k in range(3):
        a, b = (k + 1) % 3, (k + 2) % 3
        ia, ib = (np.arange(len(lines[x]) - 1) for x in (a, b))
        for end in (0, len(lines[k]) - 1):
            grid = np.stack(np.meshgrid(ia, ib, indexing="ij"), -1).reshape(-1, 2)
            corner = np.zeros((len(grid), 4, 3), int)
            corner[..., k] = end
            for n, (da, db) in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))):
                corner[:, n, a], corner[:, n, b] = grid[:, 0] + da, grid[:, 1] + db
            quads.append(corner if end else corner[:, ::-1])
    corner = np.concatenate(quads)                                                # (Q, 4, 3) lattice indices
    lattice, which = np.unique(corner.reshape(-1, 3), axis=0, return_inverse=True)
    points = np.stack([lines[k][lattice[:, k]] for k in range(3)], 1)
    core = np.clip(points, -inner, inner)
    away = points - core
    points = core + bevel * away / np.linalg.norm(away, axis=1, keepdims=True)
    narrow = (points[:, 1:2] / half[1] + 1) / 2
    points[:, [0, 2]] *= 1 + narrow * (np.asarray(taper) - 1)
    q = which.reshape(-1, 4)
    return _shell(points + np.asarray(center, float), np.concatenate([q[:, :3], q[:, [0, 2, 3]]]))


def fin(root, tip, thickness: float, spacing: float, bow=(0.0, 0.0, 0.0)) -> Shell:
    """A thin blade: a fin, a feather, an ear.

    Parameters
    ----------
    root, tip : two array_like, shape (3,)
        Leading and trailing corner at its root and at its tip.
    thickness : float
        Half of it, at the root.
    spacing : float
        Wanted length of an edge.
    bow : array_like, shape (3,)
        How far its middle line swerves half-way.
    """
    (a, b), (c, d) = np.asarray(root, float), np.asarray(tip, float)
    count = max(4, int(np.ceil(np.linalg.norm(c + d - a - b) / 2 / spacing)) + 1)
    t = np.linspace(0, 1, count)[:, None]
    middle = (a + b) / 2 * (1 - t) + (c + d) / 2 * t + 4 * t * (1 - t) * np.asarray(bow, float)
    half = ((a - b) * (1 - t) + (c - d) * t) / 2
    normal = np.cross(half, np.gradient(middle, axis=0))
    normal *= thickness * (1 - 0.7 * t) / np.linalg.norm(normal, axis=1, keepdims=True)
    ends = middle[-1] + 0.4 * np.linalg.norm(half[-1]) * _unit(middle[-1] - middle[-2])
    around = max(8, 2 * int(np.ceil(2 * np.linalg.norm(half, axis=1).max() / spacing)))
    return loft(np.concatenate([middle[:1], middle, ends[None]]), np.concatenate([half[:1], half, half[-1:]]),
                np.concatenate([normal[:1], normal, normal[-1:]]), around)


def welded(body: Body, spacing: float) -> tuple[Shell, np.ndarray]:
    """The skin of a body, weighted, and its normals (N, 3)."""
    points, faces, normals = surface_at(body, spacing)
    rows, names = weights(body, points), body.bones.skeleton().names
    shell = _shell(points, faces)
    return replace(shell, weights={name: rows[:, j] for j, name in enumerate(names) if rows[:, j].any()}), normals


def eye(center, radius: float, towards, spacing: float, white: str = "#f4f1e8", pupil: str = "#14100e") -> Shell:
    """A ball with a dark pupil where it looks."""
    shell = ball(center, radius, min(spacing, 0.7 * radius))
    facing = (shell.points - center) @ _unit(np.asarray(towards, float)) / radius
    return shell.painted(linear(white) + smooth_step((facing - 0.35) / 0.2)[:, None] * (linear(pupil) - linear(white)))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def assemble(name: str, bones: Bones, shells: list[Shell], animations: tuple[Animation, ...]) -> Rig:
    """One rig of many shells, each with its material."""
    counts = np.cumsum([0] + [len(shell.points) for shell in shells])
    materials = list(dict.fromkeys(shell.material.name for shell in shells))
    table = {shell.material.name: shell.material for shell in shells}
    shares = np.zeros((counts[-1], len(bones.heads)))
    for start, shell in zip(counts, shells):
        for joint, share in shell.weights.items():
            shares[start:start + len(share), bones.index(joint)] += share
    shares[shares < 1e-3] = 0
    colors = np.concatenate([shell.colors for shell in shells])
    look = Appearance(tuple(table[m] for m in materials),
                      np.concatenate([np.full(len(s.faces), materials.index(s.material.name)) for s in shells]),
                      vertex_colors=np.concatenate([colors, np.ones((len(colors), 1))], 1))
    return Rig(np.concatenate([shell.points for shell in shells]),
               np.concatenate([shell.faces + start for start, shell in zip(counts, shells)]),
               shares / shares.sum(1, keepdims=True), bones.skeleton(), animations, look, name)
