"""The welded surface at sizes where 32 bits are not enough."""

import numpy as np

from sp4dlib.lifting.surface import weld
from sp4dlib.rigs import Mesh


def test_edges_of_a_large_welded_mesh():
    """An edge's key is up to the square of the number of vertices: beyond 46,340 of them it needs 64 bits."""
    side = 230
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    points = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3).astype(float)
    a = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.concatenate([np.stack([a, a + side, a + 1], 1), np.stack([a + 1, a + side, a + side + 1], 1)])
    points = np.concatenate([points, points[:1] + 1e-6])                # a near copy, so that something is welded
    faces[0, 0] = len(points) - 1
    surface = weld(Mesh(points, faces))
    assert len(surface.vertices) == side**2
    assert surface.edges.min() >= 0 and surface.edges.max() < side**2
    assert len(surface.edges) == side**2 + len(faces) - 1               # Euler's formula of a disc
    assert surface.shells.max() == 0
