"""Skinning weights refined by known poses: what linear blend skinning must be to make a mesh move as it does.

The alternation of SSDR (Le and Deng 2012, "Smooth Skinning Decomposition with Rigid Bones"): weights by constrained
least squares with the bones' motions held, motions by weighted Procrustes fits with the weights held. SSDR starts from
nothing and may explain a vertex by any bones. Here there are weights to begin with and there may be one pose only, so
the weights stay near those they started from, as far as the poses do not tell otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import dijkstra

from sp4dlib.lifting.harmonic import limit_influences
from sp4dlib.lifting.linear import laplacian
from sp4dlib.lifting.surface import Surface, weld

REACH = 0.1         # of the longest side: as far beyond its present skin a joint may gain some
CANDIDATES = 8      # joints a vertex may choose from
DOUBT = 0.01, 0.3   # bounds of the estimated deviation by which starting weights are off
MARGIN = 0.05       # share by which noise may be underestimated
SMOOTHING = 2.0     # how far a correction is shared with the neighbours, in edges
FLOOR = 1e-4        # of the longest side: poses are never believed to be more exact
RIGID = 0.95        # starting weight from which a vertex should move with its joint alone
CALM = 0.25, 1.2125 # noise is read off this quantile of squared errors, which is that of chi-squared (3 degrees)
ROUNDS = 8         # alternations at most
SETTLED = 0.01      # share by which a round must lower the error for another to follow
STEPS = 50          # of the accelerated projected gradient in one round, at most
STILL = 1e-4        # largest change of a weight in ten steps at which they end
STEADY = 1e-3       # worth of a joint's present turn beside what its vertices say: decides where these say nothing


@dataclass(frozen=True)
class Refined:
    """Weights that explain the poses, and the motions that do it.

    Attributes
    ----------
    weights : ndarray, shape (N, K)
        Non-negative; rows sum to 1.
    transforms : ndarray, shape (F, K, 3, 4)
        From bind pose to each pose; a column without weight has the identity.
    rms_before, rms_after : float
        Root mean square distance, in the mesh's unit, of skinned vertices from the poses: by the starting weights with
        the motions that suit these best, and by the refined ones.
    noise : float
        Standard deviation of a coordinate, in the mesh's unit, that no weights can explain: estimated on vertices that
        one joint moves. How far the starting weights are kept depends on it.
    """

    weights: np.ndarray
    transforms: np.ndarray
    rms_before: float
    rms_after: float
    noise: float


@dataclass(frozen=True)
class _Choice:
    """The weights that may change: of C columns each, at n vertices."""

    vertices: np.ndarray        # (n,) of the welded surface
    columns: np.ndarray         # (n, C), -1 = none
    start: np.ndarray           # (n, C)
    stiffness: csr_matrix       # (n C, n C): the Laplacian, between equal columns of neighbours


def refine_weights(mesh, weights, poses, transforms=None, *, max_influences: int | None = 4, reach: float = REACH,
                   doubt: float | None = None, smoothing: float = SMOOTHING, rounds: int = ROUNDS) -> Refined:
    """Change skinning weights so that linear blend skinning explains known poses of the mesh.

    Weights w and rigid motions T of the joints lower

    ``sum_f sum_i |sum_k w_ik T_fk v_i - p_fi|^2 / s^2  +  (|d|^2 + h^2 tr(d' L d)) / doubt^2``

    by turns, with d the weights' change, L the surface Laplacian, whose entries have no unit, h the ``smoothing``,
    and rows of w on the simplex. The first term is the log-likelihood of the poses p under noise of deviation s; the
    others say that the weights were wrong by ``doubt`` or so and that neighbours were wrong alike. s is measured, at
    vertices that a single joint moves, and ``doubt`` by what the error of the starting weights has beyond that. So
    poses that rigid parts do not follow, be it for noise, cloth or muscles, move the weights little, and not at all
    where nothing shows that these are wrong; many clean poses decide.

    A vertex may choose among the joints whose present skin lies within ``reach`` of it along the surface, eight at most
    (:data:`CANDIDATES`). Its weights are found by accelerated projected gradients (Beck and Teboulle 2009), all
    vertices at once; motions joint by joint as in SSDR (Le and Deng 2012, section 4.2).

    Poses should be those of the joints that the columns stand for. Where more joints moved the mesh, weights lend
    themselves to motions that they cannot make, and other poses may come out worse: data/results/refine.json names two
    of eight rigs whose own animations do this.

    ``sp4d rig`` does not call it: no format that it reads brings vertices in several poses, so they come as an array.

    Parameters
    ----------
    mesh : object with ``vertices`` (N, 3) and ``faces`` (F, 3)
        In bind pose.
    weights : array_like, shape (N, K)
        To start from, as of :func:`sp4dlib.lifting.harmonic_weights`; rows sum to 1.
    poses : array_like, shape (F, N, 3)
        The same vertices in F poses other than the bind pose, which says nothing.
    transforms : array_like, shape (F, K, 3, 4) or (F, K, 4, 4), optional
        Known motions of the joints, from bind pose to each pose; taken as they are. Default: estimated.
    max_influences : int or None
        Most joints that may hold a vertex; None allows all candidates.
    reach : float
        In longest sides; 0 lets only joints that hold a vertex, or a copy at its position, keep it.
    doubt : float, optional
        Deviation of the starting weights from the true ones; smaller stays nearer to them. Default: estimated, 0.3 at
        most.
    smoothing : float
        In edges; 0 treats each vertex by itself.
    rounds : int
        Alternations at most; ends earlier when the error does not fall any more.

    Returns
    -------
    Refined

    Raises
    ------
    ValueError
        If arrays do not fit the mesh or are not finite, rows of ``weights`` do not sum to 1, or an option is out of
        range.
    """
    surface = weld(mesh)
    weights, poses, transforms = _checked(len(surface.index), weights, poses, transforms)
    if not (doubt is None or doubt > 0) or not smoothing >= 0 or not reach >= 0 or rounds < 1:
        raise ValueError(f"doubt must be positive, smoothing and reach 0 or more and rounds at least 1; got {doubt}, "
                         f"{smoothing}, {reach} and {rounds}")
    count = len(surface.vertices)
    gather = csr_matrix((np.ones(len(surface.index)), (surface.index, np.arange(len(surface.index)))),
                        shape=(count, len(surface.index)))
    copies = np.bincount(surface.index, minlength=count)[:, None]
    start = limit_influences((gather @ weights) / copies, max_influences)
    middle, size = surface.vertices.mean(0), surface.size
    rest = (surface.vertices - middle) / size
    posed = np.stack([(gather @ frame) / copies for frame in poses])
    posed = (posed - middle) / size
    known = None if transforms is None else _rescaled(transforms, middle, 1 / size)
    moved = _motions(rest, start, posed) if known is None else known
    before = _rms(rest, start, posed, moved)
    choice = _choices(surface, start, reach)
    noise = _noise(rest, start, posed, moved, known is None)
    doubt = _doubt(choice, rest, start, posed, moved, max(noise, FLOOR)) if doubt is None else doubt
    now, error = start, before
    for _ in range(rounds):
        now = _solve(choice, now, rest, posed, moved, (max(noise, FLOOR) / doubt) ** 2, smoothing)
        if known is None:
            moved = _motions(rest, now, posed, moved)
        last, error = error, _rms(rest, now, posed, moved)
        if known is not None or error > (1 - SETTLED) * last:
            break
        noise = _noise(rest, start, posed, moved, known is None)
    if max_influences is not None and ((now > 0).sum(1) > max_influences).any():
        now = limit_influences(now, max_influences)
        kept = np.where(choice.columns >= 0, np.take_along_axis(now[choice.vertices], choice.columns, 1) > 0, False)
        now = _solve(_narrowed(choice, kept), now, rest, posed, moved, (max(noise, FLOOR) / doubt) ** 2, smoothing)
        moved = _motions(rest, now, posed, moved) if known is None else moved
        error = _rms(rest, now, posed, moved)
    out = _rescaled(moved, -middle / size, size) if transforms is None else transforms
    return Refined(now[surface.index], out, before * size, error * size, noise * size)


def _checked(count: int, weights, poses, transforms) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The arrays as floats, or a ValueError that says what is wrong with them."""
    weights, poses = np.asarray(weights, np.float64), np.asarray(poses, np.float64)
    if weights.ndim != 2 or len(weights) != count or not weights.shape[1]:
        raise ValueError(f"weights must have a row for each of the {count} vertices; got shape {weights.shape}")
    if poses.ndim != 3 or poses.shape[1:] != (count, 3) or not len(poses):
        raise ValueError(f"poses must be the mesh's {count} vertices in one or more poses, shape (F, {count}, 3); got "
                         f"{poses.shape}")
    if not np.isfinite(weights).all() or not np.isfinite(poses).all():
        raise ValueError("weights or poses hold NaN or infinity; leave such poses out")
    if weights.min() < 0 or np.abs(weights.sum(1) - 1).max() > 1e-3:
        raise ValueError("weights must be 0 or more and every row must sum to 1; "
                         f"{int((np.abs(weights.sum(1) - 1) > 1e-3).sum())} rows do not")
    if transforms is None:
        return weights, poses, None
    transforms = np.asarray(transforms, np.float64)
    if transforms.shape not in ((len(poses), weights.shape[1], 3, 4), (len(poses), weights.shape[1], 4, 4)):
        raise ValueError(f"transforms must be matrices of shape ({len(poses)}, {weights.shape[1]}, 3, 4), one for each "
                         f"pose and column of weights; got {transforms.shape}")
    if not np.isfinite(transforms).all():
        raise ValueError("transforms hold NaN or infinity")
    return weights, poses, transforms[:, :, :3]


def _rescaled(transforms: np.ndarray, origin: np.ndarray, scale: float) -> np.ndarray:
    """Motions (..., 3, 4) of points x as motions of ``(x - origin) * scale``."""
    out = transforms.copy()
    out[..., 3] = scale * (transforms[..., :3] @ origin + transforms[..., 3] - origin)
    return out


def _skinned(rest: np.ndarray, weights: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """Linear blend skinning, (F, M, 3)."""
    blended = np.einsum("mk,fkab->fmab", weights, transforms, optimize=True)
    return np.einsum("fmab,mb->fma", blended[..., :3], rest) + blended[..., 3]


def _rms(rest: np.ndarray, weights: np.ndarray, posed: np.ndarray, transforms: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum((_skinned(rest, weights, transforms) - posed) ** 2, axis=-1))))


def _noise(rest: np.ndarray, start: np.ndarray, posed: np.ndarray, transforms: np.ndarray, fitted: bool) -> float:
    """Deviation of a coordinate from rigid motion at vertices that start with one joint; robust, by a low quantile.

    A motion that was ``fitted`` follows the noise of its n vertices with six numbers for their 3 n.
    """
    core = np.flatnonzero(start.max(1) > RIGID)
    owner = start[core].argmax(1)
    held = np.bincount(owner, minlength=start.shape[1])
    core, owner = core[held[owner] > 2], owner[held[owner] > 2]
    if not len(core):
        return 0.0
    error = _skinned(rest[core], np.eye(start.shape[1])[owner], transforms) - posed[:, core]
    square = np.sum(error**2, axis=-1) / (1 - 2 / held[owner] if fitted else 1)
    return float(np.sqrt(np.quantile(square, CALM[0]) / CALM[1]))


def _doubt(choice: _Choice, rest: np.ndarray, start: np.ndarray, posed: np.ndarray, transforms: np.ndarray,
           noise: float) -> float:
    """By how much the starting weights are off: what the error has beyond noise, over the ways that joints part.

    A weight that is off by d between two joints, which carry the vertex to a and b, moves it by ``d |a - b|``.
    """
    if not len(choice.vertices):
        return DOUBT[0]
    points, goal = rest[choice.vertices], posed[:, choice.vertices]
    error = np.sum((_skinned(points, start[choice.vertices], transforms) - goal) ** 2, axis=-1)
    first, second = (transforms[:, choice.columns[:, k]] for k in (0, 1))                       # (F, n, 3, 4)
    apart = np.einsum("fnab,nb->fna", (first - second)[..., :3], points) + (first - second)[..., 3]
    beyond = max(np.sum(error - 3 * (1 + MARGIN) * noise**2), 0)
    return float(np.clip(np.sqrt(beyond / max(np.sum(apart**2), 1e-30)), *DOUBT))


def _motions(rest: np.ndarray, weights: np.ndarray, posed: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """Rigid motions of the joints (F, K, 3, 4) that suit the weights best, one joint after the other, three times.

    With what the other joints do taken away, joint k's motion minimises ``sum_i |w_i (R v_i + t) - q_i|^2``: a
    Procrustes fit of q / w with squared weights (Le and Deng 2012, equations 8 to 11). Without ``start``, joints are
    first fitted each by itself to the vertices they hold.
    """
    if start is None:
        transforms = np.zeros((len(posed), weights.shape[1], 3, 4))
        transforms[:, :, :, :3] = np.eye(3)
        for joint in np.flatnonzero(weights.any(0)):
            held = np.flatnonzero(weights[:, joint] > 0.5 * weights[:, joint].max())
            share = weights[held, joint]
            transforms[:, joint] = _fitted(rest[held], share, share[:, None] * posed[:, held], transforms[:, joint])
    else:
        transforms = start.copy()
    members = [(joint, np.flatnonzero(weights[:, joint])) for joint in np.flatnonzero(weights.any(0))]
    residual = posed - _skinned(rest, weights, transforms)
    for _ in range(3):
        for joint, held in members:
            share = weights[held, joint]
            own = rest[held] @ transforms[:, joint, :, :3].swapaxes(-1, -2) + transforms[:, joint, None, :, 3]
            goal = residual[:, held] + share[:, None] * own
            transforms[:, joint] = _fitted(rest[held], share, goal, transforms[:, joint])
            own = rest[held] @ transforms[:, joint, :, :3].swapaxes(-1, -2) + transforms[:, joint, None, :, 3]
            residual[:, held] = goal - share[:, None] * own
    return transforms


def _fitted(points: np.ndarray, share: np.ndarray, goal: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Rigid motions (F, 3, 4) that carry ``share * points`` (n, 3) to ``goal`` (F, n, 3) best.

    A joint that holds a point or a line only keeps of its ``present`` turn what they leave open.
    """
    mass = share @ share
    center, aim = share**2 @ points / mass, np.einsum("i,fia->fa", share, goal) / mass
    spread = np.einsum("fia,ib->fab", goal - share[:, None] * aim[:, None], share[:, None] * (points - center))
    breadth = share**2 @ np.sum((points - center) ** 2, axis=1)
    spread += STEADY * (breadth + 1e-12) * present[:, :, :3]
    left, _, right = np.linalg.svd(spread)
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    turn = left @ right
    return np.concatenate([turn, (aim - turn @ center)[..., None]], axis=-1)


def _choices(surface: Surface, start: np.ndarray, reach: float) -> _Choice:
    """Vertices with two or more joints near by, and these joints."""
    first, second = surface.edges.T
    length = np.linalg.norm(surface.vertices[first] - surface.vertices[second], axis=1) / surface.size
    count, joints = start.shape
    graph = coo_matrix((np.maximum(length, 1e-12), (first, second)), shape=(count, count)).tocsr()
    distance = np.full((count, joints), np.inf)
    for joint in np.flatnonzero(start.any(0)):
        held = np.flatnonzero(start[:, joint])
        distance[held, joint] = 0
        if reach > 0:
            distance[:, joint] = dijkstra(graph, directed=False, indices=held, min_only=True, limit=reach)
    wanted = np.where(np.isfinite(distance), distance - start, np.inf)      # what holds a vertex comes first
    columns = np.argsort(wanted, axis=1, kind="stable")[:, :CANDIDATES]
    columns = np.where(np.isfinite(np.take_along_axis(wanted, columns, 1)), columns, -1)
    vertices = np.flatnonzero((columns >= 0).sum(1) > 1)
    columns = columns[vertices]
    stiffness, _ = laplacian(surface.vertices, surface.faces)
    values = np.where(columns >= 0, np.take_along_axis(start[vertices], columns, 1), 0)
    return _Choice(vertices, columns, values, _slot_stiffness(stiffness, vertices, columns, joints))


def _slot_stiffness(stiffness, vertices: np.ndarray, columns: np.ndarray, joints: int) -> csr_matrix:
    """Laplacian between equal columns of the vertices that may change; all others' change is 0."""
    inner = coo_matrix(stiffness.tocsr()[vertices][:, vertices])
    width = columns.shape[1]
    slot = np.full((len(vertices), joints + 1), -1)
    np.put_along_axis(slot, columns, np.arange(columns.size).reshape(columns.shape), axis=1)    # -1 is the spare one
    slot[:, joints] = -1
    rows = inner.row[:, None] * width + np.arange(width)
    others = slot[inner.col[:, None], columns[inner.row]]
    real = (others >= 0) & (columns[inner.row] >= 0)
    values = np.broadcast_to(inner.data[:, None], rows.shape)
    return csr_matrix((values[real], (rows[real], others[real])), shape=(columns.size, columns.size))


def _narrowed(choice: _Choice, kept: np.ndarray) -> _Choice:
    """The choice with the columns ``kept`` (n, C) only; a column that goes is no longer coupled to its neighbours."""
    real = kept.ravel().astype(float)
    stiffness = choice.stiffness.multiply(real[:, None]).multiply(real[None]).tocsr()
    return _Choice(choice.vertices, np.where(kept, choice.columns, -1), choice.start, stiffness)


def _solve(choice: _Choice, weights: np.ndarray, rest: np.ndarray, posed: np.ndarray, transforms: np.ndarray,
           trust: float, smoothing: float) -> np.ndarray:
    """Weights (M, K) that explain the poses best with the motions held: FISTA with restarts on the simplex.

    Energies are multiplied by s^2, so that ``trust`` is ``(s / doubt)^2``. Steps differ from vertex to vertex, but not
    within one, so the projection stays the Euclidean one.
    """
    if not len(choice.vertices):
        return weights
    gram = _gram(choice, rest, posed, transforms)
    real = choice.columns >= 0
    coupling = (trust * smoothing**2) * choice.stiffness
    # Off-diagonal entries are never positive and rows sum to 0 at most: twice the diagonal bounds the eigenvalues.
    bound = 2 * coupling.diagonal().reshape(real.shape).max(1) + trust
    step = (1 / (bound + np.linalg.eigvalsh(gram)[:, -1]))[:, None]
    present = np.where(real, np.take_along_axis(weights[choice.vertices], choice.columns, 1), 0)
    ahead, momentum, mark = present, 1.0, present
    for turn in range(STEPS):
        change = ahead - choice.start
        slope = np.einsum("ncd,nd->nc", gram, ahead) + trust * change + (coupling @ change.ravel()).reshape(real.shape)
        moved = _to_simplex(ahead - step * slope, real)
        if np.sum((ahead - moved) * (moved - present) / step) > 0:
            momentum, following = 1.0, 1.0                      # it ran past the valley (O'Donoghue and Candes 2015)
        else:
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = moved + (momentum - 1) / following * (moved - present)
        present, momentum = moved, following
        if turn % 10 == 9:
            if np.abs(present - mark).max() < STILL:
                break
            mark = present
    out = weights.copy()
    out[choice.vertices] = 0
    rows, slots = np.nonzero(real)
    out[choice.vertices[rows], choice.columns[rows, slots]] = present[rows, slots]
    return out


def _gram(choice: _Choice, rest: np.ndarray, posed: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """``sum_f a_f' a_f`` (n, C, C), with a_f the way from a vertex' pose to where each candidate would carry it."""
    points, columns = rest[choice.vertices], choice.columns
    gram = np.zeros((*columns.shape, columns.shape[1]))
    for frame, goal in zip(transforms, posed[:, choice.vertices]):
        everywhere = np.einsum("kab,nb->nka", frame[:, :, :3], points) + frame[:, :, 3]         # (n, K, 3)
        away = np.take_along_axis(everywhere, columns[:, :, None], 1) - goal[:, None]
        away[columns < 0] = 0
        gram += away @ away.swapaxes(1, 2)
    return gram


def _to_simplex(values: np.ndarray, real: np.ndarray) -> np.ndarray:
    """The nearest points (n, C) whose entries are 0 or more, sum to 1, and are 0 where not ``real``.

    Held, Wolfe and Crowder 1974; Duchi et al. 2008, figure 1.
    """
    values = np.where(real, values, -1e3)
    sorted_ = -np.sort(-values, axis=1)
    excess = (np.cumsum(sorted_, axis=1) - 1) / np.arange(1, values.shape[1] + 1)
    last = np.count_nonzero(sorted_ > excess, axis=1) - 1
    return np.maximum(values - np.take_along_axis(excess, last[:, None], 1), 0)
