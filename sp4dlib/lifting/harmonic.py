"""Skinning weights from part labels: harmonic in a band round the borders.

SP4D (arXiv 2509.10687) lets the weight ``w_p`` of part p solve ``Laplace w_p = 0`` with its border values prescribed:
``w_p(x) = 1`` if x is in p and 0 if not, at every vertex of an edge whose two ends have different parts. Read to the
letter this is degenerate. Both ends of each cut edge are prescribed, so the surface falls into pieces, each within
one part, and all the border values that a piece touches are equal: 1 within p, 0 elsewhere. A harmonic function
takes no value beyond those on its border, so it is constant on each piece, and ``w_p`` is the 0/1 label again: no
blending at all. :func:`literal_harmonic_weights` solves that problem, for whoever wants to see it.

:func:`harmonic_weights` prescribes the same values where they are certain, in the cores of the parts, and leaves a
band round each border free. How wide the band is, is the one thing that matters (:mod:`sp4dlib.lifting.band`).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import diags

from sp4dlib.lifting.band import Band, band, band_widths
from sp4dlib.lifting.buried import fitted
from sp4dlib.lifting.linear import cotangent_laplacian, factorize, laplacian, lifted, solve
from sp4dlib.lifting.surface import Borders, Surface, check_labels, part_borders, weld

WIDTH = None        # estimated from the shape
STEPS = 2           # implicit steps of the heat flow: more bring the profile nearer to a Gaussian's, and cost as much
CORE = 1.6          # in half-widths; beyond it the flow brings less than half of FADE, which vanishes
RAMP = 0.45         # half-width of the pinned methods' band over the estimate, which is made for the heat's long tails
FADE = 0.05         # weights below it fade out, below half of it vanish
METHODS = ("heat", "harmonic", "biharmonic")


def harmonic_weights(mesh, labels, width=WIDTH, *, method: str = "heat", max_influences: int | None = 4,
                     parts: int | None = None) -> np.ndarray:
    """Skinning weights of the parts: labels in the parts' cores, a blend in a free band round their borders.

    Each border has a half-width ``h`` (:func:`sp4dlib.lifting.band.band_widths`, or ``width`` radii of its loop).
    With d the distance to the nearest border of the vertex's own part, all parts are solved for at once:

    * ``"heat"``: the labels diffuse, ``(L + 2 M / l^2) w' = 2 M / l^2 w``, twice, with ``l = h / 2`` and vertices
      at ``d >= 1.6 h`` pinned. Weights fall off like artists' do, fast at the border and slowly away from it, and parts
      shorter than a band blend with those beyond. Weights below 0.05 fade out.
    * ``"harmonic"``: ``L w = 0`` within ``d < h``, labels beyond. A straight ramp across the band. An estimated h is
      multiplied by 0.45.
    * ``"biharmonic"``: ``L inv(M) L w = 0`` there. A ramp with flatter ends.

    L is the tufted Laplacian and M its mass, so open, non-manifold and degenerate meshes do.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
    labels : array_like of int, shape (N,)
        Part of each vertex. Duplicates of one position count as one vertex and get equal rows.
    width : None, float or array_like, shape (K,)
        None estimates the half-width of each border's band from the shape. A number is the half-width over the
        loop's radius, an array one for each part; a border takes the mean of its two.
    method : {"heat", "harmonic", "biharmonic"}
    max_influences : int or None
        Keep this many largest weights in a row and divide by their sum (glTF stores 4); None keeps all.
    parts : int or None
        Number of columns K; default the highest label + 1. A part without vertices has a column of zeros.

    Returns
    -------
    ndarray, shape (N, K)
        Non-negative; rows sum to 1.

    Raises
    ------
    ValueError
        If the mesh has no faces or is not finite, labels do not fit, the width is negative or the method unknown.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    surface, welded, count = _prepare(mesh, labels, parts)
    weights = blend(surface, welded, count, width, method)
    return limit_influences(weights, max_influences)[surface.index]


