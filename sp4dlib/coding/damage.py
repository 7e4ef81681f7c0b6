"""Damage to part images, to test decoders with, and the best that any decoder could do about it."""

from __future__ import annotations

import numpy as np


def resample(images: np.ndarray, factor: int) -> np.ndarray:
    """Shrink by the mean of blocks of ``factor`` x ``factor`` pixels, then enlarge linearly to the old size.

    Parameters
    ----------
    images : ndarray, shape (..., H, W, C)
        H and W divisible by ``factor``.
    factor : int
        1 returns a copy.

    Returns
    -------
    ndarray of float32, shape (..., H, W, C)
    """
    images = np.asarray(images, np.float32)
    height, width, channels = images.shape[-3:]
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"factor must divide the image's sides; got {factor} for {height} x {width}")
    blocks = images.reshape(-1, height // factor, factor, width // factor, factor, channels)
    small = blocks.mean((2, 4), dtype=np.float32)
    return _enlarge(_enlarge(small, factor, 1), factor, 2).reshape(images.shape)


def _enlarge(images: np.ndarray, factor: int, axis: int) -> np.ndarray:
    """Linear interpolation between pixel centres; the border's value is held outside."""
    length = images.shape[axis]
    at = (np.arange(length * factor) + 0.5) / factor - 0.5
    low = np.floor(at).astype(int)
    share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(images.ndim)])
    below, above = np.clip(low, 0, length - 1), np.clip(low + 1, 0, length - 1)
    return np.take(images, below, axis) * (1 - share) + np.take(images, above, axis) * share


def corrupt(images: np.ndarray, sigma: float, factor: int, generator: np.random.Generator, *,
            noise_last: bool = False) -> np.ndarray:
    """Add Gaussian noise, then lose resolution: what a lossy autoencoder and a sampler do to a part image.

    Parameters
    ----------
    images : ndarray of uint8, shape (..., H, W, 3)
    sigma : float
        Standard deviation of the noise; images count from 0 to 1, so 12 levels are 12/255.
    factor : int
        See :func:`resample`.
    generator : numpy.random.Generator
    noise_last : bool
        Lose resolution first. The noise then stays at full strength.

    Returns
    -------
    ndarray of uint8, shape (..., H, W, 3)
    """
    images = np.asarray(images, np.float32)
    noise = np.float32(255 * sigma) * generator.standard_normal(images.shape, dtype=np.float32)
    if noise_last:
        damaged = resample(images, factor) + noise
    else:
        damaged = resample(np.clip(images + noise, 0, 255), factor)
    return np.round(np.clip(damaged, 0, 255)).astype(np.uint8)


def code_patches(images: np.ndarray, side: int, numbers: int) -> np.ndarray:
    """Code patches by their principal components and back: the best linear autoencoder for these very pictures.

    Parameters
    ----------
    images : ndarray of uint8, shape (..., H, W, 3)
        H and W divisible by ``side``.
    side : int
        Pixels of a patch's side.
    numbers : int
        Components that are kept of the ``3 side²``.

    Returns
    -------
    ndarray of uint8, shape (..., H, W, 3)
    """
    height, width = images.shape[-3:-1]
    if side < 1 or height % side or width % side or not 1 <= numbers <= 3 * side**2:
        raise ValueError(f"side must divide the image's sides and numbers lie in 1..3 side²; got side {side}, numbers "
                         f"{numbers} for {height} x {width}")
    blocks = 255.0 - images.reshape(-1, height // side, side, width // side, side, 3)        # white codes as 0
    patches = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 3 * side**2)
    basis = np.linalg.eigh(patches.T @ patches)[1][:, -numbers:]
    back = (patches @ basis @ basis.T).reshape(-1, height // side, width // side, side, side, 3)
    return np.clip(np.round(255 - back.transpose(0, 1, 3, 2, 4, 5)), 0, 255).astype(np.uint8).reshape(images.shape)


def resampled_parts(parts: np.ndarray, factor: int) -> np.ndarray:
    """Part ids after a loss of resolution: argmax over the resampled maps of the single parts and the background.

    A decoder that knew every part's share of every damaged pixel would answer this: the ceiling to measure one by.

    Parameters
    ----------
    parts : ndarray of int, shape (..., H, W)
        -1 = background.
    factor : int

    Returns
    -------
    ndarray, like ``parts``
    """
    parts = np.asarray(parts)
    best, winner = np.full(parts.shape, -1, np.float32), np.full_like(parts, -1)
    for part in np.unique(parts):
        share = resample((parts == part)[..., None], factor)[..., 0]
        better = share > best
        best[better], winner[better] = share[better], part
    return winner
