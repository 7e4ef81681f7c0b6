"""The U-Nets in the official checkpoints of SV4D 2.0 and SP4D: their names and ours, both ways.

The names follow Stability-AI/generative-models (MIT), classes ``SpatialUNetModelWithTime`` and
``DualSpatialUNetWithCrossComm``. No tensor is transposed or split, so conversion is renaming.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from os import PathLike

import torch
from torch import nn

from sp4dlib.model.checkpoint import Piece, check, fill, open_tensors

PREFIX = "model.diffusion_model."

RES_BLOCK = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
             "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
ATTENTION = {"temporal_transformer_blocks": "time_mix_blocks", "motion_transformer_blocks": "motion_blocks",
             "time_pos_embed.linear_1": "time_mix_time_embed.0", "time_pos_embed.linear_2": "time_mix_time_embed.2",
             "motion_pos_embed.linear_1": "time_mix_motion_embed.0",
             "motion_pos_embed.linear_2": "time_mix_motion_embed.2", "motion_mixer": "time_mixer_motion"}
OUTSIDE = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
           "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
           "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}

# Official constructor arguments with the released values: those that have a name here, those of which nothing else is
# implemented, and those without effect on a loaded network.
RENAMED = {
    "in_channels": (8, "in_channels"), "out_channels": (4, "out_channels"), "model_channels": (320, "model_channels"),
    "channel_mult": ([1, 2, 4, 4], "channel_mult"), "num_res_blocks": (2, "num_res_blocks"),
    "attention_resolutions": ([4, 2, 1], "attention_resolutions"), "num_head_channels": (64, "head_dim"),
    "context_dim": (1024, "context_dim"), "motion_context_dim": (4, "motion_context_dim"),
}
FIXED = {
    "extra_ff_mix_layer": True, "legacy": False, "num_classes": "sequential",
    "spatial_transformer_attn_type": "softmax",
    "time_block_merge_strategy": "learned_with_images", "time_kernel_size": [3, 1, 1], "time_mix_legacy": False,
    "transformer_depth": 1, "use_linear_in_transformer": True, "use_spatial_context": True,
    "use_spatial_transformer": True, "separate_motion_merge_factor": True, "use_motion_attention": True,
    "use_camera_emb": True,
}
FREE = ("replicate_time_mix_bug", "time_block_merge_factor", "use_checkpoint")


def official_config(config: Mapping) -> dict:
    """Our constructor arguments for a network of the official ones.

    Parameters
    ----------
    config : mapping
        Official arguments that differ from the released 4-view model's.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If an argument is unknown, or has a value that the released networks do not have and that is not implemented.
    """
    config = dict(config)
    ours = {name: config.pop(official, default) for official, (default, name) in RENAMED.items()}
    ours["attention_mode"] = "pixel_group" if config.pop("use_3d_attention", True) else "view"
    vector = config.pop("adm_in_channels", 1280)
    # 256 + 512 + 512 in the release; another total is shared out in the same proportion, with even sizes.
    ours["camera_channels"] = camera = 2 * (vector // 5)
    ours["num_noise_level_channels"] = vector - 2 * camera
    for name in FREE:
        config.pop(name, None)
    for name, value in FIXED.items():
        given = config.pop(name, value)
        if (list(given) if isinstance(given, tuple) else given) != value:
            raise ValueError(f"{name}={given!r} is not implemented: the released networks have {value!r}")
    if config:
        raise ValueError(f"unknown official arguments: {', '.join(sorted(config))}")
    return ours


def unet_names(names: Iterable[str], num_res_blocks: int) -> dict[str, str]:
    """Official name of each parameter name of a ``MultiViewUNet``.

    Parameters
    ----------
    names : iterable of str
    num_res_blocks : int

    Returns
    -------
    dict, ours -> official
    """
    names = list(names)
    attended = {name.split(".")[1] for name in names if re.match(r"up_blocks\.\d+\.attentions\.", name)}
    return {name: _unet_name(name, num_res_blocks, attended) for name in names}


def dual_names(names: Iterable[str], num_res_blocks: int) -> dict[str, str]:
    """Official name of each parameter name of a ``DualUNet``: see :func:`unet_names`."""
    names = list(names)
    result = {}
    for ours, official in (("rgb.", "net1."), ("part.", "net2.")):
        branch = unet_names((name.removeprefix(ours) for name in names if name.startswith(ours)), num_res_blocks)
        result |= {ours + name: official + other for name, other in branch.items()}
    places = {"fusion_down": "input_cross_layers", "fusion_mid": "middle_cross", "fusion_up": "output_cross_layers"}
    for name in names:
        match = re.fullmatch(r"(fusion_(?:down|mid|up))((?:\.\d+)?)\.conv([12])\.(weight|bias)", name)
        if match:
            place, index, conv, kind = match.groups()
            result[name] = f"{places[place]}{index}.fusion_conv.{0 if conv == '1' else 2}.{kind}"
    return {name: result[name] for name in names}


def _unet_name(name: str, num_res_blocks: int, attended: set[str]) -> str:
    stem, kind = name.rsplit(".", 1)
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{kind}"
    match = re.fullmatch(r"(down_blocks|up_blocks|mid_block)\.?(\d*)\.(resnets|attentions|downsamplers|upsamplers)"
                         r"\.(\d+)\.(.+)", stem)
    place, level, child, position, rest = match.groups()
    if place == "mid_block":
        block = f"middle_block.{1 if child == 'attentions' else 2 * int(position)}"
    elif child == "downsamplers":
        return f"input_blocks.{(int(level) + 1) * (num_res_blocks + 1)}.0.op.{kind}"
    elif child == "upsamplers":
        index = int(level) * (num_res_blocks + 1) + num_res_blocks
        return f"output_blocks.{index}.{2 if level in attended else 1}.conv.{kind}"
    else:
        index = int(level) * (num_res_blocks + 1) + int(position) + (place == "down_blocks")
        side = "input_blocks" if place == "down_blocks" else "output_blocks"
        block = f"{side}.{index}.{1 if child == 'attentions' else 0}"
    if child == "resnets":
        part, _, layer = rest.partition(".")
        inner = {"spatial_res_block": "", "temporal_res_block": "time_mix_blocks.", "time_mixer": "time_mixer"}[part]
        return f"{block}.{inner}{RES_BLOCK.get(layer, layer)}.{kind}"
    for ours, official in ATTENTION.items():
        if rest == ours or rest.startswith(ours + "."):
            rest = official + rest.removeprefix(ours)
            break
    return f"{block}.{rest}.{kind}"


def load_official(kind: type[nn.Module], source: str | PathLike | Mapping[str, torch.Tensor], config: Mapping):
    """Build a network of class ``kind`` from official weights: see ``MultiViewUNet.from_official``.

    The network is made without memory and takes over the tensors one by one, so that no second copy exists.
    """
    with torch.device("meta"):
        model = kind(**official_config(config))
    tensors = open_tensors(source)
    prefix = PREFIX if any(name.startswith(PREFIX) for name in tensors.names) else ""
    pieces = unet_pieces(model, prefix)
    check(tensors, [(model, pieces)], [name for name in tensors.names if name.startswith(prefix)])
    fill(model, pieces, tensors)
    return model.eval()


def unet_pieces(model: nn.Module, prefix: str = PREFIX) -> dict[str, Piece]:
    """Where each tensor of a ``MultiViewUNet`` or ``DualUNet`` lies in a checkpoint."""
    return {ours: Piece(prefix + official) for ours, official in model.official_names().items()}
