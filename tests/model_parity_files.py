"""The parity files: what the official networks compute at a tiny size (tests/data/parity/README.md)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors import safe_open

DATA = Path(__file__).parent / "data" / "parity"


def official_weights(metadata: dict) -> dict[str, torch.Tensor]:
    """The state dict, under official names, that a parity file was made with."""
    shapes = json.loads(metadata["shapes"])
    generator = torch.Generator().manual_seed(json.loads(metadata["config"])["seed"])
    state = {}
    for name in sorted(shapes):
        noise = torch.randn(shapes[name], generator=generator)
        if name.endswith("mix_factor"):
            state[name] = noise
        elif noise.ndim > 1:
            state[name] = noise / math.sqrt(noise[0].numel())
        elif name.endswith("weight"):       # normalisation layers
            state[name] = 1 + 0.1 * noise
        else:
            state[name] = 0.05 * noise
    return state


class ParityFile:
    """A parity file's tensors, its weights, the official constructor arguments and (frames, views)."""

    def __init__(self, name: str) -> None:
        with safe_open(DATA / f"{name}.safetensors", "pt") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}
            self.weights = official_weights(file.metadata())
            self.config = json.loads(file.metadata()["config"])
        self.layout = (self.config["frames"], self.config["views"])

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}
