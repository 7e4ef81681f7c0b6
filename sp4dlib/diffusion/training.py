"""The training loop: resumable and reproducible, on one device or several."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (StateDictOptions, get_model_state_dict, get_state_dict,
                                                     set_model_state_dict, set_state_dict)
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from sp4dlib import profile
from sp4dlib.diffusion.data import Batch, ClipTensors, Views, clips_views, latents, shrink
from sp4dlib.diffusion.edm import Pair
from sp4dlib.diffusion.objective import Draws, Objective, make_draws
from sp4dlib.diffusion.train_config import FREE_TO_CHANGE, TrainConfig

__all__ = ["Heldout", "TrainConfig", "TrainResult", "heldout_loss", "make_heldout", "train"]

log = logging.getLogger(__name__)

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.jsonl"
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)      # of a sharded model, too


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
        One record for each log: ``step`` (steps done), ``loss``, ``rgb``, ``part``, ``contrastive`` (0 without it),
        ``learning_rate``, ``grad_norm``; and where it was evaluated, ``heldout``.
    steps : int
        Steps done.
    finished : bool
        False if Ctrl-C or the time limit ended it early.
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
                 p_std: float = 1.2, vae: nn.Module | None = None, smaller: int = 1) -> Heldout:
    """Fix ``windows`` windows, each at ``levels`` noise levels.

    The levels are the mid-quantiles of the log-normal distribution of training, so that the mean loss estimates the
    training objective. No image is known. Pictures are made ``smaller`` times smaller, as `TrainConfig.shrink` does.
    """
    generator = torch.Generator().manual_seed(seed)
    views = clips_views([data.draw(generator) for _ in range(windows)])
    batch = latents(shrink(views, smaller), vae, None if vae is None else vae.device).to("cpu")
    middle = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
    quantiles = torch.exp(p_mean + p_std * torch.special.ndtri(middle)).float()
    batch = Batch(*(tensor.repeat_interleave(levels, 0) for tensor in batch))
    noise = torch.randn(2, *batch.rgb.shape, generator=generator)
    return Heldout(batch, quantiles.repeat(windows), Pair(*noise))


@torch.no_grad()
def heldout_loss(model: nn.Module, heldout: Heldout, batch_size: int = 8) -> float:
    """Mean denoising loss of ``model`` on fixed noise; the same weights give the same number.

    Of both branches' mean, or of colours alone for a `MultiViewUNet`.
    """
    device = next(model.parameters()).device
    training = model.training
    objective = Objective(model.eval())
    total = 0.0
    for part in range(0, len(heldout.sigma), batch_size):
        rows = slice(part, part + batch_size)
        batch = Batch(*(tensor[rows] for tensor in heldout.batch)).to(device)
        count = len(batch.rgb)
        known = torch.zeros(batch.rgb.shape[:3], dtype=torch.bool)
        draws = Draws(heldout.sigma[rows], Pair(*(tensor[rows] for tensor in heldout.noise)),
                      torch.ones(count, dtype=torch.bool), Pair(known, known)).to(device)
        total += objective(batch, draws).total.double().item() * count
    model.train(training)
    return total / len(heldout.sigma)


class Samples(Dataset):
    """Sample number n of a run, drawn from a generator that knows the seed and n alone.

    So it does not matter how many processes draw, how many devices train, or where a run was stopped.
    """

    def __init__(self, data: ClipTensors, seed: int) -> None:
        self.data, self.seed = data, seed

    def __getitem__(self, number: int) -> Views:
        return clips_views([self.data.draw(generator_of(self.seed, number, 0))])


def generator_of(seed: int, number: int, stream: int) -> torch.Generator:
    """The generator of a sample: stream 0 draws the window, stream 1 its noise."""
    state = np.random.SeedSequence([seed, number, stream]).generate_state(2, np.uint32).astype(np.uint64)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


class WeightMean:
    """The running mean of a module's weights, kept beside it: sharded like them if they are."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.values = [parameter.detach().clone() for parameter in module.parameters()]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """``mean = decay mean + (1 - decay) weights``."""
        torch._foreach_lerp_(self.values, [parameter.detach() for parameter in self.module.parameters()], 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """For a while, the module holds the mean."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for value, parameter in zip(self.values, self.module.parameters()):
            kept = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(kept)


class _Run:
    """The state of a run, and what a checkpoint holds of it."""

    def __init__(self, model: nn.Module, data: ClipTensors, config: TrainConfig, vae: nn.Module | None,
                 device: torch.device) -> None:
        self.config, self.accelerator = config, make_accelerator(config.precision, device)
        self.vae = None if vae is None else vae.to(self.accelerator.device).eval()
        share = config.batch_size // self.accelerator.num_processes
        if share * self.accelerator.num_processes != config.batch_size or share % config.accumulate:
            raise ValueError(f"a batch of {config.batch_size} cannot be shared by {self.accelerator.num_processes} "
                             f"devices in {config.accumulate} pieces each; change batch_size or accumulate")
        self.share = share // config.accumulate
        if config.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        self.model = model
        self.objective = Objective(model, config.contrastive_weight, config.temperature, config.seed)
        trained = [p for p in self.objective.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, betas=(0.9, config.beta2),
                                      weight_decay=config.weight_decay, fused=True)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.objective.train(), optimizer)
        self.mean = WeightMean(self.wrapped)
        self.samples = Samples(data, config.seed)
        self.history: list[dict] = []
        self.pending: list[dict] = []                                    # steps since the last log
        self.step = 0
        self.earlier, self.began = 0.0, time.perf_counter()             # seconds of the runs that this one continues

    def pieces(self, stop: int) -> DataLoader:
        """All samples of this device from the present step to ``stop``, piece by piece."""
        config, rank, devices = self.config, self.accelerator.process_index, self.accelerator.num_processes
        share = config.batch_size // devices
        numbers = [step * config.batch_size + rank * share + i for step in range(self.step, stop) for i in range(share)]
        context = "spawn" if config.workers else None                    # an OpenGL context does not survive a fork
        return DataLoader(self.samples, self.share, sampler=numbers, num_workers=config.workers,
                          collate_fn=join_views, multiprocessing_context=context,
                          persistent_workers=config.workers > 0)

    def advance(self, pieces: Iterator[Views]) -> dict:
        """Take one step; returns its losses."""
        config, accelerator = self.config, self.accelerator
        rate = config.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(4, dtype=torch.float64)
        first = self.step * config.batch_size + accelerator.process_index * self.share * config.accumulate
        for piece in range(config.accumulate):
            batch = latents(shrink(next(pieces), config.shrink), self.vae, accelerator.device)
            numbers = range(first + piece * self.share, first + (piece + 1) * self.share)
            draws = make_draws(batch, [generator_of(config.seed, n, 1) for n in numbers], config.p_mean, config.p_std,
                               config.condition_dropout, config.known).to(accelerator.device)
            last = piece + 1 == config.accumulate
            with contextlib.nullcontext() if last else accelerator.no_sync(self.wrapped):
                loss = self.wrapped(batch, draws)
                if not torch.isfinite(loss.total):
                    raise FloatingPointError(
                        f"the loss is {loss.total.item()} at step {self.step} (noise levels "
                        f"{[round(s, 4) for s in draws.sigma.tolist()]}); lower learning_rate or clip_norm, lengthen "
                        "warmup, or look for NaN in the clips")
                accelerator.backward(loss.total / config.accumulate)
            sums += torch.tensor([each.item() for each in loss], dtype=torch.float64) / config.accumulate
        norm = accelerator.clip_grad_norm_(self.wrapped.parameters(), config.clip_norm)
        self.optimizer.step()
        self.mean.update(min(config.ema, (1 + self.step) / (10 + self.step)))
        self.step += 1
        if accelerator.num_processes > 1:
            sums = accelerator.reduce(sums.to(accelerator.device, torch.float32), "mean").double().cpu()
        names = ("loss", "rgb", "part", "contrastive")
        return dict(zip(names, sums.tolist())) | {"learning_rate": rate, "grad_norm": float(norm)}

    def record(self, heldout: Heldout | None) -> dict | None:
        """Close the steps since the last log into one record, if this step is to be logged or evaluated."""
        config, last = self.config, self.step == self.config.steps
        evaluate = heldout is not None and (self.step == 0 or last or due(self.step, config.evaluate_every))
        if not (evaluate or last or due(self.step, config.log_every)):
            return None
        names = self.pending[0] if self.pending else ()
        record = {"step": self.step} | {name: sum(p[name] for p in self.pending) / len(self.pending) for name in names}
        if evaluate:
            with self.mean.in_place():
                record["heldout"] = heldout_loss(self.model, heldout)
        self.pending.clear()
        self.history.append(record)
        return record

    def show(self, sampler: Callable[[int, nn.Module], None]) -> None:
        """Let the first device make samples with the running mean of the weights."""
        with self.mean.in_place():
            if self.accelerator.is_main_process:
                sampler(self.step, self.model.eval())
            self.accelerator.wait_for_everyone()
        self.model.train()

    def any(self, flag: bool) -> bool:
        """Is it true on any device? All must leave the loop after the same step."""
        if self.accelerator.num_processes == 1:
            return flag
        return self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device)).item() > 0

    def save(self, out: Path) -> None:
        """Write the whole state; a reader sees the old file or the new one, never half of one."""
        weights, optimizer = get_state_dict(self.wrapped, self.optimizer.optimizer, options=WHOLE)
        with self.mean.in_place():
            mean = get_model_state_dict(self.wrapped, options=WHOLE)
            mean = {name: tensor.clone() for name, tensor in mean.items()}      # on a CPU they are the parameters
        if self.accelerator.is_main_process:
            state = {"config": dataclasses.asdict(self.config), "step": self.step, "history": self.history,
                     "seconds": self.earlier + time.perf_counter() - self.began,
                     "pending": self.pending, "weights": weights, "mean": mean, "optimizer": optimizer,
                     "scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()}
            temporary = out / f".{CHECKPOINT}.{os.getpid()}"
            torch.save(state, temporary)
            os.replace(temporary, out / CHECKPOINT)
        self.accelerator.wait_for_everyone()

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
        set_model_state_dict(self.wrapped, state["mean"], options=WHOLE)
        self.mean = WeightMean(self.wrapped)
        set_state_dict(self.wrapped, self.optimizer.optimizer, model_state_dict=state["weights"],
                       optim_state_dict=state["optimizer"], options=WHOLE)
        if state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.history, self.pending = state["step"], state["history"], state["pending"]
        self.earlier = state.get("seconds", 0.0)

    def averaged(self) -> nn.Module:
        """A copy of the network with the running mean of the weights."""
        with self.mean.in_place():
            return copy.deepcopy(self.model).requires_grad_(False).eval()


def make_accelerator(precision: str, device: torch.device):
    """An `accelerate.Accelerator` on ``device``, or on this process's own device under ``accelerate launch``."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)          # another run may want another precision
    accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu")
    return accelerator


def join_views(samples: list[Views]) -> Views:
    """Samples of one clip each as one batch."""
    return Views(*(torch.cat(tensors) for tensors in zip(*samples)))


def train(model: nn.Module, data: ClipTensors, config: TrainConfig, out: str | os.PathLike | None = None, *,
          resume: bool = True, heldout: Heldout | None = None, device: str | torch.device | None = None,
          vae: nn.Module | None = None, minutes: float | None = None,
          callback: Callable[[int, dict], None] | None = None,
          sampler: Callable[[int, nn.Module], None] | None = None, progress: bool | None = None) -> TrainResult:
    """Train ``model`` in place to denoise windows of ``data``.

    Stopping and resuming gives the same losses as not stopping. Ctrl-C ends the run after the step at hand, with a
    checkpoint if there is a folder; a second Ctrl-C breaks off at once.

    Parameters
    ----------
    model : Module
        A `DualUNet`, or its colour branch alone (stage 1 of SP4D); see `sp4dlib.diffusion.objective.Objective`. Its
        weights at the call are the start.
    data : object with ``draw(generator) -> Clip``
        Such as `ClipTensors` or `sp4dlib.clips.dataset.KinematicParts`; all clips of equal sizes.
    config : TrainConfig
    out : path, optional
        Folder for ``checkpoint.pt`` (weights, running mean, optimiser, settings, seconds so far) and ``metrics.jsonl``
        (the history, one record a line).
    resume : bool
        Continue from the checkpoint in ``out`` if there is one.
    heldout : Heldout, optional
        What to evaluate the running mean of the weights on; see `make_heldout`.
    device : optional
        Where to train; default where the model is. Under ``accelerate launch`` each process takes its own.
    vae : AutoencoderKL or PatchVAE, optional
        Makes the latents; not trained. Default: folded pixels.
    minutes : float, optional
        Stop, with a checkpoint, when so much time has passed: to train in pieces.
    callback : callable, optional
        Called with (steps done, record) after each logged step, on the first device.
    sampler : callable, optional
        Called with (steps done, network) every ``config.sample_every`` steps, on the first device, while the network
        holds the running mean of its weights.
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
        If the checkpoint in ``out`` was made with other settings, or the batch cannot be shared by the devices.
    """
    began = time.perf_counter()
    device = torch.device(device) if device is not None else next(model.parameters()).device
    run = _Run(model.to(device), data, config, vae, device)
    main = run.accelerator.is_main_process
    out = Path(out) if out is not None else None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        if resume and (out / CHECKPOINT).exists():
            run.load(out)
            log.info("resuming %s at step %d of %d", out, run.step, config.steps)
        if main:
            write_metrics(out, run.history)
    if run.step == 0:
        note(run.record(heldout), out, callback, main)
    pieces = iter(run.pieces(config.steps))
    with stop_signal() as stopped, tqdm(total=config.steps, initial=run.step, unit="step",
                                        disable=not (main and show_progress(progress))) as bar:
        stop = False
        while run.step < config.steps and not stop:
            run.pending.append(run.advance(pieces))
            bar.update()
            record = run.record(heldout)
            if record is not None:
                bar.set_postfix({name: f"{record[name]:.3f}" for name in ("loss", "heldout") if name in record})
            if out is not None and (due(run.step, config.checkpoint_every) or run.step == config.steps):
                run.save(out)
            note(record, out, callback, main)
            if sampler is not None and due(run.step, config.sample_every):
                run.show(sampler)
            late = minutes is not None and time.perf_counter() - began > 60 * minutes
            stop = run.any(late or stopped.is_set())
    if run.step < config.steps and out is not None:
        run.save(out)
    finished = run.step >= config.steps
    if not finished:
        log.warning("stopped at step %d of %d%s", run.step, config.steps, f"; {out} can be resumed" if out else "")
    return TrainResult(model, run.averaged(), run.history, run.step, finished, time.perf_counter() - began)


def due(step: int, every: int) -> bool:
    """Is something that happens every ``every`` steps (0: never) to happen after ``step``?"""
    return every > 0 and step > 0 and step % every == 0


def note(record: dict | None, out: Path | None, callback: Callable[[int, dict], None] | None, main: bool) -> None:
    """Append a record to the metrics and tell the callback."""
    if record is None or not main:
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
