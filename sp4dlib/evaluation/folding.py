"""Which parts are scored: those that are large enough to be seen; smaller ones belong to their parents."""

from __future__ import annotations

import numpy as np

LEAST_SHARE = 0.005     # of the clip's true foreground
LEAST_PIXELS = 16


def fold_small_parts(ids: np.ndarray, parents: np.ndarray, least_share: float = LEAST_SHARE,
                     least_pixels: int = LEAST_PIXELS) -> np.ndarray:
    """Give the pixels of small parts to their parents.

    From the leaves of the tree to its root, a part that covers less than ``least_share`` of the foreground, or fewer
    than ``least_pixels``, is folded into its nearest ancestor that shows (has pixels). What was folded into a part
    counts as its own when its turn comes. Where no ancestor shows, as for the root, the part goes to the one that is
    nearest in the tree among those that show; of equally near ones to the largest, then to the lowest id.

    Parameters
    ----------
    ids : ndarray of int, shape (..., H, W)
        Part ids of all images of a clip, negative = background.
    parents : array_like of int, shape (K,)
        Parent of each part, -1 at roots; parents precede children.
    least_share : float
    least_pixels : int

    Returns
    -------
    ndarray, shape and type of ``ids``
        Ids that are left keep their meaning. A clip with a single part that shows keeps it, however small.

    Raises
    ------
    ValueError
        If an id has no parent entry, or parents do not precede children.
    """
    ids, parents = np.asarray(ids), np.asarray(parents)
    if (parents >= np.arange(len(parents))).any():
        raise ValueError(f"parents must precede their children; got {parents.tolist()}")
    if ids.max(initial=-1) >= len(parents):
        raise ValueError(f"ids go to {ids.max()} and there are {len(parents)} parts")
    counts = np.bincount(ids[ids >= 0].ravel(), minlength=len(parents))
    least = max(least_share * counts.sum(), least_pixels)
    target = np.arange(len(parents))
    for part in range(len(parents))[::-1]:
        if not 0 < counts[part] < least:
            continue
        heir = _heir(part, parents, counts)
        if heir < 0:
            break
        counts[heir] += counts[part]
        counts[part] = 0
        target[target == part] = heir
    return np.where(ids >= 0, target[ids], ids).astype(ids.dtype)


def _heir(part: int, parents: np.ndarray, counts: np.ndarray) -> int:
    """The part that takes the pixels of ``part``; -1 if no other shows."""
    above = parents[part]
    while above >= 0 and not counts[above]:
        above = parents[above]
    if above >= 0:
        return int(above)
    others = [k for k in np.flatnonzero(counts) if k != part]
    if not others:
        return -1
    line = _line(part, parents)

    def edges(other: int) -> int:
        theirs = _line(other, parents)
        shared = len(set(line) & set(theirs))
        return len(line) + len(theirs) - 2 * shared

    return int(min(others, key=lambda k: (edges(k), -counts[k], k)))


def _line(part: int, parents: np.ndarray) -> list[int]:
    """A part and its ancestors, and -1 above them all: roots are neighbours."""
    line = [part]
    while line[-1] >= 0:
        line.append(int(parents[line[-1]]))
    return line
