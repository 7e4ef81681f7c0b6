"""Part maps of known cameras to a part for each vertex."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.sparse import csr_matrix, diags
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from sp4dlib import coding
from sp4dlib.clips.cameras import Cameras
from sp4dlib.lifting.linear import laplacian, lifted, solve
from sp4dlib.lifting.surface import Surface, weld

log = logging.getLogger(__name__)

BORDER = 0.25       # worth of a pixel that has a neighbour of another id: it covers both, and shows one
SMOOTHING = 0.3     # how far a vertex with full votes listens to its neighbours, in edges
WHITE = 20          # levels from white up to which HDBSCAN is not shown a pixel
SAMPLES = 8000      # pixels that HDBSCAN is shown
CALM = 2            # edges from the nearest doubt beyond which votes stand as they are
GAP = 0.05          # patches of one id that keep farther apart than this share of the longest side are two parts
SPECK = 0.01        # a patch below this share of its part's largest patch is noise: found on training rigs


@dataclass(frozen=True)
class VertexLabels:
    """Labels with what they rest on.

    Attributes
    ----------
    labels : ndarray of int, shape (N,)
        Part of each vertex.
    seen : ndarray of bool, shape (N,)
        Whether any pixel voted on the vertex; the others' labels come from around them.
    votes : ndarray, shape (N, K)
        Pixel votes for ids 0..K-1.
    """

    labels: np.ndarray
    seen: np.ndarray
    votes: np.ndarray


def vertex_labels(mesh, parts, cameras: Cameras, vertices=None, *, smoothing: float = SMOOTHING, speck: float = SPECK,
                  split: bool = False, num_parts: int | None = None, clustering: str = "decode",
                  return_votes: bool = False):
    """Part of each vertex, by votes of all pixels of all frames and views.

    1. Colours become ids, for all frames and views together (:func:`sp4dlib.coding.decode`, or HDBSCAN).
    2. Every pixel is a ray. The triangle that it meets first gets its vote (:func:`pixel_votes`), so only visible
       surface is voted on.
    3. Votes are made smooth on the surface by a screened Poisson equation (:func:`spread`); vertices that no pixel
       reached copy the nearest that one did.
    4. Small patches inside another part are given to the neighbour they share the longest border with.
    5. With ``split``, an id that is left in several far places becomes several parts (:func:`split_parts`).

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
        In the space that ``cameras.normalize`` maps from.
    parts : array_like, shape (T, V, H, W) of int or (T, V, H, W, 3) of uint8, with H = W
        Part ids, -1 = background, or part colours on white. Any size: ``cameras`` is resized to it.
    cameras : Cameras
        V cameras.
    vertices : array_like, shape (T, N, 3), optional
        Posed vertices of each frame; default the mesh's own in all frames.
    smoothing : float
        In edges; 0 lets votes spread to unseen vertices only.
    speck : float
        Share of a part's largest patch below which a patch is noise; 0 keeps all.
    split : bool
        Give new ids to patches of one id that lie far apart.
    num_parts : int, optional
        Of colours: how many parts there are.
    clustering : {"decode", "hdbscan"}
        Of colours: this project's decoder, or HDBSCAN on pixel colours as in SP4D (arXiv 2509.10687).
    return_votes : bool
        Also return the votes. See :func:`label_report` for all that is known.

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
    report = label_report(mesh, parts, cameras, vertices, smoothing=smoothing, speck=speck, split=split,
                          num_parts=num_parts, clustering=clustering)
    return (report.labels, report.votes) if return_votes else report.labels


def label_report(mesh, parts, cameras: Cameras, vertices=None, *, smoothing: float = SMOOTHING, speck: float = SPECK,
                 split: bool = False, num_parts: int | None = None, clustering: str = "decode") -> VertexLabels:
    """As :func:`vertex_labels`, and which vertices were seen at all."""
    surface = weld(mesh)
    parts = np.asarray(parts)
    if parts.ndim == 5:
        parts = color_ids(parts, num_parts, clustering)
    parts, posed = _check(parts, cameras, vertices, mesh)
    first = np.zeros(len(surface.vertices), int)
    first[surface.index] = np.arange(len(surface.index))
    posed = [surface.vertices] * len(parts) if posed is None else posed[:, first]
    votes = pixel_votes(surface.faces, posed, parts, cameras)
    if not votes.any():
        raise ValueError("no part pixel meets the mesh: parts are all background, or mesh and cameras do not belong "
                         "together (cameras.normalize must map the mesh's space to the clip's unit cube)")
    shares = spread(surface, votes, smoothing)
    hit = votes.any(1)
    if not hit.all():
        # What lies under the visible surface moves with it: the lining of a garment is far away along the surface.
        nearest = cKDTree(surface.vertices[hit]).query(surface.vertices[~hit])[1]
        shares[~hit] = shares[hit][nearest]
    labels = _absorb_specks(surface, shares.argmax(1), shares, speck)
    if split:
        labels = split_parts(surface, labels)
    seen = votes[surface.index].any(1)
    log.info("%.1f %% of %d vertices were seen", 100 * seen.mean(), len(surface.index))
    return VertexLabels(labels[surface.index], seen, votes[surface.index])


