"""How well generated colour agrees with true colour, and generated parts with generated colour."""

from __future__ import annotations

import numpy as np

FAR_FROM_WHITE = 20     # levels, Euclidean: what `sp4dlib.coding.decode` takes for the object in damaged pictures


def silhouette(images: np.ndarray, far: float = FAR_FROM_WHITE) -> np.ndarray:
    """Pixels that are more than ``far`` levels from white; uint8 (..., H, W, 3) to bool (..., H, W)."""
    return ((255 - np.asarray(images, np.float64)) ** 2).sum(-1) > far**2


def color_scores(made: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """PSNR and SSIM of pictures, each the mean over pictures.

    Parameters
    ----------
    made, true : ndarray of uint8, equal shapes (S, H, W, 3)

    Returns
    -------
    dict
        ``psnr`` in dB, of 255 levels; equal pictures count 100. ``ssim`` (Wang et al. 2004) with their Gaussian window
        of σ = 1.5, mean over channels.
    """
    from skimage.metrics import structural_similarity

    made, true = np.asarray(made), np.asarray(true)
    if made.shape != true.shape or made.ndim != 4:
        raise ValueError(f"pictures must have one shape (S, H, W, 3); got {made.shape} and {true.shape}")
    error = ((made.astype(np.float64) - true) ** 2).mean((1, 2, 3))
    psnr = 10 * np.log10(255**2 / np.maximum(error, 255**2 * 1e-10))
    ssim = [structural_similarity(a, b, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5,
                                  use_sample_covariance=False) for a, b in zip(made, true)]
    return {"psnr": float(psnr.mean()), "ssim": float(np.mean(ssim))}


def agreement(parts: np.ndarray, colors: np.ndarray) -> dict[str, float]:
    """Do both branches draw the same object?

    Parameters
    ----------
    parts : ndarray of int, shape (..., H, W)
        Decoded part ids, negative = background.
    colors : ndarray of uint8, shape (..., H, W, 3)
        Colour pictures of the same clip.

    Returns
    -------
    dict
        ``inside``: share of part pixels that lie in the silhouette of the colours (0 without any);
        ``silhouette_iou``: IoU of the two silhouettes (1 if both are empty).
    """
    drawn, seen = np.asarray(parts) >= 0, silhouette(colors)
    both, either = float((drawn & seen).sum()), float((drawn | seen).sum())
    return {"inside": both / drawn.sum() if drawn.any() else 0.0, "silhouette_iou": both / either if either else 1.0}
