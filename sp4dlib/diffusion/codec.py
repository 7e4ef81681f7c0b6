"""Pictures to the numbers that the network works on and back, and the picture embedding that it attends to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sp4dlib.diffusion.data import to_images, to_model

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)         # of the pictures that CLIP was trained on
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def encode(images: np.ndarray, vae=None, chunk: int = 8) -> Tensor:
    """Pictures to scaled latents: of the VAE if there is one, else folded pixels.

    Parameters
    ----------
    images : ndarray of uint8, shape (..., H, W, 3)
    vae : AutoencoderKL or PatchVAE, optional
        The most likely latents (the mode of the posterior) are taken, times its ``scaling_factor``: 0.18215 in Stable
        Diffusion, SV4D 2.0 and SP4D.
    chunk : int
        Pictures encoded at once.

    Returns
    -------
    Tensor, shape (..., C, h, w)
        float32, on the device of the VAE or on the CPU.
    """
    if vae is None:
        return to_model(images)
    pixels = to_pixels(images.reshape(-1, *images.shape[-3:])).to(vae.dtype)
    latents = in_chunks(lambda part: vae.encode(part.to(vae.device)).latent_dist.mode(), pixels, chunk)
    return latents.float().mul(vae.config.scaling_factor).reshape(*images.shape[:-3], *latents.shape[1:])


def decode(latents: Tensor, vae=None, chunk: int = 4) -> np.ndarray:
    """Undo `encode`: latents (..., C, h, w) to uint8 pictures (..., H, W, 3), ``chunk`` of them at once."""
    if vae is None:
        return to_images(latents)
    rows = latents.flatten(0, -4).to(vae.dtype) / vae.config.scaling_factor
    pixels = in_chunks(lambda part: vae.decode(part.to(vae.device)).sample.float().cpu(), rows, chunk)
    images = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(-3, -1).numpy()
    return images.reshape(*latents.shape[:-3], *images.shape[1:])


def embed(images: np.ndarray, image_encoder, chunk: int = 8) -> Tensor:
    """CLIP image embeddings of pictures, the network's context, as in SVD and SV4D 2.0.

    Parameters
    ----------
    images : ndarray of uint8, shape (T, H, W, 3)
    image_encoder : CLIPVisionModelWithProjection
    chunk : int

    Returns
    -------
    Tensor, shape (T, D)
    """
    pixels = antialiased_resize(to_pixels(images), image_encoder.config.image_size)
    mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    pixels = ((pixels + 1) / 2 - mean) / std
    return in_chunks(lambda part: image_encoder(part.to(image_encoder.device)).image_embeds,
                     pixels.to(image_encoder.dtype), chunk)


def antialiased_resize(images: Tensor, size: int) -> Tensor:
    """Resize as SV4D 2.0 does before CLIP: a Gaussian blur, then bicubic with corner pixels on corner pixels.

    The blur has ``σ = (factor - 1) / 2`` and reaches 2 σ, as in kornia's ``resize(antialias=True)``.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W)
    size : int
        Both sides of the result.
    """
    for axis in (-1, -2):
        sigma = max((images.shape[axis] / size - 1) / 2, 0.001)
        reach = int(max(4 * sigma, 3)) // 2
        offsets = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
        taps = torch.exp(-offsets.square() / (2 * sigma**2))
        taps = (taps / taps.sum()).reshape(1, 1, 1, -1)
        turned = images.transpose(axis, -1)
        padded = functional.pad(turned, (reach, reach, 0, 0), mode="reflect")
        blurred = functional.conv2d(padded.flatten(0, 1)[:, None], taps)
        images = blurred[:, 0].unflatten(0, turned.shape[:2]).transpose(axis, -1)
    return functional.interpolate(images, (size, size), mode="bicubic", align_corners=True)


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(images, np.uint8)).movedim(-1, -3).float() / 127.5 - 1


def in_chunks(function: Callable[[Tensor], Tensor], rows: Tensor, chunk: int) -> Tensor:
    """``function`` of ``rows``, a few at a time."""
    if chunk < 1:
        raise ValueError(f"at least one picture must be coded at once; got a chunk of {chunk}")
    return torch.cat([function(part) for part in rows.split(chunk)])
