"""Codes other than SP4D's, to compare it with."""

from dataclasses import replace

import numpy as np
import pytest
from diffusion_toys import toy_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from sp4dlib import coding
from sp4dlib.clips import orbit_rotation

CODES = [coding.ColorCode(), coding.ColorCode("random"), coding.ColorCode(frame="object"),
         coding.ColorCode(normalize="isotropic"), coding.ColorCode(frame="object", normalize="isotropic")]


@pytest.mark.parametrize("code", CODES)
def test_every_code_can_be_decoded(code):
    clip = replace(toy_clip(2, 3, 24), code=code)
    parts = coding.decode(clip.part_images, colors=clip.colors)
    assert np.array_equal(parts, clip.parts)
    assert clip.colors.shape == (3, 3) and pdist(np.vstack([clip.colors, [[1, 1, 1]]])).min() >= coding.MIN_DISTANCE


def test_the_default_is_the_papers():
    clip = toy_clip()
    assert clip.code == coding.SPATIAL
    expected = coding.part_colors(clip.centers[0], clip.boxes[0, 0], clip.cameras.rotation(0))
    np.testing.assert_array_equal(clip.colors, expected)


@settings(deadline=None, max_examples=20)
@given(first=st.integers(0, 3), second=st.integers(0, 3))
def test_the_objects_own_axes_do_not_depend_on_the_view(first, second):
    """From whichever view it starts, the object's frame gives the same colours; that of view 0 does not."""
    clip = toy_clip(2, 4)
    one, other = (clip.select([0, 1], [view]) for view in (first, second))
    own = [replace(each, code=coding.ColorCode(frame="object")).colors for each in (one, other)]
    np.testing.assert_allclose(own[0], own[1], atol=1e-6)
    if first != second:
        assert not np.allclose(one.colors, other.colors, atol=1e-3)


def test_the_objects_own_axes_are_those_of_the_rig():
    centers = np.array([[0.0, 0, 0], [0.2, 0.1, 0], [0.4, 0.3, 0.3], [0.1, 0.3, 0.9]])
    turn = orbit_rotation(70, 0)
    turned = coding.ColorCode(frame="object").colors(centers @ turn.T, None, None, turn.T)
    plain = coding.part_colors(centers, np.stack([centers.min(0), centers.max(0)]), frame="object")
    np.testing.assert_allclose(turned, plain, atol=1e-6)
    assert turned[:, 1].argmin() == 0 and turned[:, 2].argmax() == 3


def test_isotropic_colours_keep_proportions():
    clip = toy_clip()
    same = replace(clip, code=coding.ColorCode(normalize="isotropic"))
    expected = coding.part_colors(clip.centers[0], clip.boxes[0, 0], clip.cameras.rotation(0), normalize="isotropic")
    np.testing.assert_array_equal(same.colors, expected)
    assert not np.allclose(same.colors, clip.colors)


@settings(deadline=None, max_examples=25)
@given(count=st.integers(0, 60), seed=st.integers(0, 2**32 - 1))
def test_random_colours_are_far_apart(count, seed):
    colors = coding.random_colors(count, seed)
    assert colors.shape == (count, 3) and (colors >= 0).all() and (colors <= 1).all()
    assert np.array_equal(colors, coding.random_colors(count, seed))
    if count:
        assert pdist(np.vstack([colors, [[1, 1, 1]]])).min() >= coding.MIN_DISTANCE - 1e-9


def test_random_colours_belong_to_the_object_not_to_the_window():
    clip = replace(toy_clip(3, 4), code=coding.ColorCode("random"))
    assert np.array_equal(clip.colors, clip.select([2, 1], [3, 0]).colors)
    assert not np.allclose(clip.colors, replace(clip, source="another").colors)


@pytest.mark.parametrize("field", ["palette", "frame", "normalize"])
def test_codes_that_do_not_exist_are_named(field):
    with pytest.raises(ValueError, match=f"{field} of a colour code is one of .*'pastel'"):
        coding.ColorCode(**{field: "pastel"})
