"""Pipelines made from files of the official layout, against the sampling scripts' arithmetic written out again."""

import math

import numpy as np
import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EulerDiscreteScheduler
from official_files import PARITY, Official

pytest.importorskip("transformers", reason="the image encoder needs the extra `official`")

from sp4dlib.diffusion.codec import antialiased_resize  # noqa: E402
from sp4dlib.diffusion.official import to_pipeline  # noqa: E402
from sp4dlib.diffusion.pipeline import SP4DPipeline  # noqa: E402

SIZE, STEPS = 32, 3


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official")
    made = {kind: Official(kind) for kind in PARITY}
    return {kind: (release, release.write(folder)) for kind, release in made.items()}


def sinusoid(values, channels):
    half = channels // 2
    angles = values[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
    return torch.cat([angles.cos(), angles.sin()], 1)


def guidance(kind, frames, views):
    """``LinearPredictionGuider`` and ``SpatiotemporalPredictionGuider`` with the numbers of the scripts."""
    if kind != "sv4d2_8views":
        return torch.linspace(1, {"sp4d": 3, "sv4d2": 2}[kind], frames * views)
    t, v = (axis.flatten() for axis in torch.meshgrid(torch.linspace(0, 1, frames), torch.linspace(0, 1, views),
                                                      indexing="ij"))
    return 1.5 + 0.5 * t + 0.5 * (2 * (v - (v + 0.5).floor())).abs()


def sample(release, unet, frames, azimuths, noise):
    """Latents of the script: embedders, guider, denoiser and Euler sampler of its configuration."""
    count, views = frames.shape[0], len(azimuths)
    branches = noise.shape[1] // 4
    pixels = torch.from_numpy(frames).movedim(-1, 1).float() / 127.5 - 1
    concat = release.encoder(pixels).repeat_interleave(views, 0)                          # not scaled
    small = (antialiased_resize(pixels, 28) + 1) / 2
    small = small - torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    context = release.tower(small / torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None])[None]
    polar, azimuth = torch.full((count * views,), math.pi / 2), torch.tensor(azimuths).deg2rad().repeat(count)
    cameras = torch.cat([sinusoid(polar, 50), sinusoid(azimuth, 50)], 1)
    vector = torch.cat([sinusoid(torch.full_like(polar, 1e-5), 28), cameras], 1)
    blank = torch.cat([torch.zeros(len(polar), 28), cameras], 1)
    conditions = [(torch.zeros_like(concat), torch.zeros_like(context), blank), (concat, context, vector)]
    weights = guidance(release.kind, count, views)[:, None, None, None]
    ramp = torch.linspace(0, 1, STEPS, dtype=torch.float64)
    sigmas = (700 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 700 ** (1 / 7))) ** 7
    x = noise * math.sqrt(1 + 700**2)
    for sigma, following in zip(sigmas.tolist(), [*sigmas.tolist()[1:], 0.0]):
        denoised = []
        for shown, told, y in conditions:
            parts = [piece for half in (x / math.sqrt(sigma**2 + 1)).chunk(branches, 1) for piece in (half, shown)]
            inputs = {"x": torch.cat(parts, 1), "timesteps": torch.full((len(x),), math.log(sigma) / 4),
                      "context": told, "y": y, "cond_view": torch.zeros(views, *concat.shape[1:])}
            v = unet.forward_official(inputs, count, views)
            denoised.append(x / (sigma**2 + 1) - sigma / math.sqrt(sigma**2 + 1) * v)
        guided = denoised[0] + weights * (denoised[1] - denoised[0])
        x = x + (x - guided) / sigma * (following - sigma)
    return x


@pytest.mark.parametrize("kind", PARITY)
@torch.no_grad()
def test_a_released_file_samples_as_the_script_does(kind, releases):
    release, path = releases[kind]
    (count, views), branches = release.layout, 2 if kind == "sp4d" else 1
    azimuths = [40.0, 150.0, 230.0, 310.0][:views]
    pipeline = to_pipeline(path, config=release.config, image_size=SIZE, num_frames=count, num_views=views,
                           azimuths=azimuths)
    frames = np.random.default_rng(5).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    output = pipeline(frames, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(1), crop=False,
                      decode_parts=False)

    drawn = torch.randn((branches, 1, count, views, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    noise = drawn[:, 0].movedim(0, 2).flatten(2, 3).flatten(0, 1)                         # (T V, branches 4, h, w)
    latents = sample(release, pipeline.unet, frames, azimuths, noise).chunk(branches, 1)
    for made, branch in zip((output.rgb, output.part_images), latents):
        image = ((release.decoder(branch / 0.18215).clamp(-1, 1) + 1) * 127.5).movedim(1, -1)
        expected = image.unflatten(0, (count, views)).numpy()
        assert 20 < expected.std() < 125
        assert np.abs(made - expected).max() <= 1.5        # rounding to whole levels, and float32 at sigma = 700
    assert (output.part_images is None) == (kind != "sp4d")
    np.testing.assert_allclose(output.cameras.azimuths, azimuths)


def test_each_release_has_the_settings_of_its_script(releases):
    expected = {"sp4d": (4, 12, [1, 3], "frames", "none"), "sv4d2": (12, 4, [1, 2], "frames", "view_latents"),
                "sv4d2_8views": (5, 8, [1.5, 2.5], "orbit", "view_latents")}
    for kind, (release, path) in releases.items():
        pipeline = to_pipeline(path, components=("unet", "vae"), config=release.config,
                               solver="euler" if kind == "sp4d" else "multistep")
        config = pipeline.config
        assert expected[kind] == (config.num_frames, config.num_views, list(config.guidance_scale),
                                  config.guidance_ramp, config.overlap)
        assert len(config.azimuths) == config.num_views and config.azimuths == sorted(config.azimuths)
        assert config.image_size == 576 and config.num_inference_steps == 50 and not config.shows_input
        assert pipeline.scheduler.config.sigma_max == 700
        solver = EulerDiscreteScheduler if kind == "sp4d" else EDMDPMSolverMultistepScheduler
        assert isinstance(pipeline.scheduler, solver)
        if kind == "sp4d":
            np.testing.assert_allclose(np.diff([0, *config.azimuths, 360]), 360 / 13)


def test_a_released_pipeline_is_kept_in_diffusers_form(releases, tmp_path):
    release, path = releases["sv4d2"]
    pipeline = to_pipeline(path, config=release.config, dtype=torch.bfloat16)
    pipeline.save_pretrained(tmp_path)
    again = SP4DPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    told = {key: value for key, value in pipeline.config.items() if not key.startswith("_")}
    assert told == {key: again.config[key] for key in told}
    for name in ("unet", "vae", "image_encoder"):
        before, after = (getattr(each, name).state_dict() for each in (pipeline, again))
        assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
