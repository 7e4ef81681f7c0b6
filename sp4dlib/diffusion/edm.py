"""Noise, preconditioning and the denoising objective of Karras et al. 2022, in the v form that SV4D 2.0 uses.

A sample is noised as ``x + sigma * n`` with n standard normal. The network F never sees that directly: it is wrapped by
`denoise`, which gives it an input of unit variance and asks it for the velocity v, a target of unit variance at every
noise level. Equation numbers are those of "Elucidating the Design Space of Diffusion-Based Generative Models"
(arXiv 2206.00364).

Formulas are written for data of root mean square ``sigma_data``. The default 1 gives the coefficients of the released
SV4D 2.0 and SP4D models, which diffusers' `EulerDiscreteScheduler` also has built in; `sp4dlib.diffusion.data.to_model`
scales images to about that. Data of another scale need no other sampler: dividing data and noise levels by
``sigma_data`` gives the same denoiser.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Pair(NamedTuple):
    """Colour and part images of the same frames and views, each of shape (B, T, V, C, H, W)."""

    rgb: Tensor
    part: Tensor


class Loss(NamedTuple):
    """Denoising loss, one value for each sample of the batch, each of shape (B,)."""

    total: Tensor
    rgb: Tensor
    part: Tensor


def scalings(sigma: Tensor, sigma_data: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coefficients of the preconditioned denoiser ``D(x) = c_skip x + c_out F(c_in x; c_noise)`` (eq. 7).

    With ``s = sigma_data``: ``c_skip = s² / (σ² + s²)``, ``c_out = -σ s / √(σ² + s²)``, ``c_in = 1 / √(σ² + s²)``,
    ``c_noise = ¼ ln σ`` (table 1, column EDM). The sign of ``c_out`` is the only difference from the paper: it makes
    the network's output the velocity v of Salimans and Ho (arXiv 2202.00512), as in SVD and SV4D 2.0.

    Parameters
    ----------
    sigma : Tensor
        Noise levels, > 0, any shape.
    sigma_data : float
        Root mean square of the data.

    Returns
    -------
    c_skip, c_out, c_in, c_noise : Tensor
        Of the shape of ``sigma``.
    """
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, -sigma * sigma_data / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4


def velocity(clean: Tensor, noise: Tensor, sigma: Tensor, sigma_data: float = 1.0) -> Tensor:
    """What the network should answer for ``clean + sigma * noise``: ``v = (s² n - σ x) / (s √(σ² + s²))``.

    It is ``(x - c_skip (x + σ n)) / c_out``, the target of eq. 8, simplified so that nothing is divided by a small σ.

    Parameters
    ----------
    clean, noise : Tensor, shape (B, ...)
    sigma : Tensor, shape (B,)
    """
    sigma = expand(sigma, clean)
    return (sigma_data**2 * noise - sigma * clean) / (sigma_data * (sigma**2 + sigma_data**2).sqrt())


def loss_weight(sigma: Tensor, sigma_data: float = 1.0) -> Tensor:
    """Weight of ``|D - x|²`` that gives every noise level unit weight in v: ``λ = (σ² + s²) / (σ s)²`` (table 1)."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def sample_sigmas(count: int, generator: torch.Generator, p_mean: float = -1.2, p_std: float = 1.2) -> Tensor:
    """Noise levels for training, ``ln σ ~ N(p_mean, p_std²)`` (table 1); shape (count,), on the generator's device.

    The defaults are the paper's for images. Neither SV4D 2.0 (arXiv 2503.16396) nor SP4D (arXiv 2509.10687) states
    its own values.
    """
    return torch.exp(p_mean + p_std * torch.randn(count, generator=generator, device=generator.device))


def karras_sigmas(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Noise levels for sampling (eq. 5), then 0: ``(σmax^(1/ρ) + i/(n-1) (σmin^(1/ρ) - σmax^(1/ρ)))^ρ``.

    Parameters
    ----------
    steps : int
        n, the number of network calls, >= 1. One step goes from ``sigma_max`` straight to 0.
    sigma_min, sigma_max : float
        Defaults as in the paper. SV4D 2.0 samples its latents from 700.

    Returns
    -------
    Tensor, shape (steps + 1,), float64
    """
    if steps < 1:
        raise ValueError(f"sampling needs at least one step; got {steps}")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"noise levels must satisfy 0 < sigma_min < sigma_max; got {sigma_min} and {sigma_max}")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)])


def euler_step(sample: Tensor, denoised: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """One Euler step of the probability flow, ``x + (σ' - σ) (x - D) / σ`` (algorithm 1 with no correction)."""
    return sample + (sigma_next - sigma) * (sample - denoised) / sigma


def denoise(model, noisy_rgb: Tensor, noisy_part: Tensor, sigma: Tensor, condition: Tensor, cameras: Tensor,
            sigma_data: float = 1.0, **inputs) -> Pair:
    """The denoiser ``D(x; σ)`` (eq. 7) of both branches: the network's estimate of the clean images.

    Parameters
    ----------
    model : callable
        ``model(rgb, part, condition, timestep, cameras, **inputs)`` with ``.rgb`` and ``.part`` in what it returns,
        such as `sp4dlib.model.DualUNet`. One noise level serves both branches, as in SP4D.
    noisy_rgb, noisy_part : Tensor, shape (B, T, V, C, H, W)
    sigma : Tensor, shape (B,)
    condition : Tensor, shape (B, T, C, H, W)
        The clean colour frames of view 0.
    cameras : Tensor, shape (B, V, 2)
        Elevation and azimuth relative to view 0, radians.
    **inputs
        Passed on to the network, e.g. ``conditioned``, a bool Tensor of shape (B,): False hides ``condition``.

    Returns
    -------
    Pair
    """
    c_skip, c_out, c_in, c_noise = (expand(c, noisy_rgb) for c in scalings(sigma, sigma_data))
    answer = model(noisy_rgb * c_in, noisy_part * c_in, condition=condition, timestep=c_noise.flatten(),
                   cameras=cameras, **inputs)
    return Pair(c_skip * noisy_rgb + c_out * answer.rgb, c_skip * noisy_part + c_out * answer.part)


def denoising_loss(model, clean: Pair, noise: Pair, sigma: Tensor, condition: Tensor, cameras: Tensor,
                   sigma_data: float = 1.0, **inputs) -> Loss:
    """Mean squared error in v, averaged over the branches: ``λ(σ) |D(x + σ n; σ) - x|²`` (eq. 2 with `loss_weight`).

    Parameters
    ----------
    model, condition, cameras, **inputs
        As in `denoise`.
    clean, noise : Pair
        Images and standard normal noise.
    sigma : Tensor, shape (B,)

    Returns
    -------
    Loss
        For each sample; a network that answers 0 scores about 1 for data of root mean square ``sigma_data``.
    """
    _, _, c_in, c_noise = scalings(sigma, sigma_data)
    noisy = [(x + expand(sigma, x) * n) * expand(c_in, x) for x, n in zip(clean, noise)]
    answer = model(*noisy, condition=condition, timestep=c_noise, cameras=cameras, **inputs)
    rgb, part = ((out - velocity(x, n, sigma, sigma_data)).square().flatten(1).mean(1)
                 for out, x, n in zip((answer.rgb, answer.part), clean, noise))
    return Loss((rgb + part) / 2, rgb, part)


def expand(values: Tensor, like: Tensor) -> Tensor:
    """Values (B,) as (B, 1, ..., 1), to multiply a batch."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
