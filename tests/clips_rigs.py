"""Small rigs whose pictures are known, for the tests of the clips room."""

from __future__ import annotations

import numpy as np

from sp4dlib.rigs import Animation, Appearance, Material, Rig, Skeleton, Track


def box(low, high) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (8, 3) and outward faces (12, 3) of an axis-aligned box."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))])
    return np.asarray(low) + corners * (np.asarray(high, float) - low), faces


def arm(sizes=(1.0, 1.0, 1.0), parents=None, seed: int = 0) -> Rig:
    """A row of boxes with volumes that differ, each bound to its own joint; joint 1 turns about z in ``wave``.

    A size of 0 gives a joint that owns no vertex.
    """
    parents = np.arange(-1, len(sizes) - 1) if parents is None else np.asarray(parents)
    vertices, faces, owner, bind = [], [], [], np.tile(np.eye(4), (len(sizes), 1, 1))
    for joint, size in enumerate(sizes):
        bind[joint, 0, 3] = 2 * joint
        if size:
            points, triangles = box([2 * joint - size / 2] * 1 + [-size / 2] * 2,
                                    [2 * joint + size / 2] * 1 + [size / 2] * 2)
            faces.append(triangles + 8 * len(vertices))
            vertices.append(points)
            owner += [joint] * 8
    local = bind.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            local[joint] = np.linalg.inv(bind[parent]) @ bind[joint]
    count = len(sizes)
    still = np.tile([0.0, 0, 0, 1], (count, 1))
    turn = Track(min(1, count - 1), "rotation", np.array([0.0, 1.0]),
                 np.array([[0, 0, 0, 1], [0, 0, np.sin(np.pi / 4), np.cos(np.pi / 4)]]))
    wave = Animation("wave", 1.0, local[:, :3, 3], still, np.ones((count, 3)), (turn,))
    skeleton = Skeleton(parents, [f"bone {joint}" for joint in range(count)], bind)
    colors = np.random.default_rng(seed).uniform(0.1, 0.9, (len(owner), 3))
    faces = np.concatenate(faces)
    look = Appearance((Material("paint", (1, 1, 1, 1), double_sided=False),), np.zeros(len(faces), int),
                      vertex_colors=np.c_[colors, np.ones(len(owner))])
    return Rig(np.concatenate(vertices), faces, np.eye(count)[owner], skeleton, (wave,), look, "arm")
