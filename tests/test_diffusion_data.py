"""Windows of clips as training tensors, and the crop of user images."""

import numpy as np
import pytest
import torch
from diffusion_toys import toy_clip
from PIL import Image

from sp4dlib.clips import Cameras
from sp4dlib.clips.make import make_clip
from sp4dlib.diffusion import images
from sp4dlib.diffusion.data import ClipTensors, camera_angles, clip_tensors, shrink, to_images, to_model, views_of
from sp4dlib.rigs.procedural import quadruped


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_images_survive_the_way_to_the_model_and_back():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    tensor = to_model(pictures)
    assert tensor.shape == (2, 3, 12, 4, 4)
    assert (to_model(np.full((2, 2, 3), 255)) == 0).all() and to_model(np.zeros((2, 2, 3))).unique() == -4
    assert np.array_equal(to_images(tensor), pictures)
    assert np.array_equal(to_images(torch.full((12, 1, 1), 3.0)), np.full((2, 2, 3), 255))


def test_angles_are_relative_to_view_0():
    angles = camera_angles([90, 100, 60], [10, 0, 30])
    torch.testing.assert_close(angles, torch.deg2rad(torch.tensor([[0.0, 0], [-10, 10], [20, 330]])))


def test_a_whole_clip_keeps_its_order():
    clip = toy_clip()
    batch = clip_tensors(clip)
    assert np.array_equal(to_images(batch.rgb[0]), clip.rgb)
    assert np.array_equal(to_images(batch.part[0]), clip.part_images)
    assert np.array_equal(to_images(batch.condition[0]), clip.rgb[:, 0])
    torch.testing.assert_close(batch.cameras[0, :, 1], torch.deg2rad(torch.tensor(clip.cameras.azimuths)).float())


def test_windows_are_equally_spaced_frames_in_orbit_order():
    clip = toy_clip(frames=9, views=6)
    data = ClipTensors([clip], frames=3, views=4)
    strides, firsts, starts = set(), set(), set()
    draws = generator()
    for _ in range(200):
        window = data.window(0, draws)
        gaps = np.diff(window.times)
        assert np.allclose(gaps, gaps[0]) and gaps[0] > 0
        assert window.cameras.azimuths[0] == 0 and (np.diff(window.cameras.azimuths) > 0).all()
        strides.add(round(gaps[0] / clip.times[1]))
        starts.add(window.times[0])
        firsts.add(window.boxes[0, 0].tobytes())
    assert strides == {1, 2, 3, 4} and len(starts) == 7 and len(firsts) > 6      # every stride, start and view 0


def test_colours_are_those_of_the_drawn_frame_and_view():
    clip = toy_clip()
    data = ClipTensors([clip], frames=2, views=3)
    draws = generator(3)
    state = draws.get_state()
    batch = data.batch(1, draws)
    draws.set_state(state)
    torch.randint(1, (), generator=draws)                 # the draw of the clip
    window = data.window(0, draws)
    assert np.array_equal(to_images(batch.part[0]), window.part_images)
    assert not np.array_equal(window.colors, clip.colors)


def test_batches_repeat_and_need_no_padding():
    data = ClipTensors([toy_clip(frames=4), toy_clip(frames=7, views=5, seed=1)], frames=2, views=3)
    first, again, other = data.batch(5, generator(1)), data.batch(5, generator(1)), data.batch(5, generator(2))
    assert first.rgb.shape == (5, 2, 3, 12, 8, 8) and first.condition.shape == (5, 2, 12, 8, 8)
    assert all(torch.equal(a, b) for a, b in zip(first, again)) and not torch.equal(first.rgb, other.rgb)
    assert torch.equal(first.condition, first.rgb[:, :, 0])


def test_views_at_one_azimuth_keep_view_0_first():
    clip = toy_clip(views=3)
    same = Cameras(np.zeros(3), [0, 10, 20], clip.cameras.fov, 3.0, 0.9, np.eye(4), 16)
    data = ClipTensors([type(clip)(**{**vars(clip), "cameras": same})], frames=1, views=3)
    for seed in range(10):
        window = data.window(0, generator(seed))
        assert sorted(window.cameras.elevations) == [0, 10, 20]
        views = torch.randperm(3, generator=after_frame_draw(generator(seed), 5))
        assert window.cameras.elevations[0] == 10 * views[0]


def after_frame_draw(draws, start_choices):
    torch.randint(start_choices, (), generator=draws)
    return draws


