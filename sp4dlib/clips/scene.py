"""What a picture is taken of: posed surface, part labels, colours and light, ready for either engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from sp4dlib.clips.cameras import Cameras
from sp4dlib.clips.parts import face_vectors
from sp4dlib.rigs.rig import Appearance, Material

SEAM = 15.0         # degrees: copies of a vertex whose normals differ by less lie on a texture seam, not on an edge
BLEND_CUTOFF = 0.5  # a pixel shows one part, so a surface that is mostly see-through counts as a hole


@dataclass(frozen=True)
class Light:
    """A wide light: it reaches round the object (half-Lambert), and no side is black.

    Attributes
    ----------
    direction : tuple of 3 floats
        Towards the light, in rig axes.
    strength : float
        Light that a surface facing it gives back, as a share of its base colour.
    """

    direction: tuple[float, float, float]
    strength: float


@dataclass(frozen=True)
class Shading:
    """Lights fixed to the rig's axes, so that a view looks the same whichever view is number 0.

    A surface of base colour c and unit normal n shows ``c (ambient + sum_i s_i (1/2 + n.l_i / 2)^2)`` in linear
    light, then sRGB; the square keeps the fall-off of half-Lambert light soft without washing it out. Light is found
    at the vertices and interpolated, in sRGB where there is no texture. ``flat`` gives each triangle one normal.
    """

    lights: tuple[Light, ...] = (Light((-0.35, 1.0, 0.7), 1.0), Light((0.9, 0.1, -0.2), 0.3))
    ambient: float = 0.12
    flat: bool = False


@dataclass(frozen=True)
class Scene:
    """T posed frames in the axes of the clip's unit cube.

    Attributes
    ----------
    positions, normals : ndarray of float32, shape (T, N, 3)
    faces : ndarray of int32, shape (F, 3)
    labels : ndarray of int32, shape (N,)
    materials : tuple of Material
    face_material : ndarray of int64, shape (F,)
    one_sided : ndarray of bool, shape (F,)
        Faces whose backs are not drawn.
    uv : ndarray of float32, shape (N, 2), or None
    colors : ndarray of float32, shape (N, 4)
        Linear RGBA of the vertices; ones where the mesh has none.
    lights : ndarray of float32, shape (L, 4)
        Unit direction in unit-cube axes, and strength; at least one row.
    ambient : float
    """

    positions: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    labels: np.ndarray
    materials: tuple[Material, ...]
    face_material: np.ndarray
    one_sided: np.ndarray
    uv: np.ndarray | None
    colors: np.ndarray
    lights: np.ndarray
    ambient: float


def make_scene(vertices: np.ndarray, faces: np.ndarray, labels: np.ndarray, cameras: Cameras,
               appearance: Appearance | None, shading: Shading, rest: np.ndarray | None) -> Scene:
    """Bring checked input (see :func:`sp4dlib.clips.engines.render`) into the unit cube and find its normals."""
    appearance = appearance or Appearance((Material(),), np.zeros(len(faces), np.int64))
    matrix = cameras.normalize
    turn = matrix[:3, :3] / np.cbrt(np.linalg.det(matrix[:3, :3]))
    lights = np.zeros((max(1, len(shading.lights)), 4), np.float32)         # GLSL has no arrays of length 0
    for row, light in zip(lights, shading.lights):
        row[:3] = turn @ light.direction / np.linalg.norm(light.direction)
        row[3] = light.strength
    rest = vertices[0] if rest is None else rest
    colors = np.ones((len(labels), 4)) if appearance.vertex_colors is None else appearance.vertex_colors
    uv = None if appearance.uv is None else np.nan_to_num(appearance.uv).astype(np.float32)
    if shading.flat:                                # each triangle gets vertices of its own
        own = faces.ravel()
        vertices, rest, labels, colors = vertices[:, own], rest[own], labels[own], colors[own]
        uv = None if uv is None else uv[own]
        faces = np.arange(len(own)).reshape(-1, 3)
    positions = (vertices @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
    incidence = corners(faces, len(labels)) if shading.flat else smoothing(rest, faces)
    material = np.asarray(appearance.face_material, np.int64)
    one_sided = closed(rest, faces) & ~np.array([m.double_sided for m in appearance.materials])[material]
    return Scene(positions, vertex_normals(positions, faces, incidence), faces.astype(np.int32),
                 labels.astype(np.int32), appearance.materials, material, one_sided, uv,
                 colors.astype(np.float32), lights, shading.ambient)


def corners(faces: np.ndarray, count: int) -> csr_matrix:
    """Which faces each of ``count`` vertices is a corner of, as a 0-1 matrix (N, F)."""
    number = np.repeat(np.arange(len(faces)), 3)
    return csr_matrix((np.ones(faces.size, np.float32), (faces.ravel(), number)), shape=(count, len(faces)))


def smoothing(rest: np.ndarray, faces: np.ndarray) -> csr_matrix:
    """Which faces shape the normal of each vertex, as a 0-1 matrix (N, F).

    glTF stores an edge by giving its two sides vertices of their own, so the faces that share a vertex are smooth
    there and flat shading needs no further rule. Vertices are also doubled along texture and material seams, where
    the surface is smooth: copies at one place whose normals differ by less than ``SEAM`` share their faces.

    Parameters
    ----------
    rest : ndarray, shape (N, 3)
        The pose in which copies are compared.
    faces : ndarray of int, shape (F, 3)
    """
    count = len(rest)
    own = corners(faces, count)
    normals = vertex_normals(rest[None], faces, own)[0]
    place = _places(rest)
    members = csr_matrix((np.ones(count), (np.arange(count), place)), shape=(count, place.max() + 1))
    pairs = (members @ members.T).tocoo()                 # all pairs of vertices at one place, each with itself
    same = np.einsum("pi,pi->p", normals[pairs.row], normals[pairs.col]) > np.cos(np.radians(SEAM))
    same |= pairs.row == pairs.col
    kept = csr_matrix((np.ones(same.sum(), np.float32), (pairs.row[same], pairs.col[same])), shape=(count, count))
    shared = (kept @ own).astype(np.float32)
    shared.data[:] = 1
    return shared


def closed(rest: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces of connected pieces that have no border, shape (F,).

    The back of a closed piece cannot be seen from outside, so it need not be drawn. Fins, leaves and clothes are
    often single sheets whose material is single-sided by an exporter's default: they keep their backs.

    Parameters
    ----------
    rest : ndarray, shape (N, 3)
        Vertices at one place count as one.
    faces : ndarray of int, shape (F, 3)
    """
    place = _places(rest)
    count = place.max() + 1
    a = place[faces]
    b = np.roll(a, -1, axis=1)
    _, edge = np.unique(np.minimum(a, b) * count + np.maximum(a, b), return_inverse=True)
    border = np.bincount(edge.ravel(), np.sign(b - a).ravel()) != 0           # walked once more in one direction
    links = csr_matrix((np.ones(a.size, np.int8), (a.ravel(), b.ravel())), shape=(count, count))
    piece = connected_components(links, directed=False)[1][a[:, 0]]
    open_pieces = np.unique(piece[border[edge.reshape(a.shape)].any(1)])
    return ~np.isin(piece, open_pieces)


