"""Speed of the trainer: samples a second against a plain loop, and the share of the device's matrix rate.

The trainer's step (`sp4dlib.diffusion.training.train`: accelerate, running mean of the weights, checks of the loss,
draws that know their number) and a plain PyTorch loop of the same network, loss and draws take turns in one run; the
median step counts. Both start with the clips at hand: drawing or reading them, and an autoencoder, come on top.

* ``nano``, ``mini``: the networks and batches of these recipes; ``wide``: mini with a width of 128;
* ``paper``, on a GPU alone: the released sizes in bfloat16, with gradient checkpointing.

The share counts the operations of the network (`sp4dlib.model.cost`), the way back as two ways forth and what is
computed twice not at all, and sets them against the best matrix product of the same precision that was measured in the
same run. On a CPU one thread computes, in the precision of the recipe, and seconds are processor time, which other work
on the machine disturbs least.

    python -m benchmarks.train [--sizes nano mini wide] [--steps 6] [--turns 3]
    python -m benchmarks.train --device cuda
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from benchmarks import record
from sp4dlib.clips import Clip, fit_cameras
from sp4dlib.diffusion.data import FOLD, clips_views, latents
from sp4dlib.diffusion.objective import Objective, make_draws
from sp4dlib.diffusion.recipe import Recipe, budget, read_recipe
from sp4dlib.diffusion.train_config import TrainConfig
from sp4dlib.diffusion.training import generator_of, train

SEED = 0
SIZES = ("nano", "mini", "wide", "paper")
WIDE = {"model_channels": 128, "channel_mult": [1, 1, 2], "head_dim": 64, "norm_groups": 32}
PARTS = 8

log = logging.getLogger("benchmarks.train")


@dataclass(frozen=True)
class Task:
    """One size to measure.

    Attributes
    ----------
    recipe : Recipe
        Without an autoencoder; its pictures are folded to the side that the latents had.
    config : TrainConfig
        Of stage 2.
    """

    recipe: Recipe
    config: TrainConfig


class OneClip:
    """The same clip whatever is drawn."""

    def __init__(self, frames: int, views: int, size: int) -> None:
        self.clip = blocks(frames, views, size)

    def draw(self, generator: torch.Generator) -> Clip:
        """The clip."""
        return self.clip


def blocks(frames: int, views: int, size: int) -> Clip:
    """A clip of coloured stripes; no renderer is needed."""
    generator = np.random.default_rng(SEED)
    centers = np.broadcast_to(generator.uniform(-0.4, 0.4, (PARTS, 3)), (frames, PARTS, 3))
    parts = np.full((frames, views, size, size), -1, np.int16)
    inside = slice(size // 4, size - size // 4)
    parts[..., inside, inside] = (np.arange(size)[inside] * PARTS // size)[:, None]
    rgb = np.where(parts[..., None] >= 0, generator.integers(0, 256, (*parts.shape, 3)), 255).astype(np.uint8)
    cameras = fit_cameras(centers, 360 * np.arange(views) / views, np.zeros(views), size)
    boxes = np.broadcast_to([[-0.5] * 3, [0.5] * 3], (frames, views, 2, 3))
    return Clip(rgb, parts, centers, boxes, cameras, tuple(map(str, range(PARTS))), np.arange(PARTS) - 1,
                np.arange(frames) / 10, "stripes")


def task(size: str, device: str) -> Task:
    """A size by its name."""
    recipe = read_recipe("mini" if size == "wide" else size)
    if size == "wide":
        sizes = {name: value for name, value in recipe.model.sizes.items() if name != "widths"}
        recipe = replace(recipe, model=replace(recipe.model, sizes=sizes | WIDE))
    own = recipe.stages["dual"].precision
    return plain(recipe, "bf16" if torch.device(device).type == "cuda" else own)


def plain(recipe: Recipe, precision: str = "no") -> Task:
    """The recipe on folded pixels of equal latent side, from random weights."""
    side = recipe.size // recipe.factor
    config = replace(recipe.stages["dual"], precision=precision, schedule="constant", workers=0, log_every=1,
                     evaluate_every=0, checkpoint_every=0, sample_every=0)
    recipe = replace(recipe, size=FOLD * side, vae=None, data=replace(recipe.data, set=None), stages={"dual": config},
                     model=replace(recipe.model, carry=False, start=""))
    return Task(recipe, config)


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, help="default: all that the device can do")
    parser.add_argument("--steps", type=int, default=6, help="of each loop in its turn; the first does not count")
    parser.add_argument("--turns", type=int, default=3, help="of both loops")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--name", default="train", help="of the file in data/results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cuda = torch.device(arguments.device).type == "cuda"
    if not cuda:
        torch.set_num_threads(1)
    path = record.RESULTS / f"{arguments.name}.json"
    results = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}
    for size in arguments.sizes or (SIZES if cuda else SIZES[:3]):
        results[size] = measure(task(size, arguments.device), arguments.device, arguments.steps, arguments.turns)
        record.write(arguments.name, results, seed=SEED, module="benchmarks.train",
                     device=torch.cuda.get_device_name() if cuda else record.processor())
        log.info("%s: %s", size, json.dumps(results[size]))


def measure(job: Task, device: str, steps: int, turns: int) -> dict:
    """Samples a second of both loops, and the share of the matrix rate that was measured beside them."""
    seconds: dict[str, list[float]] = {"trainer": [], "plain": []}
    rates = []
    for _ in range(turns):
        rates.append(matrix_rate(device, precision=job.config.precision))
        for name, loop in (("trainer", trainer), ("plain", plain_loop)):
            taken, _ = loop(network(job.recipe, device), job, device, steps)
            seconds[name] += taken[1:]
    operations = 3 * budget(job.recipe)["dual"].sample_flops
    rate = max(rates)
    result = {"precision": job.config.precision, "batch_size": job.config.batch_size, "steps": steps, "turns": turns,
              "operations_per_sample": operations, "matrix_gflop_per_second": round(rate / 1e9, 1)}
    for name, taken in seconds.items():
        samples = job.config.batch_size / statistics.median(taken)
        result[name] = {"samples_per_second": round(samples, 3), "share_of_matrix_rate": round(
            samples * operations / rate, 4), "step_seconds": [round(each, 4) for each in taken]}
    result["ratio"] = round(result["trainer"]["samples_per_second"] / result["plain"]["samples_per_second"], 3)
    return result


def network(recipe: Recipe, device: str) -> nn.Module:
    """The network of a recipe, made where it is used: the largest takes minutes on a CPU."""
    with torch.device(device):
        return recipe.network().to(device)


def trainer(model: nn.Module, job: Task, device: str, steps: int) -> tuple[list[float], list[float]]:
    """Seconds and losses of the trainer's steps."""
    data = job.recipe.data
    clock, losses = Clock(device), []
    train(model, OneClip(data.frames, data.views, job.recipe.size), replace(job.config, steps=steps), device=device,
          progress=False, callback=lambda step, told: (clock.tick(), losses.append(told["loss"])))
    return clock.seconds, losses


