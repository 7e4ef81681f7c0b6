"""The graph that the released SV4D 2.0 and SP4D evaluate, op by op: the yardstick of ``benchmarks.network``.

A re-statement in plain PyTorch of Stability-AI/generative-models (MIT), ``SpatialUNetModelWithTime`` and
``DualSpatialUNetWithCrossComm``. It keeps what an implementation need not do: queries, keys and softmax over a context
of one token, contexts repeated to every row of tokens, tokens permuted for layers that see one token at a time, blends
of two products and a sum, embeddings and resized view latents computed again in every layer, normalisation that casts
to float32. It shares no code with ``sp4dlib.model``, and modules have the official names, so official weights load as
they are. ``b`` clips of ``t`` frames and ``v`` views; images are in the order (b, t, v), ``n`` is pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

ROWS = 32768        # upstream hands its attention kernel no more rows (batch times heads) at once


def sinusoid(values: torch.Tensor, channels: int) -> torch.Tensor:
    """(rows,) to (rows, channels): cosines, then sines."""
    half = channels // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half).to(values.device)
    angles = values[:, None].float() * frequencies[None]
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, SiLU, Linear."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class GroupNorm32(nn.GroupNorm):
    """32 groups, in float32 whatever comes in."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(32, channels, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float()).type(x.dtype)


