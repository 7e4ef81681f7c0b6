"""Known views and windows: what the sampler is held to stays, everything else is generated."""

import numpy as np
import pytest
import torch
from diffusion_toys import tiny_model, toy_clip

from sp4dlib.diffusion import codec
from sp4dlib.diffusion.pipeline import SP4DPipeline
from sp4dlib.diffusion.samplers import euler_scheduler, multistep_scheduler
from sp4dlib.diffusion.windows import plan_windows
from sp4dlib.model import DualUNet

SIGMA, STEPS = 20.0, 4
SOLVERS = {"euler": euler_scheduler, "multistep": multistep_scheduler}


@pytest.fixture(scope="module")
def clip():
    return toy_clip(frames=5, views=3, size=8).rgb


@pytest.fixture(scope="module")
def unet():
    return tiny_model().eval()


def make(unet, solver="euler", **settings):
    pipe = SP4DPipeline(unet, SOLVERS[solver](SIGMA), **({"image_size": 8, "num_frames": 2} | settings))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe, image, azimuths=(0, 120, 240), seed=0, **options):
    """The output, and the latents after every step."""
    seen = []
    options = {"num_inference_steps": STEPS, "crop": False, "guidance_scale": 1.0} | options
    out = pipe(image, azimuths, 0, generator=torch.Generator().manual_seed(seed), callback_on_step_end=(
        lambda pipe, step, timestep, tensors: seen.append((step, tensors["latents"].clone()))), **options)
    return out, seen


