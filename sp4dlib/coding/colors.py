"""Part ids to colours: the spatial colour code of SP4D (arXiv 2509.10687, section 3.1).

A part's colour is where the part's centre lies in the object's bounding box. The paper does not say what happens when
two centres coincide (an eye inside a head, concentric shells), nor when a centre lands on white, the colour of the
background; :func:`part_colors` then moves the colours apart by as little as a fixed rule finds, so that the code
can always be inverted.
"""

from __future__ import annotations

import numpy as np

MIN_DISTANCE = 1 / 8        # of the colour cube's side: 32 of 255 levels
WHITE = np.ones(3)
STEPS = 400                 # of the relaxation; beyond it the lattice decides
RELAXED = 128               # with more parts the relaxation is slow, and the lattice decides at once


def part_colors(
    centers: np.ndarray,
    box: np.ndarray,
    camera0: np.ndarray | None = None,
    *,
    normalize: str = "per-axis",
    frame: str = "view",
    min_distance: float | None = None,
) -> np.ndarray:
    """Colour of each part: its centre at frame 0, normalised by the object's bounding box.

    ``c_k = (R m_k - low) / (high - low)`` with m_k the part's centre, R the rotation to the axes of view 0 (x right,
    y up, z towards the camera) and low, high the corners of the box in those axes; then clamped to [0, 1] and pushed
    apart. SP4D section 3.1 gives the code; its published part maps span 0 to 1 along every axis, which speaks for one
    scale for each axis. It leaves the axes open: those of view 0 can be predicted from the input picture.

    The push. All colours, and white as one that cannot move, end at least ``min_distance`` apart (Euclidean, in units
    of the cube's side). Every pair that is too close is parted along its line, half each, and moved points are kept in
    the cube; colours that collide with nothing stay where they are. Should that not settle within a fixed number of
    steps, or with more than 128 parts, each colour takes its own point of a cubic lattice of sufficient spacing, at the
    least total squared movement. The result does not depend on the order of the parts (parts with equal centres aside,
    which nothing but their order tells apart) and is the same on every call.

    Parameters
    ----------
    centers : array_like, shape (K, 3)
        Centres of the parts at frame 0, in the clip's axes.
    box : array_like, shape (2, 3)
        Lowest and highest corner of the object at frame 0: in the axes of view 0, or, with ``frame="object"``, in
        the clip's axes.
    camera0 : array_like, shape (3, 3), optional
        Rotation from the clip's axes to those of view 0. Needed when ``frame`` is "view".
    normalize : {"per-axis", "isotropic"}
        Each axis by its own extent, or all by the longest, centred at 0.5. An axis without extent gives 0.5.
    frame : {"view", "object"}
        Axes of the code.
    min_distance : float, optional
        By default 1/8 (32 levels of 8 bits), for up to 728 parts; for more, the spacing of the coarsest cubic lattice
        with more points than parts. 0 leaves colours where the formula puts them.

    Returns
    -------
    ndarray, shape (K, 3)
        Colours in [0, 1].

    Raises
    ------
    ValueError
        On shapes that do not fit, centres that are not finite, a box with its corners swapped, and a
        ``min_distance`` at which so many colours do not fit.
    """
    centers, box = np.asarray(centers, np.float64), np.asarray(box, np.float64)
    if centers.ndim != 2 or centers.shape[1] != 3:
        raise ValueError(f"centers must be (K, 3), one row for each part; got {centers.shape}")
    if box.shape != (2, 3) or not np.isfinite(box).all() or np.any(box[1] < box[0]):
        raise ValueError(f"box must be (2, 3), lowest then highest corner, finite; got {box.tolist()}")
    absent = np.flatnonzero(~np.isfinite(centers).all(1))
    if len(absent):
        raise ValueError(f"parts {absent.tolist()} have no finite centre at frame 0; a part without vertices has no "
                         "place in the colour code: remove it, or fold it into its parent")
    if normalize not in ("per-axis", "isotropic"):
        raise ValueError(f"normalize must be 'per-axis' or 'isotropic'; got {normalize!r}")
    if frame == "view":
        if np.shape(camera0) != (3, 3):
            raise ValueError(f"frame='view' needs camera0, the (3, 3) rotation to the axes of view 0; got shape "
                             f"{np.shape(camera0)}")
        # Not a BLAS product: a row's last bit must not depend on its place in the array.
        centers = (centers[:, None, :] * np.asarray(camera0, np.float64)).sum(-1)
    elif frame != "object":
        raise ValueError(f"frame must be 'view' or 'object'; got {frame!r}")
    extent = box[1] - box[0]
    if normalize == "isotropic":
        extent = np.full(3, extent.max())
    safe = np.where(extent > 0, extent, 1)
    colors = np.where(extent > 0, (centers - (box[0] + box[1]) / 2) / safe, 0) + 0.5
    return push_apart(np.clip(colors, 0, 1), min_distance)


