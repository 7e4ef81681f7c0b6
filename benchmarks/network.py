"""Time and memory of the network against a plain evaluation of the released graph (``benchmarks.official_graph``).

On a CPU: one thread, float32, both with the same random weights, in alternating pairs. The median of all ratios of a
pair counts, in processor time, which other work on the machine disturbs least; wall time stands beside it. Memory is
the most that tensors take during a pass, besides weights and inputs. FLOPs and memory at full size are counted without
computing (``benchmarks.network_counts``).

    python -m benchmarks.network [--parts small compiled medium full] [--passes forward forward_backward] [--pairs 7]
    python -m benchmarks.network --gpu

Parts that are not asked for keep what the result file holds of them.
"""

from __future__ import annotations

import os

os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})      # read when torch is loaded

import argparse  # noqa: E402
import datetime  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402

import torch  # noqa: E402

from benchmarks import network_counts, record  # noqa: E402
from benchmarks.official_graph import OfficialUNet  # noqa: E402
from sp4dlib.model import MultiViewUNet  # noqa: E402

FRAMES, VIEWS, SEED = 4, 4, 0
SIZES = {"small": (64, 16), "medium": (128, 24)}        # width of the network, side of the latents
PARTS = ("small", "compiled", "medium", "full")
PASSES = ("forward", "forward_backward")

log = logging.getLogger("benchmarks.network")


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure on the CPU")
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=PASSES, help="of small and medium")
    parser.add_argument("--pairs", type=int, default=7, help="of each measurement; the median counts")
    parser.add_argument("--gpu", action="store_true", help="measure the released sizes on a CUDA device instead")
    parser.add_argument("--name", help="of the file in data/results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.gpu:
        from benchmarks import network_gpu

        path = record.write(arguments.name or "network_gpu", network_gpu.measure_all(arguments.pairs),
                            device=torch.cuda.get_device_name(), seed=SEED, module="benchmarks.network")
        log.info("wrote %s", path)
        return
    torch.set_num_threads(1)
    name = arguments.name or "network"
    for part in arguments.parts:        # each is stored at once: the later ones take minutes
        results = stored(name) | {part: measure(part, arguments.pairs, arguments.passes)}
        record.write(name, results, device=record.processor(), seed=SEED, module="benchmarks.network")
        log.info("%s: %s", part, json.dumps(results[part]))


def stored(name: str) -> dict:
    """Results that the file of that name holds, none without one."""
    path = record.RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}


def measure(part: str, pairs: int, passes: Sequence[str]) -> dict:
    """One part of the results, with the circumstances that may differ from those of the other parts."""
    if part == "full":
        result: dict = {key: network_counts.full_size(key) for key in network_counts.LAYOUTS}
    else:
        compiled = part == "compiled"
        result = compare(*SIZES["small" if compiled else part], pairs, ("forward",) if compiled else passes, compiled)
    return {"commit": record.commit(), "date": datetime.date.today().isoformat(),
            "load": round(os.getloadavg()[0], 1), **result}


def compare(width: int, size: int, pairs: int, passes: Sequence[str], compiled: bool) -> dict:
    """Ours, compiled or not, against the official graph at one size."""
    torch.manual_seed(SEED)
    official = OfficialUNet(model_channels=width).eval()
    ours = MultiViewUNet.from_official(official.state_dict(), model_channels=width)
    inputs = network_counts.official_inputs(1, FRAMES, VIEWS, size, seed=SEED)

    def run_official() -> torch.Tensor:
        return official(inputs, FRAMES, VIEWS)

    def run_ours() -> torch.Tensor:
        return ours.forward_official(inputs, FRAMES, VIEWS)

    result = {"width": width, "frames": FRAMES, "views": VIEWS, "latent_side": size, "threads": 1, "pairs": pairs}
    if compiled:
        start = time.process_time()
        ours.compile_repeated_blocks(fullgraph=True, dynamic=False)
        with torch.no_grad():
            run_ours()
        result["compile_cpu_seconds"] = round(time.process_time() - start, 1)
    with torch.no_grad():
        expected = run_official()
        result["largest_difference"] = float((run_ours() - expected).abs().max())
        result["output_std"] = round(float(expected.std()), 3)
    for name in passes:
        evaluate = forward if name == "forward" else forward_backward
        result[name] = alternate(lambda: evaluate(run_official), lambda: evaluate(run_ours), pairs)  # noqa: B023
        if not compiled:
            for who, network, run in (("official", official, run_official), ("ours", ours, run_ours)):
                network.zero_grad()
                peak = network_counts.peak_bytes(network, inputs, lambda: evaluate(run))             # noqa: B023
                result[name][f"{who}_peak_mib"] = round(peak / 2**20, 1)
    return result


@torch.no_grad()
def forward(run: Callable[[], torch.Tensor]) -> None:
    run()


def forward_backward(run: Callable[[], torch.Tensor]) -> None:
    run().square().mean().backward()


def alternate(official: Callable, ours: Callable, pairs: int) -> dict:
    """Seconds of both, in processor and wall time, and the median ratio of a pair; a first pair does not count."""
    seconds: dict[str, list[tuple[float, float]]] = {"official": [], "ours": []}
    for _ in range(pairs + 1):
        for who, run in (("official", official), ("ours", ours)):
            busy, wall = time.process_time(), time.perf_counter()
            run()
            seconds[who].append((time.process_time() - busy, time.perf_counter() - wall))
    result = {}
    for index, kind in enumerate(("cpu", "wall")):
        taken = {who: [sample[index] for sample in samples[1:]] for who, samples in seconds.items()}
        result |= {f"{who}_{kind}_seconds": round(statistics.median(values), 4) for who, values in taken.items()}
        ratios = [mine / theirs for mine, theirs in zip(taken["ours"], taken["official"])]
        result[f"{kind}_ratio"] = round(statistics.median(ratios), 3)
        result[f"{kind}_ratios"] = [round(ratio, 3) for ratio in ratios]
    return result


if __name__ == "__main__":
    main()
