"""What a training step minimises: denoising of both branches, with known views, and part consistency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sp4dlib.diffusion.contrastive import TEMPERATURE, ProjectionHead, contrastive_loss
from sp4dlib.diffusion.data import Batch
from sp4dlib.diffusion.edm import Pair, expand, sample_sigmas, scalings, velocity
from sp4dlib.model import MultiViewUNet


class Draws(NamedTuple):
    """What is random about a training step of B samples.

    Attributes
    ----------
    sigma : Tensor, shape (B,)
    noise : Pair of Tensors, shape (B, T, V, C, H, W)
    conditioned : Tensor of bool, shape (B,)
        False where the input is hidden.
    known : Pair of Tensors of bool, shape (B, T, V)
        Images that the network is given clean.
    """

    sigma: Tensor
    noise: Pair
    conditioned: Tensor
    known: Pair

    def to(self, device) -> Draws:
        """The same tensors on another device."""
        return Draws(self.sigma.to(device), Pair(*(n.to(device) for n in self.noise)), self.conditioned.to(device),
                     Pair(*(k.to(device) for k in self.known)))


class StepLoss(NamedTuple):
    """Losses of a step; ``total`` is what is minimised.

    Attributes
    ----------
    total : Tensor, shape ()
    rgb, part : Tensor, shape ()
        Squared error in v; of known images 0. The mean runs over all images, so that a batch that is taken in pieces,
        or shared by several devices, has the mean of their losses.
    contrastive : Tensor, shape ()
        Not yet weighted.
    """

    total: Tensor
    rgb: Tensor
    part: Tensor
    contrastive: Tensor


def make_draws(batch: Batch, generators: Sequence[torch.Generator], p_mean: float, p_std: float,
               condition_dropout: float, known: float) -> Draws:
    """Draw the noise of a step, each sample from a generator of its own, on the CPU: the same on every device.

    The noise of both branches is one draw of twice the channels, as in SP4D.
    """
    sigmas, noises, seen, rgb, part = [], [], [], [], []
    for generator in generators:
        sigmas.append(sample_sigmas(1, generator, p_mean, p_std))
        noises.append(torch.randn(2, *batch.rgb.shape[1:], generator=generator))
        seen.append(torch.rand(1, generator=generator) >= condition_dropout)
        of_rgb, of_part = draw_known(tuple(batch.rgb.shape[1:3]), generator, known)
        rgb.append(of_rgb)
        part.append(of_part)
    noise = torch.stack(noises, 1)
    return Draws(torch.cat(sigmas), Pair(*noise), torch.cat(seen), Pair(torch.stack(rgb), torch.stack(part)))


def draw_known(shape: tuple[int, int], generator: torch.Generator, share: float) -> tuple[Tensor, Tensor]:
    """Which images of one sample are known, as two bool Tensors (T, V): colours and parts.

    With probability ``share`` something is: half of the time the colours of all views, which is the setting in which a
    network segments what a user has; a quarter of the time those of a random subset of views; a quarter of the time
    frame 0 in both branches, which is what a window of a long video knows of the one before. Where there is one frame
    that would be all, and the colours of all views are known instead.
    """
    frames, views = shape
    rgb, part = torch.zeros(2, frames, views, dtype=torch.bool)
    kind, chance = torch.rand(2, generator=generator).tolist()
    if chance >= share:
        return rgb, part
    if kind < 0.5 or (kind >= 0.75 and frames == 1):
        rgb[:] = True
    elif kind < 0.75:
        rgb[:] = torch.rand(views, generator=generator) < 0.5
    else:
        rgb[0] = part[0] = True
    return rgb, part


class Objective(nn.Module):
    """The loss of a step, as a module: what is wrapped to train on several devices.

    A known image goes in clean: its latents take the place of the scaled noisy ones, as `SP4DPipeline` does with
    ``known_input="clean"``; what the network says of it does not count.

    Parameters
    ----------
    model : DualUNet, or a MultiViewUNet
        The latter is trained on colours alone, with the condition latents beside the noisy ones: stage 1 of SP4D.
    contrastive_weight, temperature : float
        Of `sp4dlib.diffusion.contrastive.info_nce` over the part branch's last features; 0 leaves it out.
    seed : int
        Of the projection's first weights.
    """

    def __init__(self, model: nn.Module, contrastive_weight: float = 0.0, temperature: float = TEMPERATURE,
                 seed: int = 0) -> None:
        super().__init__()
        self.model, self.contrastive_weight, self.temperature = model, contrastive_weight, temperature
        self.head = None
        if contrastive_weight:
            if is_single(model):
                raise ValueError("the contrastive loss needs a branch for parts; set contrastive_weight to 0")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.head = ProjectionHead(model.config.model_channels * model.config.channel_mult[0])

    def forward(self, batch: Batch, draws: Draws) -> StepLoss:
        """Losses of a step."""
        _, _, c_in, c_noise = scalings(draws.sigma)
        clean = Pair(batch.rgb, batch.part)
        told = {"timestep": c_noise, "cameras": batch.cameras, "conditioned": draws.conditioned}
        noisy = [torch.where(expand_images(known, x), x, (x + expand(draws.sigma, x) * n) * expand(c_in, x))
                 for x, n, known in zip(clean, draws.noise, draws.known)]
        zero = draws.sigma.new_zeros(())
        if is_single(self.model):
            condition = batch.condition * expand(draws.conditioned, batch.condition)
            sample = torch.cat([noisy[0], condition[:, :, None].expand_as(noisy[0])], 3)
            answer = self.model(sample, **told)
            rgb = masked_mean(answer - velocity(clean.rgb, draws.noise.rgb, draws.sigma), draws.known.rgb)
            return StepLoss(rgb, rgb, zero, zero)
        if self.head is not None:
            told["return_features"] = True
        answer = self.model(*noisy, condition=batch.condition, **told)
        rgb, part = (masked_mean(out - velocity(x, n, draws.sigma), known)
                     for out, x, n, known in zip((answer.rgb, answer.part), clean, draws.noise, draws.known))
        apart = zero
        if self.head is not None:
            apart = contrastive_loss(answer.features[1], batch.ids, self.head, self.temperature)
        return StepLoss((rgb + part) / 2 + self.contrastive_weight * apart, rgb, part, apart)


def is_single(model: nn.Module) -> bool:
    """Does the network make colours alone?"""
    return isinstance(model, MultiViewUNet)


def expand_images(mask: Tensor, like: Tensor) -> Tensor:
    """A mask (B, T, V) over images (B, T, V, C, H, W)."""
    return mask.reshape(*mask.shape, *[1] * (like.ndim - 3))


def masked_mean(error: Tensor, known: Tensor) -> Tensor:
    """Mean square of ``error`` (B, T, V, C, H, W), that of ``known`` images (B, T, V) taken as 0."""
    return error.float().square().flatten(3).mean(-1).masked_fill(known, 0).mean()
