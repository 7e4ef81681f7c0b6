"""Space to depth: small images as many-channel latents, where no VAE is at hand."""

from __future__ import annotations

import torch
from torch.nn import functional


def fold(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Move each ``factor`` × ``factor`` patch of pixels into channels. Loses nothing: :func:`unfold` is the inverse.

    Parameters
    ----------
    images : Tensor, shape (..., C, H, W)
    factor : int
        Side of a patch in pixels; divides H and W.

    Returns
    -------
    Tensor, shape (..., C * factor**2, H / factor, W / factor)
        Channels ordered by colour, then patch row, then patch column.

    Raises
    ------
    ValueError
        If the patches do not tile the images.
    """
    height, width = images.shape[-2:]
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"cannot fold {height}x{width} images by {factor}: choose a factor that divides both")
    return functional.pixel_unshuffle(images, factor)


def unfold(latents: torch.Tensor, factor: int) -> torch.Tensor:
    """Undo :func:`fold`.

    Parameters
    ----------
    latents : Tensor, shape (..., C * factor**2, h, w)
    factor : int

    Returns
    -------
    Tensor, shape (..., C, h * factor, w * factor)

    Raises
    ------
    ValueError
        If the channels are not a multiple of ``factor**2``.
    """
    channels = latents.shape[-3]
    if factor < 1 or channels % factor**2:
        raise ValueError(f"{channels} channels are no multiple of {factor}²: these latents were not folded by {factor}")
    return functional.pixel_shuffle(latents, factor)
