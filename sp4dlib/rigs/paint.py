"""Colours of procedural rigs: sRGB names to linear light, soft edges, coats."""

from __future__ import annotations

import numpy as np

PATTERNS = ("plain", "patches", "spots", "stripes")


def linear(color: str) -> np.ndarray:
    """Linear RGB (3,) of an sRGB ``#rrggbb`` (IEC 61966-2-1)."""
    srgb = np.array([int(color[i:i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def smooth_step(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and a polynomial between them that is flat at both ends."""
    x = np.clip(x, 0, 1)
    return x**3 * (x * (6 * x - 15) + 10)


def mix(color: np.ndarray, other, share: np.ndarray) -> np.ndarray:
    """Colours (N, 3) moved towards ``other``, a ``#rrggbb`` or linear (3,), by ``share`` (N,) in [0, 1]."""
    other = linear(other) if isinstance(other, str) else other
    return color + np.asarray(share, float)[:, None] * (other - color)


def marks(pattern: str, points: np.ndarray, generator: np.random.Generator, size: float = 1.0) -> np.ndarray:
    """How much of the marking colour each point takes.

    Parameters
    ----------
    pattern : str
        One of :data:`PATTERNS`.
    points : ndarray, shape (N, 3)
    generator : numpy Generator
    size : float
        Of the marks; 1 suits an animal of about one unit. Stripes run across z.

    Returns
    -------
    ndarray, shape (N,)
        In [0, 1].
    """
    if pattern == "plain":
        return np.zeros(len(points))
    if pattern == "stripes":
        wave = points[:, 2] / size + 0.06 * np.sin(6 * points[:, 1] / size + generator.uniform(0, 2 * np.pi))
        return smooth_step((np.sin(2 * np.pi * wave / 0.17) - 0.1) / 0.5)
    count, low, high = (9, 0.10, 0.20) if pattern == "patches" else (60, 0.035, 0.06)
    centres = points[generator.choice(len(points), count, replace=False)]
    radii = size * generator.uniform(low, high, count)
    nearest = (np.linalg.norm(points[:, None] - centres, axis=2) / radii).min(1)
    return smooth_step((1.2 - nearest) / 0.4)
