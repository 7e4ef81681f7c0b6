"""How well generated colour agrees with true colour, and generated parts with generated colour."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

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


def fill_silhouette(parts: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Parts for exactly the pixels of a known silhouette.

    Parameters
    ----------
    parts : ndarray of int, shape (S, H, W)
    inside : ndarray of bool, shape (S, H, W)

    Returns
    -------
    ndarray, shape and type of ``parts``
        Outside -1; inside, a pixel without a part takes that of the nearest pixel inside that has one, in the same
        image. In an image without any, all pixels take the part that is largest in the clip (0 if there is none).
    """
    parts, inside = np.asarray(parts), np.asarray(inside, bool)
    kept = np.where(inside, parts, -1)
    ids, sizes = np.unique(kept[kept >= 0], return_counts=True)
    largest = ids[sizes.argmax()] if len(ids) else 0
    out = np.empty_like(parts)
    for image, (labels, region) in enumerate(zip(kept, inside)):
        if (labels >= 0).any():
            row, column = distance_transform_edt(labels < 0, return_distances=False, return_indices=True)
            labels = labels[row, column]
        else:
            labels = np.full_like(labels, largest)
        out[image] = np.where(region, labels, -1)
    return out
