"""Maps of part ids: fold the smallest parts into their parents."""

from __future__ import annotations

import numpy as np


def fold_small_parts(parts: np.ndarray, parents: np.ndarray, min_share: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Fold every part that shows less than ``min_share`` of the foreground into its parent.

    From the leaves to the root; what a part takes in counts for it. A root that is still too small joins its
    largest child. Parts that are never seen fold too.

    Parameters
    ----------
    parts : array_like of int
        Part ids, -1 = background; any shape, counted over all of it.
    parents : array_like of int, shape (K,)
        Parent of each part, -1 at a root; parents precede children.
    min_share : float
        Share of the foreground pixels, in [0, 1].

    Returns
    -------
    folded : ndarray, like ``parts``
        New ids, 0..K'-1 and -1.
    kept : ndarray of int, shape (K',)
        The old id of each new one: ``centers[:, kept]``, ``colors[kept]``.
    """
    parts, parents = np.asarray(parts), np.asarray(parents, np.int64)
    count = len(parents)
    if parents.ndim != 1 or np.any(parents >= np.arange(count)) or np.any(parents < -1):
        raise ValueError(f"parents must precede their children, -1 at a root; got {parents.tolist()}")
    if parts.size and (parts.min() < -1 or parts.max() >= count):
        raise ValueError(f"parts hold ids from {parts.min()} to {parts.max()}, but there are {count} parents")
    size = np.bincount(parts.ravel().astype(np.int64) + 1, minlength=count + 1)[1:]
    needed = min_share * size.sum()
    heir = np.arange(count)
    for part in range(count - 1, -1, -1):
        if size[part] >= max(needed, 1):
            continue
        into = parents[part]
        if into < 0:
            children = np.flatnonzero((heir == np.arange(count)) & (_kept_parent(parents, heir) == part))
            if not len(children):
                continue
            into = children[np.argmax(size[children])]
        heir[part] = into
        size[into] += size[part]
        size[part] = 0
    while np.any(heir != heir[heir]):
        heir = heir[heir]
    kept = np.flatnonzero((heir == np.arange(count)) & (size > 0))
    new = np.full(count + 1, -1)
    new[kept] = np.arange(len(kept))
    table = np.append(new[heir], -1)                               # index -1 is the background
    return table[parts].astype(parts.dtype), kept


def _kept_parent(parents: np.ndarray, heir: np.ndarray) -> np.ndarray:
    """The parent of each part after the folding so far."""
    merged = heir.copy()
    while np.any(merged != merged[merged]):
        merged = merged[merged]
    return np.where(parents >= 0, merged[parents], -1)
