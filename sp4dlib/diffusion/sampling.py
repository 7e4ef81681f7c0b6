"""One window from noise to clean latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from sp4dlib.diffusion.guidance import guided_answer
from sp4dlib.diffusion.known import Held


@dataclass(frozen=True)
class Sampling:
    """How to sample.

    Attributes
    ----------
    steps : int
    weights : Tensor, shape (T, V)
        Of the guidance, see `sp4dlib.diffusion.guidance.guidance_weights`.
    generator : torch.Generator or None
    sequential : bool
        See `sp4dlib.diffusion.guidance.guided_answer`.
    clean_known : bool
        Show the network known images clean and unscaled, not noised.
    """

    steps: int
    weights: Tensor
    generator: torch.Generator | None = None
    sequential: bool = False
    clean_known: bool = False


def sample_window(unet, scheduler, condition: Tensor, inputs: dict[str, Tensor | None], held: Held | None,
                  shape: tuple[int, ...], sampling: Sampling,
                  after_step: Callable[[int, Tensor, Tensor], Tensor] | None = None) -> Tensor:
    """Run the sampler.

    Parameters
    ----------
    unet, condition, inputs
        As in `sp4dlib.diffusion.guidance.guided_answer`; the device and type of ``condition`` are those of the network.
    scheduler
        See `sp4dlib.diffusion.samplers`.
    held : Held or None
        What is known.
    shape : tuple of int
        (branches, 1, T, V, C, H, W).
    sampling : Sampling
    after_step : callable, optional
        ``after_step(step, timestep, latents) -> latents``.

    Returns
    -------
    Tensor, float32
        Known latents are exactly those given.

    Raises
    ------
    FloatingPointError
        If the result is not finite.
    """
    device = condition.device
    scheduler.set_timesteps(sampling.steps, device=device)
    noise = randn_tensor(shape, generator=sampling.generator, device=device)
    latents = noise * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[step].to(device)
        if held is not None:
            latents = held.at(latents, noise, sigma)
        scaled = scheduler.scale_model_input(latents, timestep).to(condition.dtype)
        if held is not None and sampling.clean_known:
            scaled = held.shown(scaled)
        velocity = guided_answer(unet, scaled, condition, timestep, sampling.weights, sampling.sequential, **inputs)
        velocity = velocity.float()
        if held is not None:
            velocity = held.answer(velocity, noise, sigma[None])
        latents = scheduler.step(velocity, timestep, latents).prev_sample
        if after_step is not None:
            latents = after_step(step, timestep, latents)
    if not torch.isfinite(latents).all():
        raise FloatingPointError(f"the network's answers are not finite in {condition.dtype}; run the network "
                                 "in bfloat16 or float32, or check the weights")
    return latents if held is None else held.at(latents, noise, 0.0)
