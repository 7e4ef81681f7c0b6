"""Part maps of known cameras to a part for each vertex."""

from __future__ import annotations

import logging

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.sparse import csr_matrix, diags
from scipy.spatial import cKDTree

from sp4dlib.clips.cameras import Cameras
from sp4dlib.lifting.linear import laplacian, lifted, solve
from sp4dlib.lifting.surface import Surface, weld

log = logging.getLogger(__name__)

BORDER = 0.25       # worth of a pixel that has a neighbour of another id: it covers both, and shows one
SMOOTHING = 0.3     # how far a vertex with full votes listens to its neighbours, in edges
SPECK = 0.05        # a patch below this share of its part's largest patch is noise


def vertex_labels(mesh, parts, cameras: Cameras, vertices=None, *, smoothing: float = SMOOTHING, speck: float = SPECK,
                  return_votes: bool = False):
    """Part of each vertex, by votes of all pixels of all frames and views.

    1. Every pixel is a ray. The triangle that it meets first gets its vote (:func:`pixel_votes`), so only visible
       surface is voted on.
    2. Votes spread over the surface by a screened Poisson equation (:func:`spread`); vertices that no pixel
       reached take what reaches them from around. Shells that no pixel reached copy the nearest voted vertex.
    3. Small patches inside another part are given to the neighbour they share the longest border with.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
        In the space that ``cameras.normalize`` maps from.
    parts : array_like of int, shape (T, V, H, W) with H = W
        Part ids, -1 = background. Any size: ``cameras`` is resized to it.
    cameras : Cameras
        V cameras.
    vertices : array_like, shape (T, N, 3), optional
        Posed vertices of each frame; default the mesh's own in all frames.
    smoothing : float
        In edges; 0 lets votes spread to unseen vertices only.
    speck : float
        Share of a part's largest patch below which a patch is noise; 0 keeps all.
    return_votes : bool
        Also return the votes.

    Returns
    -------
    labels : ndarray of int, shape (N,)
        Ids as in ``parts``, not renumbered. Duplicates of one position share a label.
    votes : ndarray, shape (N, K), only with ``return_votes``
        Pixel votes for ids 0..K-1; a row of zeros belongs to a vertex that no view sees.

    Raises
    ------
    ValueError
        If shapes do not fit, or no part pixel meets the mesh.
    """
    surface = weld(mesh)
    parts, posed = _check(parts, cameras, vertices, mesh)
    first = np.zeros(len(surface.vertices), int)
    first[surface.index] = np.arange(len(surface.index))
    posed = [surface.vertices] * len(parts) if posed is None else posed[:, first]
    votes = pixel_votes(surface.faces, posed, parts, cameras)
    if not votes.any():
        raise ValueError("no part pixel meets the mesh: parts are all background, or mesh and cameras do not belong "
                         "together (cameras.normalize must map the mesh's space to the clip's unit cube)")
    shares = spread(surface, votes, smoothing)
    labels = _absorb_specks(surface, shares.argmax(1), shares, speck)
    log.info("%.1f %% of %d vertices were seen", 100 * np.mean(votes[surface.index].any(1)), len(surface.index))
    return (labels[surface.index], votes[surface.index]) if return_votes else labels[surface.index]


def _check(parts, cameras: Cameras, vertices, mesh) -> tuple[np.ndarray, np.ndarray | None]:
    parts, count = np.asarray(parts), len(mesh.vertices)
    if parts.ndim != 4 or not np.issubdtype(parts.dtype, np.integer) or parts.shape[2] != parts.shape[3]:
        raise ValueError(f"parts must be integer ids of shape (T, V, H, W) with square images; got {parts.dtype} of "
                         f"shape {parts.shape}")
    if parts.shape[1] != len(cameras):
        raise ValueError(f"parts show {parts.shape[1]} views, but there are {len(cameras)} cameras")
    if vertices is None:
        return parts, None
    posed = np.asarray(vertices, np.float64)
    if posed.shape != (len(parts), count, 3):
        raise ValueError(f"vertices must be posed for each of the {len(parts)} frames, shape ({len(parts)}, {count}, "
                         f"3); got {posed.shape}")
    if not np.isfinite(posed).all():
        raise ValueError("posed vertices hold NaN or infinity")
    return parts, posed


