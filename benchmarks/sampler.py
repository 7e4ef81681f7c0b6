"""How far solvers end from the end of the flow, at equal noise: Euler, and the second-order multistep solver.

On data whose flow is known in closed form (a Gaussian), on a mixture of Gaussians, and on the smallest recipe's
network, trained here for some minutes. Where the end of the flow is not known it is that of many
multistep steps. Errors are root mean squares over latents, which have a root mean square of about 1.

    python -m benchmarks.sampler [--steps 100] [--name sampler]
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable

import diffusers
import torch
from torch import Tensor

from benchmarks import record
from sp4dlib.clips import make_clip
from sp4dlib.diffusion import nano
from sp4dlib.diffusion.data import ClipTensors
from sp4dlib.diffusion.samplers import make_scheduler
from sp4dlib.diffusion.sampling import Sampling, sample_window
from sp4dlib.diffusion.training import train
from sp4dlib.rigs.procedural import quadruped

SEED = 0
RUNS = [("euler", 50), ("euler", 25), ("multistep", 50), ("multistep", 25), ("multistep", 18), ("multistep", 12)]
REFERENCE = ("multistep", 200)
SPOTS = torch.tensor([[0.8, 0.8], [-0.7, 0.5], [0.2, -0.9]], dtype=torch.float64)

log = logging.getLogger("benchmarks.sampler")


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=100, help="training steps of the small network; 0 leaves it out")
    parser.add_argument("--name", default="sampler", help="of the file in data/results")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    results = {}
    for sigma_max in (80.0, 700.0):
        for name, flow in {"gaussian, spread 0.5": gaussian(0.5), "gaussian, spread 0.1": gaussian(0.1),
                           "mixture, spread 0.1": mixture(0.1)}.items():
            results[f"{name}, from {sigma_max:g}"] = compare(lambda *run, f=flow, s=sigma_max: f(*run, s))
    if args.steps:
        model, data = small_network(args.steps)
        for scale in (1.0, 2.0):
            name = f"network of {args.steps} training steps, guidance {scale:g}"
            results[name] = compare(sampler(model, data, scale))
    for name, errors in results.items():
        log.info("%s: %s", name, ", ".join(f"{run} {error:.4f}" for run, error in errors.items()))
    log.info("%s", record.write(args.name, results, device=record.processor(), seed=SEED, module="benchmarks.sampler"))


def compare(end: Callable[[str, int], Tensor]) -> dict[str, float]:
    """Errors of all runs; ``end(solver, steps)`` is where one leads, ``end(*REFERENCE)`` what is right."""
    exact = end(*REFERENCE)
    return {f"{solver} {steps}": round(float((end(solver, steps) - exact).square().mean().sqrt()), 5)
            for solver, steps in RUNS}


def follow(denoiser: Callable[[Tensor, Tensor], Tensor], noise: Tensor, solver: str, steps: int,
           sigma_max: float) -> Tensor:
    """Where the flow of a denoiser leads."""
    scheduler = make_scheduler(solver, sigma_max, 0.002)
    scheduler.set_timesteps(steps)
    x = noise * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[step].to(noise)
        velocity = (x / (sigma**2 + 1) - denoiser(x, sigma)) * (sigma**2 + 1).sqrt() / sigma
        x = scheduler.step(velocity, timestep, x).prev_sample
    return x


def gaussian(spread: float, mean: float = 0.3) -> Callable:
    """Data N(m, s²); the reference is exact, ``m + (x₀ - m) s / √(s² + σ₀²)``."""
    noise = torch.randn(2000, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)

    def end(solver: str, steps: int, sigma_max: float) -> Tensor:
        if (solver, steps) == REFERENCE:
            start = noise * (1 + sigma_max**2) ** 0.5
            return mean + (start - mean) * spread / (spread**2 + sigma_max**2) ** 0.5
        return follow(lambda x, sigma: (spread**2 * x + sigma**2 * mean) / (spread**2 + sigma**2), noise, solver, steps,
                      sigma_max)

    return end


def mixture(spread: float) -> Callable:
    """Three spots in the plane."""
    noise = torch.randn(1000, 2, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        variance = spread**2 + sigma**2
        share = (-(x[:, None] - SPOTS).square().sum(-1, keepdim=True) / (2 * variance)).softmax(1)
        return (share * (spread**2 * x[:, None] + sigma**2 * SPOTS) / variance).sum(1)

    return lambda solver, steps, sigma_max: follow(denoiser, noise, solver, steps, sigma_max)


def small_network(steps: int) -> tuple[torch.nn.Module, ClipTensors]:
    """The nano recipe's network after some steps on one animal; the running mean of its weights."""
    clip = make_clip(quadruped(), 0, [0.0, 0.25, 0.5, 0.75], [0, 90, 180, 270], 10, size=nano.SIZE)
    data = ClipTensors([clip], nano.FRAMES, nano.VIEWS)
    result = train(nano.nano_model(SEED), data, nano.nano_config("cpu", steps=steps, seed=SEED), progress=False)
    log.info("loss %.3f after %.0f s", result.history[-1]["loss"], result.seconds)
    return result.ema, data


def sampler(model: torch.nn.Module, data: ClipTensors, scale: float) -> Callable:
    """Samples of one window of a clip, colour and parts, always from the same noise."""
    batch = data.batch(1, torch.Generator().manual_seed(SEED))

    @torch.no_grad()
    def end(solver: str, steps: int) -> Tensor:
        sampling = Sampling(steps, torch.full(batch.rgb.shape[1:3], scale), torch.Generator().manual_seed(SEED))
        scheduler = make_scheduler(solver, nano.SIGMA_MAX, nano.SIGMA_MIN)
        return sample_window(model, scheduler, batch.condition, {"cameras": batch.cameras}, None,
                             (2, *batch.rgb.shape), sampling)

    return end


if __name__ == "__main__":
    main()