@pytest.mark.parametrize("solver", SOLVERS)
def test_known_images_lie_on_their_line_at_every_step(unet, clip, solver):
    """What the network is shown of a known image is the image, noised to that step's level."""
    pipe = make(unet, solver)
    shown = []
    hook = unet.register_forward_pre_hook(lambda _, args: shown.append([args[0].clone(), args[1].clone()]))
    known = {(0, 1): clip[0, 1], (1, 2): clip[1, 2]}
    out, seen = run(pipe, clip[:2, 0], known=known)
    hook.remove()
    noise = torch.randn(2, 1, 2, 3, 12, 4, 4, generator=torch.Generator().manual_seed(0))
    for (frame, view), image in known.items():
        clean = codec.encode(image)
        assert np.array_equal(out.rgb[frame, view], image)
        for step, (_, latents) in enumerate(seen):
            now, after = pipe.scheduler.sigmas[step:step + 2]
            line = (clean + now * noise[0, 0, frame, view]) / (now**2 + 1).sqrt()
            torch.testing.assert_close(shown[step][0][0, frame, view], line, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(latents[0, 0, frame, view], clean + after * noise[0, 0, frame, view], rtol=1e-4,
                                       atol=2e-4)
        assert (seen[-1][1][1, 0, frame, view] - clean).abs().mean() > 0.1, "parts are not the colours"


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_rest_is_generated_and_sees_what_is_known(unet, clip, solver):
    pipe = make(unet, solver)
    free, _ = run(pipe, clip[:2, 0])
    known = {(t, 1): clip[t, 1] for t in range(2)}
    first, _ = run(pipe, clip[:2, 0], known=known)
    other, _ = run(pipe, clip[:2, 0], known=known, seed=1)
    assert np.array_equal(first.rgb[:, 1], other.rgb[:, 1]) and np.array_equal(first.rgb[:, 1], clip[:2, 1])
    for view in range(3):
        assert not np.array_equal(first.part_images[:, view], other.part_images[:, view]), "parts come from noise"
    assert not np.array_equal(first.part_images[:, 1], free.part_images[:, 1]), "and depend on the known colours"
    assert not np.array_equal(first.rgb[:, 2], free.rgb[:, 2])


def test_the_input_can_be_held(unet, clip):
    out, _ = run(make(unet), clip[:2, 0], hold_input=True)
    assert np.array_equal(out.rgb[:, 0], clip[:2, 0]) and not np.array_equal(out.rgb[:, 1], clip[:2, 1])


def test_the_input_can_be_held_where_it_is_not_view_0(unet, clip):
    pipe = make(unet, shows_input=False)
    out, _ = run(pipe, clip[:2, 0], azimuths=(90, 0, 180), hold_input=True)
    assert np.array_equal(out.rgb[:, 1], clip[:2, 0]) and out.cameras.azimuths.tolist() == [90, 0, 180]
    with pytest.raises(ValueError, match="input's camera"):
        run(pipe, clip[:2, 0], azimuths=(90, 0, 180), hold_input=True, input_elevation=10)


def test_a_still_image_is_held_in_all_frames_of_the_window(unet, clip):
    _, seen = run(make(unet), clip[0, 0], known={(0, 1): clip[0, 1]})
    clean = codec.encode(clip[0, 1])
    for frame in range(2):
        torch.testing.assert_close(seen[-1][1][0, 0, frame, 1], clean, rtol=1e-4, atol=2e-4)


def test_known_pictures_are_cropped_with_the_input(unet):
    picture = np.zeros((30, 50, 4), np.uint8)
    picture[5:25, 30:40] = (200, 30, 30, 255)
    pipe = make(unet)
    options = {"num_inference_steps": 1, "guidance_scale": 1.0}
    out = pipe(picture, [0, 90], 0, known={(0, 1): picture}, hold_input=True, **options)
    assert np.array_equal(out.rgb[0, 0], out.rgb[0, 1]) and np.array_equal(out.rgb[0, 0], pipe.preprocess(picture)[0])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
def test_windows_continue_what_the_earlier_made(unet, clip, solver, frames):
    """Each frame is the earlier window's, and the later is held to it in both branches."""
    pipe = make(unet, solver, num_frames=3)
    out, seen = run(pipe, clip[:frames, 0])
    plan = plan_windows(frames, 3)
    assert [step for step, _ in seen] == list(range(STEPS * len(plan))) and len(out.rgb) == frames
    ends = [latents[:, 0] for _, latents in seen[STEPS - 1::STEPS]]
    for window, end in zip(plan, ends):
        expected = codec.decode(end[:, window.made:window.stop - window.start])
        got = np.stack([out.rgb[window.frames], out.part_images[window.frames]])
        assert np.abs(expected.astype(int) - got.astype(int)).max() <= 1
    for (first, second), (a, b) in zip(zip(plan, plan[1:]), zip(ends, ends[1:])):
        shared = a[:, second.start - first.start:][:, :second.made]
        torch.testing.assert_close(b[:, :second.made], shared, rtol=1e-4, atol=2e-4)


def test_windows_that_share_nothing_are_single_runs(unet, clip):
    pipe = make(unet, num_frames=3, overlap="none")
    whole, _ = run(pipe, clip[:5, 0])
    generator = torch.Generator().manual_seed(0)
    options = {"num_inference_steps": STEPS, "crop": False, "guidance_scale": 1.0, "generator": generator}
    pieces = [pipe(clip[window.start:window.start + 3, 0], (0, 120, 240), 0, **options).rgb[window.made:]
              for window in plan_windows(5, 3)]
    assert np.array_equal(whole.rgb, np.concatenate(pieces))


def test_the_network_is_told_the_latents_of_the_window_before(clip):
    config = tiny_model().config
    torch.manual_seed(0)
    unet = DualUNet(**{name: config[name] for name in config if not name.startswith("_")} | {"motion_context_dim": 12})
    told = []
    unet.register_forward_pre_hook(lambda _, args, inputs: told.append(inputs.get("view_latents")), with_kwargs=True)
    _, seen = run(make(unet, overlap="view_latents"), clip[:3, 0])
    assert told[:STEPS] == [None] * STEPS and len(told) == 2 * STEPS
    for latents in told[STEPS:]:
        torch.testing.assert_close(latents, seen[STEPS - 1][1][0, :, 1])
    assert not torch.allclose(seen[-1][1][0, :, 0], seen[STEPS - 1][1][0, :, 1]), "told, not held"


def test_a_long_run_is_bit_equal_for_the_same_seed(unet, clip):
    pipe = make(unet, "multistep")
    options = {"known": {(4, 2): clip[4, 2]}, "guidance_scale": (1.0, 3.0)}
    (first, _), (again, _) = (run(pipe, clip[:, 0], **options) for _ in range(2))
    assert np.array_equal(first.rgb, again.rgb) and np.array_equal(first.part_images, again.part_images)
    assert np.array_equal(first.parts, again.parts)


def test_more_frames_repeat_the_last_and_fewer_cut(unet, clip):
    pipe = make(unet)
    longer, _ = run(pipe, clip[:2, 0], num_frames=4)
    repeated, _ = run(pipe, clip[[0, 1, 1, 1], 0])
    assert np.array_equal(longer.rgb, repeated.rgb) and len(longer.rgb) == 4
    assert np.array_equal(run(pipe, clip[:, 0], num_frames=2)[0].rgb, run(pipe, clip[:2, 0])[0].rgb)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_network_trained_for_it_is_shown_known_images_clean(unet, clip, solver):
    pipe = make(unet, solver, known_input="clean")
    shown = []
    hook = unet.register_forward_pre_hook(lambda _, args: shown.append([args[0].clone(), args[1].clone()]))
    out, _ = run(pipe, clip[:2, 0], known={(0, 1): clip[0, 1]})
    hook.remove()
    noised, _ = run(make(unet, solver), clip[:2, 0], known={(0, 1): clip[0, 1]})
    for rgb, part in shown:
        assert torch.equal(rgb[0, 0, 1], codec.encode(clip[0, 1])) and not torch.equal(part[0, 0, 1], rgb[0, 0, 1])
        assert not torch.equal(rgb[0, 1, 1], codec.encode(clip[1, 1])), "the others are noised"
    assert np.array_equal(out.rgb[0, 1], clip[0, 1]) and not np.array_equal(out.part_images, noised.part_images)
    free = [run(make(unet, solver, known_input=kind), clip[:2, 0])[0] for kind in ("noised", "clean")]
    assert np.array_equal(free[0].rgb, free[1].rgb), "nothing known, nothing changed"


def test_a_later_window_is_shown_clean_what_it_continues(unet, clip):
    shown = []
    hook = unet.register_forward_pre_hook(lambda _, args: shown.append(torch.stack(args[:2])))
    run(make(unet, known_input="clean"), clip[:3, 0])
    hook.remove()
    later = shown[STEPS:]
    assert len(later) == STEPS and all(torch.equal(each[:, :, 0], later[0][:, :, 0]) for each in later)
    assert not torch.equal(later[0][:, :, 1], later[1][:, :, 1])


def test_how_known_images_are_shown_is_saved(unet, tmp_path):
    make(unet, known_input="clean").save_pretrained(tmp_path)
    assert '"known_input": "clean"' in (tmp_path / "model_index.json").read_text()
    assert SP4DPipeline.from_pretrained(tmp_path).config.known_input == "clean"
    assert make(unet).config.known_input == "noised"
    with pytest.raises(ValueError, match="known_input"):
        make(unet, known_input="dirty")
