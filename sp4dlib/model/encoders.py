"""The autoencoder and the image encoder of the official checkpoints, as diffusers' and transformers' own modules.

The autoencoder is that of Stable Diffusion 2.1. Its decoder stands at the first stage, its encoder three times in the
conditioner (input frames, views, motion); nothing undoes the ``quant_conv`` before decoding. The image encoder is the
image tower of OpenCLIP's ViT-H-14 (``laion2b_s32b_b79k``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from diffusers import AutoencoderKL
from torch import nn

from sp4dlib.model.checkpoint import Piece

DECODER = "first_stage_model."
ENCODERS = tuple(f"conditioner.embedders.{i}.encoder." for i in (1, 4, 5))
IMAGE_ENCODER = "conditioner.embedders.0.open_clip.model.visual."

SCALING_FACTOR = 0.18215

VAE_LEAF = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
            "conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out"}
CLIP_LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
              "self_attn.out_proj": "attn.out_proj"}
CLIP_OUTSIDE = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm.weight": "ln_pre.weight", "vision_model.pre_layrnorm.bias": "ln_pre.bias",
    "vision_model.post_layernorm.weight": "ln_post.weight", "vision_model.post_layernorm.bias": "ln_post.bias",
}


def build_vae(config: Mapping | None = None) -> AutoencoderKL:
    """The autoencoder.

    Images in [-1, 1] have 8 times smaller latents. The networks see the mode of an encoded image *unscaled* as their
    condition, and predict latents times ``vae.config.scaling_factor``.

    Parameters
    ----------
    config : mapping, optional
        Arguments of ``AutoencoderKL`` that differ from the released ones.
    """
    arguments = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=576,
                     use_quant_conv=True, use_post_quant_conv=False, scaling_factor=SCALING_FACTOR) | dict(config or {})
    levels = len(arguments["block_out_channels"])
    return AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * levels,
                         up_block_types=("UpDecoderBlock2D",) * levels, **arguments)


def build_image_encoder(config: Mapping | None = None) -> nn.Module:
    """The image encoder, transformers' ``CLIPVisionModelWithProjection``; its ``image_embeds`` are the context.

    Parameters
    ----------
    config : mapping, optional
        Arguments of ``CLIPVisionConfig`` that differ from the released ones.

    Raises
    ------
    ImportError
        If transformers is not installed.
    """
    try:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    except ImportError as error:
        raise ImportError("the image encoder of the released models needs transformers: pip install "
                          "'sp4dlib[official]' (or leave image_encoder out of the components)") from error
    arguments = dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
                     image_size=224, patch_size=14, projection_dim=1024, hidden_act="gelu") | dict(config or {})
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**arguments))
    embeddings = model.vision_model.embeddings
    if embeddings.position_ids.is_meta:         # no weight: a checkpoint will not fill it
        embeddings.position_ids = torch.arange(embeddings.num_positions, device="cpu")[None]
    return model


def vae_pieces(vae: AutoencoderKL) -> dict[str, Piece]:
    """Where each tensor of the autoencoder lies in an official checkpoint."""
    levels = len(vae.config.block_out_channels)
    pieces = {}
    for ours in vae.state_dict():
        prefixes = (DECODER,) if ours.startswith("decoder.") else ENCODERS
        form = "pointwise" if re.search(r"attentions\.0\.to_\w+(\.0)?\.weight$", ours) else "same"
        pieces[ours] = Piece(vae_name(ours, levels), form).moved(*prefixes)
    return pieces


def vae_name(ours: str, levels: int) -> str:
    """Official name, below its prefix, of a parameter of an ``AutoencoderKL`` with so many levels."""
    stem, kind = ours.rsplit(".", 1)
    match = re.fullmatch(r"(encoder|decoder)\.(down_blocks|up_blocks|mid_block)\.?(\d*)\."
                         r"(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", stem)
    if not match:
        side, _, leaf = stem.rpartition(".")
        leaf = VAE_LEAF.get(leaf, leaf)
        return f"{side}.{leaf}.{kind}" if side else f"{leaf}.{kind}"
    side, place, level, child, position, leaf = match.groups()
    leaf = VAE_LEAF.get(leaf, leaf)
    if place == "mid_block":
        block = "mid.attn_1" if child == "attentions" else f"mid.block_{int(position) + 1}"
    else:
        # The official decoder counts its levels from the finest one, which comes last.
        block = f"down.{level}" if place == "down_blocks" else f"up.{levels - 1 - int(level)}"
        block += {"resnets": f".block.{position}", "downsamplers": ".downsample", "upsamplers": ".upsample"}[child]
    return f"{side}.{block}.{leaf}.{kind}"


def image_encoder_pieces(names: Iterable[str]) -> dict[str, Piece]:
    """Where each parameter of the image encoder lies in an official checkpoint."""
    return {ours: _clip_piece(ours).moved(IMAGE_ENCODER) for ours in names}


def _clip_piece(ours: str) -> Piece:
    if ours == "visual_projection.weight":
        return Piece("proj", "transposed")
    if ours in CLIP_OUTSIDE:
        return Piece(CLIP_OUTSIDE[ours])
    index, layer, kind = re.fullmatch(r"vision_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", ours).groups()
    block = f"transformer.resblocks.{index}"
    if layer in CLIP_LAYER:
        return Piece(f"{block}.{CLIP_LAYER[layer]}.{kind}")
    third = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj").index(layer)
    return Piece(f"{block}.attn.in_proj_{kind}", "third", third)
