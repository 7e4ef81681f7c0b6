"""What determines a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass

PRECISIONS = ("no", "bf16", "fp16")
# On resuming, at a constant rate: these do not alter what the steps so far have done.
FREE_TO_CHANGE = {"steps", "log_every", "evaluate_every", "checkpoint_every", "sample_every", "workers",
                  "gradient_checkpointing", "accumulate"}


@dataclass(frozen=True)
class TrainConfig:
    """What determines a training run, besides the model's first weights and the clips.

    Attributes
    ----------
    steps, batch_size : int
        A batch is what one step of the optimiser sees, over all devices.
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
    known : float
        Share of samples in which some images are known, see `sp4dlib.diffusion.objective.draw_known`.
    contrastive_weight, temperature : float
        Of the part-consistency loss; a weight of 0 leaves it out.
    shrink : int
        Pictures are made so many times smaller: a network that starts on small ones sees more clips in the same time.
    frames : int
        Frames of a window where they are to be fewer than the recipe's; 0 is as many. Frames of a clip are much alike:
        a network that starts on one frame in all views sees T times as many poses and objects in the same time.
    precision : {"no", "bf16", "fp16"}
        Mixed precision of `accelerate`.
    gradient_checkpointing : bool
        Compute activations again on the way back: less memory, about a third more time.
    accumulate : int
        Pieces in which each device takes its share of a batch, one after the other.
    workers : int
        Processes that draw samples, for each device; 0 draws them in the training process.
    seed : int
        Of the draws of clips, noise and dropout.
    log_every, evaluate_every, checkpoint_every, sample_every : int
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
    known: float = 0.0
    contrastive_weight: float = 0.0
    temperature: float = 0.07
    shrink: int = 1
    frames: int = 0
    precision: str = "no"
    gradient_checkpointing: bool = False
    accumulate: int = 1
    workers: int = 0
    seed: int = 0
    log_every: int = 10
    evaluate_every: int = 0
    checkpoint_every: int = 0
    sample_every: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule is 'constant' or 'cosine'; got {self.schedule!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}; got {self.precision!r}")
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1; got {self.steps} and {self.batch_size}")
        if self.shrink < 1 or self.frames < 0:
            raise ValueError(f"shrink must be at least 1 and frames not negative; got {self.shrink} and {self.frames}")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} cannot be taken in {self.accumulate} equal pieces; change "
                             "accumulate")
        for name in ("condition_dropout", "known"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, in [0, 1]; got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema lies in [0, 1); got {self.ema}")
        if self.contrastive_weight < 0 or self.temperature <= 0 or self.workers < 0:
            raise ValueError("contrastive_weight and workers must not be negative, temperature must be positive; got "
                             f"{self.contrastive_weight}, {self.workers} and {self.temperature}")

    def rate(self, step: int) -> float:
        """Learning rate of step ``step`` (the first is 0)."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * (step - self.warmup) / (self.steps - self.warmup))) / 2
