"""The whole circle on the command line: `sp4d train` makes a model, and `sp4d rig --model` rigs a mesh with it."""

import json

import numpy as np
import torch
import trimesh

from sp4dlib import cli, rigs
from sp4dlib.diffusion import SP4DPipeline

RECIPE = """
size = 16
[model.sizes]
model_channels = 8
channel_mult = [1]
num_res_blocks = 1
attention_resolutions = []
head_dim = 8
context_dim = 0
motion_context_dim = 0
num_noise_level_channels = 4
camera_channels = 4
norm_groups = 4
[data]
frames = 2
views = 4
[data.set]
per_object = 1
[data.set.clips]
size = 16
frames = 2
views = 4
[[data.set.sources]]
kind = "procedural"
name = "procedural"
count = 1
families = ["quadruped"]
splits = { quadruped = "train" }
[vae]
width = 8
blocks = 1
latent_channels = 4
steps = 2
[stages.rgb]
steps = 1
batch_size = 1
[stages.dual]
steps = 1
batch_size = 1
known = 0.5
[sampling]
steps = 2
dtype = "float16"
"""


def test_a_trained_model_rigs_a_mesh(tmp_path):
    """Of one step of training nothing can be asked but a whole rig: latents, half precision and four views go through.

    The model was made for clips of two frames and takes the renders of a mesh that stands still.
    """
    recipe, run, out = tmp_path / "tiny.toml", tmp_path / "run", tmp_path / "rig.glb"
    recipe.write_text(RECIPE)
    assert cli.main(["train", str(recipe), "-o", str(run), "--quiet"]) == 0
    made = SP4DPipeline.from_pretrained(run / "model")        # it has learnt nothing: let it see an object everywhere
    with torch.no_grad():
        made.unet.part.conv_out.bias.fill_(2.0)
    made.save_pretrained(run / "model")
    animal = rigs.quadruped(vertices=1000)
    trimesh.Trimesh(animal.vertices, animal.faces, process=False).export(tmp_path / "animal.ply")
    words = [str(tmp_path / "animal.ply"), "--model", str(run / "model"), "-o", str(out), "--num-parts", "3",
             "--seed", "1", "--animate", "--quiet"]
    assert cli.main(["rig", *words]) == 0
    made, report = rigs.load(out), json.loads(out.with_suffix(".json").read_text())
    assert len(made.vertices) == len(animal.vertices) and made.animations
    np.testing.assert_allclose(made.weights.sum(1), 1, atol=1e-5)
    assert report["views"] == 4 and report["unweighted_vertices"] == 0 and 1 <= len(report["parts"]) <= 3
