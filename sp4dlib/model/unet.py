"""The multi-view video U-Net of SV4D 2.0 (arXiv 2503.16396), which is each branch of SP4D (arXiv 2509.10687)."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional

from sp4dlib.model import convert
from sp4dlib.model.attention import MODES, MultiViewTransformer, set_chunk_size
from sp4dlib.model.blocks import EPS, Level, Middle, SpatioTemporalResBlock, for_matrix_units
from sp4dlib.model.conditioning import Conditioning, build_conditioning, condition_vector, sinusoid


class MultiViewUNet(ModelMixin, ConfigMixin):
    """A diffusion U-Net for clips of T frames and V views.

    The defaults are the released 2,010,961,338-parameter network, but for the attention mode. All weights that it has
    are parameters here, also the 62.9 M that cannot have an effect; those do not require gradients.

    A new network starts as the identity on its skip connections: the last convolution of every residual block, the
    output projection of every attention layer and the output convolution are zero (as upstream); all blends start at ½.

    Parameters
    ----------
    in_channels, out_channels : int
        Noisy and condition latents; predicted latents.
    model_channels : int
        Width of the finest level; ``channel_mult`` multiplies it, level by level.
    channel_mult : sequence of int
    num_res_blocks : int
        Per level of the encoder; the decoder has one more.
    attention_resolutions : sequence of int
        Downsampling factors that have attention; the middle always has.
    head_dim : int
        Channels of an attention head; divides every width that has attention.
    context_dim : int or None
        Channels of the frames' context tokens (CLIP image embeddings); ``None``: no cross-attention to them.
    motion_context_dim : int or None
        Channels of the view latents; ``None``: no cross-attention to them.
    attention_mode : {"joint", "view", "pixel_group"}
        See :class:`~sp4dlib.model.attention.MultiViewTransformer`.
    num_noise_level_channels, camera_channels : int
        Sizes of the embeddings of the condition's noise and of each camera angle.
    noise_level : float
        σ of the noise that upstream adds to condition images.
    norm_groups : int
        Groups of all group normalisations; divides every width. With one channel per group (width 32, 32 groups) a
        residual block cancels its noise-level embedding, so narrow networks want 8.

    Raises
    ------
    ValueError
        If widths, heads, groups or mode do not fit together.
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
        widths = [model_channels * multiple for multiple in channel_mult]
        attended = [2**level in attention_resolutions for level in range(len(widths))]
        _check_widths(widths, attended, head_dim, norm_groups, attention_mode,
                      (num_noise_level_channels, camera_channels))
        embed_dim = 4 * model_channels
        self.gradient_checkpointing = False
        self.time_embedding = TimestepEmbedding(model_channels, embed_dim)
        self.add_embedding = TimestepEmbedding(num_noise_level_channels + 2 * camera_channels, embed_dim)

        def attention(channels: int) -> MultiViewTransformer:
            return MultiViewTransformer(channels, head_dim, embed_dim, context_dim, motion_context_dim, attention_mode,
                                        norm_groups)

        def level(index: int, pairs: list[tuple[int, int]], resample: str | None) -> Level:
            return Level(pairs, embed_dim, norm_groups, attention if attended[index] else None, resample)

        self.conv_in = nn.Conv2d(in_channels, model_channels, 3, padding=1)
        skips, channels, last = [model_channels], model_channels, len(widths) - 1
        self.down_blocks = nn.ModuleList()
        for i, width in enumerate(widths):
            pairs = [(channels, width)] + [(width, width)] * (num_res_blocks - 1)
            self.down_blocks.append(level(i, pairs, "down" if i < last else None))
            skips += [width] * (num_res_blocks + (i < last))
            channels = width
        self.mid_block = Middle(channels, embed_dim, norm_groups, attention)
        self.up_blocks = nn.ModuleList()
        for i in range(last, -1, -1):
            pairs = []
            for _ in range(num_res_blocks + 1):
                pairs.append((channels + skips.pop(), widths[i]))
                channels = widths[i]
            self.up_blocks.append(level(i, pairs, "up" if i else None))
        self.conv_norm_out = nn.GroupNorm(norm_groups, widths[0], eps=EPS)
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        self._zero_residuals()

    def _zero_residuals(self) -> None:
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)
        for module in self.modules():
            last = []
            if isinstance(module, SpatioTemporalResBlock):
                last = [module.spatial_res_block.conv2, module.temporal_res_block.conv2]
            elif isinstance(module, MultiViewTransformer):
                last = [module.proj_out]
            for layer in last:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, cameras: torch.Tensor,
                context: torch.Tensor | None = None, view_latents: torch.Tensor | None = None,
                conditioned: torch.Tensor | None = None) -> torch.Tensor:
        """Evaluate the network.

        Parameters
        ----------
        sample : Tensor, shape (B, T, V, C, H, W)
            Scaled noisy latents, then condition latents (zero them where ``conditioned`` is false). H and W are
            multiples of the coarsest level's downsampling.
        timestep : Tensor, shape (B,)
            ``ln(σ) / 4``.
        cameras : Tensor, shape (B, V, 2)
            Elevation and azimuth of each view less those of view 0, radians.
        context : Tensor, shape (B, T, D), optional
            One token per frame; zeros if absent.
        view_latents : Tensor, shape (B, V, C, H, W), optional
            Known latents of the views at the clip's first frame; zeros if absent.
        conditioned : Tensor of bool, shape (B,), optional
            Where false, context, view latents and noise-level embedding are zero: the unconditional branch of guidance.
            All true if absent.

        Returns
        -------
        Tensor, shape (B, T, V, out_channels, H, W)
        """
        condition = self.condition(sample, timestep, cameras, context, view_latents, conditioned)
        return self.output(self.features(sample.flatten(0, 2), condition)).unflatten(0, sample.shape[:3])

    def forward_official(self, inputs: Mapping[str, torch.Tensor], frames: int, views: int) -> torch.Tensor:
        """Evaluate the network on the input tensors of the official implementation.

        Parameters
        ----------
        inputs : mapping
            ``x`` (B·T·V, C, H, W), ``timesteps`` (B·T·V,), ``y`` (B·T·V, adm channels), and, where the network attends
            to them, ``context`` (B, T, D) and ``cond_view`` (B·V, C, H, W). Other entries (``cond_motion``,
            ``image_only_indicator``) have no effect upstream either, and are ignored.
        frames, views : int

        Returns
        -------
        Tensor, shape (B·T·V, out_channels, H, W)
        """
        return self.output(self.features(inputs["x"], self.official_condition(inputs, frames, views)))

    def condition(self, sample: torch.Tensor, timestep: torch.Tensor, cameras: torch.Tensor,
                  context: torch.Tensor | None, view_latents: torch.Tensor | None,
                  conditioned: torch.Tensor | None) -> Conditioning:
        """Embed the conditions of :meth:`forward`, whose arguments these are."""
        config, (batch, frames) = self.config, sample.shape[:2]
        self._check_inputs(sample, timestep, cameras, context, view_latents, conditioned)
        if conditioned is None:
            conditioned = torch.ones(batch, dtype=torch.bool, device=sample.device)
        elif context is not None or view_latents is not None:
            keep = conditioned.to(sample.dtype)
            context = None if context is None else context * keep[:, None, None]
            view_latents = None if view_latents is None else view_latents * keep[:, None, None, None, None]
        vector = condition_vector(cameras, conditioned, config.noise_level, config.num_noise_level_channels,
                                  config.camera_channels).to(sample.dtype)
        embedding = self.time_embedding(sinusoid(timestep, config.model_channels).to(sample.dtype))[:, None]
        embedding = (embedding + self.add_embedding(vector))[:, None].expand(-1, frames, -1, -1)
        return build_conditioning(embedding, context, view_latents, self._attention_sizes(sample.shape[-2:]))

    def official_condition(self, inputs: Mapping[str, torch.Tensor], frames: int, views: int) -> Conditioning:
        """Embed the conditions of :meth:`forward_official`, whose arguments these are."""
        missing = [name for name in ("x", "timesteps", "y") if name not in inputs]
        if missing:
            raise ValueError(f"the official inputs lack {', '.join(missing)}; there are {', '.join(inputs) or 'none'}")
        x, context, view_latents = inputs["x"], inputs.get("context"), inputs.get("cond_view")
        if len(x) % (frames * views):
            raise ValueError(f"{len(x)} images are not whole clips of {frames} frames x {views} views")
        embedding = self.time_embedding(sinusoid(inputs["timesteps"], self.config.model_channels).to(x.dtype))
        embedding = (embedding + self.add_embedding(inputs["y"])).unflatten(0, (-1, frames, views))
        if view_latents is not None:
            view_latents = view_latents.unflatten(0, (-1, views))
        return build_conditioning(embedding, context, view_latents, self._attention_sizes(x.shape[-2:]))

    def enable_forward_chunking(self, chunk_size: int = 16384) -> None:
        """Evaluate feed-forward layers chunk by chunk: the same numbers with less memory.

        Parameters
        ----------
        chunk_size : int
            Tokens at once. The hidden layer is eight times as wide as the layer, and at full size a clip has 248,832
            tokens.

        Raises
        ------
        ValueError
            If ``chunk_size`` is less than 1.
        """
        set_chunk_size(self, chunk_size)

    def disable_forward_chunking(self) -> None:
        """Evaluate feed-forward layers on all tokens at once again."""
        set_chunk_size(self, None)

    def down_steps(self) -> list[list[nn.Module]]:
        """The encoder as steps, each a list of modules; every step's result is a skip of the decoder."""
        return [[self.conv_in]] + [step for block in self.down_blocks for step in block.steps()]

    def up_steps(self) -> list[list[nn.Module]]:
        """The decoder as steps, each of which takes one skip."""
        return [step for block in self.up_blocks for step in block.steps()]

    def step(self, modules: list[nn.Module], x: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        """Run one step, checkpointed where gradient checkpointing is on."""
        for module in modules:
            if not isinstance(module, (SpatioTemporalResBlock, MultiViewTransformer)):
                x = module(x)
            elif self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(module, x, condition)
            else:
                x = module(x, condition)
        return x

    def output(self, x: torch.Tensor) -> torch.Tensor:
        """From the decoder's features to the prediction."""
        return self.conv_out(functional.silu(self.conv_norm_out(x)))

    def features(self, x: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        """From the input images (B * T * V, C, H, W) to the decoder's features (B * T * V, model_channels, H, W)."""
        x = for_matrix_units(x)
        skips = []
        for modules in self.down_steps():
            x = self.step(modules, x, condition)
            skips.append(x)
        x = self.step(self.mid_block.steps()[0], x, condition)
        for modules in self.up_steps():
            x = self.step(modules, torch.cat([x, skips.pop()], 1), condition)
        return x

    def _attention_sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        last = len(self.config.channel_mult) - 1
        return [(size[0] >> level, size[1] >> level) for level in range(last + 1)
                if 2**level in self.config.attention_resolutions or level == last]

    def _check_inputs(self, sample: torch.Tensor, timestep: torch.Tensor, cameras: torch.Tensor,
                      context: torch.Tensor | None, view_latents: torch.Tensor | None,
                      conditioned: torch.Tensor | None) -> None:
        if sample.ndim != 6 or sample.shape[3] != self.config.in_channels:
            raise ValueError(f"sample must be (B, T, V, {self.config.in_channels}, H, W); got {tuple(sample.shape)}")
        batch, frames, views, _, height, width = sample.shape
        factor = 2 ** (len(self.config.channel_mult) - 1)
        if height % factor or width % factor:
            raise ValueError(f"latents of {height}x{width} cannot be halved {len(self.config.channel_mult) - 1} times: "
                             f"make both sides multiples of {factor}")
        expected = {"timestep": (timestep, (batch,)), "cameras": (cameras, (batch, views, 2)),
                    "conditioned": (conditioned, (batch,)),
                    "context": (context, (batch, frames, self.config.context_dim)),
                    "view_latents": (view_latents, (batch, views, self.config.motion_context_dim, height, width))}
        for name, (given, shape) in expected.items():
            if given is not None and None in shape:
                raise ValueError(f"this network was built without {name}: do not give any")
            if given is not None and given.shape != shape:
                raise ValueError(f"{name} must have shape {shape} to fit the sample {tuple(sample.shape)}; "
                                 f"got {tuple(given.shape)}")

    @classmethod
    def from_official(cls, path_or_state_dict: str | PathLike | Mapping[str, torch.Tensor], **config) -> MultiViewUNet:
        """Build the network from a released checkpoint, or from a state dict under the official names.

        Parameters
        ----------
        path_or_state_dict : path or mapping
            A ``.safetensors`` file, read tensor by tensor, or a state dict. A ``model.diffusion_model.`` prefix is
            stripped, and entries of other prefixes (VAE, image encoder) are then left out.
        **config
            Official constructor arguments where they differ from the released 4-view model's
            (``use_3d_attention=False`` for the 8-view model).

        Returns
        -------
        MultiViewUNet

        Raises
        ------
        ValueError
            If the configuration asks for what is not implemented, or names or shapes of the tensors do not fit.
        """
        return convert.load_official(cls, path_or_state_dict, config)

    def to_official(self) -> dict[str, torch.Tensor]:
        """The state dict under the official names (the tensors are not copied)."""
        state, names = self.state_dict(), self.official_names()
        return {official: state[name] for name, official in names.items()}

    def official_names(self) -> dict[str, str]:
        """Official name of every parameter."""
        return convert.unet_names(self.state_dict().keys(), self.config.num_res_blocks)


def _check_widths(widths: list[int], attended: list[bool], head_dim: int, groups: int, mode: str,
                  embeddings: tuple[int, ...]) -> None:
    if mode not in MODES:
        raise ValueError(f"attention_mode is {mode!r}; choose one of {', '.join(MODES)}")
    wrong = [width for width in widths if width % groups]
    if wrong:
        raise ValueError(f"norm_groups={groups} does not divide the widths {wrong}; choose a divisor of all {widths}")
    wrong = [width for width, has in zip(widths, [*attended[:-1], True]) if has and width % head_dim]
    if wrong:
        raise ValueError(f"head_dim={head_dim} does not divide the attended widths {wrong}")
    if any(channels % 2 for channels in embeddings):
        raise ValueError(f"sinusoidal embeddings need even sizes; got {embeddings}")
