"""Small files of the layout of the released checkpoints, and the modules that they were made of."""

from __future__ import annotations

from pathlib import Path

import torch
from model_parity_files import ParityFile
from official_reference import Decoder, KLEncoder, VisionTransformer, randomise
from safetensors.torch import save_file

PARITY = {"sp4d": "sp4d_nano", "sv4d2": "sv4d2_nano", "sv4d2_8views": "sv4d2_8views_nano"}
WIDTHS = dict(ch=32, ch_mult=(1, 2, 3), num_res_blocks=1)
SIZES = {"vae": {"block_out_channels": (32, 64, 96), "layers_per_block": 1},
         "image_encoder": {"hidden_size": 40, "intermediate_size": 160, "num_hidden_layers": 2,
                           "num_attention_heads": 4, "image_size": 28, "patch_size": 7, "projection_dim": 32}}
TOWER = dict(width=40, layers=2, heads=4, image=28, patch=7, out=32)


class Official:
    """The modules of a small release, their file's content, and the sizes to load it with."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        parity = ParityFile(PARITY[kind])
        self.unet, self.inputs, self.sample = parity.weights, parity.part("in."), parity.tensors["out.sample"]
        self.layout = parity.layout
        self.config = SIZES | {"unet": parity.config["network"]}
        generator = torch.Generator().manual_seed(7)
        self.encoder = randomise(KLEncoder(**WIDTHS), generator)
        self.decoder = randomise(Decoder(**WIDTHS), generator)
        self.tower = randomise(VisionTransformer(**TOWER), generator)
        self.state = {f"model.diffusion_model.{name}": weight for name, weight in self.unet.items()}
        self.state |= {f"first_stage_model.decoder.{name}": value for name, value in self.decoder.state_dict().items()}
        for i in (1, 4, 5):
            self.state |= {f"conditioner.embedders.{i}.encoder.{name}": value.clone()
                           for name, value in self.encoder.state_dict().items()}
        self.state |= {f"conditioner.embedders.0.open_clip.model.visual.{name}": value
                       for name, value in self.tower.state_dict().items()}

    def write(self, folder: Path, name: str | None = None, **changes: torch.Tensor | None) -> Path:
        """The file, with some tensors replaced, added, or (None) left out."""
        state = {key: value for key, value in (self.state | changes).items() if value is not None}
        path = folder / (name or f"{self.kind}.safetensors")
        save_file({key: value.contiguous() for key, value in state.items()}, path)
        return path
