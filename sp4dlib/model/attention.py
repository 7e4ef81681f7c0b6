"""The attention layer of SV4D 2.0 (arXiv 2503.16396): space, then cameras, then time, each blended into the last.

Tokens are ``(B, T, V, N, C)`` throughout, N = h·w pixels in raster order, so that every kind of attention is a choice
of axis and only queries, keys, values and results are ever moved in memory. Parameter names are those of diffusers'
``TransformerSpatioTemporalModel``, with ``motion_*`` for the third block.

The contexts of all cross-attentions hold one token. A softmax over one key is 1, hence
``attn2(x) = to_out(to_v(context))`` whatever ``x``; queries, keys and ``norm2`` are kept as parameters, for the
released weights have them, but nothing evaluates them.
"""

from __future__ import annotations

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import TimestepEmbedding
from torch import nn
from torch.nn import functional

from sp4dlib.model.conditioning import Conditioning, sinusoid

MODES = ("joint", "view", "pixel_group")
SHORT = 512             # tokens up to which a CPU trains faster in bfloat16 on attention written out (`_written_out`)
MAX_ROWS = 65535        # CUDA kernels of scaled_dot_product_attention take no larger batch (pytorch issue 142228)


class Blend(nn.Module):
    """``α·a + (1 - α)·b`` with one learned ``α = sigmoid(mix_factor)``, which starts at ½ as in SVD.

    Without gradients the result takes the place of ``a``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        weight = (-self.mix_factor).sigmoid().to(a.dtype)            # autocast leaves parameters in float32
        return torch.lerp(a, b, weight) if torch.is_grad_enabled() else a.lerp_(b, weight)


class SelfAttention(nn.Module):
    """Multi-head attention along one axis of the tokens."""

    def __init__(self, channels: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """Attend among the tokens that differ in ``axis`` only; ``x`` is (..., C) of any rank."""
        query, key, value = (self._sequences(y, axis) for y in self._projections(x))
        if query.dtype == torch.bfloat16 and x.device.type == "cpu" and torch.is_grad_enabled() \
                and query.shape[-2] <= SHORT:
            mixed = _written_out(query, key, value)
        else:
            parts = [functional.scaled_dot_product_attention(q, k, v) for q, k, v in
                     zip(query.split(MAX_ROWS), key.split(MAX_ROWS), value.split(MAX_ROWS))]
            mixed = parts[0] if len(parts) == 1 else torch.cat(parts)          # (rows, heads, length, head_dim)
        moved = x.movedim(axis, -2)
        mixed = mixed.transpose(1, 2).reshape(moved.shape)
        return self.to_out[0](mixed.movedim(-2, axis))

    def _projections(self, x: torch.Tensor) -> tuple[torch.Tensor, ...] | list[torch.Tensor]:
        """Queries, keys and values; where gradients are wanted, by one product, which spares the backward pass two."""
        maps = (self.to_q, self.to_k, self.to_v)
        if torch.is_grad_enabled() and all(_is_plain(linear) for linear in maps):
            return functional.linear(x, torch.cat([linear.weight for linear in maps])).chunk(3, -1)
        return [linear(x) for linear in maps]

    def _sequences(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        x = x.movedim(axis, -2)                                                # (..., length, C)
        x = x.reshape(-1, x.shape[-2], x.shape[-1] // self.head_dim, self.head_dim)
        return x.transpose(1, 2)                                               # (rows, heads, length, head_dim)


def _written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention as two products and a softmax.

    The backward pass of PyTorch's fused kernel for CPUs takes a fifth of a training step in bfloat16 at the lengths of
    small models (4 to 256 tokens); with this one the whole step was 6 % quicker. In float32 no gain was seen.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.mT
    return torch.softmax(scores, -1).to(value.dtype) @ value


class OneTokenAttention(nn.Module):
    """Cross-attention to a context of one token, which is a linear map of that token."""

    def __init__(self, channels: int, context_dim: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False).requires_grad_(False)
        self.to_k = nn.Linear(context_dim, channels, bias=False).requires_grad_(False)
        self.to_v = nn.Linear(context_dim, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, context: torch.Tensor | None) -> torch.Tensor:
        """(..., context_dim) to (..., C); ``None`` is a context of zeros and gives a vector of shape (C,)."""
        return self.to_out[0].bias if context is None else self.to_out[0](self.to_v(context))


class GatedFeedForward(FeedForward):
    """diffusers' feed-forward with GEGLU: ``out(a · GELU(g))``, where a and g are two halves of one linear map.

    The map's weights are halved rather than its result: its halves are then contiguous, which a CPU's GELU wants, and
    the backward pass joins two small gradients of weights instead of two large ones of activations. Where the map was
    wrapped or hooked (LoRA, offloading) diffusers' form is used.

    Attributes
    ----------
    chunk_size : int or None
        Tokens at once; the hidden layer, eight times as wide as its input, then exists for these only. All if ``None``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, activation_fn="geglu")
        self.chunk_size: int | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., C) to (..., C)."""
        if self.chunk_size is None or x[..., 0].numel() <= self.chunk_size:
            return self._all_at_once(x)
        pieces = [self._all_at_once(piece) for piece in x.flatten(0, -2).split(self.chunk_size)]
        return torch.cat(pieces).view(x.shape)

    def _all_at_once(self, x: torch.Tensor) -> torch.Tensor:
        proj = self.net[0].proj
        if not _is_plain(proj):
            return super().forward(x)
        (value, gate), (value_bias, gate_bias) = proj.weight.chunk(2), proj.bias.chunk(2)
        gate, value = functional.gelu(_linear(x, gate, gate_bias)), _linear(x, value, value_bias)
        return self.net[2](value * gate if torch.is_grad_enabled() else value.mul_(gate))


def _is_plain(layer: nn.Module) -> bool:
    """Is this a linear map that nothing (LoRA, offloading) has wrapped or hooked?"""
    return type(layer) is nn.Linear and "forward" not in vars(layer)


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A linear map; on a CPU the bias comes last, because there addmm would first copy it to the whole result.

    Not under autocast, which leaves the bias in 32 bits: adding it to a result of 16 bits converts all of that.
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return functional.linear(x, weight, bias)
    return functional.linear(x, weight).add_(bias)


def set_chunk_size(network: nn.Module, chunk_size: int | None) -> None:
    """Let every feed-forward of a network take at most ``chunk_size`` tokens at once; all if ``None``."""
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size}: a chunk has at least one token")
    for module in network.modules():
        if isinstance(module, GatedFeedForward):
            module.chunk_size = chunk_size


class TransformerBlock(nn.Module):
    """Self-attention along one axis, the (one-token) cross-attention's result, feed-forward; each a residual.

    Parameters
    ----------
    channels, head_dim : int
    context_dim : int or None
        Channels of the cross-attention's context; ``None`` leaves the cross-attention out.
    feed_in : bool
        Start with a further feed-forward residual, as the short-axis blocks of SVD do.
    """

    def __init__(self, channels: int, head_dim: int, context_dim: int | None, feed_in: bool) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(channels) if feed_in else None
        self.ff_in = GatedFeedForward(channels) if feed_in else None
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = SelfAttention(channels, head_dim)
        self.norm2 = nn.LayerNorm(channels).requires_grad_(False) if context_dim else None
        self.attn2 = OneTokenAttention(channels, context_dim) if context_dim else None
        self.norm3 = nn.LayerNorm(channels)
        self.ff = GatedFeedForward(channels)

    def cross(self, context: torch.Tensor | None) -> torch.Tensor | None:
        """What the cross-attention adds to every token that sees ``context``, or ``None`` where there is none."""
        return None if self.attn2 is None else self.attn2(context)

    def forward(self, x: torch.Tensor, axis: int, cross: torch.Tensor | None) -> torch.Tensor:
        """Tokens of any rank (..., C); ``cross`` comes from :meth:`cross` and broadcasts to them."""
        if self.ff_in is not None:
            x = x + self.ff_in(self.norm_in(x))
        x = x + self.attn1(self.norm1(x), axis)
        if cross is not None:
            x = x + cross
        return x + self.ff(self.norm3(x))


class MultiViewTransformer(nn.Module):
    """Attention over space, over cameras and over time.

    The three blocks follow one another; the second and third are blended with their input ("post hoc"). The camera
    block's mode says which tokens of one frame attend to each other:

    ``"joint"``
        All pixels of all views: what the papers describe.
    ``"view"``
        The same pixel in all views: the released 5-frame, 8-view SV4D 2.0.
    ``"pixel_group"``
        V consecutive entries of the (view, pixel) raster: what the released code of the 4-view SV4D 2.0 and of SP4D
        computes under the name of 3D attention. Where V divides N a group never leaves its view.

    Parameters
    ----------
    channels, head_dim, embed_dim : int
    context_dim, motion_context_dim : int or None
        Channels of the frames' context tokens and of the view latents.
    mode : {"joint", "view", "pixel_group"}
    groups : int
        Of the group normalisation.
    """

    def __init__(self, channels: int, head_dim: int, embed_dim: int, context_dim: int | None,
                 motion_context_dim: int | None, mode: str, groups: int) -> None:
        super().__init__()
        self.mode = mode
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, head_dim, context_dim, False)])
        self.temporal_transformer_blocks = nn.ModuleList([TransformerBlock(channels, head_dim, context_dim, True)])
        self.motion_transformer_blocks = nn.ModuleList([TransformerBlock(channels, head_dim, motion_context_dim, True)])
        self.time_pos_embed = TimestepEmbedding(embed_dim, 4 * channels, out_dim=channels)
        self.motion_pos_embed = TimestepEmbedding(channels, 4 * channels, out_dim=channels)
        self.time_mixer = Blend()
        self.motion_mixer = Blend()
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        """(B * T * V, C, h, w) to the same shape."""
        size = tuple(x.shape[-2:])
        tokens = self.proj_in(self.norm(x).flatten(2).mT)
        tokens = tokens.unflatten(0, (-1, condition.frames, condition.views))           # (B, T, V, N, C)
        context = None if condition.context is None else condition.context[:, :, None, None]
        spatial = self.transformer_blocks[0]
        tokens = spatial(tokens, -2, spatial.cross(context))
        tokens = self._across_views(tokens, context, condition.view_embedding)
        tokens = self._across_frames(tokens, None if condition.view_tokens is None else condition.view_tokens[size])
        return x + self.proj_out(tokens).flatten(0, 2).mT.unflatten(-1, size)

    def _across_views(self, tokens: torch.Tensor, context: torch.Tensor | None,
                      embedding: torch.Tensor) -> torch.Tensor:
        block = self.temporal_transformer_blocks[0]
        batch, frames, views, pixels, _ = tokens.shape
        mixed = tokens + self.time_pos_embed(embedding)[:, None, :, None]
        cross = block.cross(context)                                                    # (B, T, 1, 1, C) or (C,)
        if self.mode == "view":
            mixed = block(mixed, 2, cross)
        elif self.mode == "joint":
            mixed = block(mixed.flatten(2, 3), 2, cross if cross is None or cross.ndim == 1 else cross.squeeze(2))
        else:
            if cross is not None and cross.ndim > 1:
                # Group g of frame s sees the context of frame (g·T + s) // N: upstream repeats the contexts in an
                # order other than that of its rows, and the released weights need it.
                s, g = torch.arange(frames, device=tokens.device), torch.arange(pixels, device=tokens.device)
                cross = cross[:, (g * frames + s[:, None]) // pixels, 0]                # (B, T, N, 1, C)
            mixed = block(mixed.reshape(batch, frames, pixels, views, -1), 3, cross)
        return self.time_mixer(tokens, mixed.reshape(tokens.shape))

    def _across_frames(self, tokens: torch.Tensor, view_tokens: torch.Tensor | None) -> torch.Tensor:
        block = self.motion_transformer_blocks[0]
        frame_index = torch.arange(tokens.shape[1], device=tokens.device)
        embedding = self.motion_pos_embed(sinusoid(frame_index, tokens.shape[-1]).to(tokens.dtype))
        mixed = block(tokens + embedding[:, None, None], 1, block.cross(view_tokens))
        return self.motion_mixer(tokens, mixed)
