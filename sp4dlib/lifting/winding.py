"""Faces turned alike, so that a shell has one outside."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from sp4dlib.lifting.surface import Surface

HOLLOW = 0.01       # volume over area^1.5 from which a shell has an inside; a ball has 0.094
MOST = 0.75         # share of the surface that is inside out by mistake, if so much is


def turned_alike(surface: Surface) -> np.ndarray:
    """The faces (G, 3), those turned that run against their neighbours.

    Neighbours share an edge that no third face has. Which way a shell as a whole is turned is left open: each patch
    keeps the way of its first face.
    """
    faces = surface.faces
    count = np.bincount(surface.face_edges.ravel(), minlength=len(surface.edges))
    order = np.argsort(surface.face_edges.ravel(), kind="stable")
    first = np.cumsum(count)[count == 2] - 2
    pairs = order[first[:, None] + [0, 1]]                              # half-edges of one edge: 3 face + corner
    start = faces[:, [1, 2, 0]].ravel()[pairs]
    against = start[:, 0] == start[:, 1]                                # both run the same way: one face is turned
    if not against.any():
        return faces
    root = len(faces)                                                   # hangs above the first face of every patch
    left, right = (pairs // 3).T
    graph = coo_matrix((np.where(against, 2, 1), (left, right)), shape=(root, root)).tocsr()
    top = np.unique(connected_components(graph, directed=False)[1], return_index=True)[1]
    entries = np.concatenate([np.where(against, 2, 1), np.ones(len(top), int)])
    ends = np.concatenate([left, top]), np.concatenate([right, np.full(len(top), root)])
    graph = coo_matrix((entries, ends), shape=(root + 1, root + 1)).tocsr()
    reached, above = breadth_first_order(graph + graph.T, root, directed=False)
    turns = np.asarray((graph + graph.T)[above[reached[1:]], reached[1:]]).ravel() == 2
    turned = np.zeros(root + 1, bool)
    for face, turn in zip(reached[1:], turns):                          # parents come before their children
        turned[face] = turned[above[face]] ^ turn
    return np.where(turned[:-1, None], faces[:, ::-1], faces)


def turned_outward(surface: Surface) -> np.ndarray:
    """The faces (G, 3), turned alike, and outward where that is wanting.

    A shell is inside out if its volume is negative; that of an open shell is the volume to its middle, and one that
    holds next to none, as a sheet, is not. Faces that had to be turned alike are turned outward. Shells that were
    alike stay as they are, since the inside of a mouth or a toon outline is meant so, unless three quarters of the
    surface are inside out.
    """
    faces, shells = turned_alike(surface), surface.shells
    count = np.bincount(shells)
    middle = np.stack([np.bincount(shells, axis) / count for axis in surface.vertices.T], axis=1)
    owner = shells[faces[:, 0]]
    a, b, c = np.moveaxis(surface.vertices[faces] - middle[owner][:, None], 1, 0)
    volume = np.bincount(owner, np.sum(a * np.cross(b, c), axis=1) / 6, minlength=len(count))
    area = np.bincount(owner, surface.face_areas, minlength=len(count))
    inward = volume < -HOLLOW * area**1.5
    alike = np.bincount(owner, (faces != surface.faces).any(1), minlength=len(count)) == 0
    if area[inward & alike].sum() <= MOST * area.sum():
        inward &= ~alike
    return np.where(inward[owner][:, None], faces[:, ::-1], faces) if inward.any() else faces