def blend(surface: Surface, labels: np.ndarray, count: int, width=WIDTH, method: str = "heat") -> np.ndarray:
    """Weights (M, ``count``) of the labels (M,) of a welded surface; see :func:`harmonic_weights`."""
    borders = part_borders(surface, labels)
    half = _half_widths(surface, labels, borders, width, count)
    if width is None and method != "heat":
        half = RAMP * half
    reach = CORE if method == "heat" else 1.0
    around = band(surface, labels, borders, half, reach)
    if width is None:
        around = fitted(surface, labels, around, reach)
    owned = np.eye(count)[labels]
    if method == "heat":
        return fade(diffuse(surface, owned, around))
    return dirichlet(surface, pinned(surface, labels, around.relative), owned, order=METHODS.index(method))


def literal_harmonic_weights(mesh, labels, *, parts: int | None = None) -> np.ndarray:
    """SP4D's equation to the letter: both ends of every cut edge are prescribed, so the weights are the 0/1 labels.

    See :mod:`sp4dlib.lifting.harmonic` for why. The values are solved for, not copied. A shell that no border crosses
    has no prescribed vertex; one of its vertices is given its label, for else nothing defines the solution.

    Parameters and errors are those of :func:`harmonic_weights`; returns weights of shape (N, K).
    """
    surface, welded, count = _prepare(mesh, labels, parts)
    fixed = np.zeros(len(welded), bool)
    fixed[surface.edges[welded[surface.edges[:, 0]] != welded[surface.edges[:, 1]]]] = True
    # An intrinsic Delaunay flip could join a vertex of p to one beyond the border; the plain Laplacian has no flips.
    fixed = _anchor_shells(surface, fixed)
    return dirichlet(surface, fixed, np.eye(count)[welded], cotangent_laplacian)[surface.index]


def _half_widths(surface: Surface, labels: np.ndarray, borders: Borders, width, count: int) -> np.ndarray:
    """Half-width of each border's band, shape (L,), in the mesh's unit."""
    if width is None:
        return band_widths(surface, labels, borders)
    width = np.asarray(width, np.float64)
    if width.shape not in ((), (count,)):
        raise ValueError(f"width must be one number, or one for each of {count} parts; got shape {width.shape}")
    width = np.broadcast_to(width, (count,))
    if not np.all(width >= 0):
        raise ValueError(f"width must be 0 (rigid) or more, in radii of the border; got {width.min()}")
    return borders.radii * width[borders.pairs].mean(1)


def diffuse(surface: Surface, values: np.ndarray, around: Band) -> np.ndarray:
    """Let ``values`` (M, K) flow within the band by implicit steps of the heat equation; rows keep their sum of 1.

    A step solves ``(L + s M / l^2) w' = s M / l^2 w`` with s the number of steps: Tikhonov's screened Poisson equation.
    One step across a straight border gives ``exp(-d / l) / 2`` at distance d.
    """
    free = (around.relative < CORE) & (around.half > 0)
    sub = _submatrix(surface, free, laplacian)
    if sub is None:
        return values.astype(np.float64)
    used, inner, outer, stiffness, mass = sub
    out = values.astype(np.float64)
    pull = STEPS * np.maximum(mass[inner], 1e-9 * mass.mean()) / (around.half[used[inner]] / 2)**2
    rows = stiffness[inner]
    columns = np.flatnonzero(values[used].any(0))
    inflow = rows[:, outer] @ values[np.ix_(used[outer], columns)]
    apply = factorize(lifted(rows[:, inner] + diags(pull)))
    flowing = values[np.ix_(used[inner], columns)].astype(np.float64)
    for _ in range(STEPS):
        flowing = np.clip(apply(pull[:, None] * flowing - inflow), 0, 1)
    out[np.ix_(used[inner], columns)] = flowing / flowing.sum(1, keepdims=True)
    return out


