"""The dual-branch network of SP4D (arXiv 2509.10687): one U-Net for colour, one for parts, fused after every block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn
from torch.nn import functional

from sp4dlib.model import convert
from sp4dlib.model.attention import set_chunk_size
from sp4dlib.model.blocks import for_matrix_units
from sp4dlib.model.conditioning import Conditioning
from sp4dlib.model.unet import MultiViewUNet

FUSIONS = ("bidifuse", "none")


@dataclass
class DualOutput(BaseOutput):
    """Predictions of both branches.

    Attributes
    ----------
    rgb, part : Tensor, shape (B, T, V, C, H, W)
    features : tuple of two Tensors, each (B, T, V, model_channels, H, W), or None
        What the last decoder block of the colour and of the part branch hands to its output convolution, after fusion.
    """

    rgb: torch.Tensor
    part: torch.Tensor
    features: tuple[torch.Tensor, torch.Tensor] | None = None


class BiDiFuse(nn.Module):
    """``f = conv(ReLU(conv([rgb, part])))`` of 1×1 convolutions, added to both branches (SP4D, eq. 1).

    Parameters
    ----------
    channels : int
    zero_init : bool
        Start with ``f = 0``, so that the branches start as two separate networks.
    """

    def __init__(self, channels: int, zero_init: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2 * channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 1)
        if zero_init:
            nn.init.zeros_(self.conv2.weight)
            nn.init.zeros_(self.conv2.bias)

    def forward(self, rgb: torch.Tensor, part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both (images, C, h, w)."""
        shared = self.conv2(functional.relu(self.conv1(torch.cat([rgb, part], 1))))
        return rgb + shared, part + shared


