"""A plain training loop: resumable, reproducible, one device."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sp4dlib import profile
from sp4dlib.diffusion.data import Batch, ClipTensors
from sp4dlib.diffusion.edm import Pair, denoising_loss, sample_sigmas

log = logging.getLogger(__name__)

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.jsonl"
FREE_TO_CHANGE = {"steps", "log_every", "evaluate_every", "checkpoint_every"}   # on resuming, at a constant rate


@dataclass(frozen=True)
class TrainConfig:
    """What determines a training run, besides the model's first weights and the clips.

    Attributes
    ----------
    steps, batch_size : int
    learning_rate : float
        Peak of AdamW's rate.
    warmup : int
        Steps over which the rate rises linearly from 0.
    schedule : {"constant", "cosine"}
        What follows the warm-up; cosine ends at 0 after ``steps``.
    beta2, weight_decay : float
        Of AdamW. Squared gradients are averaged over about ``1 / (1 - beta2)`` steps.
    clip_norm : float
        Largest norm of the gradient.
    ema : float
        Decay of the running mean of the weights; in the first steps it is ``(1 + step) / (10 + step)`` if smaller.
    p_mean, p_std : float
        Noise levels are drawn with ``ln σ ~ N(p_mean, p_std²)``.
    condition_dropout : float
        Share of samples that see no input frames, which makes guidance possible.
    seed : int
        Of the draws of clips, noise and dropout.
    log_every, evaluate_every, checkpoint_every : int
        In steps; 0 is never. The held-out loss is also taken before the first and after the last step.
    """

    steps: int = 1000
    batch_size: int = 4
    learning_rate: float = 1e-3
    warmup: int = 20
    schedule: str = "cosine"
    beta2: float = 0.99
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.99
    p_mean: float = -1.2
    p_std: float = 1.2
    condition_dropout: float = 0.1
    seed: int = 0
    log_every: int = 10
    evaluate_every: int = 0
    checkpoint_every: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule is 'constant' or 'cosine'; got {self.schedule!r}")
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1; got {self.steps} and {self.batch_size}")
        if not 0 <= self.condition_dropout <= 1 or not 0 <= self.ema < 1:
            raise ValueError("condition_dropout lies in [0, 1] and ema in [0, 1); got "
                             f"{self.condition_dropout} and {self.ema}")

    def rate(self, step: int) -> float:
        """Learning rate of step ``step`` (the first is 0)."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * (step - self.warmup) / (self.steps - self.warmup))) / 2


@dataclass(frozen=True)
class TrainResult:
    """What `train` returns.

    Attributes
    ----------
    model : Module
        The network that was passed in, trained in place.
    ema : Module
        A copy with the running mean of its weights: sample with this one.
    history : list of dict
        One record for each log: ``step`` (steps done), ``loss``, ``rgb``, ``part``, ``learning_rate``,
        ``grad_norm``; and where it was evaluated, ``heldout``.
    steps : int
        Steps done.
    finished : bool
        False if Ctrl-C ended it early.
    seconds : float
        Wall time of this call.
    """

    model: nn.Module
    ema: nn.Module
    history: list[dict]
    steps: int
    finished: bool
    seconds: float

    @property
    def heldout(self) -> list[tuple[int, float]]:
        """The curve (steps done, loss on held-out noise) of the running mean of the weights."""
        return [(record["step"], record["heldout"]) for record in self.history if "heldout" in record]


@dataclass(frozen=True)
class Heldout:
    """Fixed clips, noise levels and noise, so that losses of different moments and runs can be compared."""

    batch: Batch
    sigma: Tensor
    noise: Pair


def make_heldout(data: ClipTensors, windows: int = 4, levels: int = 4, seed: int = 12345, p_mean: float = -1.2,
                 p_std: float = 1.2) -> Heldout:
    """Fix ``windows`` windows, each at ``levels`` noise levels.

    The levels are the mid-quantiles of the log-normal distribution of training, so that the mean loss estimates the
    training objective.
    """
    generator = torch.Generator().manual_seed(seed)
    batch = data.batch(windows, generator)
    middle = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
    quantiles = torch.exp(p_mean + p_std * torch.special.ndtri(middle)).float()
    batch = Batch(*(tensor.repeat_interleave(levels, 0) for tensor in batch))
    return Heldout(batch, quantiles.repeat(windows), draw_noise(batch, generator))


