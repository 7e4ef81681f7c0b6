"""What every block of the network is told: noise level, cameras, context; computed once per call."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch.nn import functional


@dataclass(frozen=True)
class Conditioning:
    """Conditions of one call, shared by all blocks (and by both branches of the dual network).

    Attributes
    ----------
    frames, views : int
        T and V.
    embedding : Tensor, shape (B * T * V, E)
        SiLU of the sum of noise-level and camera embedding, one row per image.
    view_embedding : Tensor, shape (B, V, E)
        The same sum before SiLU, at the first frame: what the camera attention adds to its tokens.
    context : Tensor, shape (B, T, D), or None
        One token per frame. ``None`` stands for zeros.
    view_tokens : dict, (h, w) -> Tensor of shape (B, 1, V, h * w, C), or None
        Latents of the views at the clip's first frame, resized to each size at which there is attention. ``None``
        stands for zeros.
    """

    frames: int
    views: int
    embedding: torch.Tensor
    view_embedding: torch.Tensor
    context: torch.Tensor | None
    view_tokens: dict[tuple[int, int], torch.Tensor] | None


def build_conditioning(embedding: torch.Tensor, context: torch.Tensor | None, view_latents: torch.Tensor | None,
                       sizes: list[tuple[int, int]]) -> Conditioning:
    """Prepare what the blocks need.

    Parameters
    ----------
    embedding : Tensor, shape (B, T, V, E)
    context : Tensor, shape (B, T, D), or None
    view_latents : Tensor, shape (B, V, C, H, W), or None
    sizes : list of (h, w)
        Feature map sizes at which there is attention.

    Returns
    -------
    Conditioning
    """
    frames, views = embedding.shape[1:3]
    tokens = None
    if view_latents is not None:
        tokens = {}
        for size in sizes:
            resized = functional.interpolate(view_latents.flatten(0, 1), size, mode="bilinear", align_corners=False)
            tokens[size] = resized.flatten(2).mT.unflatten(0, (-1, 1, views))     # (B, 1, V, h * w, C)
    return Conditioning(frames, views, functional.silu(embedding).flatten(0, 2), embedding[:, 0], context, tokens)


def sinusoid(values: torch.Tensor, channels: int) -> torch.Tensor:
    """``[cos(x f_i), sin(x f_i)]`` with ``f_i = 10000^(-i / (channels / 2))``, on a new last axis, in float32."""
    embedded = get_timestep_embedding(values.flatten(), channels, flip_sin_to_cos=True, downscale_freq_shift=0)
    return embedded.unflatten(0, values.shape)


def camera_angles(cameras: torch.Tensor) -> torch.Tensor:
    """Angles that the network embeds (the convention of the SV4D 2.0 release, arXiv 2503.16396).

    Parameters
    ----------
    cameras : Tensor, shape (..., 2)
        Elevation and azimuth of each view less those of view 0, radians.

    Returns
    -------
    Tensor, shape (..., 2)
        ``(π/2 - elevation) mod 2π`` and ``azimuth mod 2π``: equal elevation gives π/2.
    """
    elevation, azimuth = cameras.unbind(-1)
    return torch.stack([math.pi / 2 - elevation, azimuth], -1).remainder(2 * math.pi)


def condition_vector(cameras: torch.Tensor, conditioned: torch.Tensor, noise_level: float, noise_channels: int,
                     camera_channels: int) -> torch.Tensor:
    """Vector embedding of each view: noise on the condition images, polar angle, azimuth.

    Parameters
    ----------
    cameras : Tensor, shape (B, V, 2)
        As in :func:`camera_angles`.
    conditioned : Tensor of bool, shape (B,)
        Where false, the noise-level entries are zero: the unconditional branch of guidance.
    noise_level : float
        σ of the noise on the condition images.
    noise_channels, camera_channels : int
        Sizes of the noise-level part and of each camera angle.

    Returns
    -------
    Tensor, shape (B, V, noise_channels + 2 * camera_channels)
    """
    batch, views, _ = cameras.shape
    noise = sinusoid(cameras.new_full((1,), noise_level), noise_channels)
    noise = (noise * conditioned[:, None]).unsqueeze(1).expand(-1, views, -1)         # (B, V, noise_channels)
    angles = sinusoid(camera_angles(cameras.float()), camera_channels).flatten(2)     # (B, V, 2 * camera_channels)
    return torch.cat([noise, angles], -1)
