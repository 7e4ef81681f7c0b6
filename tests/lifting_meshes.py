"""Small meshes with known parts for the lifting tests."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import trimesh

from sp4dlib.rigs import Mesh, Rig, Skeleton, quadruped


@lru_cache
def animal(vertices: int = 2500) -> Rig:
    """The default quadruped, made once."""
    return quadruped(vertices=vertices)


def tube(rings: int = 60, sides: int = 16, length: float = 3.0, radius: float = 0.3, bend: float = 0.0) -> Mesh:
    """A closed tube along x; ``bend`` > 0 turns it about the z axis by that many radians in all."""
    along = np.linspace(0, length, rings)
    around = np.arange(sides) * 2 * np.pi / sides
    x = np.repeat(along, sides)
    y, z = radius * np.tile(np.cos(around), rings), radius * np.tile(np.sin(around), rings)
    points = np.stack([x, y, z], axis=1)
    points = np.concatenate([points, [[0, 0, 0], [length, 0, 0]]])
    if bend:
        points = bent(points, length, bend)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(sides), indexing="ij")
    a, b = i * sides + j, i * sides + (j + 1) % sides
    c, d = a + sides, b + sides
    faces = np.concatenate([np.stack([a, b, c], axis=-1).reshape(-1, 3), np.stack([b, d, c], axis=-1).reshape(-1, 3)])
    rim = np.arange(sides)
    start = np.stack([np.full(sides, rings * sides), (rim + 1) % sides, rim], axis=1)
    last = (rings - 1) * sides
    stop = np.stack([np.full(sides, rings * sides + 1), last + rim, last + (rim + 1) % sides], axis=1)
    return Mesh(points, np.concatenate([faces, start, stop]))


def bent(points: np.ndarray, length: float, angle: float) -> np.ndarray:
    """Points of a straight tube along x, its axis wound round a circle that turns by ``angle``."""
    reach = length / angle
    turn = points[:, 0] / reach
    distance = reach - points[:, 1]
    return np.stack([distance * np.sin(turn), reach - distance * np.cos(turn), points[:, 2]], axis=1)


def thirds(mesh: Mesh, rings: int = 60, sides: int = 16, parts: int = 3) -> np.ndarray:
    """Equal shares of a tube's rings; borders lie half-way between two rings."""
    ring = np.r_[np.repeat(np.arange(rings), sides), 0, rings - 1]
    return ring * parts // rings


def ball(center=(0, 0, 0), radius: float = 1.0, subdivisions: int = 3) -> Mesh:
    """A closed ball of triangles."""
    made = trimesh.creation.icosphere(subdivisions, radius)
    return Mesh(made.vertices + np.asarray(center), made.faces)


def chain(points, names=None) -> Skeleton:
    """A skeleton of joints in a row; without names the last is an end joint."""
    bind = np.tile(np.eye(4), (len(points), 1, 1))
    bind[:, :3, 3] = points
    names = names or tuple(f"joint{i}" for i in range(len(points) - 1)) + ("tip_end",)
    return Skeleton(np.arange(len(points)) - 1, tuple(names), bind)


def joined(*meshes: Mesh) -> Mesh:
    """Several meshes as one."""
    offsets = np.cumsum([0] + [len(m.vertices) for m in meshes])
    return Mesh(np.concatenate([m.vertices for m in meshes]),
                np.concatenate([m.faces + start for m, start in zip(meshes, offsets)]))


def unwelded(mesh: Mesh) -> tuple[Mesh, np.ndarray]:
    """The mesh with three vertices of its own for each face, and the vertex that each was."""
    source = mesh.faces.ravel()
    return Mesh(mesh.vertices[source], np.arange(len(source)).reshape(-1, 3)), source
