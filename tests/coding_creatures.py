"""Part maps of made-up creatures: trees of ellipsoids, seen from a few views, in a little motion."""

from __future__ import annotations

import numpy as np

from sp4dlib import coding


def creature(count: int, seed: int, size: int = 96, frames: int = 2, views: int = 2):
    """Part ids (frames, views, size, size), colours (count, 3) and parents (count,) of a tree of ellipsoids."""
    random = np.random.default_rng(seed)
    parents = np.array([-1] + [random.integers(max(0, k - 6), k) for k in range(1, count)])
    axes = random.normal(size=(count, 3)) * [1, 1, 0.5]
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    radii, centers = np.full(count, 0.35), np.zeros((count, 3))
    for k in range(1, count):
        radii[k] = max(0.05, radii[parents[k]] * random.uniform(0.6, 0.95))
        centers[k] = centers[parents[k]] + axes[k] * (radii[parents[k]] * 0.6 + radii[k] * 0.8)
    low, high = (centers - radii[:, None]).min(0), (centers + radii[:, None]).max(0)
    centers, radii = (centers - (low + high) / 2) / (high - low).max(), radii / (high - low).max()
    velocity = random.normal(size=(count, 3)) * 0.02
    parts = np.stack([[_draw(centers + velocity * t, axes, radii, v * 1.4 + 0.2, size) for v in range(views)]
                      for t in range(frames)])
    half = (high - low) / (high - low).max() / 2
    return parts, coding.part_colors(centers, np.stack([-half, half]), np.eye(3)), parents


def _draw(centers, axes, radii, angle, size):
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    centers, axes = centers @ turn.T, axes @ turn.T
    rows, columns = np.mgrid[:size, :size]
    x, y = (columns + 0.5) / size * 1.15 - 0.575, 0.575 - (rows + 0.5) / size * 1.15
    ids, nearest = np.full((size, size), -1, np.int16), np.full((size, size), -np.inf)
    for k, (center, axis, radius) in enumerate(zip(centers, axes, radii)):
        metric = (np.eye(3) - 0.8 * np.outer(axis, axis)) / (0.5 * radius) ** 2
        dx, dy = x - center[0], y - center[1]
        b = 2 * (metric[0, 2] * dx + metric[1, 2] * dy)
        c = metric[0, 0] * dx**2 + 2 * metric[0, 1] * dx * dy + metric[1, 1] * dy**2 - 1
        inside = b**2 - 4 * metric[2, 2] * c
        depth = center[2] + (np.sqrt(np.maximum(inside, 0)) - b) / (2 * metric[2, 2])
        front = (inside > 0) & (depth > nearest)
        ids[front], nearest[front] = k, depth[front]
    return ids
