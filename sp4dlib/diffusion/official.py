"""The released models as pipelines: weights, noise levels, views, guidance and window of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike

import torch

from sp4dlib.diffusion.pipeline import SP4DPipeline
from sp4dlib.diffusion.samplers import make_scheduler
from sp4dlib.model import official

SIGMA_MIN, SIGMA_MAX = 0.002, 700.0     # of the sampling scripts; the configuration files say 500
IMAGE_SIZE = 576                        # trained on; SP4D's script makes 512 unless told otherwise
SETTINGS = {
    "sp4d": dict(azimuths=[view * 360 / 13 for view in range(1, 13)], guidance_scale=[1.0, 3.0],
                 guidance_ramp="frames", overlap="none"),
    "sv4d2": dict(azimuths=[60.0, 120.0, 180.0, 240.0], guidance_scale=[1.0, 2.0], guidance_ramp="frames",
                  overlap="view_latents"),
    "sv4d2_8views": dict(azimuths=[30.0, 75.0, 120.0, 165.0, 210.0, 255.0, 300.0, 330.0], guidance_scale=[1.5, 2.5],
                         guidance_ramp="orbit", overlap="view_latents"),
}


def to_pipeline(source: str | PathLike, kind: str | None = None,
                dtype: torch.dtype | Mapping[str, torch.dtype] | None = None,
                components: Iterable[str] = official.COMPONENTS, config: Mapping[str, Mapping] | None = None,
                solver: str = "euler", **settings) -> SP4DPipeline:
    """A released checkpoint as a pipeline that samples as the authors' scripts do.

    The defaults are those of Stability-AI/generative-models: 50 Euler steps from σ = 700, its guidance ramps and
    views. SP4D (arXiv 2509.10687) makes colour and parts of 4 frames x 12 views, SV4D 2.0 (arXiv 2503.16396) colour
    of 12 x 4 or 5 x 8. The input's own view is not among them.

    Parameters
    ----------
    source, kind, dtype, components, config
        As for `sp4dlib.model.official.load`. On a GPU ``dtype={"unet": torch.bfloat16, "image_encoder":
        torch.bfloat16}`` halves the memory and leaves the VAE in float32, in which the scripts decode.
    solver : {"euler", "multistep"}
        The second makes do with half the steps.
    **settings
        Arguments of `SP4DPipeline` that differ from the release's.

    Returns
    -------
    SP4DPipeline

    Raises
    ------
    OSError, ValueError, ImportError
        As `sp4dlib.model.official.load`.
    """
    modules = official.load(source, kind, dtype, components, config)
    kind = official.kind_of(modules["unet"])
    release = official.RELEASES[kind]
    arguments = dict(image_size=IMAGE_SIZE, num_frames=release.frames, num_views=release.views, num_inference_steps=50,
                     shows_input=False, scale_condition=False) | SETTINGS[kind] | settings
    return SP4DPipeline(scheduler=make_scheduler(solver, SIGMA_MAX, SIGMA_MIN), **modules, **arguments)
