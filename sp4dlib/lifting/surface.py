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
        return edge_table(self.faces, len(self.vertices))

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
        first, second = self.faces[:, :2].T, self.faces[:, 1:].T
        return _components(first.ravel(), second.ravel(), len(self.vertices))

    def pieces(self, kept: np.ndarray) -> np.ndarray:
        """Connected component of each vertex (M,) when only the ``kept`` (E,) edges connect."""
        return _components(*self.edges[kept].T, len(self.vertices))

    def gather(self, labels: np.ndarray) -> np.ndarray:
        """Labels (N,) of the mesh on the welded surface (M,); the commonest wins, then the lowest id."""
        if len(self.index) == len(self.vertices):
            out = np.empty_like(labels)
            out[self.index] = labels
            return out
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
    points, index = _merged(vertices, WELD * np.ptp(vertices, axis=0).max())
    faces = index[faces.astype(np.int64)]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    if not len(faces):
        raise ValueError("every triangle of the mesh is a point or a line; there is no surface to work on")
    return Surface(points, faces, index)


def _merged(vertices: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions (M, 3) no two of which are nearer than the tolerance, and which of them each vertex (N,) is.

    In the order of x, then y, then z, so that nothing hangs on how the mesh numbers its vertices; the least of those
    that are one gives their position.
    """
    order = np.argsort(vertices[:, 0])
    if np.any(np.diff(vertices[order, 0]) == 0):
        order = np.lexsort(vertices.T[::-1])
    vertices = vertices[order]
    crowd = _crowd(vertices, tolerance)
    first = np.arange(len(vertices))
    if len(crowd):
        points, copy = np.unique(vertices[crowd], axis=0, return_inverse=True)
        pairs = cKDTree(points).query_pairs(tolerance, output_type="ndarray").reshape(-1, 2)
        group = _components(*pairs.T, len(points))[copy.ravel()]
        leader = np.full(group.max() + 1, len(vertices))
        np.minimum.at(leader, group, crowd)
        first[crowd] = leader[group]
    lead = first == np.arange(len(vertices))
    index = np.empty(len(vertices), np.int64)
    index[order] = (np.cumsum(lead) - 1)[first]
    return vertices[lead], index


def _crowd(vertices: np.ndarray, tolerance: float) -> np.ndarray:
    """Indices of all vertices that another may be nearer to than the tolerance, ascending; few others.

    Two near points are near along any line; sorting along three lines rules out nearly all that have no partner, which
    is quicker than to search a tree of all.
    """
    crowd = np.arange(len(vertices))
    for line in np.linalg.qr(np.array([[0.83, 0.47, 0.29], [0.31, 0.91, 0.17], [0.19, 0.37, 0.89]]))[0]:
        along = vertices[crowd] @ line
        order = np.argsort(along)
        close = np.diff(along[order]) <= 1.01 * tolerance
        paired = np.zeros(len(order), bool)
        paired[1:] |= close
        paired[:-1] |= close
        crowd = np.sort(crowd[order[paired]])
    return crowd


def _components(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """Component (``count``,) of each vertex of the graph whose edges go from ``first`` to ``second``."""
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)      # int32 would overflow in edges' keys


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
    spacing : ndarray, shape (L,)
        Mean length of the mesh's edges from one of the two parts to the other.
    """

    segments: np.ndarray
    loop: np.ndarray
    pairs: np.ndarray
    lengths: np.ndarray
    centers: np.ndarray
    radii: np.ndarray
    spacing: np.ndarray

    def __len__(self) -> int:
        return len(self.pairs)


def part_borders(surface: Surface, labels: np.ndarray) -> Borders:
    """Trace the borders between parts; ``labels`` (M,) are those of the welded vertices."""
    corners = labels[surface.faces]
    crossed = np.flatnonzero((corners[:, 0] != corners[:, 1]) | (corners[:, 1] != corners[:, 2]))
    edges, face_edges = edge_table(surface.faces[crossed], len(surface.vertices))
    ends, nodes, pairs = _crossings(surface.vertices, surface.faces[crossed], corners[crossed], edges, face_edges)
    if not len(ends):
        return Borders(ends, np.zeros(0, int), pairs, *(np.zeros(s) for s in (0, (0, 3), 0, 0)))
    used, nodes = np.unique(nodes, return_inverse=True)
    nodes = nodes.reshape(-1, 2)
    loop = _components(*nodes.T, len(used))[nodes[:, 0]]
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
    return Borders(ends, loop, loop_pairs, np.bincount(loop, length, minlength=count), centers, radii,
                   _spacing(surface.vertices, labels, edges, loop_pairs))


def _spacing(vertices: np.ndarray, labels: np.ndarray, edges: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Mean length of the ``edges`` (E, 2) that join each of the ``pairs`` (L, 2) of parts, (L,)."""
    ends, count = np.sort(labels[edges], axis=1), labels.max() + 1
    cut = ends[:, 0] != ends[:, 1]
    length = np.linalg.norm(vertices[edges[cut, 1]] - vertices[edges[cut, 0]], axis=1)
    keys, inverse = np.unique(ends[cut] @ [count, 1], return_inverse=True)
    mean = np.bincount(inverse, length) / np.bincount(inverse)
    return mean[np.searchsorted(keys, pairs @ [count, 1])]


def edge_table(faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges (E, 2) of faces (G, 3) among ``count`` vertices, each once, and the edge opposite each corner (G, 3)."""
    ends = np.sort(faces[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2), axis=1)
    keys, inverse = np.unique(ends[:, 0] * count + ends[:, 1], return_inverse=True)
    return np.stack(np.divmod(keys, count), axis=1), inverse.reshape(-1, 3)


def _crossings(vertices: np.ndarray, faces: np.ndarray, corners: np.ndarray, edges: np.ndarray,
               face_edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments (S, 2, 3), ids of their two ends (S, 2) by which they join, and the parts they part (S, 2).

    Of faces (G, 3) whose corners have the labels ``corners`` (G, 3), by their edges as of :func:`edge_table`.
    """
    middles = vertices[edges].mean(1)
    ends, nodes, pairs = [], [], []
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        lone = (corners[:, a] == corners[:, b]) & (corners[:, a] != corners[:, c])
        cut = face_edges[lone][:, [a, b]]            # the edges opposite a and b both end at c
        ends.append(middles[cut])
        nodes.append(cut)
        pairs.append(corners[lone][:, [a, c]])
        three = np.flatnonzero((corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2])
                               & (corners[:, 2] != corners[:, 0]))
        edge = face_edges[three, c]
        ends.append(np.stack([middles[edge], vertices[faces[three]].mean(1)], axis=1))
        nodes.append(np.stack([edge, len(edges) + 3 * three + c], axis=1))      # the centre joins no two borders
        pairs.append(corners[three][:, [a, b]])
    return np.concatenate(ends), np.concatenate(nodes), np.sort(np.concatenate(pairs), axis=1)