def test_smaller_pictures_average_colours_and_keep_parts_pure():
    views = views_of(toy_clip(2, 3, 16))
    small = shrink(views, 4)
    assert small.rgb.shape == small.part.shape == (1, 2, 3, 4, 4, 3) and small.ids.shape == (1, 2, 3, 4, 4)
    block = views.rgb[0, 1, 2, 4:8, 8:12].float().mean((0, 1)).round()
    torch.testing.assert_close(small.rgb[0, 1, 2, 1, 2].float(), block)
    pairs = {(int(i), *p.tolist()) for i, p in zip(views.ids.flatten(), views.part.flatten(0, -2), strict=True)}
    assert {(int(i), *p.tolist()) for i, p in zip(small.ids.flatten(), small.part.flatten(0, -2), strict=True)} <= pairs
    assert shrink(views, 1) is views
    with pytest.raises(ValueError, match="choose a divisor"):
        shrink(views, 3)


def test_latents_have_about_unit_size():
    """The noise levels and coefficients of the diffusion are those for data of root mean square 1."""
    clip = make_clip(quadruped(), 0, [0.0, 0.3], [0, 90], 10, size=32)
    batch = clip_tensors(clip)
    assert 0.5 < batch.rgb.square().mean().sqrt() < 1.5 and 0.5 < batch.part.square().mean().sqrt() < 1.5


@pytest.mark.parametrize("clips, frames, views, match", [
    ([], 1, 1, "no clips"), ([toy_clip()], 9, 1, "5 frames"), ([toy_clip()], 1, 9, "4 views"),
    ([toy_clip()], 0, 1, "at least one"), ([toy_clip(), toy_clip(size=8)], 1, 1, "different sizes"),
    ([toy_clip(size=15)], 1, 1, "folded")])
def test_unusable_clips_are_named(clips, frames, views, match):
    with pytest.raises(ValueError, match=match):
        ClipTensors(clips, frames, views)


def rectangle(left, top, width, height, alpha=True, size=(120, 90)):
    picture = np.zeros((size[1], size[0], 4), np.uint8) if alpha else np.full((size[1], size[0], 3), 255, np.uint8)
    picture[top:top + height, left:left + width, :3] = (200, 30, 30)
    if alpha:
        picture[top:top + height, left:left + width, 3] = 255
    return picture


@pytest.mark.parametrize("alpha", [True, False])
@pytest.mark.parametrize("place", [(20, 30, 40, 20), (0, 0, 30, 90), (100, 10, 20, 20)])
def test_the_crop_centres_the_object_and_fills_the_image(alpha, place):
    frame = images.crop_to_object(rectangle(*place, alpha), 64, fill=0.75)[0]
    rows, columns = np.nonzero(frame.mean(-1) < 171)
    extents = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert max(extents) == pytest.approx(48, abs=1.5)
    assert extents[0] / extents[1] == pytest.approx(place[2] / place[3], rel=0.15)
    assert columns.mean() == pytest.approx(31.5, abs=1) and rows.mean() == pytest.approx(31.5, abs=1)
    assert (frame[0, 0] == 255).all()


def test_one_crop_serves_all_frames():
    video = np.stack([rectangle(10, 30, 20, 20), rectangle(90, 30, 20, 20)])
    frames = images.crop_to_object(video, 50, fill=1.0)
    centres = [np.nonzero(frame.mean(-1) < 171)[1].mean() for frame in frames]
    assert centres[0] == pytest.approx(4.5, abs=1) and centres[1] == pytest.approx(44.5, abs=1)


def test_all_kinds_of_pictures_are_the_same_picture():
    array = rectangle(20, 30, 40, 20)
    expected = images.as_frames(array)
    for other in (Image.fromarray(array), [Image.fromarray(array)], array[None], array / 255):
        assert np.array_equal(images.as_frames(other), expected)
    assert (images.as_frames(array[..., :3])[..., 3] == 255).all()


def test_alpha_is_blended_with_white():
    assert images.on_white(np.array([[0, 100, 200, 0], [0, 100, 200, 255], [0, 0, 0, 51]], np.uint8)).tolist() == [
        [255, 255, 255], [0, 100, 200], [204, 204, 204]]


@pytest.mark.parametrize("bad, match", [
    (np.zeros((4, 4)), "PIL image"), (np.zeros((0, 4, 4, 3), np.uint8), "at least"),
    (np.full((4, 4, 3), np.nan), "finite"), (np.full((4, 4, 3), 2.0), "finite"),
    (np.zeros((4, 4, 3), int), "uint8"), (np.full((4, 4, 3), 255, np.uint8), "background"),
    (np.zeros((4, 4, 4), np.uint8), "background"), ([], "PIL image"),
    ([Image.new("RGB", (3, 3)), Image.new("RGB", (4, 4))], "one size")])
def test_unusable_pictures_are_named(bad, match):
    with pytest.raises(ValueError, match=match):
        images.crop_to_object(bad, 8)
