"""Triangles cut so that each has one label, for an engine that cannot compare shares of labels at a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from sp4dlib.clips.scene import Scene, cutoff


@dataclass(frozen=True)
class Group:
    """Triangles that one draw call can show.

    Attributes
    ----------
    whole, pieces : tuple of 2 ints
        First and last + 1 of :attr:`Drawable.faces`: the scene's triangles, for colour, and their pieces of one
        label, for ids.
    texture : ndarray of uint8, shape (h, w, 4), or None
    wrap : tuple of 2 str
        What the texture shows outside [0, 1], as in :class:`~sp4dlib.rigs.rig.Material`.
    cutoff : float or None
        Alpha under which there is a hole.
    one_sided : bool
    """

    whole: tuple[int, int]
    pieces: tuple[int, int]
    texture: np.ndarray | None
    wrap: tuple[str, str]
    cutoff: float | None
    one_sided: bool


@dataclass(frozen=True)
class Drawable:
    """A scene whose vertices have one material each, with the pieces of its triangles.

    Attributes
    ----------
    blend : csr_matrix, shape (M, N)
        Drawn vertices as means of the scene's.
    faces : ndarray of int32, shape (F', 3)
        The last vertex of a piece carries its label.
    labels : ndarray of int32, shape (M,)
    colors : ndarray of float32, shape (M, 4)
        Factor of the material times vertex colour.
    groups : tuple of Group
    """

    blend: csr_matrix
    faces: np.ndarray
    labels: np.ndarray
    colors: np.ndarray
    groups: tuple[Group, ...]


def cut(scene: Scene) -> Drawable:
    """Cut triangles along the lines where their label changes, and double vertices that have several materials.

    The share of a label is linear over the triangle, so the border between two labels is the line through the
    midpoints of the edges that join them; three labels meet in the centroid.
    """
    count = len(scene.materials)
    pair, corner = np.unique(scene.faces * count + scene.face_material[:, None], return_inverse=True)
    source, material = np.divmod(pair, count)
    whole, labels = corner.reshape(-1, 3), scene.labels[source]
    weights, pieces, parent = _split(whole, labels)
    factors = np.array([m.base_color for m in scene.materials], np.float32)
    colors = weights @ (factors[material] * scene.colors[source])
    columns = csr_matrix((np.ones(len(source), np.float32), (np.arange(len(source)), source)),
                         shape=(len(source), len(scene.labels)))
    labels = np.concatenate([labels, np.zeros(weights.shape[0] - len(labels), labels.dtype)])
    group, looks = _looks(scene)
    order, ends = _sorted(group, len(looks))
    piece_order, piece_ends = _sorted(group[parent], len(looks))
    piece_ends = piece_ends + len(whole)
    groups = tuple(Group((ends[g], ends[g + 1]), (piece_ends[g], piece_ends[g + 1]), *look)
                   for g, look in enumerate(looks))
    faces = np.concatenate([whole[order], pieces[piece_order]])
    return Drawable((weights @ columns).tocsr(), faces.astype(np.int32), labels.astype(np.int32),
                    colors.astype(np.float32), groups)


def _looks(scene: Scene) -> tuple[np.ndarray, list[tuple]]:
    """Group of each face, (F,), and of each group the texture, its wrap, the cutoff and whether it is one-sided."""
    kinds, kind = np.unique(2 * scene.face_material + scene.one_sided, return_inverse=True)
    looks: dict[tuple, tuple] = {}
    keys = []
    for number, one_sided in zip(*np.divmod(kinds, 2)):
        material = scene.materials[number]
        texture = None if scene.uv is None else material.texture
        keys.append((id(texture), material.wrap if texture is not None else ("REPEAT",) * 2, cutoff(material),
                     bool(one_sided)))
        looks[keys[-1]] = (texture, *keys[-1][1:])
    names = list(looks)
    return np.array([names.index(key) for key in keys])[kind.ravel()], list(looks.values())


def _sorted(group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Order that brings groups together, and where each begins, with the end."""
    order = np.argsort(group, kind="stable")
    return order, np.searchsorted(group[order], np.arange(groups + 1))


def _split(faces: np.ndarray, labels: np.ndarray) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """Vertices as means of the given ones, triangles of one label (that of their last vertex), their old triangle."""
    count, own = len(labels), labels[faces]
    different = own != np.roll(own, -1, axis=1)                  # edge k joins corners k and k + 1
    kinds = different.sum(1)                                     # 0, 2 or 3 edges change label
    mixed = np.flatnonzero(kinds)
    a, b = faces[mixed][different[mixed]], np.roll(faces, -1, axis=1)[mixed][different[mixed]]
    edges, which = np.unique(np.minimum(a, b) * count + np.maximum(a, b), return_inverse=True)
    middle = np.full((len(faces), 3), -1)
    middle[different] = count + which.ravel()                    # both walk the triangles in the same order
    two, three = np.flatnonzero(kinds == 2), np.flatnonzero(kinds == 3)
    odd = (np.argmin(different[two], axis=1) + 2) % 3            # the corner across from the edge of one label
    turn = (odd[:, None] + [1, 2, 0]) % 3
    c0, c1, c2 = np.take_along_axis(faces[two], turn, 1).T
    _, m1, m0 = np.take_along_axis(middle[two], turn, 1).T       # on the edges c1 c2 and c2 c0
    d0, d1, d2 = faces[three].T
    m01, m12, m20 = middle[three].T
    centre = count + len(edges) + np.arange(len(three))
    pieces = [(np.flatnonzero(kinds == 0), faces[kinds == 0].T),
              (two, (m0, m1, c2)), (two, (m1, m0, c1)), (two, (m0, c0, c1)),
              (three, (m01, centre, d0)), (three, (centre, m20, d0)), (three, (m12, centre, d1)),
              (three, (centre, m01, d1)), (three, (m20, centre, d2)), (three, (centre, m12, d2))]
    parent = np.concatenate([old for old, _ in pieces])
    triangles = np.concatenate([np.stack(list(corners), axis=1) for _, corners in pieces])
    low, high = np.divmod(edges, count)
    rows = np.concatenate([np.arange(count), np.repeat(count + np.arange(len(edges)), 2), np.repeat(centre, 3)])
    columns = np.concatenate([np.arange(count), np.stack([low, high], axis=1).ravel(), faces[three].ravel()])
    values = np.repeat(np.float32([1, 1 / 2, 1 / 3]), [count, 2 * len(edges), 3 * len(three)])
    total = count + len(edges) + len(three)
    order = np.argsort(parent, kind="stable")
    return csr_matrix((values, (rows, columns)), shape=(total, count)), triangles[order], parent[order]