class AlphaBlender(nn.Module):
    """``α a + (1 - α) b``."""

    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        alpha = torch.sigmoid(self.mix_factor).to(a.dtype)
        return alpha * a + (1.0 - alpha) * b


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, embedding, norm, SiLU, convolution, on images (2-D) or on clips (3×1×1)."""

    def __init__(self, inputs: int, outputs: int, embed: int, clips: bool = False) -> None:
        super().__init__()
        kind, size, pad = (nn.Conv3d, (3, 1, 1), (1, 0, 0)) if clips else (nn.Conv2d, 3, 1)
        self.clips = clips
        self.in_layers = nn.Sequential(GroupNorm32(inputs), nn.SiLU(), kind(inputs, outputs, size, padding=pad))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embed, outputs))
        self.out_layers = nn.Sequential(GroupNorm32(outputs), nn.SiLU(), nn.Dropout(0.0),
                                        kind(outputs, outputs, size, padding=pad))
        self.skip_connection = nn.Identity() if inputs == outputs else kind(inputs, outputs, 1)

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        """``x`` (images, c, h, w) and ``emb`` (images, e), or ``x`` (b, c, f, h, w) and ``emb`` (b, f, e)."""
        h = self.in_layers(x)
        shift = self.emb_layers(emb).type(h.dtype)
        if self.clips:
            shift = shift.permute(0, 2, 1)                                              # b f c -> b c f
        return self.skip_connection(x) + self.out_layers(h + shift[..., None, None])


class VideoResBlock(ResBlock):
    """The 2-D block, then a 3×1×1 block on its result, blended with it."""

    def __init__(self, inputs: int, outputs: int, embed: int) -> None:
        super().__init__(inputs, outputs, embed)
        self.time_mix_blocks = ResBlock(outputs, outputs, embed, clips=True)
        self.time_mixer = AlphaBlender()

    def forward(self, x: torch.Tensor, emb: torch.Tensor, clip: tuple[int, int]) -> torch.Tensor:
        x = super().forward(x, emb)
        images = clip[0] * clip[1]
        still = x.unflatten(0, (-1, images)).permute(0, 2, 1, 3, 4)                     # (b f) c h w -> b c f h w
        moving = self.time_mix_blocks(still, emb.unflatten(0, (-1, images)))
        mixed = self.time_mixer(still, moving)
        return mixed.permute(0, 2, 1, 3, 4).reshape(x.shape)                            # b c f h w -> (b f) c h w


class CrossAttention(nn.Module):
    """Multi-head attention of ``x`` (rows, length, c) to itself or to ``context`` (rows, 1, d)."""

    def __init__(self, channels: int, context_dim: int, head_dim: int) -> None:
        super().__init__()
        self.heads = channels // head_dim
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_dim, channels, bias=False)
        self.to_v = nn.Linear(context_dim, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Dropout(0.0))

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        context = x if context is None else context
        q, k, v = (y.unflatten(-1, (self.heads, -1)).permute(0, 2, 1, 3)                # b n (h d) -> b h n d
                   for y in (self.to_q(x), self.to_k(context), self.to_v(context)))
        step = max(1, ROWS // self.heads)
        pieces = [functional.scaled_dot_product_attention(q[i:i + step], k[i:i + step], v[i:i + step])
                  for i in range(0, len(q), step)]
        out = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return self.to_out(out.permute(0, 2, 1, 3).flatten(2))                          # b h n d -> b n (h d)


class GEGLU(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * functional.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(channels, 4 * channels), nn.Dropout(0.0), nn.Linear(4 * channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class SpatialBlock(nn.Module):
    """Attention among the tokens of a row, cross-attention, feed-forward."""

    def __init__(self, channels: int, context_dim: int, head_dim: int) -> None:
        super().__init__()
        self.attn1 = CrossAttention(channels, channels, head_dim)
        self.ff = FeedForward(channels)
        self.attn2 = CrossAttention(channels, context_dim, head_dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x), context) + x
        return self.ff(self.norm3(x)) + x


class ShortAxisBlock(SpatialBlock):
    """The same among ``length`` consecutive rows, for each of their columns, after a feed-forward of its own."""

    def __init__(self, channels: int, context_dim: int, head_dim: int) -> None:
        super().__init__(channels, context_dim, head_dim)
        self.norm_in = nn.LayerNorm(channels)
        self.ff_in = FeedForward(channels)

    def forward(self, x: torch.Tensor, context: torch.Tensor, length: int) -> torch.Tensor:
        columns = x.shape[1]
        x = x.unflatten(0, (-1, length)).permute(0, 2, 1, 3).flatten(0, 1)              # (b l) s c -> (b s) l c
        x = self.ff_in(self.norm_in(x)) + x
        x = super().forward(x, context)
        return x.unflatten(0, (-1, columns)).permute(0, 2, 1, 3).flatten(0, 1)          # (b s) l c -> (b l) s c


class AttentionLayer(nn.Module):
    """Spatial, camera and motion block."""

    def __init__(self, channels: int, head_dim: int, embed: int, context_dim: int, motion_dim: int,
                 pixel_groups: bool) -> None:
        super().__init__()
        self.channels, self.pixel_groups = channels, pixel_groups
        self.norm = GroupNorm32(channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(channels, context_dim, head_dim)])
        self.proj_out = nn.Linear(channels, channels)
        self.time_mix_blocks = nn.ModuleList([ShortAxisBlock(channels, context_dim, head_dim)])
        self.motion_blocks = nn.ModuleList([ShortAxisBlock(channels, motion_dim, head_dim)])
        self.time_mix_time_embed = two_layers(embed, 4 * channels, channels)
        self.time_mix_motion_embed = two_layers(channels, 4 * channels, channels)
        self.time_mixer, self.time_mixer_motion = AlphaBlender(), AlphaBlender()

    def forward(self, x: torch.Tensor, emb: torch.Tensor, context: torch.Tensor, cond_view: torch.Tensor,
                clip: tuple[int, int]) -> torch.Tensor:
        t, v = clip
        images, _, h, w = x.shape
        b, n, x_in = images // (t * v), h * w, x
        x = self.proj_in(self.norm(x).flatten(2).permute(0, 2, 1))                      # (b t v) n c
        x = self.transformer_blocks[0](x, context.flatten(0, 1).repeat_interleave(v, 0)[:, None])

        camera = self.time_mix_time_embed(emb.unflatten(0, (b, t, v))[:, 0])            # b v c
        mixed = x + camera[:, None].repeat(1, t, 1, 1).flatten(0, 2)[:, None]
        mixed = self._camera(mixed, context.flatten(0, 1).repeat_interleave(n, 0)[:, None], b, clip)
        x = self.time_mixer(x, mixed)

        frames = torch.arange(t, device=x.device).repeat(b).repeat_interleave(v)
        mixed = x + self.time_mix_motion_embed(sinusoid(frames, self.channels).to(x.dtype))[:, None]
        views = functional.interpolate(cond_view, (h, w), mode="bilinear", align_corners=False)
        views = views.permute(0, 2, 3, 1).reshape(-1, 1, views.shape[1])                # (b v n) 1 d
        mixed = mixed.unflatten(0, (b * t, v)).flatten(1, 2)                            # (b t) (v n) c
        mixed = self.motion_blocks[0](mixed, views, t)
        x = self.time_mixer_motion(x, mixed.unflatten(1, (v, n)).flatten(0, 1))
        x = self.proj_out(x)
        return x.permute(0, 2, 1).unflatten(-1, (h, w)) + x_in

    def _camera(self, x: torch.Tensor, context: torch.Tensor, b: int, clip: tuple[int, int]) -> torch.Tensor:
        """``x`` (b t v) n c, ``context`` (b t n) 1 d."""
        (t, v), n = clip, x.shape[1]
        x = x.unflatten(0, (b, t, v))                                                   # b t v n c
        block = self.time_mix_blocks[0]
        if self.pixel_groups:
            # Meant as attention among views and pixels; the block splits these rows into runs of v, though.
            x = block(x.permute(0, 2, 3, 1, 4).flatten(0, 2), context, v)               # (b v n) t c
            x = x.unflatten(0, (b, v, n)).permute(0, 3, 1, 2, 4)                        # b t v n c
        else:
            x = block(x.permute(0, 2, 1, 3, 4).reshape(b * v, t * n, -1), context, v)   # (b v) (t n) c
            x = x.unflatten(1, (t, n)).unflatten(0, (b, v)).permute(0, 2, 1, 3, 4)      # b t v n c
        return x.reshape(b * t * v, n, -1)


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2, mode="nearest"))


class OfficialUNet(nn.Module):
    """``SpatialUNetModelWithTime``; the arguments are the official ones and default to the released 4-view model's.

    Arguments that the released networks never vary are taken and ignored.
    """

    def __init__(self, in_channels: int = 8, out_channels: int = 4, model_channels: int = 320,
                 channel_mult: tuple[int, ...] = (1, 2, 4, 4), num_res_blocks: int = 2,
                 attention_resolutions: tuple[int, ...] = (4, 2, 1), num_head_channels: int = 64,
                 context_dim: int = 1024, motion_context_dim: int = 4, adm_in_channels: int = 1280,
                 use_3d_attention: bool = True, **_) -> None:
        super().__init__()
        self.model_channels, embed = model_channels, 4 * model_channels
        self.time_embed = two_layers(model_channels, embed, embed)
        self.label_emb = nn.Sequential(two_layers(adm_in_channels, embed, embed))

        def layer(channels: int) -> AttentionLayer:
            return AttentionLayer(channels, num_head_channels, embed, context_dim, motion_context_dim,
                                  use_3d_attention)

        channels, skips, last = model_channels, [model_channels], len(channel_mult) - 1
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(in_channels, model_channels, 3, padding=1)])])
        for level, multiple in enumerate(channel_mult):
            for _block in range(num_res_blocks):
                block = [VideoResBlock(channels, multiple * model_channels, embed)]
                channels = multiple * model_channels
                if 2**level in attention_resolutions:
                    block.append(layer(channels))
                self.input_blocks.append(nn.ModuleList(block))
                skips.append(channels)
            if level < last:
                self.input_blocks.append(nn.ModuleList([Downsample(channels)]))
                skips.append(channels)
        self.middle_block = nn.ModuleList([VideoResBlock(channels, channels, embed), layer(channels),
                                           VideoResBlock(channels, channels, embed)])
        self.output_blocks = nn.ModuleList()
        for level in range(last, -1, -1):
            for index in range(num_res_blocks + 1):
                block = [VideoResBlock(channels + skips.pop(), channel_mult[level] * model_channels, embed)]
                channels = channel_mult[level] * model_channels
                if 2**level in attention_resolutions:
                    block.append(layer(channels))
                if level and index == num_res_blocks:
                    block.append(Upsample(channels))
                self.output_blocks.append(nn.ModuleList(block))
        self.out = nn.Sequential(GroupNorm32(model_channels), nn.SiLU(),
                                 nn.Conv2d(model_channels, out_channels, 3, padding=1))

    def embed(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(images, 4 · model_channels)."""
        timesteps = inputs["timesteps"]
        if not timesteps.is_meta:
            str(timesteps[0].data.float().cpu().numpy())    # upstream formats a message with it: devices wait here
        steps = sinusoid(timesteps, self.model_channels).to(inputs["x"].dtype)
        return self.time_embed(steps) + self.label_emb(inputs["y"])

    @staticmethod
    def run(block: nn.ModuleList, x: torch.Tensor, emb: torch.Tensor, inputs: Mapping[str, torch.Tensor],
            clip: tuple[int, int]) -> torch.Tensor:
        """One of the blocks between which the official code keeps its skips."""
        for module in block:
            if isinstance(module, VideoResBlock):
                x = module(x, emb, clip)
            elif isinstance(module, AttentionLayer):
                x = module(x, emb, inputs["context"], inputs["cond_view"], clip)
            else:
                x = module(x)
        return x

    def forward(self, inputs: Mapping[str, torch.Tensor], frames: int, views: int) -> torch.Tensor:
        """Official input tensors (as ``MultiViewUNet.forward_official`` takes them) to (images, out_channels, H, W)."""
        clip, emb, h, skips = (frames, views), self.embed(inputs), inputs["x"], []
        for block in self.input_blocks:
            h = self.run(block, h, emb, inputs, clip)
            skips.append(h)
        h = self.run(self.middle_block, h, emb, inputs, clip)
        for block in self.output_blocks:
            h = self.run(block, torch.cat([h, skips.pop()], dim=1), emb, inputs, clip)
        return self.out(h)


