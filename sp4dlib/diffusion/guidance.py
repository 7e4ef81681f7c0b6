"""Asking the network with and without its input, and going further in the direction of the difference."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sp4dlib.model import MultiViewUNet

RAMPS = ("frames", "orbit")


def guidance_weights(scale: float | tuple[float, float], frames: int, views: int, ramp: str = "frames") -> Tensor:
    """Guidance weight of each image, shape (T, V).

    Parameters
    ----------
    scale : float or (float, float)
        A number is the same weight for all images, a pair the ends of a ramp.
    frames, views : int
    ramp : {"frames", "orbit"}
        ``"frames"``: ``w_i = low + (high - low) i / (T V - 1)`` over the flattened images, frame-major and view
        fastest, as the releases of SV4D 2.0 with four views (1 to 2) and SP4D (1 to 3) do.
        ``"orbit"``: half of the rise goes along the frames and half round the orbit, up to its middle and back,
        ``w = low + ½ (high - low) (t / (T - 1) + |2 (u - ⌊u + ½⌋)|)`` with ``u = v / (V - 1)``, as the release of
        SV4D 2.0 with eight views (1.5 to 2.5) does.
    """
    scale = np.asarray(scale, np.float64)
    if scale.size not in (1, 2) or not np.isfinite(scale).all():
        raise ValueError(f"guidance_scale is a number or a pair (first, last) of numbers; got {scale.tolist()}")
    low, high = np.broadcast_to(scale.ravel(), 2).tolist()
    if ramp == "frames":
        return torch.linspace(low, high, frames * views).reshape(frames, views)
    if ramp != "orbit":
        raise ValueError(f"the ramp of the guidance is one of {', '.join(RAMPS)}; got {ramp!r}")
    along, around = torch.linspace(0, 1, frames)[:, None], torch.linspace(0, 1, views)
    return low + (high - low) / 2 * (along + 2 * (around - (around + 0.5).floor()).abs())


def ask(unet, latents: Tensor, condition: Tensor, timestep: Tensor, conditioned: Tensor, **inputs) -> Tensor:
    """The network's answers for both branches, or for the only one.

    Parameters
    ----------
    unet : DualUNet or MultiViewUNet
    latents : Tensor, shape (branches, B, T, V, C, H, W)
        Scaled; colour, then parts.
    condition : Tensor, shape (B, T, C, H, W)
    timestep, conditioned : Tensor, shape (B,)
    **inputs
        Passed on: ``cameras``, ``context``, ``view_latents``.

    Returns
    -------
    Tensor, of the shape of ``latents``
    """
    inputs |= {"timestep": timestep, "conditioned": conditioned}
    if len(latents) == 2:
        answer = unet(latents[0], latents[1], condition=condition, **inputs)
        return torch.stack([answer.rgb, answer.part])
    shown = condition * conditioned.to(condition.dtype)[:, None, None, None, None]
    shown = shown[:, :, None].expand(-1, -1, latents.shape[3], -1, -1, -1)               # the same for every view
    return unet(torch.cat([latents[0], shown], 3), **inputs)[None]


def guided_answer(unet, latents: Tensor, condition: Tensor, timestep: Tensor, weights: Tensor,
                  sequential: bool = False, **inputs) -> Tensor:
    """Guided network output ``F_u + w_i (F_c - F_u)`` for one clip (Ho and Salimans, arXiv 2207.12598).

    Guiding v or the denoised images is the same, since one is an affine map of the other. Where all weights are 1 the
    network is asked only once.

    Parameters
    ----------
    unet, inputs
        As in `ask`; ``inputs`` of one clip, those that are None are left out.
    latents : Tensor, shape (branches, 1, T, V, C, H, W)
    condition : Tensor, shape (1, T, C, H, W)
    timestep : Tensor, scalar
    weights : Tensor, shape (T, V)
    sequential : bool
        Ask without and with the input one after the other, not as a batch of two: less memory, no fewer operations.

    Returns
    -------
    Tensor, of the shape of ``latents``
    """
    inputs = {name: tensor for name, tensor in inputs.items() if tensor is not None}
    flags = [False, True] if bool((weights != 1).any()) else [True]
    answers = []
    for rows in [[flag] for flag in flags] if sequential else [flags]:
        def repeat(tensor: Tensor, count: int = len(rows)) -> Tensor:
            return tensor.expand(count, *tensor.shape[1:])

        told = {name: repeat(tensor) for name, tensor in inputs.items()}
        answers += ask(unet, latents.expand(-1, len(rows), *latents.shape[2:]), repeat(condition),
                       timestep.expand(len(rows)), torch.tensor(rows, device=latents.device), **told).split(1, dim=1)
    if len(answers) == 1:
        return answers[0]
    without, given = answers
    return without + weights[..., None, None, None] * (given - without)


def is_dual(unet) -> bool:
    """Does the network have a branch for parts?"""
    return not isinstance(getattr(unet, "_orig_mod", unet), MultiViewUNet)      # compiled networks are wrapped
