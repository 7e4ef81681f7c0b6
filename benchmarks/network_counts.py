"""What the networks cost at full size, counted without computing: parameters, FLOPs, live activations.

Everything runs on the meta device, so it needs neither memory nor a GPU. Attention counts as a kernel that stores no
scores (flash attention).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from unittest import mock

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from benchmarks.official_graph import OfficialDualUNet, OfficialUNet
from sp4dlib.model import DualUNet, MultiViewUNet

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


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that are alive, now (``live``) and at most (``peak``), but for those known before.

    Scratch memory inside of kernels is not seen.

    Parameters
    ----------
    known : iterable of Tensor
        Parameters and inputs.
    """

    def __init__(self, known) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = WeakIdKeyDictionary()
        for tensor in known:
            self._known[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage not in self._known:
                    self._known[storage] = True
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self._free, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _free(self, size: int) -> None:
        self.live -= size


def peak_bytes(network: nn.Module, inputs: Mapping[str, torch.Tensor], run: Callable[[], object]) -> int:
    """Most bytes alive during ``run()`` besides the network's parameters and ``inputs``."""
    with LiveBytes([*network.parameters(), *inputs.values()]) as memory:
        run()
    return memory.peak


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
    def flash(query, key, value):
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]

    with torch.no_grad(), mock.patch.object(functional, "scaled_dot_product_attention", flash), \
            FlopCounterMode(display=False) as flops:
        peak = peak_bytes(network, inputs, lambda: forward(inputs, layout.frames, layout.views))
    return {"tflop": round(flops.get_total_flops() / 1e12, 2), "peak_activations_gib": round(peak / 2**30, 2)}