@torch.no_grad()
def heldout_loss(model: nn.Module, heldout: Heldout, batch_size: int = 8) -> float:
    """Mean denoising loss of ``model`` on fixed noise; the same weights give the same number."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    total = 0.0
    for part in range(0, len(heldout.sigma), batch_size):
        rows = slice(part, part + batch_size)
        batch = Batch(*(tensor[rows] for tensor in heldout.batch)).to(device)
        noise = Pair(*(tensor[rows].to(device) for tensor in heldout.noise))
        loss = denoising_loss(model, Pair(batch.rgb, batch.part), noise, heldout.sigma[rows].to(device),
                              batch.condition, batch.cameras)
        total += loss.total.double().sum().item()
    model.train(training)
    return total / len(heldout.sigma)


def draw_noise(batch: Batch, generator: torch.Generator) -> Pair:
    """Standard normal noise for both branches, drawn together: one draw of twice the channels, as in SP4D."""
    noise = torch.randn(2, *batch.rgb.shape, generator=generator, device=generator.device)
    return Pair(*noise.to(batch.rgb.device))


class _Run:
    """The state that a checkpoint holds."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.model, self.config = model, config
        self.ema = copy.deepcopy(model).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad],
                                           lr=config.learning_rate, betas=(0.9, config.beta2),
                                           weight_decay=config.weight_decay)
        self.generator = torch.Generator().manual_seed(config.seed)      # on the CPU: the same draws on every device
        self.history: list[dict] = []
        self.pending: list[dict] = []                                    # steps since the last log
        self.step = 0

    def advance(self, data: ClipTensors, device: torch.device) -> dict:
        """Take one step; returns its losses."""
        config, model = self.config, self.model
        batch = data.batch(config.batch_size, self.generator)
        sigma = sample_sigmas(config.batch_size, self.generator, config.p_mean, config.p_std)
        noise = draw_noise(batch, self.generator)
        conditioned = torch.rand(config.batch_size, generator=self.generator) >= config.condition_dropout
        batch = batch.to(device)
        rate = config.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = denoising_loss(model, Pair(batch.rgb, batch.part), Pair(*(n.to(device) for n in noise)),
                              sigma.to(device), batch.condition, batch.cameras, conditioned=conditioned.to(device))
        total = loss.total.mean()
        if not torch.isfinite(total):
            raise FloatingPointError(
                f"the loss is {total.item()} at step {self.step} (noise levels {[round(s, 4) for s in sigma.tolist()]})"
                "; lower learning_rate or clip_norm, lengthen warmup, or look for NaN in the clips")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        self.optimizer.step()
        self.update_ema()
        self.step += 1
        return {"loss": total.item(), "rgb": loss.rgb.mean().item(), "part": loss.part.mean().item(),
                "learning_rate": rate, "grad_norm": norm.item()}

    @torch.no_grad()
    def update_ema(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        pairs = list(zip(self.ema.parameters(), self.model.parameters()))
        torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - decay)
        for a, b in zip(self.ema.buffers(), self.model.buffers()):
            a.copy_(b)

    def record(self, heldout: Heldout | None) -> dict | None:
        """Close the steps since the last log into one record, if this step is to be logged or evaluated."""
        config, last = self.config, self.step == self.config.steps
        evaluate = heldout is not None and (self.step == 0 or last or due(self.step, config.evaluate_every))
        if not (evaluate or last or due(self.step, config.log_every)):
            return None
        names = self.pending[0] if self.pending else ()
        record = {"step": self.step} | {name: sum(p[name] for p in self.pending) / len(self.pending) for name in names}
        if evaluate:
            record["heldout"] = heldout_loss(self.ema, heldout)
        self.pending.clear()
        self.history.append(record)
        return record

    def save(self, out: Path) -> None:
        """Write the whole state; a reader sees the old file or the new one, never half of one."""
        state = {"config": dataclasses.asdict(self.config), "step": self.step, "history": self.history,
                 "pending": self.pending, "model": self.model.state_dict(), "ema": self.ema.state_dict(),
                 "optimizer": self.optimizer.state_dict(), "generator": self.generator.get_state()}
        temporary = out / f".{CHECKPOINT}.{os.getpid()}"
        torch.save(state, temporary)
        os.replace(temporary, out / CHECKPOINT)

    def load(self, out: Path) -> None:
        """Continue from the checkpoint in ``out``."""
        state = torch.load(out / CHECKPOINT, map_location="cpu", weights_only=True)
        now = dataclasses.asdict(self.config)
        free = FREE_TO_CHANGE if self.config.schedule == "constant" else FREE_TO_CHANGE - {"steps"}
        changed = {name: (old, now[name]) for name, old in state["config"].items()
                   if name in now and name not in free and old != now[name]}
        if changed:
            raise ValueError(f"{out / CHECKPOINT} was trained with other settings (then, now): {changed}; give the "
                             "old settings, another folder, or resume=False to start again")
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.step, self.history, self.pending = state["step"], state["history"], state["pending"]


