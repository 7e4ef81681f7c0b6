"""Which colours does a part video hold? Exact where it is clean, seeds for :mod:`.explain` where it is not."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

MOST_COLORS = 1024          # a clip with more distinct colours is not clean
BIN = 4                     # levels; side of a cell of the colour histogram


def pack(colors: np.ndarray) -> np.ndarray:
    """Colours (..., 3) of 0 to 255 as one number each."""
    red, green, blue = np.moveaxis(colors, -1, 0)
    return red.astype(np.uint32) | green.astype(np.uint32) << 8 | blue.astype(np.uint32) << 16


def clean_palette(images: np.ndarray, num_parts: int | None, min_levels: float) -> np.ndarray | None:
    """The colours of an undamaged part video, (M, 3) uint8, white among them if it occurs; None if it is damaged.

    It counts as undamaged if it holds no more colours than parts and white; or, if their number is unknown, if all its
    colours lie ``min_levels`` apart or no colour lives on borders only, between two others (see :func:`_blends`).
    """
    packed = pack(images)
    present = np.zeros(1 << 24, bool)
    present[packed] = True
    codes = np.flatnonzero(present)
    if len(codes) > MOST_COLORS:
        return None
    colors = np.stack([codes & 255, codes >> 8 & 255, codes >> 16], -1)
    parts = (colors < 255).any(1).sum()
    if num_parts is not None:
        return colors.astype(np.uint8) if parts <= num_parts else None
    gaps = np.linalg.norm(colors[:, None] - colors, axis=-1)
    np.fill_diagonal(gaps, np.inf)
    if gaps.min(initial=np.inf) >= min_levels or not _blends(images, packed, codes).any():
        return colors.astype(np.uint8)
    return None


def _blends(images: np.ndarray, packed: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Whether most pixels of each colour lie between two neighbours that they are a mixture of, (M,) bool."""
    values = images.astype(np.float32)
    height, width = packed.shape[-2:]
    mixed = np.zeros(packed.shape, bool)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        start, here, end = (values[..., 1 + s * dy:height - 1 + s * dy, 1 + s * dx:width - 1 + s * dx, :]
                            for s in (-1, 0, 1))
        along = end - start
        length = np.maximum((along**2).sum(-1), 1e-6)
        share = ((here - start) * along).sum(-1) / length
        off = ((here - start - share[..., None] * along) ** 2).sum(-1)
        mixed[..., 1:-1, 1:-1] |= (off < 3) & (share > 0.02) & (share < 0.98) & (length > 16)
    index = np.searchsorted(codes, packed.ravel())
    total = np.bincount(index, minlength=len(codes))
    return np.bincount(index, mixed.ravel(), len(codes)) > 0.5 * total


def flatness(smooth: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Weight in [0, 1] of each pixel as a witness of one pure colour: low where the smoothed picture changes.

    The scale is taken from the picture: the quieter third of the foreground shows how much gradient noise alone makes.
    """
    squared = np.zeros(smooth.shape[:-1], np.float32)
    for axis in (1, 2):
        squared += (np.gradient(smooth, axis=axis) ** 2).sum(-1)
    quiet = np.percentile(squared[foreground], 30)
    return np.exp(-squared / (4 * quiet + 2))


def seed_colors(smooth: np.ndarray, weight: np.ndarray, foreground: np.ndarray, min_levels: float, most: int,
                taken: np.ndarray | None = None, support: float = 4.0) -> np.ndarray:
    """Peaks of the weighted colour histogram, strongest first.

    Parameters
    ----------
    smooth : ndarray, shape (n, h, w, 3)
        Smoothed pictures, 0 to 255.
    weight : ndarray, shape (n, h, w)
        Of each pixel's vote, flatness for instance.
    foreground : ndarray of bool, shape (n, h, w)
    min_levels : float
        No two peaks nearer than this.
    most : int
        How many at the most.
    taken : ndarray, shape (L, 3), optional
        Colours that are known already: nothing nearer than ``min_levels`` to them.
    support : float
        Pixels that a peak must speak for.

    Returns
    -------
    ndarray, shape (M, 3)
    """
    cells = 256 // BIN
    at = np.clip(smooth[foreground] / BIN, 0, cells - 1).astype(np.int64)
    flat = (at[:, 0] * cells + at[:, 1]) * cells + at[:, 2]
    counts = np.bincount(flat, weight[foreground], cells**3).reshape(cells, cells, cells)
    spread = 1.5                                                        # cells
    density = ndimage.gaussian_filter(counts.astype(np.float32), spread, mode="constant", truncate=3)
    kernel_peak = (2 * np.pi * spread**2) ** -1.5
    peak = (density == ndimage.maximum_filter(density, 3)) & (density > support * kernel_peak)
    where = np.argwhere(peak)
    where = where[np.argsort(-density[peak], kind="stable")]
    chosen: list[np.ndarray] = []
    others = [] if taken is None else list(taken)
    for cell in where:
        color = (cell + 0.5) * BIN
        if all(np.linalg.norm(color - other) >= min_levels for other in others):
            chosen.append(color)
            others.append(color)
            if len(chosen) == most:
                break
    return np.array(chosen, np.float32).reshape(-1, 3)
