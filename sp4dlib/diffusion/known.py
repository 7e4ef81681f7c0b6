"""Images that are known beforehand: the sampler is held to them and generates only the rest."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sp4dlib.diffusion import edm


class Held(NamedTuple):
    """Known clean latents of a window.

    A sample of the probability flow that ends at x and started from noise n passes ``x + σ n`` if the denoiser always
    answers x. `at` puts known images there; `answer` makes the denoiser say x, so that solvers which remember earlier
    answers stay on the line as well.

    Attributes
    ----------
    clean : Tensor, shape (branches, 1, T, V, C, H, W)
        Anything where nothing is known.
    mask : Tensor of bool, shape (branches, 1, T, V, 1, 1, 1)
        True where known.
    """

    clean: Tensor
    mask: Tensor

    def at(self, latents: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """``latents``, with the known ones at noise level ``sigma`` (0: clean)."""
        return torch.where(self.mask, self.clean + sigma * noise, latents)

    def shown(self, scaled: Tensor) -> Tensor:
        """The network's input ``scaled``, with the clean latents in it where they are known."""
        return torch.where(self.mask, self.clean.to(scaled.dtype), scaled)

    def answer(self, velocity: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """``velocity``, with that of the known images where they are known; ``sigma`` of shape (1,)."""
        return torch.where(self.mask, edm.velocity(self.clean, noise, sigma), velocity)


def hold(shape: tuple[int, ...], rgb: dict[tuple[int, int], Tensor], made: Tensor, device) -> Held | None:
    """What a window is held to; None if to nothing.

    Parameters
    ----------
    shape : tuple of int
        (branches, 1, T, V, C, H, W).
    rgb : dict {(frame, view): Tensor of shape (C, H, W)}
        Known colour images, frames counted from the window's first.
    made : Tensor, shape (branches, M, V, C, H, W)
        What an earlier window made of the first M frames; held in both branches, so that part colours continue.
    device
    """
    if not rgb and not made.shape[1]:
        return None
    clean = torch.zeros(shape, device=device)
    mask = torch.zeros(*shape[:4], 1, 1, 1, dtype=torch.bool, device=device)
    clean[:, 0, :made.shape[1]] = made
    mask[:, 0, :made.shape[1]] = True
    for (frame, view), latents in rgb.items():
        clean[0, 0, frame, view] = latents.to(clean)
        mask[0, 0, frame, view] = True
    return Held(clean, mask)