def pinned(surface: Surface, labels: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Which vertices keep their label, bool (M,): the cores, and at least one of each part and of each shell."""
    fixed = relative >= 1
    for part in np.setdiff1d(labels, labels[fixed]):
        members = np.flatnonzero(labels == part)
        fixed[members[relative[members].argmax()]] = True
    return _anchor_shells(surface, fixed)


def _anchor_shells(surface: Surface, fixed: np.ndarray) -> np.ndarray:
    """Pin the first vertex of each shell that has none pinned."""
    shells, first = np.unique(surface.shells, return_index=True)
    lone = ~np.isin(shells, surface.shells[fixed])
    fixed = fixed.copy()
    fixed[first[lone]] = True
    return fixed


def dirichlet(surface: Surface, fixed: np.ndarray, values: np.ndarray, operator=laplacian,
              order: int = 1) -> np.ndarray:
    """Functions harmonic (``order`` 2: biharmonic) but where ``fixed`` (M,), with ``values`` (M, K) there.

    Returns (M, K); rows sum to 1 and lie in [0, 1], where biharmonic functions are cut off.
    """
    out = values.astype(np.float64)
    sub = _submatrix(surface, ~fixed, operator, order)
    if sub is None:
        return out
    used, inner, outer, stiffness, mass = sub
    if order == 2:
        stiffness = (stiffness @ diags(1 / np.maximum(mass, 1e-9 * mass.mean())) @ stiffness).tocsc()
    rows = stiffness[inner]
    columns = np.flatnonzero(values[used[outer]].any(0))
    right = -(rows[:, outer] @ values[np.ix_(used[outer], columns)])
    solution = np.zeros((len(inner), values.shape[1]))
    solution[:, columns] = np.clip(solve(lifted(rows[:, inner]), right), 0, 1)
    total = solution.sum(1, keepdims=True)
    out[used[inner]] = np.where(total > 0.1, solution / np.maximum(total, 0.1), out[used[inner]])
    return out


def _submatrix(surface: Surface, free: np.ndarray, operator, rings: int = 1):
    """Laplacian of the faces round the free vertices, to ``rings`` rings: the rest of the mesh need not enter it.

    Returns None where no face has a free corner; else the vertices used (U,), which of them are free and which not,
    the stiffness matrix (U, U) and the mass (U,).
    """
    near = free
    for _ in range(rings):
        faces = surface.faces[near[surface.faces[:, 0]] | near[surface.faces[:, 1]] | near[surface.faces[:, 2]]]
        near = np.zeros(len(free), bool)
        near[faces] = True
    if not len(faces):
        return None
    used, local = np.flatnonzero(near), np.cumsum(near) - 1
    stiffness, mass = operator(surface.vertices[used], local[faces])
    return used, np.flatnonzero(free[used]), np.flatnonzero(~free[used]), stiffness.tocsr(), mass


def fade(weights: np.ndarray) -> np.ndarray:
    """Let weights below ``FADE`` run out at half of it, and make rows sum to 1 again."""
    blended = np.flatnonzero(weights.max(1) < 1)            # the other rows stay as they are
    rows = weights[blended]
    faded = np.where(rows < FADE, np.maximum(2 * rows - FADE, 0), rows)
    total = faded.sum(1, keepdims=True)
    lost = np.flatnonzero(total[:, 0] <= 0)                 # a row of many small weights keeps its largest
    faded[lost, rows[lost].argmax(1)] = total[lost] = 1
    out = weights.copy()
    out[blended] = faded / total
    return out


def limit_influences(weights: np.ndarray, count: int | None) -> np.ndarray:
    """Keep the ``count`` largest weights of each row (ties to the lower column) and make rows sum to 1 again."""
    if count is None or count >= weights.shape[1]:
        return weights
    if count < 1:
        raise ValueError(f"max_influences must be at least 1; got {count}")
    crowded = np.flatnonzero((weights > 0).sum(1) > count)
    rows = weights[crowded]
    np.put_along_axis(rows, np.argsort(-rows, axis=1, kind="stable")[:, count:], 0, axis=1)
    out = weights.copy()
    out[crowded] = rows / rows.sum(1, keepdims=True)
    return out


def _prepare(mesh, labels, parts: int | None) -> tuple[Surface, np.ndarray, int]:
    surface = weld(mesh)
    labels = check_labels(labels, len(surface.index))
    count = int(labels.max()) + 1 if parts is None else int(parts)
    if labels.max() >= count:
        raise ValueError(f"labels go up to {labels.max()}, but only {count} parts were asked for")
    return surface, surface.gather(labels), count
