"""What a user hands to the pipeline, as square frames on white."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

BACKGROUND = 250        # without alpha, pixels of a higher mean colour are background (as in SV4D 2.0's release)


def as_frames(image) -> np.ndarray:
    """Pictures of any accepted kind as one array.

    Parameters
    ----------
    image : PIL image, list of PIL images, or array
        Arrays have shape (H, W, C) or (T, H, W, C) with C = 3 or 4, uint8, or floats in [0, 1].

    Returns
    -------
    ndarray of uint8, shape (T, H, W, 4)
        RGBA; opaque where no alpha was given.
    """
    if isinstance(image, Image.Image):
        image = [image]
    if isinstance(image, Sequence) and len(image) and all(isinstance(frame, Image.Image) for frame in image):
        sizes = {frame.size for frame in image}
        if len(sizes) > 1:
            raise ValueError(f"frames of one video must have one size; got {sorted(sizes)}")
        return np.stack([np.asarray(frame.convert("RGBA")) for frame in image])
    frames = np.asarray(image)
    frames = frames[None] if frames.ndim == 3 else frames
    if frames.ndim != 4 or frames.shape[-1] not in (3, 4) or 0 in frames.shape:
        raise ValueError("give a PIL image, a list of them, or an array (T, H, W, 3) or (T, H, W, 4) with at least "
                         f"one frame; got {type(image).__name__} of shape {frames.shape}")
    if np.issubdtype(frames.dtype, np.floating):
        if not np.isfinite(frames).all() or frames.min() < 0 or frames.max() > 1:
            raise ValueError("float images must be finite and in [0, 1]; scale them, or give uint8")
        frames = np.round(frames * 255).astype(np.uint8)
    if frames.dtype != np.uint8:
        raise ValueError(f"images must be uint8 or float; got {frames.dtype}")
    if frames.shape[-1] == 3:
        frames = np.concatenate([frames, np.full_like(frames[..., :1], 255)], axis=-1)
    return frames


def on_white(frames: np.ndarray) -> np.ndarray:
    """Composite RGBA uint8 (..., 4) on white by alpha; returns RGB uint8 (..., 3)."""
    alpha = frames[..., 3:].astype(np.float64) / 255
    return np.round(frames[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def object_box(frames: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box (left, top, right, bottom) that holds the object in all RGBA frames (T, H, W, 4).

    Raises
    ------
    ValueError
        If there is nothing but background.
    """
    alpha = frames[..., 3]
    mask = alpha > 0 if (alpha < 255).any() else frames[..., :3].mean(-1) <= BACKGROUND
    rows, columns = np.flatnonzero(mask.any((0, 2))), np.flatnonzero(mask.any((0, 1)))
    if not len(rows):
        raise ValueError("the picture holds only background (transparent or white); is the right image given?")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def crop_to_object(image, size: int, fill: float = 0.9) -> np.ndarray:
    """Cut one square out of all frames, so that the object's union box is centred and fills ``fill`` of its side.

    The square may reach beyond the picture; what is outside is white. It is resized with a Lanczos filter.

    Parameters
    ----------
    image
        As for `as_frames`.
    size : int
        Side of the returned frames in pixels.
    fill : float
        Longest side of the union box over the side of the square.

    Returns
    -------
    ndarray of uint8, shape (T, size, size, 3)
    """
    frames = as_frames(image)
    left, top, right, bottom = object_box(frames)
    side = max(right - left, bottom - top) / fill
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    margin = int(np.ceil(max(0, -x, -y, x + side - frames.shape[2], y + side - frames.shape[1])))
    padded = np.pad(on_white(frames), ((0, 0), (margin, margin), (margin, margin), (0, 0)), constant_values=255)
    return resize(padded, size, (x + margin, y + margin, x + margin + side, y + margin + side))


def resize(frames: np.ndarray, size: int, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    """Resample RGB frames (T, H, W, 3), or a box of them, to (T, size, size, 3); equal sizes are left untouched."""
    if box is None and frames.shape[1:3] == (size, size):
        return frames
    return np.stack([np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.LANCZOS, box))
                     for frame in frames])