def _places(rest: np.ndarray) -> np.ndarray:
    """Number of the place of each vertex, (N,); vertices at one place share it."""
    order = np.lexsort(rest.T)
    place = np.empty(len(rest), np.int64)
    place[order] = np.cumsum(np.r_[0, np.any(np.diff(rest[order], axis=0) != 0, axis=1)])
    return place


def vertex_normals(positions: np.ndarray, faces: np.ndarray, incidence: csr_matrix) -> np.ndarray:
    """Area-weighted unit normals of posed vertices.

    Parameters
    ----------
    positions : ndarray, shape (T, N, 3)
    faces : ndarray of int, shape (F, 3)
    incidence : csr_matrix, shape (N, F)
        1 where a face counts for a vertex.

    Returns
    -------
    ndarray of float32, shape (T, N, 3)
        Zero at vertices without area.
    """
    across = face_vectors(positions.astype(np.float32, copy=False), faces)
    total = (incidence @ across.reshape(len(faces), -1)).reshape(-1, 3, len(positions))
    total /= np.maximum(np.sqrt((total * total).sum(1, keepdims=True)), 1e-30)
    return np.ascontiguousarray(total.transpose(2, 0, 1))


def cutoff(material: Material) -> float | None:
    """Alpha under which a material is a hole; None where it has no holes."""
    return {"OPAQUE": None, "MASK": material.alpha_cutoff}.get(material.alpha_mode, BLEND_CUTOFF)
