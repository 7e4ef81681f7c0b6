"""The GPU half of ``benchmarks.network``: the released sizes in bfloat16, seconds per guided step and peak memory."""

from __future__ import annotations

import gc
import logging
import statistics
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.network_counts import LATENT, LAYOUTS, Layout, full_size, official_inputs
from sp4dlib.model import DualUNet

SEED = 0

log = logging.getLogger("benchmarks.network")


def measure_all(repeats: int) -> dict:
    """All layouts: eager, with chunked feed-forward, compiled; and the official graph as upstream runs it."""
    result: dict = {"matrix_tflop_per_second": round(matrix_rate(), 1), "torch": torch.__version__,
                    "cuda": torch.version.cuda}
    for key, layout in LAYOUTS.items():
        entry = {"name": layout.name}
        network = random_network(layout.ours, attention_mode=layout.mode)
        entry["eager"] = guided(network.forward_official, layout, repeats)
        entry["eager_one_by_one"] = guided(network.forward_official, layout, repeats, one_by_one=True)
        network.enable_forward_chunking()
        entry["chunked_one_by_one"] = guided(network.forward_official, layout, repeats, one_by_one=True)
        network.disable_forward_chunking()
        network.compile_repeated_blocks(fullgraph=True, dynamic=False)
        entry["compiled"] = guided(network.forward_official, layout, repeats)
        del network
        official = random_network(layout.official, torch.float32, use_3d_attention=layout.mode == "pixel_group")
        with torch.autocast("cuda", torch.float16):
            entry["official_fp16_autocast"] = guided(official, layout, repeats, dtype=torch.float32)
        del official
        step = 2 * full_size(key)["ours"]["tflop"]
        for name, timed in entry.items():
            if name not in ("name", "official_fp16_autocast"):
                timed["share_of_matrix_rate"] = round(step / timed["seconds"] / result["matrix_tflop_per_second"], 3)
        result[key] = entry
        log.info("%s: %s", key, entry)
    return result


def random_network(kind: type[nn.Module], dtype: torch.dtype = torch.bfloat16, **config) -> nn.Module:
    """A network of full size on the GPU, its weights drawn there: no copy exists on the host."""
    with torch.device("meta"):
        network = kind(**config)
    network = network.to(dtype).to_empty(device="cuda").eval().requires_grad_(False)
    generator = torch.Generator("cuda").manual_seed(SEED)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.fill_(float(name.endswith("weight")))
    return network


def guided(forward: Callable, layout: Layout, repeats: int, *, one_by_one: bool = False,
           dtype: torch.dtype = torch.bfloat16) -> dict:
    """Median seconds of a guided step, and the most memory that was in use, weights included.

    Parameters
    ----------
    forward : callable
        Official inputs, frames and views to the prediction.
    layout : Layout
    repeats : int
    one_by_one : bool
        Evaluate the two branches of guidance one after the other instead of as a batch of two.
    dtype : torch.dtype
        Of the inputs.

    Returns
    -------
    dict
    """
    batch, times = 1 if one_by_one else 2, 2 if one_by_one else 1
    inputs = official_inputs(batch, layout.frames, layout.views, LATENT, channels=16 if layout.ours is DualUNet else 8,
                             device="cuda", dtype=dtype, seed=SEED)

    def step() -> None:
        for _ in range(times):
            forward(inputs, layout.frames, layout.views)

    gc.collect()
    with torch.no_grad():
        for _ in range(2):                                              # kernels are chosen, graphs compiled
            step()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        seconds = [clocked(step) for _ in range(repeats)]
    return {"seconds": round(statistics.median(seconds), 4), "best_seconds": round(min(seconds), 4),
            "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)}


def clocked(run: Callable[[], None]) -> float:
    """Seconds that the device needs."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def matrix_rate(side: int = 8192, repeats: int = 20) -> float:
    """TFLOP/s of products of two square bfloat16 matrices: what the card gives at best."""
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    a @ b
    return 2 * side**3 / statistics.median(clocked(lambda: a @ b) for _ in range(repeats)) / 1e12
