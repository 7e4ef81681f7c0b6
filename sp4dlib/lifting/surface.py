"""The welded surface under a mesh, and the borders that part labels draw on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

WELD = 1e-6         # share of the longest side below which two positions are one


@dataclass(frozen=True)
class Surface:
    """A mesh whose vertices at one position are one vertex.

    glTF stores a vertex once for each normal and texture coordinate it has. Cut open along such seams a surface would
    tear when it is skinned, and nothing would diffuse across.

    Attributes
    ----------
    vertices : ndarray, shape (M, 3)
    faces : ndarray of int, shape (G, 3)
        Three different vertices each; faces that welding collapsed are gone.
    index : ndarray of int, shape (N,)
        Welded vertex of each vertex of the mesh.
    """

    vertices: np.ndarray
    faces: np.ndarray
    index: np.ndarray

    @property
    def size(self) -> float:
        """Longest side of the bounding box."""
        return float(np.ptp(self.vertices, axis=0).max())

    @cached_property
    def _edge_table(self) -> tuple[np.ndarray, np.ndarray]:
        ends = np.sort(self.faces[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2), axis=1)
        keys, inverse = np.unique(ends[:, 0] * len(self.vertices) + ends[:, 1], return_inverse=True)
        return np.stack(np.divmod(keys, len(self.vertices)), axis=1), inverse.reshape(-1, 3)

    @property
    def edges(self) -> np.ndarray:
        """Pairs of vertices joined by an edge, shape (E, 2), each once."""
        return self._edge_table[0]

    @property
    def face_edges(self) -> np.ndarray:
        """Edge opposite each corner of each face, shape (G, 3)."""
        return self._edge_table[1]

    @cached_property
    def face_areas(self) -> np.ndarray:
        """Shape (G,)."""
        a, b, c = np.moveaxis(self.vertices[self.faces], 1, 0)
        return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    @cached_property
    def areas(self) -> np.ndarray:
        """Area that belongs to each vertex, a third of its faces, shape (M,)."""
        return np.bincount(self.faces.ravel(), np.repeat(self.face_areas / 3, 3), minlength=len(self.vertices))

    @cached_property
    def shells(self) -> np.ndarray:
        """Connected component of each vertex, shape (M,)."""
        return self.pieces(np.ones(len(self.edges), bool))

    def pieces(self, kept: np.ndarray) -> np.ndarray:
        """Connected component of each vertex (M,) when only the ``kept`` (E,) edges connect."""
        first, second = self.edges[kept].T
        count = len(self.vertices)
        graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(count, count))
        return connected_components(graph, directed=False)[1]

    def gather(self, labels: np.ndarray) -> np.ndarray:
        """Labels (N,) of the mesh on the welded surface (M,); the commonest wins, then the lowest id."""
        count = int(labels.max()) + 1
        ballots, copies = np.unique(self.index * count + labels, return_counts=True)
        vertex, label = np.divmod(ballots, count)
        order = np.lexsort((label, -copies, vertex))
        _, first = np.unique(vertex[order], return_index=True)      # every welded vertex has at least one copy
        return label[order][first]


def weld(mesh) -> Surface:
    """Weld the vertices of ``mesh`` that share a position to 1e-6 of its size.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)

    Raises
    ------
    ValueError
        If the arrays have other shapes, hold NaN or indices out of range, or no face has three different corners.
    """
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"mesh.vertices must have shape (N, 3); got {vertices.shape}")
    if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        raise ValueError(f"the mesh has no triangles to work on: mesh.faces has shape {faces.shape}; points and "
                         "polygons must be meshed or triangulated first")
    if not np.isfinite(vertices).all():
        bad = np.flatnonzero(~np.isfinite(vertices).all(1))
        raise ValueError(f"{len(bad)} vertices hold NaN or infinity, the first at index {bad[0]}; remove or mend them")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError(f"a face names vertex {faces.max() if faces.min() >= 0 else faces.min()}; there are "
                         f"{len(vertices)}")
    points, index = np.unique(vertices, axis=0, return_inverse=True)
    index = index.ravel()
    pairs = cKDTree(points).query_pairs(WELD * np.ptp(points, axis=0).max(), output_type="ndarray")
    if len(pairs):
        graph = coo_matrix((np.ones(len(pairs), bool), pairs.T), shape=(len(points), len(points)))
        group = connected_components(graph, directed=False)[1]
        _, first = np.unique(group, return_index=True)
        points, index = points[first], group[index].astype(np.int64)        # scipy's are int32; edge keys overflow it
    faces = index[faces.astype(np.int64)]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    if not len(faces):
        raise ValueError("every triangle of the mesh is a point or a line; there is no surface to work on")
    return Surface(points, faces, index)


def check_labels(labels, count: int) -> np.ndarray:
    """Part ids of ``count`` vertices as int64, or a ValueError that says what is wrong with them."""
    labels = np.asarray(labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be one integer part id for each of the {count} vertices; got {labels.dtype} of "
                         f"shape {labels.shape}")
    if labels.min() < 0:
        raise ValueError(f"{int((labels < 0).sum())} vertices have a negative label; give every vertex a part")
    return labels.astype(np.int64)


@dataclass(frozen=True)
class Borders:
    """Where parts meet: segments across triangles, joined into loops.

    A triangle whose corners have two labels is crossed from midpoint to midpoint of its two cut edges; one with three
    labels is crossed from its centre to all three midpoints.

    Attributes
    ----------
    segments : ndarray, shape (S, 2, 3)
        Ends of each segment.
    loop : ndarray of int, shape (S,)
        Loop that each segment belongs to.
    pairs : ndarray of int, shape (L, 2)
        The two parts that each loop separates, ascending.
    lengths : ndarray, shape (L,)
    centers : ndarray, shape (L, 3)
        Length-weighted centroid of each loop.
    radii : ndarray, shape (L,)
        Length-weighted mean distance of each loop to its centre: the local thickness.
    """

    segments: np.ndarray
    loop: np.ndarray
    pairs: np.ndarray
    lengths: np.ndarray
    centers: np.ndarray
    radii: np.ndarray

    def __len__(self) -> int:
        return len(self.pairs)


def part_borders(surface: Surface, labels: np.ndarray) -> Borders:
    """Trace the borders between parts; ``labels`` (M,) are those of the welded vertices."""
    ends, nodes, pairs = _crossings(surface, labels)
    if not len(ends):
        return Borders(ends, np.zeros(0, int), pairs, *(np.zeros(s) for s in (0, (0, 3), 0)))
    used, nodes = np.unique(nodes, return_inverse=True)
    nodes = nodes.reshape(-1, 2)
    graph = coo_matrix((np.ones(len(nodes), bool), nodes.T), shape=(len(used), len(used)))
    loop = connected_components(graph, directed=False)[1][nodes[:, 0]]
    count = loop.max() + 1
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    middle = ends.mean(1)
    # A segment of no length still marks a border; the floor keeps the centre of such a loop defined.
    weight = np.maximum(length, 1e-12 * surface.size)
    total = np.bincount(loop, weight)
    centers = np.stack([np.bincount(loop, weight * middle[:, k]) for k in range(3)], axis=1) / total[:, None]
    radii = np.bincount(loop, weight * np.linalg.norm(middle - centers[loop], axis=1)) / total
    loop_pairs = np.zeros((count, 2), int)
    loop_pairs[loop] = pairs
    return Borders(ends, loop, loop_pairs, np.bincount(loop, length, minlength=count), centers, radii)


def _crossings(surface: Surface, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments (S, 2, 3), ids of their two ends (S, 2) by which they join, and the parts they part (S, 2)."""
    corners = labels[surface.faces]
    middles = surface.vertices[surface.edges].mean(1)
    edge_count = len(surface.edges)
    ends, nodes, pairs = [], [], []
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        lone = (corners[:, a] == corners[:, b]) & (corners[:, a] != corners[:, c])
        cut = surface.face_edges[lone][:, [a, b]]            # the edges opposite a and b both end at c
        ends.append(middles[cut])
        nodes.append(cut)
        pairs.append(corners[lone][:, [a, c]])
        three = np.flatnonzero((corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2])
                               & (corners[:, 2] != corners[:, 0]))
        edge = surface.face_edges[three, c]
        ends.append(np.stack([middles[edge], surface.vertices[surface.faces[three]].mean(1)], axis=1))
        nodes.append(np.stack([edge, edge_count + 3 * three + c], axis=1))      # the centre joins no two borders
        pairs.append(corners[three][:, [a, b]])
    return np.concatenate(ends), np.concatenate(nodes), np.sort(np.concatenate(pairs), axis=1)
