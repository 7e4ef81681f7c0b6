"""One U-Net that makes colours and parts as channels of one picture: what SP4D's two branches are compared with."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

from sp4dlib.model.attention import set_chunk_size
from sp4dlib.model.dual import DualOutput
from sp4dlib.model.unet import MultiViewUNet


class ConcatUNet(ModelMixin, ConfigMixin):
    """Colour and part latents, concatenated, through one multi-view video U-Net (arXiv 2509.10687, supplement E).

    It is called like :class:`~sp4dlib.model.dual.DualUNet` and answers like it. A width √2 times as large gives it
    about the weights and the operations of the two branches.

    Parameters
    ----------
    in_channels, out_channels : int
        As a dual network's: noisy and condition latents of one kind of picture; predicted latents of one kind. The
        U-Net inside takes ``in_channels + out_channels`` (noisy colours, noisy parts, condition) and makes
        ``2 * out_channels``.
    model_channels, ..., norm_groups
        See :class:`~sp4dlib.model.unet.MultiViewUNet`.
    """

    _supports_gradient_checkpointing = True
    _repeated_blocks = ["MultiViewTransformer"]

    @register_to_config
    def __init__(self, in_channels: int = 8, out_channels: int = 4, model_channels: int = 320,
                 channel_mult: tuple[int, ...] = (1, 2, 4, 4), num_res_blocks: int = 2,
                 attention_resolutions: tuple[int, ...] = (1, 2, 4), head_dim: int = 64,
                 context_dim: int | None = 1024, motion_context_dim: int | None = 4, attention_mode: str = "joint",
                 num_noise_level_channels: int = 256, camera_channels: int = 512, noise_level: float = 1e-5,
                 norm_groups: int = 32) -> None:
        super().__init__()
        self.unet = MultiViewUNet(
            in_channels=in_channels + out_channels, out_channels=2 * out_channels, model_channels=model_channels,
            channel_mult=channel_mult, num_res_blocks=num_res_blocks, attention_resolutions=attention_resolutions,
            head_dim=head_dim, context_dim=context_dim, motion_context_dim=motion_context_dim,
            attention_mode=attention_mode, num_noise_level_channels=num_noise_level_channels,
            camera_channels=camera_channels, noise_level=noise_level, norm_groups=norm_groups)

    def forward(self, rgb: torch.Tensor, part: torch.Tensor, condition: torch.Tensor, timestep: torch.Tensor,
                cameras: torch.Tensor, context: torch.Tensor | None = None, view_latents: torch.Tensor | None = None,
                conditioned: torch.Tensor | None = None, return_features: bool = False) -> DualOutput:
        """Evaluate the network.

        Parameters
        ----------
        rgb, part, condition, timestep, cameras, context, view_latents, conditioned, return_features
            As in :meth:`DualUNet.forward <sp4dlib.model.dual.DualUNet.forward>`.

        Returns
        -------
        DualOutput
            ``features`` are the same tensor twice.
        """
        if part.shape != rgb.shape or condition.shape[:2] != rgb.shape[:2] or condition.shape[3:] != rgb.shape[4:]:
            raise ValueError(f"rgb and part must be (B, T, V, C, H, W) and condition (B, T, C, H, W) of the same "
                             f"sizes; got {tuple(rgb.shape)}, {tuple(part.shape)} and {tuple(condition.shape)}")
        if conditioned is not None:
            condition = condition * conditioned.to(condition.dtype)[:, None, None, None, None]
        shown = condition[:, :, None].expand(-1, -1, rgb.shape[2], -1, -1, -1)
        sample = torch.cat([rgb, part, shown], 3)
        told = self.unet.condition(sample, timestep, cameras, context, view_latents, conditioned)
        features = self.unet.features(sample.flatten(0, 2), told)
        made = self.unet.output(features).unflatten(0, rgb.shape[:3])
        features = features.unflatten(0, rgb.shape[:3]) if return_features else None
        return DualOutput(*made.chunk(2, 3), None if features is None else (features, features))

    def enable_forward_chunking(self, chunk_size: int = 16384) -> None:
        """Evaluate feed-forward layers chunk by chunk: see :meth:`MultiViewUNet.enable_forward_chunking`."""
        set_chunk_size(self, chunk_size)

    def disable_forward_chunking(self) -> None:
        """Evaluate feed-forward layers on all tokens at once again."""
        set_chunk_size(self, None)