def plain_loop(model: nn.Module, job: Task, device: str, steps: int) -> tuple[list[float], list[float]]:
    """Seconds and losses of a loop as a tutorial has it: same network, loss, draws and optimiser; nothing else."""
    data, config = job.recipe.data, job.config
    if config.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    clips = OneClip(data.frames, data.views, job.recipe.size)
    objective = Objective(model.train(), config.contrastive_weight, config.temperature, config.seed).to(device)
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, betas=(0.9, config.beta2), weight_decay=config.weight_decay)
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16) if config.precision == "bf16" \
        else contextlib.nullcontext()
    clock, losses = Clock(device), []
    for step in range(steps):
        numbers = range(step * config.batch_size, (step + 1) * config.batch_size)
        batch = latents(clips_views([clips.draw(generator_of(config.seed, n, 0)) for n in numbers]), device=device)
        draws = make_draws(batch, [generator_of(config.seed, n, 1) for n in numbers], config.p_mean, config.p_std,
                           config.condition_dropout, config.known).to(device)
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        optimizer.zero_grad()
        with autocast:
            loss = objective(batch, draws).total
        loss.backward()
        nn.utils.clip_grad_norm_(trained, config.clip_norm)
        optimizer.step()
        losses.append(loss.item())
        clock.tick()
    return clock.seconds, losses


class Clock:
    """Seconds between ticks: processor time on a CPU, wall time on a GPU, whose work is waited for."""

    def __init__(self, device: str) -> None:
        self.wait: Callable | None = torch.cuda.synchronize if torch.device(device).type == "cuda" else None
        self.now = time.perf_counter if self.wait else time.process_time
        self.seconds: list[float] = []
        self.last = self.now()

    def tick(self) -> None:
        """The end of a step."""
        if self.wait:
            self.wait()
        now = self.now()
        self.seconds.append(now - self.last)
        self.last = now


def matrix_rate(device: str, sides: Sequence[int] = (1024, 2048), repeats: int = 4, precision: str = "no") -> float:
    """Best measured rate of a matrix product, operations a second, in bfloat16 or float32 (``precision`` "no")."""
    cuda = torch.device(device).type == "cuda"
    best = 0.0
    for side in (4096, 8192) if cuda else sides:
        a, b = torch.randn(2, side, side, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
        clock = Clock(device)
        for _ in range(repeats + 1):
            a @ b
            clock.tick()
        best = max(best, 2 * side**3 / min(clock.seconds[1:]))
    return best


if __name__ == "__main__":
    main()