def color_ids(images, num_parts: int | None = None, clustering: str = "decode") -> np.ndarray:
    """Part ids of part images, clustered jointly over all frames and views.

    Parameters
    ----------
    images : array_like of uint8, shape (..., H, W, 3)
    num_parts : int, optional
        For the decoder: how many parts there are. HDBSCAN finds its own number.
    clustering : {"decode", "hdbscan"}
        :func:`sp4dlib.coding.decode`; or HDBSCAN (Campello et al. 2013) on a sample of the colours that are not near
        white, each other pixel going to the nearest cluster's mean, as SP4D clusters colours. It knows nothing of blur:
        the mixtures along borders may become parts of their own.

    Returns
    -------
    ndarray of int16, shape (..., H, W)
        -1 is background.
    """
    if clustering == "decode":
        return coding.decode(images, num_parts)
    if clustering != "hdbscan":
        raise ValueError(f"clustering must be 'decode' or 'hdbscan'; got {clustering!r}")
    from sklearn.cluster import HDBSCAN

    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim < 3 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 of shape (..., H, W, 3); got {images.dtype} {images.shape}")
    colors = images.reshape(-1, 3).astype(np.float64)
    ids = np.full(len(colors), -1, np.int16)
    inside = np.flatnonzero(np.linalg.norm(255 - colors, axis=1) > WHITE)
    if len(inside):
        sample = colors[inside[np.linspace(0, len(inside) - 1, min(len(inside), SAMPLES)).astype(int)]]
        # A part of half a percent is still a cluster; the jitter parts equal colours, whose distance 0 has no density.
        jittered = sample + np.random.default_rng(0).normal(size=sample.shape)
        cluster = HDBSCAN(min_cluster_size=max(5, len(sample) // 200), min_samples=5, copy=True).fit_predict(jittered)
        found = np.unique(cluster[cluster >= 0])
        means = [sample[cluster == k].mean(0) for k in found] or [sample.mean(0)]
        ids[inside] = cKDTree(np.array(means)).query(colors[inside])[1]
    return ids.reshape(images.shape[:-1])


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

    Vertices more than ``CALM`` edges from any that is unseen or disagrees keep their votes: there is nothing to smooth,
    and most of a fine mesh need not be solved for.

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
    # s = 0 asks for the limit: the seen keep their votes, the unseen interpolate.
    scale = max(smoothing, 1e-3) ** 2
    own = votes / np.maximum(total, np.finfo(float).tiny)[:, None]
    reached = np.isin(surface.shells, np.unique(surface.shells[seen]))
    free = _unsettled(surface, own, seen) & reached
    shares = own.copy()
    if free.any():
        faces = surface.faces[free[surface.faces].any(1)]
        used, local = np.unique(faces, return_inverse=True)
        stiffness, _ = laplacian(surface.vertices[used], local.reshape(-1, 3))
        inner, outer = np.flatnonzero(free[used]), np.flatnonzero(~free[used])
        rows = csr_matrix(scale * stiffness)[inner]
        parts = np.flatnonzero(own[used].any(0))
        right = (confidence[:, None] * own)[used[inner]][:, parts] - rows[:, outer] @ own[used[outer]][:, parts]
        matrix = rows[:, inner] + diags(confidence[used[inner]])
        shares[np.ix_(used[inner], parts)] = np.clip(solve(lifted(matrix), right), 0, None)
    if not reached.all():
        nearest = cKDTree(surface.vertices[reached]).query(surface.vertices[~reached])[1]
        shares[~reached] = shares[reached][nearest]
    return shares / np.maximum(shares.sum(1, keepdims=True), np.finfo(float).tiny)


def _unsettled(surface: Surface, own: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Vertices of faces that lie within ``CALM`` edges of one unseen, or whose votes differ from a neighbour's."""
    winner = np.where(own.max(1) > 0.999, own.argmax(1), -1)
    first, second = surface.edges.T
    free = ~seen | (winner < 0)
    differ = winner[first] != winner[second]
    free[first[differ]] = free[second[differ]] = True
    for _ in range(CALM):
        rim = free[first] != free[second]
        free[first[rim]] = free[second[rim]] = True
    free[np.setdiff1d(np.arange(len(free)), surface.faces)] = False
    return free


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


def split_parts(surface: Surface, labels: np.ndarray, gap: float = GAP) -> np.ndarray:
    """Give each far place of an id an id of its own.

    Patches of one id that come closer than ``gap`` of the longest side stay one part: they touch through something
    hidden, as an arm above and below a sleeve. Of several such groups the one with the largest area keeps the id and
    the others get new ones, after the highest, in the order of their first vertex.

    Parameters
    ----------
    surface : Surface
    labels : ndarray of int, shape (M,)
    gap : float

    Returns
    -------
    ndarray of int, shape (M,)
    """
    labels, fresh = labels.copy(), int(labels.max()) + 1
    patch = surface.pieces(labels[surface.edges[:, 0]] == labels[surface.edges[:, 1]])
    for part in np.unique(labels):
        members = np.flatnonzero(labels == part)
        names, local = np.unique(patch[members], return_inverse=True)
        if len(names) == 1:
            continue
        pieces = [surface.vertices[members[local == k]] for k in range(len(names))]
        trees = [cKDTree(piece) for piece in pieces]
        near = [(a, b) for a in range(len(names)) for b in range(a)
                if trees[a].query(pieces[b], distance_upper_bound=gap * surface.size)[0].min() < np.inf]
        links = csr_matrix((np.ones(len(near)), np.reshape(near, (-1, 2)).T.astype(int)), shape=(len(names),) * 2)
        group = connected_components(links, directed=False)[1][local]
        largest = np.bincount(group, surface.areas[members]).argmax()
        for other in dict.fromkeys(group.tolist()):
            if other != largest:
                labels[members[group == other]] = fresh
                fresh += 1
    return labels
