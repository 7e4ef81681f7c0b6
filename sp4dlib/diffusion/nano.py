"""The smallest recipe that works: a dual network that learns one animal in minutes on two CPU cores.

Chapter and tests use it. It is a way to see the parts move, not a model of animals: what it has learned is the clip it
was shown.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from sp4dlib import profile
from sp4dlib.diffusion.pipeline import SP4DPipeline, euler_scheduler
from sp4dlib.diffusion.training import TrainConfig
from sp4dlib.model import DualUNet, MultiViewUNet

LATENTS = 12            # channels of an RGB image folded 2x
NANO_MODEL = dict(in_channels=2 * LATENTS, out_channels=LATENTS, model_channels=32, channel_mult=(1, 2, 2),
                  num_res_blocks=1, attention_resolutions=(), head_dim=16, context_dim=None, motion_context_dim=None,
                  attention_mode="joint", num_noise_level_channels=16, camera_channels=32, norm_groups=8)
SIZE, FRAMES, VIEWS = 32, 2, 4
P_MEAN, P_STD = 0.0, 1.2
SIGMA_MIN, SIGMA_MAX = 0.05, 80.0


def nano_model(seed: int = 0) -> DualUNet:
    """An untrained network of `NANO_MODEL`'s sizes (3.7 M weights), its noise path laid by `pass_through`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DualUNet(**NANO_MODEL)
    for branch in (model.rgb, model.part):
        pass_through(branch)
    return model


def nano_config(name: str | None = None, **changes) -> TrainConfig:
    """How to train it in a profile: seconds in ``ci``, minutes in ``cpu`` and ``gpu``.

    Parameters
    ----------
    name : {"ci", "cpu", "gpu"}, optional
        By default the current profile.
    **changes
        Fields of `TrainConfig` to replace.
    """
    steps = {"ci": 60, "cpu": 400, "gpu": 1500}[name or profile.current().name]
    config = TrainConfig(steps=steps, batch_size=2, learning_rate=3e-3, warmup=10, ema=0.98, p_mean=P_MEAN, p_std=P_STD,
                         condition_dropout=0.1, log_every=20, evaluate_every=20)
    return replace(config, **changes)


def nano_pipeline(model: DualUNet, fill: float = 0.9) -> SP4DPipeline:
    """A pipeline round a network of `NANO_MODEL`'s sizes."""
    return SP4DPipeline(model, euler_scheduler(SIGMA_MAX, SIGMA_MIN), image_size=SIZE, num_frames=FRAMES, fill=fill)


@torch.no_grad()
def pass_through(branch: MultiViewUNet, gain: float = 0.7) -> None:
    """Make an untrained network answer its own noisy input times ``gain``, along the outermost skip connection.

    To subtract noise the network must first carry it, pixel by pixel, from input to output. A wide network finds that
    out in its first thousands of steps; a narrow one that is trained for a minute never does, and its samples stay
    grainy. Pairs of channels hold ``+z`` and ``-z``, since ``SiLU(z) - SiLU(-z) = z``: the path is linear. All of
    these weights are trained like any other.

    Parameters
    ----------
    branch : MultiViewUNet
        With at least ``2 * out_channels`` channels at its finest level.
    gain : float
        The best answer for v at low noise is the normalised noise (gain 1), at high noise none of it (gain 0).
    """
    count, width = branch.config.out_channels, branch.config.model_channels
    if width < 2 * count:
        raise ValueError(f"carrying {count} channels in pairs needs a width of at least {2 * count}; got {width}")
    pairs = torch.cat([torch.eye(count), -torch.eye(count)])                                   # (2 C, C)
    copy_centre(branch.conv_in, slice(2 * count), slice(count), pairs)
    shortcut = branch.up_blocks[-1].resnets[-1].spatial_res_block.conv_shortcut                # sees [features, skip]
    skip = shortcut.in_channels - width
    copy_centre(shortcut, slice(2 * count), slice(skip, skip + 2 * count), torch.eye(2 * count))
    copy_centre(branch.conv_out, slice(count), slice(2 * count), gain * pairs.T)


def copy_centre(conv: nn.Conv2d, outputs: slice, inputs: slice, matrix: Tensor) -> None:
    """Let a convolution's output channels be ``matrix`` times its input channels, pixel by pixel, and nothing else."""
    centre = conv.kernel_size[0] // 2
    conv.weight[outputs] = 0
    conv.bias[outputs] = 0
    conv.weight[outputs, inputs, centre, centre] = matrix
