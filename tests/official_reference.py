"""The official VAE and image encoder, written out again under the official parameter names.

After ``Encoder`` and ``Decoder`` of Stability-AI/generative-models (sgm/modules/diffusionmodules/model.py, MIT) and
``VisionTransformer`` of OpenCLIP (MIT): what a checkpoint's tensors mean, independent of diffusers and transformers.
"""

import torch
from torch import nn
from torch.nn import functional


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.norm1, self.conv1 = norm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = norm(out), nn.Conv2d(out, out, 3, padding=1)
        if channels != out:
            self.nin_shortcut = nn.Conv2d(channels, out, 1)

    def forward(self, x):
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))                 # (B, C, pixels)
        weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / q.shape[1] ** 0.5, -1)
        return x + self.proj_out(torch.einsum("bij,bcj->bci", weights, v).reshape(x.shape))


def middle(channels):
    module = nn.Module()
    module.block_1, module.attn_1 = ResnetBlock(channels, channels), AttnBlock(channels)
    module.block_2 = ResnetBlock(channels, channels)
    return module


def level(blocks, resample=None, channels=0, **conv):
    module = nn.Module()
    module.block = nn.ModuleList(blocks)
    if resample:
        setattr(module, resample, nn.Module())
        getattr(module, resample).conv = nn.Conv2d(channels, channels, 3, **conv)
    return module


class Encoder(nn.Module):
    def __init__(self, ch, ch_mult, num_res_blocks, z_channels=4):
        super().__init__()
        self.conv_in, channels = nn.Conv2d(3, ch, 3, padding=1), ch
        self.down = nn.ModuleList()
        for i, multiple in enumerate(ch_mult):
            blocks = []
            for _ in range(num_res_blocks):
                blocks.append(ResnetBlock(channels, ch * multiple))
                channels = ch * multiple
            self.down.append(level(blocks, "downsample" if i + 1 < len(ch_mult) else None, channels, stride=2))
        self.mid = middle(channels)
        self.norm_out, self.conv_out = norm(channels), nn.Conv2d(channels, 2 * z_channels, 3, padding=1)

    def forward(self, x):
        h = self.conv_in(x)
        for stage in self.down:
            for block in stage.block:
                h = block(h)
            if hasattr(stage, "downsample"):
                h = stage.downsample.conv(functional.pad(h, (0, 1, 0, 1)))
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h)))
        return self.conv_out(functional.silu(self.norm_out(h)))


class Decoder(nn.Module):
    def __init__(self, ch, ch_mult, num_res_blocks, z_channels=4):
        super().__init__()
        channels = ch * ch_mult[-1]
        self.conv_in, self.mid = nn.Conv2d(z_channels, channels, 3, padding=1), middle(channels)
        self.up = nn.ModuleList()
        for i, multiple in reversed(list(enumerate(ch_mult))):
            blocks = []
            for _ in range(num_res_blocks + 1):
                blocks.append(ResnetBlock(channels, ch * multiple))
                channels = ch * multiple
            self.up.insert(0, level(blocks, "upsample" if i else None, channels, padding=1))
        self.norm_out, self.conv_out = norm(channels), nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, z):
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(self.conv_in(z))))
        for stage in reversed(self.up):
            for block in stage.block:
                h = block(h)
            if hasattr(stage, "upsample"):
                h = stage.upsample.conv(h.repeat_interleave(2, 2).repeat_interleave(2, 3))
        return self.conv_out(functional.silu(self.norm_out(h)))


class KLEncoder(nn.Module):
    """``AutoencoderKLModeOnly`` without its decoder: what each of three embedders holds as ``encoder``."""

    def __init__(self, ch=128, ch_mult=(1, 2, 4, 4), num_res_blocks=2):
        super().__init__()
        self.encoder = Encoder(ch, ch_mult, num_res_blocks)
        self.quant_conv = nn.Conv2d(8, 8, 1)

    def forward(self, image):
        return self.quant_conv(self.encoder(image)).chunk(2, 1)[0]


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))


class ResidualAttentionBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(width), SelfAttention(width, heads), nn.LayerNorm(width)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp.c_proj(functional.gelu(self.mlp.c_fc(self.ln_2(x))))


class VisionTransformer(nn.Module):
    def __init__(self, width=1280, layers=32, heads=16, image=224, patch=14, out=1024):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((image // patch) ** 2 + 1, width))
        self.proj = nn.Parameter(torch.empty(width, out))
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(ResidualAttentionBlock(width, heads) for _ in range(layers))

    def forward(self, image):
        x = self.conv1(image).flatten(2).transpose(1, 2)                                      # (B, patches, width)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer.resblocks:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj


def randomise(module, generator):
    """Weights that neither vanish nor blow up, and norms and biases that matter."""
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            noise = noise / noise[0].numel() ** 0.5
        elif name.endswith("weight"):
            noise = 1 + 0.2 * noise
        else:
            noise = 0.2 * noise
        parameter.data = noise
    return module.eval()
