"""What the networks cost at full size, counted without computing: parameters, FLOPs, live activations.

Everything runs on the meta device, so it needs neither memory nor a GPU. Attention counts as a kernel that stores no
scores (flash attention).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.official_graph import OfficialDualUNet, OfficialUNet
from sp4dlib.model import DualUNet, MultiViewUNet
from sp4dlib.model.cost import Recorder, count

LATENT = 72         # pixels of a side: images of 576²


@dataclass(frozen=True)
class Layout:
    """A released network and the clip that it makes."""

    name: str
    ours: type[nn.Module]
    official: type[nn.Module]
    mode: str
    frames: int
    views: int


LAYOUTS = {
    "sv4d2": Layout("SV4D 2.0, 12 frames x 4 views", MultiViewUNet, OfficialUNet, "pixel_group", 12, 4),
    "sv4d2_8views": Layout("SV4D 2.0, 5 frames x 8 views", MultiViewUNet, OfficialUNet, "view", 5, 8),
    "sp4d": Layout("SP4D, 4 frames x 12 views", DualUNet, OfficialDualUNet, "pixel_group", 4, 12),
}


def official_inputs(batch: int, frames: int, views: int, size: int, *, channels: int = 8, vector: int = 1280,
                    context: int = 1024, device: str = "cpu", dtype: torch.dtype = torch.float32,
                    seed: int = 0) -> dict[str, torch.Tensor]:
    """Random input tensors of the official implementation (values do not matter on the meta device)."""
    images, generator = batch * frames * views, torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        if device == "meta":
            return torch.empty(shape, device=device, dtype=dtype)
        return torch.randn(shape, generator=generator).to(device, dtype)

    return {"x": draw(images, channels, size, size), "timesteps": draw(batch).repeat_interleave(frames * views),
            "y": draw(images, vector), "context": draw(batch, frames, context),
            "cond_view": draw(batch * views, 4, size, size)}


def peak_bytes(network: nn.Module, inputs: Mapping[str, torch.Tensor], run: Callable[[], object]) -> int:
    """Most bytes alive during ``run()`` besides the network's parameters and ``inputs``."""
    with Recorder([*network.parameters(), *inputs.values()]) as recorder:
        run()
    return recorder.peak


def full_size(key: str) -> dict:
    """Parameters, TFLOP and GiB of activations of one forward pass of one clip at full size, in bfloat16."""
    layout = LAYOUTS[key]
    with torch.device("meta"):
        networks = {"ours": layout.ours(attention_mode=layout.mode),
                    "official": layout.official(use_3d_attention=layout.mode == "pixel_group")}
    dual = layout.ours is DualUNet
    inputs = official_inputs(1, layout.frames, layout.views, LATENT, channels=16 if dual else 8, device="meta",
                             dtype=torch.bfloat16)
    ours, official = networks["ours"].bfloat16(), networks["official"].bfloat16()
    result = {"name": layout.name, "latent_side": LATENT,
              "parameters": sum(parameter.numel() for parameter in ours.parameters())}
    result |= {"ours": _count(ours, ours.forward_official, inputs, layout)}
    ours.enable_forward_chunking()
    result["ours_chunked"] = _count(ours, ours.forward_official, inputs, layout)
    return result | {"official": _count(official, official, inputs, layout)}


def _count(network: nn.Module, forward: Callable, inputs: dict, layout: Layout) -> dict:
    cost = count(network, lambda: forward(inputs, layout.frames, layout.views), inputs.values())
    return {"tflop": round(cost.flops / 1e12, 2), "gigabytes_moved": round(cost.bytes / 1e9, 1),
            "operations": len(cost.operations), "peak_activations_gib": round(cost.peak_bytes / 2**30, 2)}