def pixel_votes(faces: np.ndarray, posed, parts: np.ndarray, cameras: Cameras) -> np.ndarray:
    """Votes of pixels for the corners of the triangles they show.

    A pixel's vote goes to the three corners by its squared barycentric coordinates, times the cosine between the
    surface and the ray, times ``BORDER`` if a neighbouring pixel shows another id. A patch
    turned away also covers fewer pixels, so in all a view counts by the squared cosine.

    Parameters
    ----------
    faces : ndarray of int, shape (G, 3)
    posed : sequence of T ndarrays, shape (M, 3)
        Vertices of each frame in the space that ``cameras.normalize`` maps from.
    parts : ndarray of int, shape (T, V, H, H)
    cameras : Cameras

    Returns
    -------
    ndarray, shape (M, K)
        K is the highest id + 1, at least 1.
    """
    cameras = cameras.resized(parts.shape[-1])
    vertex_count, part_count = len(posed[0]), max(int(parts.max()) + 1, 1)
    votes = np.zeros(vertex_count * part_count)
    caster, previous = None, None
    for frame, points in zip(parts, posed):
        if points is not previous:
            unit = points @ cameras.normalize[:3, :3].T + cameras.normalize[:3, 3]
            caster, previous = ray_caster(unit, faces), points
        for view, image in enumerate(frame):
            rows, columns = np.nonzero(image >= 0)
            if not len(rows):
                continue
            origin, directions = _pixel_rays(cameras, view, rows, columns)
            origins = np.broadcast_to(origin, directions.shape).astype(np.float32)
            hit = caster.run(origins, directions.astype(np.float32), output=True)
            struck = hit["primID"] >= 0
            u, v = hit["u"][struck].astype(np.float64), hit["v"][struck].astype(np.float64)
            normal = hit["Ng"][struck] / np.maximum(np.linalg.norm(hit["Ng"][struck], axis=1, keepdims=True), 1e-30)
            cosine = np.abs(np.sum(normal * directions[struck], axis=1))
            mixed = maximum_filter(image, 3, mode="nearest") != minimum_filter(image, 3, mode="nearest")
            worth = cosine * np.where(mixed[rows, columns][struck], BORDER, 1)
            shares = worth[:, None] * np.stack([1 - u - v, u, v], axis=1) ** 2
            ballots = faces[hit["primID"][struck]] * part_count + image[rows, columns][struck, None]
            votes += np.bincount(ballots.ravel(), shares.ravel(), minlength=len(votes))
    return votes.reshape(vertex_count, part_count)


def ray_caster(vertices: np.ndarray, faces: np.ndarray):
    """An Embree scene of one mesh."""
    from embreex import rtcore_scene
    from embreex.mesh_construction import TriangleMesh

    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, vertices.astype(np.float32), faces.astype(np.int32))
    return scene


def _pixel_rays(cameras: Cameras, view: int, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Camera centre (3,) and unit directions (P, 3) of pixels, in the clip's unit cube."""
    x = (columns + 0.5 - cameras.size / 2) / cameras.focal
    y = -(rows + 0.5 - cameras.size / 2) / cameras.focal
    directions = np.stack([x, y, -np.ones_like(x)], axis=1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rotation = cameras.rotation(view)
    return cameras.distance * rotation[2], directions @ rotation


def spread(surface: Surface, votes: np.ndarray, smoothing: float = SMOOTHING) -> np.ndarray:
    """Share of each part at each vertex: votes made smooth on the surface.

    The shares p minimise ``sum_i c_i |p_i - q_i|^2 + s^2 p' L p``, a random walker with priors (Grady 2005,
    "Multilabel Random Walker Image Segmentation Using Prior Models"). q are the vertex's own vote shares, c its
    confidence (its votes over its votes plus a tenth of the median), L the surface Laplacian, whose entries have no
    unit, and s the ``smoothing``: it counts edges, so that small parts with small triangles keep their votes.

    Parameters
    ----------
    surface : Surface
    votes : ndarray, shape (M, K)
    smoothing : float

    Returns
    -------
    ndarray, shape (M, K)
        Rows sum to 1.
    """
    total = votes.sum(1)
    seen = total > 0
    confidence = total / (total + 0.1 * np.median(total[seen]))
    stiffness, _ = laplacian(surface.vertices, surface.faces)
    # s = 0 asks for the limit: the seen keep their votes, the unseen interpolate.
    scale = max(smoothing, 1e-3) ** 2
    own = votes / np.maximum(total, np.finfo(float).tiny)[:, None]
    reached = np.isin(surface.shells, np.unique(surface.shells[seen]))
    shares = np.zeros_like(votes)
    matrix = csr_matrix(scale * stiffness + diags(confidence))[reached][:, reached]
    shares[reached] = np.clip(solve(lifted(matrix), (confidence[:, None] * own)[reached]), 0, None)
    if not reached.all():
        nearest = cKDTree(surface.vertices[reached]).query(surface.vertices[~reached])[1]
        shares[~reached] = shares[reached][nearest]
    return shares / np.maximum(shares.sum(1, keepdims=True), np.finfo(float).tiny)


def _absorb_specks(surface: Surface, labels: np.ndarray, shares: np.ndarray, speck: float,
                   rounds: int = 3) -> np.ndarray:
    """Give patches below ``speck`` of their part's largest to the neighbour with the longest common border.

    Whole shells stay: a button on a coat has no neighbour to join.
    """
    first, second = surface.edges.T
    length = np.linalg.norm(surface.vertices[first] - surface.vertices[second], axis=1)
    areas = np.maximum(surface.areas, 1e-12 * surface.areas.sum())
    for _ in range(rounds):
        patch = surface.pieces(labels[first] == labels[second])
        area = np.bincount(patch, areas)
        part = np.zeros(len(area), int)
        part[patch] = labels
        largest = np.zeros(shares.shape[1])
        np.maximum.at(largest, part, area)
        small = area < speck * largest[part]
        cut = patch[first] != patch[second]
        rows = np.concatenate([patch[first[cut]], patch[second[cut]]])
        columns = np.concatenate([labels[second[cut]], labels[first[cut]]])
        border = csr_matrix((np.tile(length[cut], 2), (rows, columns)), shape=(len(area), shares.shape[1]))
        small &= np.diff(border.indptr) > 0
        if not small.any():
            break
        part[small] = np.asarray(border[small].argmax(axis=1)).ravel()
        labels = part[patch]
    return labels
