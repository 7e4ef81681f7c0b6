"""Parts to colours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from sp4dlib import coding
from sp4dlib.clips import orbit_rotation

BOX = np.array([[-1.0, -2, -3], [1, 2, 3]])


def clouds(kind, count, seed):
    random = np.random.default_rng(seed)
    return {"spread": lambda: random.uniform(BOX[0], BOX[1], (count, 3)),
            "crowd": lambda: random.normal(0, 0.1, (count, 3)),
            "white": lambda: BOX[1] - random.random((count, 3)) * 0.1,
            "equal": lambda: np.zeros((count, 3))}[kind]()


def test_colour_is_place_in_the_box_as_view_0_sees_it():
    centers = np.array([[0.5, -1, 1.5], [-0.5, 1, 0]])
    np.testing.assert_allclose(coding.part_colors(centers, BOX, np.eye(3)), [[0.75, 0.25, 0.75], [0.25, 0.75, 0.5]])
    turned = orbit_rotation(90, 0)                            # from +x, whose axes are: right = -z, towards = +x
    box = np.array([[-3.0, -2, -1], [3, 2, 1]])
    np.testing.assert_allclose(coding.part_colors(centers, box, turned), [[0.25, 0.25, 0.75], [0.5, 0.75, 0.25]],
                               atol=1e-9)
    np.testing.assert_allclose(coding.part_colors(centers, BOX, turned, frame="object"),
                               coding.part_colors(centers, BOX, np.eye(3)))


def test_isotropic_scale_keeps_proportions_and_flat_boxes_give_the_middle():
    centers = np.array([[1.0, 2, 3]])
    np.testing.assert_allclose(coding.part_colors(centers, BOX, np.eye(3), normalize="isotropic", min_distance=0.01),
                               [[4 / 6, 5 / 6, 1]])
    flat = np.array([[-1.0, 0, -1], [1, 0, 1]])
    assert coding.part_colors([[0.2, 0, 0.2]], flat, np.eye(3))[0, 1] == 0.5


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["spread", "crowd", "white", "equal"]), st.integers(1, 60), st.integers(0, 99))
def test_colours_lie_in_the_cube_and_apart_from_each_other_and_white(kind, count, seed):
    centers = clouds(kind, count, seed)
    colors = coding.part_colors(centers, BOX, np.eye(3))
    assert colors.min() >= 0 and colors.max() <= 1
    assert pdist(np.vstack([colors, np.ones(3)])).min() >= coding.MIN_DISTANCE - 1e-9
    levels = np.unique(np.vstack([np.round(colors * 255), [[255] * 3]]), axis=0)
    assert len(levels) == count + 1
    np.testing.assert_array_equal(colors, coding.part_colors(centers, BOX, np.eye(3)))
    if kind != "equal":
        order = np.random.default_rng(seed).permutation(count)
        np.testing.assert_array_equal(coding.part_colors(centers[order], BOX, np.eye(3)), colors[order])


def test_hundred_parts_and_far_more_fit():
    for kind in ("crowd", "equal", "white"):
        colors = coding.part_colors(clouds(kind, 100, 0), BOX, np.eye(3))
        assert pdist(np.vstack([colors, np.ones(3)])).min() >= coding.MIN_DISTANCE - 1e-9
    many = coding.part_colors(clouds("crowd", 900, 0), BOX, np.eye(3))
    assert pdist(np.vstack([many, np.ones(3)])).min() >= 1 / 9 - 1e-9      # 10^3 is the first cube with room for 901


def test_colours_that_collide_with_nothing_stay():
    centers = np.array([[-0.9, -1.8, -2.7], [0.0, 0, 0], [0.001, 0, 0]])
    colors = coding.part_colors(centers, BOX, np.eye(3))
    np.testing.assert_allclose(colors[0], 0.05)
    assert np.linalg.norm(colors[1:] - 0.5, axis=1).max() < 0.6 * coding.MIN_DISTANCE      # half each, no more


@pytest.mark.parametrize("change, message", [
    ({"centers": [[0, 0, np.nan]]}, r"parts \[0\] have no finite centre"),
    ({"centers": [0, 0, 0]}, r"centers must be \(K, 3\)"),
    ({"box": BOX[::-1]}, "lowest then highest"),
    ({"camera0": None}, "needs camera0"),
    ({"normalize": "max"}, "per-axis"),
    ({"frame": "world"}, "frame must be"),
    ({"min_distance": -0.1}, "share of the colour cube"),
    ({"centers": np.zeros((30, 3)), "min_distance": 0.9}, "do not fit"),
])
def test_bad_input_is_named(change, message):
    given_ = {"centers": np.zeros((2, 3)), "box": BOX, "camera0": np.eye(3)} | change
    with pytest.raises(ValueError, match=message):
        coding.part_colors(given_.pop("centers"), given_.pop("box"), given_.pop("camera0"), **given_)


def test_encode_paints_ids_and_white():
    parts = np.array([[[0, 1], [-1, 1]]], np.int16)
    images = coding.encode(parts, [[0, 0.5, 1], [1, 0, 0]])
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[0], [[[0, 128, 255], [255, 0, 0]], [[255] * 3, [255, 0, 0]]])


def test_encode_names_bad_input():
    with pytest.raises(ValueError, match="ids from 0 to 2, but there are 2 colours"):
        coding.encode(np.array([[0, 2]]), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="must be integers"):
        coding.encode(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        coding.encode(np.zeros((2, 2), int), [[0, 0, 255]])


def test_small_parts_fold_into_their_parents():
    parts = np.array([[0] * 50 + [1] * 47 + [2] * 1 + [3] * 2 + [-1] * 20])
    folded, kept = coding.fold_small_parts(parts, [-1, 0, 1, 2, 2], 0.03)
    np.testing.assert_array_equal(kept, [0, 1, 2])            # 3 joins 2, which is then large enough; 4 is unseen
    np.testing.assert_array_equal(np.bincount(folded.ravel() + 1), [20, 50, 47, 3])
    folded, kept = coding.fold_small_parts(np.array([[0, 1, 1, 1, 1, 2, 2, 2, 2, 2, -1]]), [-1, 0, 0], 0.2)
    np.testing.assert_array_equal(kept, [1, 2])               # a root that is too small joins its largest child
    np.testing.assert_array_equal(folded, [[1, 0, 0, 0, 0, 1, 1, 1, 1, 1, -1]])
    with pytest.raises(ValueError, match="precede"):
        coding.fold_small_parts(parts, [1, -1, 0, 0], 0.1)


def test_resampling_keeps_flat_pictures_and_means():
    random = np.random.default_rng(0)
    flat = np.full((2, 8, 8, 3), 77.0)
    np.testing.assert_allclose(coding.resample(flat, 2), flat)
    image = np.zeros((1, 8, 8, 1))
    image[0, 2:4, 2:4] = 16
    np.testing.assert_allclose(coding.resample(image, 2)[0, 1:5, 2, 0], [3, 9, 9, 3])      # linear weights 1/4 and 3/4
    assert coding.corrupt(np.zeros((4, 4, 3), np.uint8), 0, 1, random).max() == 0
    with pytest.raises(ValueError, match="divide"):
        coding.resample(np.zeros((1, 9, 8, 3)), 2)
    parts = np.full((1, 8, 8), -1)
    parts[0, 2:6, 2:6] = 4
    np.testing.assert_array_equal(coding.resampled_parts(parts, 1), parts)
    assert set(np.unique(coding.resampled_parts(parts, 2))) == {-1, 4}