class Fusion(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fusion_conv = nn.Sequential(nn.Conv2d(2 * channels, channels, 1), nn.ReLU(),
                                         nn.Conv2d(channels, channels, 1))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fused = self.fusion_conv(torch.cat([a, b], dim=1))
        return a + fused, b + fused


class OfficialDualUNet(nn.Module):
    """``DualSpatialUNetWithCrossComm``: two networks, fused after every block, both told the first one's embedding."""

    def __init__(self, **config) -> None:
        super().__init__()
        self.net1, self.net2 = OfficialUNet(**config), OfficialUNet(**config)
        width, mult = self.net1.model_channels, config.get("channel_mult", (1, 2, 4, 4))
        depth, down = config.get("num_res_blocks", 2), [width]
        for level, multiple in enumerate(mult):
            down += [multiple * width] * (depth + (level + 1 < len(mult)))
        self.input_cross_layers = nn.ModuleList(Fusion(channels) for channels in down)
        self.middle_cross = Fusion(mult[-1] * width)
        self.output_cross_layers = nn.ModuleList(Fusion(multiple * width) for multiple in reversed(mult)
                                                 for _ in range(depth + 1))

    def forward(self, inputs: Mapping[str, torch.Tensor], frames: int, views: int) -> torch.Tensor:
        """As :meth:`OfficialUNet.forward`, with the channels of both networks one after the other."""
        clip, emb, skips = (frames, views), self.net1.embed(inputs), []
        h1, h2 = inputs["x"].chunk(2, dim=1)
        for block1, block2, fuse in zip(self.net1.input_blocks, self.net2.input_blocks, self.input_cross_layers):
            h1, h2 = fuse(self.net1.run(block1, h1, emb, inputs, clip), self.net2.run(block2, h2, emb, inputs, clip))
            skips.append((h1, h2))
        h1, h2 = self.middle_cross(self.net1.run(self.net1.middle_block, h1, emb, inputs, clip),
                                   self.net2.run(self.net2.middle_block, h2, emb, inputs, clip))
        for block1, block2, fuse in zip(self.net1.output_blocks, self.net2.output_blocks, self.output_cross_layers):
            skip1, skip2 = skips.pop()
            h1 = self.net1.run(block1, torch.cat([h1, skip1], dim=1), emb, inputs, clip)
            h2 = self.net2.run(block2, torch.cat([h2, skip2], dim=1), emb, inputs, clip)
            h1, h2 = fuse(h1, h2)
        return torch.cat([self.net1.out(h1), self.net2.out(h2)], dim=1)
