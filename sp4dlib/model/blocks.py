"""Residual blocks and the levels of the U-Net, named as in diffusers' ``UNetSpatioTemporalConditionModel``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.nn import functional

from sp4dlib.model.attention import Blend
from sp4dlib.model.conditioning import Conditioning

EPS = 1e-5      # the official group normalisation; diffusers' video UNet has 1e-6 in most of its residual blocks


def for_matrix_units(x: torch.Tensor) -> torch.Tensor:
    """Images (N, C, h, w) with channels last in memory where 16-bit numbers are multiplied; else as they are.

    The matrix units of CPUs and GPUs want channels last, and tokens are then views of images. In 32 bits the same order
    makes a CPU slower.
    """
    kind = x.device.type
    short = x.dtype in (torch.bfloat16, torch.float16)
    short |= torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)      # not on the meta device
    return x.contiguous(memory_format=torch.channels_last) if short else x


class TemporalConv(nn.Conv3d):
    """A 3×1×1 convolution, run as the 3×1 convolution of (images, pixels) that it is: CPUs take half the time."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, images, h * w) to the same shape."""
        return functional.conv2d(x, self.weight[..., 0], self.bias, padding=(1, 0))


class TemporalResBlock(nn.Module):
    """Residual block of 3×1×1 convolutions along the flattened (frame, view) axis.

    In the released networks this axis has T·V entries, views fastest: neighbours are adjacent views, and the last view
    of a frame touches the first of the next. Normalisation statistics are over all images of the clip.
    """

    def __init__(self, channels: int, embed_dim: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=EPS)
        self.conv1 = TemporalConv(channels)
        self.time_emb_proj = nn.Linear(embed_dim, channels)
        self.norm2 = nn.GroupNorm(groups, channels, eps=EPS)
        self.conv2 = TemporalConv(channels)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor, images: int) -> torch.Tensor:
        """``x`` (B * images, C, h, w), ``embedding`` (B * images, E) after SiLU."""
        size = x.shape[-2:]
        x = x.flatten(2).unflatten(0, (-1, images)).transpose(1, 2)                      # (B, C, images, h * w)
        shift = self.time_emb_proj(embedding).unflatten(0, (-1, images)).mT              # (B, C, images)
        h = self.conv1(functional.silu(self.norm1(x))) + shift[..., None]
        h = x + self.conv2(functional.silu(self.norm2(h)))
        return h.transpose(1, 2).flatten(0, 1).unflatten(-1, size)


class SpatioTemporalResBlock(nn.Module):
    """A 2-D residual block blended with a temporal one; the maths of diffusers' block of that name, eps 1e-5.

    diffusers fixes 32 groups in the temporal half; here ``groups`` holds for both.
    """

    def __init__(self, in_channels: int, out_channels: int, embed_dim: int, groups: int) -> None:
        super().__init__()
        self.spatial_res_block = ResnetBlock2D(in_channels=in_channels, out_channels=out_channels, groups=groups,
                                               temb_channels=embed_dim, eps=EPS, skip_time_act=True)
        self.temporal_res_block = TemporalResBlock(out_channels, embed_dim, groups)
        self.time_mixer = Blend()

    def forward(self, x: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        """(B * T * V, C, h, w) to (B * T * V, C', h, w)."""
        x = self.spatial_res_block(x, condition.embedding)
        mixed = self.temporal_res_block(x, condition.embedding, condition.frames * condition.views)
        return self.time_mixer(x, mixed)


class Level(nn.Module):
    """One resolution of the encoder, the middle or the decoder: residual blocks, attention layers, a resampler.

    Parameters
    ----------
    widths : list of (int, int)
        Input and output channels of each residual block.
    embed_dim, groups : int
    attention : callable or None
        ``channels -> MultiViewTransformer``; ``None`` where the level has no attention.
    resample : {"down", "up", None}
        Resampler after the last block.
    """

    def __init__(self, widths: list[tuple[int, int]], embed_dim: int, groups: int,
                 attention: Callable[[int], nn.Module] | None, resample: str | None) -> None:
        super().__init__()
        channels = widths[-1][1]
        self.resnets = nn.ModuleList(SpatioTemporalResBlock(i, o, embed_dim, groups) for i, o in widths)
        self.attentions = nn.ModuleList(attention(channels) for _ in widths) if attention else None
        self.downsamplers = self.upsamplers = None
        if resample == "down":
            self.downsamplers = nn.ModuleList([Downsample2D(channels, use_conv=True, name="op")])
        elif resample == "up":
            self.upsamplers = nn.ModuleList([Upsample2D(channels, use_conv=True)])

    def steps(self) -> list[list[nn.Module]]:
        """The modules of each residual block: itself, its attention; the decoder's resampler goes with the last."""
        steps: list[list[nn.Module]] = [[resnet] for resnet in self.resnets]
        if self.attentions is not None:
            for step, attention in zip(steps, self.attentions):
                step.append(attention)
        if self.upsamplers is not None:
            steps[-1].append(self.upsamplers[0])
        if self.downsamplers is not None:
            steps.append([self.downsamplers[0]])
        return steps


class Middle(nn.Module):
    """The coarsest resolution: residual block, attention, residual block, as one step."""

    def __init__(self, channels: int, embed_dim: int, groups: int, attention: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(SpatioTemporalResBlock(channels, channels, embed_dim, groups) for _ in range(2))
        self.attentions = nn.ModuleList([attention(channels)])

    def steps(self) -> list[list[nn.Module]]:
        """One step of three modules."""
        return [[self.resnets[0], self.attentions[0], self.resnets[1]]]
