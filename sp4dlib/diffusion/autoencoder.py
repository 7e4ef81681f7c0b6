"""Training the small KL autoencoder that colour and part pictures share, as in SP4D (arXiv 2509.10687).

The network is `sp4dlib.model.PatchVAE`; `load_vae` also takes diffusers' ``AutoencoderKL``.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from sp4dlib.diffusion.data import Views
from sp4dlib.diffusion.train_config import TrainConfig
from sp4dlib.diffusion.training import (CHECKPOINT, Samples, due, generator_of, join_views, note, show_progress,
                                        stop_signal, write_metrics)
from sp4dlib.model import PatchVAE

log = logging.getLogger(__name__)

FREE_TO_CHANGE = {"log_every", "checkpoint_every", "workers"}       # on resuming
NOISE = 2               # stream of `generator_of` for the posterior; windows and diffusion noise have 0 and 1


@dataclass(frozen=True)
class VAEConfig:
    """What determines an autoencoder and its training, besides the clips.

    Attributes
    ----------
    patch : int
        Pixels of a side that become one latent; of a pretrained one as well.
    width, blocks : int
        See `sp4dlib.model.PatchVAE`.
    latent_channels : int
    pretrained : str
        Folder or repository of an AutoencoderKL to take as it is; then nothing is trained and nothing else counts.
    steps, batch_size : int
        A batch is so many windows of clips, their pictures in colour and in parts.
    pictures : int
        Pictures of a window that a step takes, at random, each in colour and in parts; 0 is all.
    learning_rate : float
        Peak of AdamW's rate: a warm-up, then a cosine that ends at 0.
    warmup : int
    kl : float
        Weight of the divergence from the standard normal, per latent number; small, as in latent diffusion
        (arXiv 2112.10752).
    foreground : float
        Weight of a pixel that shows the object; one of the background weighs 1. Parts are small, the background large.
    seed, workers, log_every, checkpoint_every : int
        As in `TrainConfig`.
    """

    patch: int = 2
    width: int = 32
    blocks: int = 2
    latent_channels: int = 8
    pretrained: str = ""
    steps: int = 2000
    batch_size: int = 1
    pictures: int = 0
    learning_rate: float = 1e-3
    warmup: int = 50
    kl: float = 1e-6
    foreground: float = 4.0
    seed: int = 0
    workers: int = 0
    log_every: int = 50
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        for name in ("patch", "width", "latent_channels", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.pictures < 0 or self.blocks < 0:
            raise ValueError(f"pictures and blocks must not be negative; got {self.pictures} and {self.blocks}")
        if self.kl < 0 or self.foreground <= 0:
            raise ValueError(f"kl must not be negative and foreground must be positive; got {self.kl} and "
                             f"{self.foreground}")

    def rate(self, step: int) -> float:
        """Learning rate of step ``step`` (the first is 0)."""
        return TrainConfig(steps=self.steps, learning_rate=self.learning_rate, warmup=self.warmup).rate(step)


class VAELoss(NamedTuple):
    """Losses of a step; ``total`` is what is minimised. Each of shape ()."""

    total: Tensor
    pixels: Tensor
    kl: Tensor


@dataclass(frozen=True)
class VAEResult:
    """What `train_vae` returns: the autoencoder, its history, steps done, whether these are all, and the seconds."""

    vae: PatchVAE
    history: list[dict]
    steps: int
    finished: bool
    seconds: float


def make_vae(config: VAEConfig) -> PatchVAE:
    """An untrained autoencoder; its first weights follow from ``config.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return PatchVAE(config.patch, config.latent_channels, config.width, config.blocks)


def load_vae(folder: str | os.PathLike) -> PatchVAE | AutoencoderKL:
    """Read an autoencoder of either kind, from a folder that ``save_pretrained`` wrote or by its name on the Hub."""
    kinds = {kind.__name__: kind for kind in (PatchVAE, AutoencoderKL)}
    name = PatchVAE.load_config(folder).get("_class_name")
    if name not in kinds:
        raise ValueError(f"{folder} holds {name or 'no autoencoder'}; it must be one of {', '.join(kinds)}")
    return kinds[name].from_pretrained(folder)


