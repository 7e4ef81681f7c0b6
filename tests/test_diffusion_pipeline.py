"""The pipeline against plain EDM formulas, and its way to disk and back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusion_toys import tiny_model, toy_clip
from PIL import Image

from sp4dlib import coding
from sp4dlib.diffusion import edm
from sp4dlib.diffusion.data import camera_angles, to_images, to_model
from sp4dlib.diffusion.guidance import guidance_weights, guided_answer
from sp4dlib.diffusion.pipeline import SP4DPipeline, nominal_cameras
from sp4dlib.diffusion.samplers import euler_scheduler

AZIMUTHS, ELEVATIONS = [30, 120, 210], [10, 10, 20]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def frames():
    return toy_clip(frames=2, views=1, size=8).rgb[:, 0]


@pytest.fixture(scope="module")
def pipeline():
    pipe = SP4DPipeline(tiny_model().eval(), euler_scheduler(20.0), image_size=8, num_frames=2, fill=0.8)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipeline, frames, **options):
    options = {"num_inference_steps": 4, "generator": generator(), "crop": False} | options
    return pipeline(frames, AZIMUTHS, ELEVATIONS, **options)


def test_scheduler_is_that_of_the_paper():
    scheduler = euler_scheduler(700.0)
    scheduler.set_timesteps(50)
    expected = edm.karras_sigmas(50, 0.002, 700.0).float()
    torch.testing.assert_close(scheduler.sigmas, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(scheduler.timesteps, expected[:-1].log() / 4, rtol=1e-5, atol=1e-6)
    assert scheduler.init_noise_sigma == pytest.approx((1 + 700**2) ** 0.5)


@pytest.mark.parametrize("scale", [1.0, 2.5, (1.0, 3.0)])
def test_sampling_is_euler_on_the_denoiser(pipeline, frames, scale):
    """The same loop written with the formulas of Karras et al., guidance applied to the denoised images."""
    out = run(pipeline, frames, guidance_scale=scale)
    condition = to_model(frames)[None]
    cameras = camera_angles(AZIMUTHS, ELEVATIONS)[None]
    low, high = np.broadcast_to(scale, 2)
    weights = (low + (high - low) * torch.arange(6) / 5).reshape(1, 2, 3, 1, 1, 1).float()
    sigmas = edm.karras_sigmas(4, 0.002, 20.0).float()
    rgb, part = torch.randn(2, 1, 2, 3, 12, 4, 4, generator=generator()) * (20.0**2 + 1) ** 0.5
    with torch.no_grad():
        for now, after in zip(sigmas[:-1], sigmas[1:]):
            given, without = (edm.denoise(pipeline.unet, rgb, part, now[None], condition, cameras,
                                          conditioned=torch.tensor([flag])) for flag in (True, False))
            denoised = [u + weights * (c - u) for c, u in zip(given, without)]
            rgb, part = (edm.euler_step(x, d, now, after) for x, d in zip((rgb, part), denoised))
    for got, expected in ((out.rgb, rgb), (out.part_images, part)):
        assert np.abs(got.astype(int) - to_images(expected[0]).astype(int)).max() <= 1
    assert not np.array_equal(out.rgb, out.part_images)


@pytest.mark.parametrize("sequential", [False, True])
def test_guidance_extrapolates_image_by_image(sequential):
    """A toy network that answers 1 with the input and 0 without: what comes out is the weight itself."""
    class Toy(torch.nn.Module):
        def forward(self, rgb, part, condition, timestep, cameras, conditioned):
            answer = conditioned.float().reshape(-1, 1, 1, 1, 1, 1).expand_as(rgb)
            return SimpleNamespace(rgb=answer, part=3 * answer)

    latents, condition = torch.zeros(2, 1, 2, 3, 12, 4, 4), torch.zeros(1, 2, 12, 4, 4)
    weights = guidance_weights((1.0, 2.0), 2, 3)
    rgb, part = guided_answer(Toy(), latents, condition, torch.zeros(()), weights, sequential,
                              cameras=torch.zeros(1, 3, 2))
    expected = weights[None, :, :, None, None, None].expand_as(rgb)
    torch.testing.assert_close(rgb, expected)
    torch.testing.assert_close(part, 3 * expected)


def test_batched_and_sequential_guidance_agree(pipeline, frames):
    """On the latents, before rounding to colours."""
    latents = []
    for sequential in (False, True):
        rows = []
        hook = pipeline.unet.register_forward_pre_hook(lambda _, args, rows=rows: rows.append(len(args[0])))
        run(pipeline, frames, sequential_guidance=sequential, guidance_scale=(1.0, 3.0), callback_on_step_end=(
            lambda pipe, step, timestep, tensors: latents.append(tensors["latents"])))
        hook.remove()
        assert rows == ([1] * 8 if sequential else [2] * 4)
    for batched, alone in zip(latents[:4], latents[4:]):
        torch.testing.assert_close(alone, batched, rtol=1e-5, atol=1e-5)


def test_chunked_feed_forwards_give_the_same(pipeline, frames):
    """The middle of the network has attention; 7 tokens at a time do not divide its 2 x 3 x 16."""
    expected = run(pipeline, frames)
    pipeline.enable_forward_chunking(7)
    chunked = run(pipeline, frames)
    sizes = {module.chunk_size for module in pipeline.unet.modules() if hasattr(module, "chunk_size")}
    pipeline.disable_forward_chunking()
    assert sizes == {7}
    for a, b in ((expected.rgb, chunked.rgb), (expected.part_images, chunked.part_images)):
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_the_orbit_ramp_is_that_of_the_eight_view_release():
    """``1.5 + ½ t / (T - 1) + ½ tri(v / (V - 1))`` at hand-computed places."""
    weights = guidance_weights((1.5, 2.5), 5, 8, "orbit")
    assert weights[0, 0] == 1.5 and weights[4, 0] == 2.0 and weights[4, 7] == 2.0
    torch.testing.assert_close(weights[2, [1, 3, 4, 6]], 1.75 + torch.tensor([1, 3, 3, 1]) / 7)
    assert float(weights.max()) == pytest.approx(2 + 3 / 7)
    with pytest.raises(ValueError, match="ramp"):
        guidance_weights(1.0, 2, 2, "spiral")


def test_guidance_ramps_over_frames_then_views():
    weights = guidance_weights((1.0, 2.0), 12, 4)
    assert weights.shape == (12, 4)
    torch.testing.assert_close(weights.flatten(), 1 + torch.arange(48) / 47)
    assert (guidance_weights(1.5, 2, 3) == 1.5).all()


def test_weight_1_asks_the_network_once(pipeline, frames):
    rows = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    try:
        run(pipeline, frames, guidance_scale=1.0)
        run(pipeline, frames, guidance_scale=(1.0, 2.0))
    finally:
        hook.remove()
    assert rows == [1] * 4 + [2] * 4


def test_output_is_a_clip(pipeline, frames):
    out = run(pipeline, frames)
    assert out.rgb.shape == out.part_images.shape == (2, 3, 8, 8, 3) and out.rgb.dtype == np.uint8
    assert out.parts.shape == (2, 3, 8, 8) and out.parts.dtype == np.int16
    assert np.array_equal(out.parts, coding.decode(out.part_images))
    assert out.cameras.azimuths.tolist() == [0, 90, 180] and out.cameras.elevations.tolist() == ELEVATIONS
    assert out.cameras.size == 8 and out.cameras.fill == 0.8


def test_the_same_seed_gives_the_same_bytes(pipeline, frames):
    first, again, other = run(pipeline, frames), run(pipeline, frames), run(pipeline, frames, generator=generator(1))
    assert np.array_equal(first.rgb, again.rgb) and np.array_equal(first.part_images, again.part_images)
    assert np.array_equal(first.parts, again.parts) and not np.array_equal(first.rgb, other.rgb)


def test_saved_and_loaded_it_is_the_same(pipeline, frames, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = SP4DPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert (loaded.config.image_size, loaded.config.num_frames, loaded.config.fill) == (8, 2, 0.8)
    assert loaded.scheduler.config.sigma_max == 20.0 and type(loaded.unet) is type(pipeline.unet)
    expected, got = run(pipeline, frames), run(loaded, frames)
    assert np.array_equal(expected.rgb, got.rgb) and np.array_equal(expected.parts, got.parts)


def test_one_image_is_a_video_whose_last_frame_repeats(pipeline, frames):
    repeated = np.stack([frames[0], frames[0]])
    one = run(pipeline, Image.fromarray(frames[0]))
    assert one.rgb.shape == (1, 3, 8, 8, 3)
    assert np.array_equal(one.rgb, run(pipeline, repeated).rgb[:1])
    assert np.array_equal(run(pipeline, frames[0], num_frames=2).rgb, run(pipeline, repeated).rgb)


def test_forms_of_output_hold_the_same_pixels(pipeline, frames):
    arrays = run(pipeline, frames)
    pictures, tensors = run(pipeline, frames, output_type="pil"), run(pipeline, frames, output_type="pt")
    assert np.array_equal([[np.asarray(image) for image in row] for row in pictures.rgb], arrays.rgb)
    assert tensors.part_images.shape == (2, 3, 3, 8, 8)
    assert np.array_equal((tensors.part_images * 255).round().byte().movedim(2, -1).numpy(), arrays.part_images)
    assert np.array_equal(run(pipeline, frames, return_dict=False)[0], arrays.rgb)


def test_callback_sees_and_replaces_latents(pipeline, frames):
    steps = []

    def blank(pipe, step, timestep, tensors):
        steps.append((step, float(timestep)))
        return {"latents": torch.ones_like(tensors["latents"])} if step == 3 else {}

    out = run(pipeline, frames, callback_on_step_end=blank)
    assert [step for step, _ in steps] == [0, 1, 2, 3]
    assert steps[0][1] == pytest.approx(np.log(20) / 4, rel=1e-5)
    assert (out.rgb == 255).all() and (out.parts == -1).all()


def test_the_crop_uses_the_stored_fill(pipeline):
    picture = np.zeros((60, 100, 4), np.uint8)
    picture[10:30, 60:90] = (0, 0, 0, 255)
    pipe = SP4DPipeline(pipeline.unet, pipeline.scheduler, image_size=80, num_frames=2, fill=0.5)
    shown = pipe.preprocess(picture)
    columns = np.flatnonzero((shown[0].mean(-1) < 128).any(0))
    assert shown.shape == (1, 80, 80, 3)
    assert len(columns) == pytest.approx(40, abs=1) and columns[0] == pytest.approx(20, abs=1)


def test_nominal_cameras_put_the_unit_ball_at_the_fill():
    cameras = nominal_cameras([90, 180], [0, 0], 0.8, 100)
    tangent = np.tan(np.arcsin(0.5 / cameras.distance)) * cameras.focal
    assert tangent == pytest.approx(0.8 * 50) and cameras.azimuths.tolist() == [0, 90]


@pytest.mark.parametrize("options, match", [
    ({"azimuths": [0, 1], "elevations": [0, 0, 0]}, "one elevation"),
    ({"azimuths": [], "elevations": []}, "one elevation"), ({"azimuths": [np.nan], "elevations": 0}, "finite"),
    ({"output_type": "jpg"}, "output_type"), ({"num_frames": 0}, "at least 1"), ({"azimuths": None}, "give azimuths"),
    ({"num_inference_steps": 0}, "at least 1"), ({"chunk": 0}, "at least 1"), ({"guidance_scale": (1, 2, 3)}, "pair"),
    ({"known": {(0, 3): np.zeros((8, 8, 3), np.uint8)}}, "no view 3"),
    ({"known": {(2, 0): np.zeros((8, 8, 3), np.uint8)}}, "no frame 2"), ({"known": [1]}, "mapping"),
    ({"known": {(0, 0): np.zeros((2, 8, 8, 3), np.uint8)}}, "one picture"),
    ({"known": {(0, 0): np.zeros((9, 8, 3), np.uint8)}, "crop": True}, "render all alike"),
    ({"image": np.zeros((8, 9, 3), np.uint8)}, "square")])
def test_bad_calls_are_named(pipeline, frames, options, match):
    arguments = {"image": frames, "azimuths": AZIMUTHS, "elevations": ELEVATIONS, "crop": False} | options
    with pytest.raises(ValueError, match=match):
        pipeline(**arguments)
