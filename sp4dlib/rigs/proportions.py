"""Lengths and colours of the animals of :mod:`~sp4dlib.rigs.procedural`."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sp4dlib.rigs.paint import PATTERNS

# Coat, belly and marking, sRGB: fox, grey wolf, bay horse, cream, panther, blue roan, tiger, deer, rust, snow.
COATS = (("#c8692f", "#f3e3cf", "#3a2a22"), ("#7f858c", "#d5d8da", "#3b3f45"), ("#7a4a2b", "#a8764c", "#2a1c15"),
         ("#e3cda4", "#f7eedb", "#8a6a45"), ("#3b3a42", "#5d5a66", "#17161b"), ("#5f7286", "#b9c4cc", "#2c3540"),
         ("#d98b2b", "#f6e7cb", "#2b2018"), ("#a67c52", "#e8d5b5", "#5b3d26"), ("#9c3f2c", "#d99f7f", "#43201a"),
         ("#e9e7e2", "#ffffff", "#6d6a66"))


@dataclass(frozen=True)
class Proportions:
    """Lengths (a torso is about 0.8 long) and colours of one animal.

    Attributes
    ----------
    body_length, body_radius : float
        Hip to shoulder, and half the torso's depth.
    leg_length, leg_radius : float
        Ground to hip, and the leg's radius at its thinnest.
    neck_length, neck_angle : float
        The angle is in degrees above the horizontal.
    head_radius, snout_length : float
    ear_length : float
    tail_length, tail_radius, tail_angle : float
        The angle is in degrees above the horizontal, pointing backwards; raised if the tail would reach the ground.
    coat, belly, marking : str
        sRGB colours, ``#rrggbb``.
    pattern : {"plain", "patches", "spots", "stripes"}
    """

    body_length: float = 0.80
    body_radius: float = 0.19
    leg_length: float = 0.62
    leg_radius: float = 0.050
    neck_length: float = 0.34
    neck_angle: float = 52.0
    head_radius: float = 0.125
    snout_length: float = 0.17
    ear_length: float = 0.17
    tail_length: float = 0.60
    tail_radius: float = 0.055
    tail_angle: float = 12.0
    coat: str = COATS[0][0]
    belly: str = COATS[0][1]
    marking: str = COATS[0][2]
    pattern: str = "plain"

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            length = item.name.endswith(("length", "radius"))
            if length and not 0 < value < np.inf:
                raise ValueError(f"{item.name} must be a positive length; got {value}")
        if self.pattern not in PATTERNS:
            raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}; got {self.pattern!r}")


# The family that sample_proportions draws from: every combination gives one closed surface with feet on the ground.
RANGES = {"body_length": (0.62, 1.00), "body_radius": (0.15, 0.24), "leg_length": (0.42, 0.85),
          "leg_radius": (0.042, 0.068), "neck_length": (0.22, 0.60), "neck_angle": (25, 72),
          "head_radius": (0.10, 0.15), "snout_length": (0.10, 0.24), "ear_length": (0.10, 0.28),
          "tail_length": (0.25, 0.80), "tail_radius": (0.040, 0.070), "tail_angle": (-45, 55)}


def sample_proportions(generator: np.random.Generator) -> Proportions:
    """Draw one animal of the family: lengths uniform in ``RANGES``, a coat of ``COATS``, any pattern."""
    lengths = {name: float(generator.uniform(*bounds)) for name, bounds in RANGES.items()}
    coat, belly, marking = COATS[generator.integers(len(COATS))]
    return Proportions(**lengths, coat=coat, belly=belly, marking=marking,
                       pattern=PATTERNS[generator.integers(len(PATTERNS))])
