"""Clips in a mirror and in other colours."""

import numpy as np
import pytest
import torch
from clips_rigs import arm

from sp4dlib.clips import kinematic_parts, make_clip
from sp4dlib.clips.augment import mirror, recolor


@pytest.fixture(scope="module")
def clip():
    rig = arm((1.0, 0.8, 0.5, 0.3))
    return make_clip(rig, rig.animations[0], [0.0, 0.7], [0, 50, 160, 250], [10, -5, 20, 0], 48,
                     parts=kinematic_parts(rig))


def test_a_point_of_the_object_is_seen_where_the_mirror_shows_it(clip):
    other = mirror(clip)
    points = np.random.default_rng(0).normal(size=(20, 3))
    for view, twin in enumerate((0, 3, 2, 1)):
        pixels, depth = clip.cameras.project(points, view)
        seen, far = other.cameras.project(points, twin)
        np.testing.assert_allclose(seen, pixels * [-1, 1] + [48, 0], atol=1e-9)
        np.testing.assert_allclose(far, depth, atol=1e-12)
        np.testing.assert_array_equal(other.parts[:, twin], clip.parts[:, view, :, ::-1])
        np.testing.assert_array_equal(other.rgb[:, twin], clip.rgb[:, view, :, ::-1])


def test_colours_of_parts_are_those_of_the_mirrored_object(clip):
    other = mirror(clip)
    np.testing.assert_allclose(other.colors, clip.colors * [-1, 1, 1] + [1, 0, 0], atol=1e-9)
    np.testing.assert_array_equal(other.cameras.azimuths, [0, 110, 200, 310])
    np.testing.assert_array_equal(other.cameras.elevations, [10, 0, 20, -5])
    assert (other.boxes[:, :, 0] <= other.boxes[:, :, 1]).all()


def test_two_mirrors_give_the_clip_back(clip):
    again = mirror(mirror(clip))
    for name in ("rgb", "parts", "centers", "boxes", "times"):
        np.testing.assert_allclose(getattr(again, name), getattr(clip, name), atol=1e-12)
    np.testing.assert_allclose(again.cameras.azimuths, clip.cameras.azimuths)
    np.testing.assert_allclose(again.cameras.normalize, clip.cameras.normalize)


def test_other_colours_leave_white_and_all_but_the_colours(clip):
    other = recolor(clip, torch.Generator().manual_seed(1))
    white = (clip.rgb == 255).all(-1)
    assert (other.rgb[white] == 255).all() and not np.array_equal(other.rgb, clip.rgb)
    assert other.parts is clip.parts and other.centers is clip.centers
    same = recolor(clip, torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(other.rgb, same.rgb)
    flat = clip.rgb.reshape(-1, 3).astype(int)
    order = [max(range(3), key=lambda c: np.corrcoef(flat[:, c], other.rgb.reshape(-1, 3)[:, i])[0, 1])
             for i in range(3)]
    assert sorted(order) == [0, 1, 2], "each channel comes from one of the clip's"