class DualUNet(ModelMixin, ConfigMixin):
    """Two multi-view video U-Nets that exchange features after every encoder, middle and decoder block.

    The defaults are the released 4,090,471,156-parameter network, but for the attention mode. Both branches are told
    noise level and cameras by the colour branch's embedding; the part branch's own embedding layers exist, for the
    released weights have them, and are never evaluated. ``model.rgb`` by itself is the network of training stage 1.

    Parameters
    ----------
    in_channels, out_channels, ..., norm_groups
        Of each branch: see :class:`~sp4dlib.model.unet.MultiViewUNet`. ``in_channels`` counts noisy and condition
        latents of one branch.
    fusion : {"bidifuse", "none"}
    zero_init_fusion : bool
        See :class:`BiDiFuse`.
    """

    _supports_gradient_checkpointing = True
    _repeated_blocks = ["MultiViewTransformer"]

    @register_to_config
    def __init__(self, in_channels: int = 8, out_channels: int = 4, model_channels: int = 320,
                 channel_mult: tuple[int, ...] = (1, 2, 4, 4), num_res_blocks: int = 2,
                 attention_resolutions: tuple[int, ...] = (1, 2, 4), head_dim: int = 64,
                 context_dim: int | None = 1024, motion_context_dim: int | None = 4, attention_mode: str = "joint",
                 num_noise_level_channels: int = 256, camera_channels: int = 512, noise_level: float = 1e-5,
                 norm_groups: int = 32, fusion: str = "bidifuse", zero_init_fusion: bool = True) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion is {fusion!r}; choose one of {', '.join(FUSIONS)}")
        branch = dict(in_channels=in_channels, out_channels=out_channels, model_channels=model_channels,
                      channel_mult=channel_mult, num_res_blocks=num_res_blocks,
                      attention_resolutions=attention_resolutions, head_dim=head_dim, context_dim=context_dim,
                      motion_context_dim=motion_context_dim, attention_mode=attention_mode,
                      num_noise_level_channels=num_noise_level_channels, camera_channels=camera_channels,
                      noise_level=noise_level, norm_groups=norm_groups)
        self.rgb = MultiViewUNet(**branch)
        self.part = MultiViewUNet(**branch)
        self.part.time_embedding.requires_grad_(False)
        self.part.add_embedding.requires_grad_(False)
        self.fusion_down = self.fusion_mid = self.fusion_up = None
        if fusion == "bidifuse":
            widths = [model_channels * multiple for multiple in channel_mult]
            down = [model_channels]
            for i, width in enumerate(widths):
                down += [width] * (num_res_blocks + (i + 1 < len(widths)))
            up = [width for width in reversed(widths) for _ in range(num_res_blocks + 1)]
            self.fusion_down = nn.ModuleList(BiDiFuse(width, zero_init_fusion) for width in down)
            self.fusion_mid = BiDiFuse(widths[-1], zero_init_fusion)
            self.fusion_up = nn.ModuleList(BiDiFuse(width, zero_init_fusion) for width in up)

    def forward(self, rgb: torch.Tensor, part: torch.Tensor, condition: torch.Tensor, timestep: torch.Tensor,
                cameras: torch.Tensor, context: torch.Tensor | None = None, view_latents: torch.Tensor | None = None,
                conditioned: torch.Tensor | None = None, return_features: bool = False) -> DualOutput:
        """Evaluate both branches.

        Parameters
        ----------
        rgb, part : Tensor, shape (B, T, V, C, H, W)
            Scaled noisy latents.
        condition : Tensor, shape (B, T, C, H, W)
            Latents of the input frames; both branches see them beside the noisy latents of every view.
        timestep, cameras, context, view_latents, conditioned
            As in :meth:`MultiViewUNet.forward`. Where ``conditioned`` is false the condition latents are zeroed too.
        return_features : bool
            Also return the features of :class:`DualOutput`.

        Returns
        -------
        DualOutput
        """
        batch, frames, views = rgb.shape[:3]
        if part.shape != rgb.shape or condition.shape[:2] != (batch, frames) or condition.shape[3:] != rgb.shape[4:]:
            raise ValueError(f"rgb and part must be (B, T, V, C, H, W) and condition (B, T, C, H, W) of the same "
                             f"sizes; got {tuple(rgb.shape)}, {tuple(part.shape)} and {tuple(condition.shape)}")
        if conditioned is not None:
            condition = condition * conditioned.to(condition.dtype)[:, None, None, None, None]
        condition = condition[:, :, None].expand(-1, -1, views, -1, -1, -1)
        rgb, part = torch.cat([rgb, condition], 3), torch.cat([part, condition], 3)
        told = self.rgb.condition(rgb, timestep, cameras, context, view_latents, conditioned)
        rgb, part = self._features(rgb.flatten(0, 2), part.flatten(0, 2), told)
        shape = (batch, frames, views)
        features = (rgb.unflatten(0, shape), part.unflatten(0, shape)) if return_features else None
        rgb, part = self.rgb.output(rgb), self.part.output(part)
        return DualOutput(rgb.unflatten(0, shape), part.unflatten(0, shape), features)

    def forward_official(self, inputs: Mapping[str, torch.Tensor], frames: int, views: int) -> torch.Tensor:
        """Evaluate both branches on the input tensors of the official implementation.

        Parameters
        ----------
        inputs : mapping
            As in :meth:`MultiViewUNet.forward_official`, with ``x`` (B·T·V, 2·in_channels, H, W): the inputs of the
            colour branch, then those of the part branch.
        frames, views : int

        Returns
        -------
        Tensor, shape (B·T·V, 2·out_channels, H, W)
            Colour, then parts.
        """
        told = self.rgb.official_condition(inputs, frames, views)
        rgb, part = self._features(*inputs["x"].chunk(2, 1), told)
        return torch.cat([self.rgb.output(rgb), self.part.output(part)], 1)

    def copy_rgb_to_part(self) -> None:
        """Start training stage 2: the part branch takes the colour branch's weights."""
        self.part.load_state_dict(self.rgb.state_dict())

    def enable_forward_chunking(self, chunk_size: int = 16384) -> None:
        """Evaluate feed-forward layers chunk by chunk: see :meth:`MultiViewUNet.enable_forward_chunking`."""
        set_chunk_size(self, chunk_size)

    def disable_forward_chunking(self) -> None:
        """Evaluate feed-forward layers on all tokens at once again."""
        set_chunk_size(self, None)

    def _features(self, rgb: torch.Tensor, part: torch.Tensor,
                  condition: Conditioning) -> tuple[torch.Tensor, torch.Tensor]:
        """Both (images, C, H, W), through encoder, middle and decoder."""
        rgb, part = for_matrix_units(rgb), for_matrix_units(part)
        skips = []
        for i, (a, b) in enumerate(zip(self.rgb.down_steps(), self.part.down_steps())):
            rgb, part = self.rgb.step(a, rgb, condition), self.part.step(b, part, condition)
            if self.fusion_down is not None:
                rgb, part = self.fusion_down[i](rgb, part)
            skips.append((rgb, part))
        a, b = self.rgb.mid_block.steps()[0], self.part.mid_block.steps()[0]
        rgb, part = self.rgb.step(a, rgb, condition), self.part.step(b, part, condition)
        if self.fusion_mid is not None:
            rgb, part = self.fusion_mid(rgb, part)
        for i, (a, b) in enumerate(zip(self.rgb.up_steps(), self.part.up_steps())):
            skip_rgb, skip_part = skips.pop()
            rgb = self.rgb.step(a, torch.cat([rgb, skip_rgb], 1), condition)
            part = self.part.step(b, torch.cat([part, skip_part], 1), condition)
            if self.fusion_up is not None:
                rgb, part = self.fusion_up[i](rgb, part)
        return rgb, part

    @classmethod
    def from_official(cls, path_or_state_dict: str | PathLike | Mapping[str, torch.Tensor], **config) -> DualUNet:
        """Build the network from the released SP4D checkpoint: see :meth:`MultiViewUNet.from_official`."""
        return convert.load_official(cls, path_or_state_dict, config)

    def to_official(self) -> dict[str, torch.Tensor]:
        """The state dict under the official names (the tensors are not copied)."""
        state, names = self.state_dict(), self.official_names()
        return {official: state[name] for name, official in names.items()}

    def official_names(self) -> dict[str, str]:
        """Official name of every parameter.

        Raises
        ------
        ValueError
            If the network has no fusion: the official one always has.
        """
        if self.fusion_mid is None:
            raise ValueError("fusion='none' has no official counterpart; export model.rgb and model.part one by one")
        return convert.dual_names(self.state_dict().keys(), self.config.num_res_blocks)