def vae_loss(vae: PatchVAE, views: Views, generator: torch.Generator, kl: float, foreground: float) -> VAELoss:
    """Weighted mean of ``|x - x'|`` over all pictures of some windows, pixels in [-1, 1], plus ``kl`` times the KL.

    Parameters
    ----------
    vae : PatchVAE
    views : Views
    generator : torch.Generator
        Draws from the posterior, on the CPU.
    kl, foreground : float
        See `VAEConfig`.
    """
    pixels = torch.stack([views.rgb, views.part]).to(vae.device).movedim(-1, -3).flatten(0, 3).float() / 127.5 - 1
    seen = (views.ids >= 0).to(vae.device)[None].expand(2, *views.ids.shape).flatten(0, 3)              # (N, H, W)
    posterior = vae.encode(pixels).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator).to(vae.device)
    again = vae.decode(posterior.mean + posterior.std * noise).sample
    weights = torch.where(seen, foreground, 1.0)
    error = ((again - pixels).abs().mean(1) * weights).sum() / weights.sum()
    divergence = posterior.kl().mean() / posterior.mean[0].numel()
    return VAELoss(error + kl * divergence, error, divergence)


def some_pictures(views: Views, count: int, generator: torch.Generator) -> Views:
    """``count`` pictures of each window, at random, as windows of one frame; all if there are fewer."""
    images = views.ids.shape[1] * views.ids.shape[2]
    chosen = torch.randperm(images, generator=generator)[:count]
    return Views(*(pictures.flatten(1, 2)[:, None, chosen] for pictures in views[:3]), views.cameras)