def train(model: nn.Module, data: ClipTensors, config: TrainConfig, out: str | os.PathLike | None = None, *,
          resume: bool = True, heldout: Heldout | None = None, device: str | torch.device | None = None,
          callback: Callable[[int, dict], None] | None = None, progress: bool | None = None) -> TrainResult:
    """Train ``model`` in place to denoise windows of ``data``.

    Stopping and resuming gives the same losses as not stopping. Ctrl-C ends the run after the step at hand, with a
    checkpoint if there is a folder; a second Ctrl-C breaks off at once.

    Parameters
    ----------
    model : Module
        See `sp4dlib.diffusion.edm.denoise`. Its weights at the call are the start.
    data : ClipTensors
    config : TrainConfig
    out : path, optional
        Folder for ``checkpoint.pt`` (model, running mean, optimiser, random state) and ``metrics.jsonl`` (the
        history, one record a line).
    resume : bool
        Continue from the checkpoint in ``out`` if there is one.
    heldout : Heldout, optional
        What to evaluate the running mean of the weights on; see `make_heldout`.
    device : optional
        Where to train; default where the model is.
    callback : callable, optional
        Called with (steps done, record) after each logged step.
    progress : bool, optional
        Show a bar; by default not in the ``ci`` profile.

    Returns
    -------
    TrainResult

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    ValueError
        If the checkpoint in ``out`` was made with other settings.
    """
    began = time.perf_counter()
    device = torch.device(device) if device is not None else next(model.parameters()).device
    run = _Run(model.to(device).train(), config)
    out = Path(out) if out is not None else None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        if resume and (out / CHECKPOINT).exists():
            run.load(out)
            log.info("resuming %s at step %d of %d", out, run.step, config.steps)
        write_metrics(out, run.history)
    if run.step == 0:
        note(run.record(heldout), out, callback)
    with stop_signal() as stopped, tqdm(total=config.steps, initial=run.step, unit="step",
                                        disable=not show_progress(progress)) as bar:
        while run.step < config.steps and not stopped.is_set():
            run.pending.append(run.advance(data, device))
            bar.update()
            record = run.record(heldout)
            if record is not None:
                bar.set_postfix({name: f"{record[name]:.3f}" for name in ("loss", "heldout") if name in record})
            if out is not None and (due(run.step, config.checkpoint_every) or run.step == config.steps):
                run.save(out)
            note(record, out, callback)
    if stopped.is_set() and out is not None:
        run.save(out)
    finished = run.step >= config.steps
    if not finished:
        log.warning("stopped at step %d of %d%s", run.step, config.steps, f"; {out} can be resumed" if out else "")
    return TrainResult(model, run.ema, run.history, run.step, finished, time.perf_counter() - began)


def due(step: int, every: int) -> bool:
    """Is something that happens every ``every`` steps (0: never) to happen after ``step``?"""
    return every > 0 and step > 0 and step % every == 0


def note(record: dict | None, out: Path | None, callback: Callable[[int, dict], None] | None) -> None:
    """Append a record to the metrics and tell the callback."""
    if record is None:
        return
    if out is not None:
        with open(out / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    if callback is not None:
        callback(record["step"], record)


def write_metrics(out: Path, history: list[dict]) -> None:
    """Bring the metrics back to what the checkpoint knows: a killed run may have logged steps that were lost."""
    temporary = out / f".{METRICS}.{os.getpid()}"
    temporary.write_text("".join(json.dumps(record) + "\n" for record in history), encoding="utf-8")
    os.replace(temporary, out / METRICS)


def show_progress(progress: bool | None) -> bool:
    """Whether to draw a bar: as asked, by default everywhere but in the ``ci`` profile."""
    return profile.current().name != "ci" if progress is None else progress


@contextlib.contextmanager
def stop_signal():
    """Turn the first Ctrl-C into an event, so that no step is left half done; the second one interrupts."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():        # signals belong to the main thread
        yield stopped
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(*_):
        stopped.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