def push_apart(colors: np.ndarray, min_distance: float | None = None) -> np.ndarray:
    """Move colours (K, 3) in [0, 1] apart from each other and from white; see :func:`part_colors`."""
    count = len(colors)
    side = int(np.ceil(np.cbrt(count + 1) - 1e-9))                 # of the coarsest lattice with room for all
    if min_distance is None:
        min_distance = MIN_DISTANCE if side < 2 else min(MIN_DISTANCE, 1 / (side - 1))
    if not 0 <= min_distance <= 1:
        raise ValueError(f"min_distance is a share of the colour cube's side, in [0, 1]; got {min_distance}")
    if min_distance == 0:
        return colors
    colors = np.round(colors, 9)                                   # noise in the last bits must not pick a direction
    order = np.lexsort(colors.T[::-1])
    moved = _relax(colors[order], min_distance) if count <= RELAXED else None
    if moved is None:
        moved = _to_lattice(colors[order], min_distance)
    result = np.empty_like(moved)
    result[order] = moved
    return result


def _relax(colors: np.ndarray, distance: float) -> np.ndarray | None:
    """Project out all collisions again and again; None when that does not settle."""
    points = np.vstack([WHITE, colors])                            # white is point 0 and never moves
    count = len(points)
    turn = np.arange(count) * 2.399963229728653                    # the golden angle: no two directions alike
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    radius = np.sqrt(1 - height**2)
    sphere = np.stack([radius * np.cos(turn), height, radius * np.sin(turn)], -1)
    ties = sphere[:, None] - sphere
    ties[1:, 0], ties[0, 1:] = -WHITE, WHITE                       # away from white means into the cube
    ties /= np.maximum(np.linalg.norm(ties, axis=-1, keepdims=True), 1e-12)
    share = np.full((count, count), 0.5)
    share[:, 0] = 1
    np.fill_diagonal(share, 0)
    for _ in range(STEPS):
        between = points[:, None] - points
        length = np.linalg.norm(between, axis=-1)
        np.fill_diagonal(length, np.inf)
        if length.min() >= distance:
            return points[1:]
        # Aim one part in a hundred too far, so that the end is reached in finitely many steps.
        short = np.where(length < distance, 1.01 * distance - length, 0) * share
        # A little sideways: points in a row that fills the cube could never leave their line.
        direction = between / np.maximum(length, 1e-6)[..., None] + 0.05 * ties
        direction = np.where(length[..., None] > 1e-6, direction, ties)
        move = (short[..., None] * direction).sum(1)
        move /= np.maximum(1, (short > 0).sum(1) / 2)[:, None]     # in a crowd, full steps would overshoot
        points[1:] = np.clip(points[1:] + move[1:], 0, 1)
    return None


def _to_lattice(colors: np.ndarray, distance: float) -> np.ndarray:
    """Give each colour its own point of a cubic lattice, at the least total squared movement."""
    from scipy.optimize import linear_sum_assignment

    side = int(np.floor(1 / distance + 1e-9)) + 1
    axis = np.linspace(0, 1, side)
    lattice = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)[:-1]     # the last is white
    if len(lattice) < len(colors):
        raise ValueError(f"{len(colors)} colours do not fit into the cube at min_distance {distance:.3g}; leave it "
                         "out, or make it smaller")
    rows, columns = linear_sum_assignment(((colors[:, None] - lattice) ** 2).sum(-1))
    return lattice[columns[np.argsort(rows)]]


def encode(parts: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Paint part ids in their colours.

    Parameters
    ----------
    parts : array_like of int, shape (..., H, W)
        Part ids; -1 is background and becomes white.
    colors : array_like, shape (K, 3)
        In [0, 1].

    Returns
    -------
    ndarray of uint8, shape (..., H, W, 3)
    """
    parts, colors = np.asarray(parts), np.asarray(colors, np.float64)
    if colors.ndim != 2 or colors.shape[1] != 3 or not (np.isfinite(colors).all() and (colors >= 0).all()
                                                        and (colors <= 1).all()):
        raise ValueError(f"colors must be (K, 3) in [0, 1]; got shape {colors.shape}"
                         + (f", range {colors.min():.3g} to {colors.max():.3g}" if colors.size else ""))
    if not np.issubdtype(parts.dtype, np.integer):
        raise ValueError(f"parts must be integers (-1 is background); got {parts.dtype}")
    if parts.size and (parts.min() < -1 or parts.max() >= len(colors)):
        raise ValueError(f"parts hold ids from {parts.min()} to {parts.max()}, but there are {len(colors)} colours: "
                         f"ids must lie in -1..{len(colors) - 1}")
    table = np.vstack([np.round(colors * 255), [[255] * 3]]).astype(np.uint8)       # index -1 is the last row
    return table[parts]
