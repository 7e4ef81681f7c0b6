"""The weights in the repository are whole, small enough, and of the recipe whose name they bear."""

import numpy as np
import pytest
import torch

from sp4dlib.diffusion.pipeline import SP4DPipeline
from sp4dlib.diffusion.recipe import begin_from, read_recipe
from sp4dlib.diffusion.shipped import MINI

LARGEST = 16 * 2**20        # bytes of all committed checkpoints together

pytestmark = pytest.mark.skipif(not MINI.exists(), reason=f"{MINI} is not there: an installed package has no weights")


def test_all_weights_together_are_small():
    files = [file for file in MINI.parent.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= LARGEST
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md"}, "weights are safetensors"


def test_they_are_of_their_recipe():
    recipe = read_recipe("mini")
    assert begin_from(recipe.network(), MINI), "both branches"
    pipe = SP4DPipeline.from_pretrained(MINI)
    assert (pipe.config.image_size, pipe.config.num_frames) == (recipe.size, recipe.data.frames)
    assert pipe.vae.config.latent_channels == recipe.channels and pipe.vae.config.patch == recipe.factor


def test_they_answer():
    pipe = SP4DPipeline.from_pretrained(MINI)
    pipe.set_progress_bar_config(disable=True)
    assert all(torch.isfinite(weights).all() for weights in pipe.unet.parameters())
    size = pipe.config.image_size
    picture = np.full((size, size, 3), 255, np.uint8)
    picture[size // 4:-size // 4, size // 3:-size // 3] = [180, 90, 40]
    made = pipe(picture, num_inference_steps=2, guidance_scale=1.0, generator=torch.Generator().manual_seed(0))
    assert made.rgb.shape == made.part_images.shape == (1, len(pipe.config.azimuths), size, size, 3)
    assert made.parts.max() >= 0, "it draws something"