@torch.no_grad()
def normalize_latents(vae: PatchVAE, views: Views, chunk: int = 64) -> None:
    """Give the latents of ``views`` unit root mean square, and the white background the latent 0.

    Both are affine maps, which the autoencoder can hold by itself: scale s and shift m go into its convolutions on
    both sides of the latents, ``z' = s (z - m)``, so pictures come back as before and its ``scaling_factor`` is 1. Why
    the background is to be 0: see `sp4dlib.diffusion.data.to_model`.

    All channels have one scale, like the one number of Stable Diffusion's autoencoder. The channels of a patch code
    differ a hundredfold in size: its mean colour first, single pixels last. White noise on such latents is white noise
    on pixels, and their mean squared error is that of pictures; channels made equal would spend training on edges, and
    hide the colour of a part as soon as its outline.

    Parameters
    ----------
    vae : PatchVAE
        Changed in place.
    views : Views
        Pictures that stand for all.
    chunk : int
        Pictures encoded at once.
    """
    size = views.rgb.shape[-2]
    white = vae.encode(torch.ones(1, 3, size, size, device=vae.device)).latent_dist.mode()[0]           # (C, h, w)
    shift = white[:, white.shape[1] // 2, white.shape[2] // 2]
    pixels = torch.stack([views.rgb, views.part]).movedim(-1, -3).flatten(0, 3)
    square = 0.0
    for part in pixels.split(chunk):
        latents = vae.encode(part.to(vae.device).float() / 127.5 - 1).latent_dist.mode()
        square += (latents - shift[:, None, None]).double().square().mean((1, 2, 3)).sum().item()
    scale = max(square / len(pixels), 1e-12) ** -0.5
    count = len(shift)
    inner, outer = vae.quant_conv, vae.post_quant_conv
    inner.weight[:count] *= scale
    inner.bias[:count] = scale * (inner.bias[:count] - shift)
    inner.bias[count:] += 2 * math.log(scale)                                       # of the variance's logarithm
    outer.bias += outer.weight[:, :, 0, 0] @ shift
    outer.weight /= scale
    vae.register_to_config(scaling_factor=1.0)


def train_vae(vae: PatchVAE, data, config: VAEConfig, out: str | os.PathLike | None = None, *,
              resume: bool = True, device: str | torch.device | None = None, minutes: float | None = None,
              callback: Callable[[int, dict], None] | None = None, progress: bool | None = None) -> VAEResult:
    """Train an autoencoder in place on colour and part pictures together, from the best linear one.

    At the end `normalize_latents`.

    Stopping and resuming gives the same weights as not stopping.

    Parameters
    ----------
    vae : PatchVAE
        Such as `make_vae` makes.
    data : object with ``draw(generator) -> Clip``
        As for `sp4dlib.diffusion.training.train`.
    config : VAEConfig
    out : path, optional
        Folder for ``checkpoint.pt`` and ``metrics.jsonl``.
    resume, device, minutes, callback, progress
        As for `sp4dlib.diffusion.training.train`.

    Returns
    -------
    VAEResult

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    ValueError
        If the checkpoint in ``out`` was made with other settings.
    """
    began = time.perf_counter()
    vae.to(vae.device if device is None else device).train()
    run = _Run(vae, data, config)
    out = Path(out) if out is not None else None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        if resume and (out / CHECKPOINT).exists():
            run.load(out)
        write_metrics(out, run.history)
    if run.step == 0:
        run.begin()
    pieces = run.pieces()
    with stop_signal() as stopped, tqdm(total=config.steps, initial=run.step, unit="step",
                                        disable=not show_progress(progress)) as bar:
        while run.step < config.steps and not stopped.is_set():
            record = run.advance(next(pieces))
            bar.update()
            if run.step == config.steps:
                run.finish()
            if out is not None and (due(run.step, config.checkpoint_every) or run.step == config.steps):
                run.save(out)
            note(record, out, callback, True)
            if minutes is not None and time.perf_counter() - began > 60 * minutes:
                stopped.set()
    if run.step < config.steps:
        if out is not None:
            run.save(out)
        log.warning("stopped at step %d of %d%s", run.step, config.steps, f"; {out} can be resumed" if out else "")
    vae.eval()
    return VAEResult(vae, run.history, run.step, run.step == config.steps, time.perf_counter() - began)


class _Run:
    """The state of a run, and what a checkpoint holds of it."""

    def __init__(self, vae: PatchVAE, data, config: VAEConfig) -> None:
        self.vae, self.config, self.samples = vae, config, Samples(data, config.seed)
        self.optimizer = torch.optim.AdamW(vae.parameters(), config.learning_rate, (0.9, 0.99), weight_decay=0.0)
        self.history: list[dict] = []
        self.pending: list[list[float]] = []
        self.step = 0
        self.earlier, self.began = 0.0, time.perf_counter()             # seconds of the runs that this one continues

    def pieces(self) -> Iterator[Views]:
        """The batches from the present step on."""
        config = self.config
        numbers = range(self.step * config.batch_size, config.steps * config.batch_size)
        return iter(DataLoader(self.samples, config.batch_size, sampler=numbers, num_workers=config.workers,
                               collate_fn=join_views, multiprocessing_context="spawn" if config.workers else None))

    def advance(self, views: Views) -> dict | None:
        """Take one step; returns a record if it is to be logged."""
        config, rate = self.config, self.config.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        generator = generator_of(config.seed, self.step, NOISE)
        if config.pictures:
            views = some_pictures(views, config.pictures, generator)
        loss = vae_loss(self.vae, views, generator, config.kl, config.foreground)
        if not torch.isfinite(loss.total):
            raise FloatingPointError(f"the autoencoder's loss is {loss.total.item()} at step {self.step}; lower "
                                     "learning_rate or lengthen warmup")
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.pending.append([each.item() for each in loss])
        if not due(self.step, config.log_every) and self.step < config.steps:
            return None
        means = torch.tensor(self.pending, dtype=torch.float64).mean(0).tolist()
        self.pending.clear()
        record = {"step": self.step} | dict(zip(("loss", "pixels", "kl"), means)) | {"learning_rate": rate}
        self.history.append(record)
        return record

    def begin(self) -> None:
        """Start as the best linear autoencoder of some windows."""
        views = self._windows()
        pixels = torch.stack([views.rgb, views.part]).movedim(-1, -3).flatten(0, 3).float() / 127.5 - 1
        self.vae.fit_linear(pixels)

    def finish(self) -> None:
        """Scale the latents."""
        normalize_latents(self.vae.eval(), self._windows())

    def _windows(self, count: int = 16) -> Views:
        """Windows that stand for all, with numbers after those of training."""
        first = self.config.steps * self.config.batch_size
        return join_views([self.samples[first + i] for i in range(count)])

    def save(self, out: Path) -> None:
        """Write the whole state, or leave the old one."""
        state = {"config": asdict(self.config), "step": self.step, "history": self.history, "pending": self.pending,
                 "seconds": self.earlier + time.perf_counter() - self.began,
                 "weights": self.vae.state_dict(), "optimizer": self.optimizer.state_dict()}
        temporary = out / f".{CHECKPOINT}.{os.getpid()}"
        torch.save(state, temporary)
        os.replace(temporary, out / CHECKPOINT)

    def load(self, out: Path) -> None:
        """Continue from the checkpoint in ``out``."""
        state = torch.load(out / CHECKPOINT, map_location=self.vae.device, weights_only=True)
        now = asdict(self.config)
        changed = {name: (old, now[name]) for name, old in state["config"].items()
                   if name not in FREE_TO_CHANGE and old != now.get(name)}
        if changed:
            raise ValueError(f"{out / CHECKPOINT} was trained with other settings (then, now): {changed}; give the "
                             "old settings, or another folder")
        self.vae.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.history, self.pending = state["step"], state["history"], state["pending"]
        self.earlier = state.get("seconds", 0.0)
