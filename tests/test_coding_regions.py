"""Pictures of an unsure network, read inside known silhouettes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from sp4dlib import coding
from sp4dlib.coding.regions import by_size, smoothed
from sp4dlib.evaluation import segmentation_scores


def chain(size=64, parts=7):
    """A row of parts that moves up and down: ids (S, H, W), and colours that run from one end to the other."""
    row, column = np.mgrid[:size, :size]
    inside = [(abs(row - size // 2 - shift) < 8) & (column >= 4) & (column < 4 + 8 * parts) for shift in (-6, 0, 6)]
    colors = np.stack([np.linspace(0.1, 0.9, parts), np.full(parts, 0.4), np.full(parts, 0.6)], 1)
    return np.where(inside, (column - 4) // 8, -1), colors


def unsure(ids, colors, blur=5.0, pale=0.5, noise=6.0, seed=0):
    """Pictures whose colours run into each other, half as strong as they should be, and noisy."""
    clean = coding.encode(ids, colors).astype(float)
    inside = ids >= 0
    weight = gaussian_filter(inside.astype(float), (0, blur, blur))
    sums = gaussian_filter(np.where(inside[..., None], clean, 0), (0, blur, blur, 0))
    mean = sums / np.maximum(weight, 1e-6)[..., None]
    picture = np.where(inside[..., None], 128 + pale * (mean - 128), 255)
    picture += np.random.default_rng(seed).normal(0, noise, picture.shape)
    return picture.round().clip(0, 255).astype(np.uint8)


def test_colours_that_run_into_each_other_are_cut_where_they_change():
    ids, colors = chain()
    pictures = unsure(ids, colors)
    told = segmentation_scores(coding.decode(pictures, 7, inside=ids >= 0), ids)
    plain = segmentation_scores(coding.fill_silhouette(coding.decode(pictures, 7), ids >= 0), ids)
    assert told["miou"] > 0.5 and told["miou"] > plain["miou"] + 0.2


def test_clean_pictures_stay_exact():
    ids, colors = chain()
    found = coding.decode(coding.encode(ids, colors), inside=ids >= 0)
    assert segmentation_scores(found, ids)["miou"] == 1
    more = np.roll(ids >= 0, 1, 2) | (ids >= 0)
    assert np.array_equal(coding.decode(coding.encode(ids, colors), inside=more) >= 0, more)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**31))
def test_exactly_the_silhouette_has_parts_and_as_many_as_told(count, seed):
    generator = np.random.default_rng(seed)
    pictures = generator.integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    inside = generator.random((2, 24, 24)) < 0.4
    parts = coding.decode(pictures, count, inside=inside)
    assert parts.dtype == np.int16 and np.array_equal(parts >= 0, inside)
    sizes = np.bincount(parts[inside])
    assert len(sizes) == count and (np.diff(sizes) <= 0).all()
    assert np.array_equal(parts, coding.decode(pictures, count, inside=inside))


def test_without_a_number_it_is_estimated_and_nothing_inside_is_left_out():
    ids, colors = chain()
    parts = coding.decode(unsure(ids, colors, blur=1.0, pale=0.9), inside=ids >= 0)
    assert np.array_equal(parts >= 0, ids >= 0) and 2 <= parts.max() + 1 <= 12


def test_an_empty_silhouette_and_a_single_colour():
    picture = np.random.default_rng(0).integers(0, 255, (1, 16, 16, 3), dtype=np.uint8)
    assert (coding.decode(picture, 3, inside=np.zeros((1, 16, 16), bool)) == -1).all()
    grey = np.full((2, 16, 16, 3), 90, np.uint8)
    grey[0, 0, 0] = 91                                              # else it would be clean
    inside = np.zeros((2, 16, 16), bool)
    inside[:, 4:9, 4:9] = True
    assert (coding.decode(grey, 3, inside=inside)[inside] == 0).all()


def test_smoothing_takes_nothing_from_outside():
    inside = np.zeros((1, 32, 32), bool)
    inside[:, 10:20, 10:20] = True
    picture = np.where(inside[..., None], 100, 255).astype(np.uint8) * np.ones(3, np.uint8)
    np.testing.assert_allclose(smoothed(picture, inside)[inside], 100)


def test_labels_count_by_size():
    assert by_size(np.array([5, 5, 2, 9, 9, 9, 2])).tolist() == [2, 2, 1, 0, 0, 0, 1], "of equals the lower first"


@pytest.mark.parametrize("wrong", [np.zeros((1, 8, 8)), np.zeros((1, 8, 7), bool)])
def test_other_silhouettes_are_refused(wrong):
    with pytest.raises(ValueError, match="inside must be bool of shape"):
        coding.decode(np.zeros((1, 8, 8, 3), np.uint8), 2, inside=wrong)


def test_silhouettes_and_colours_do_not_go_together():
    with pytest.raises(ValueError, match="no colors beside it"):
        coding.decode(np.zeros((1, 8, 8, 3), np.uint8), colors=[[0, 0, 0]], inside=np.ones((1, 8, 8), bool))


def test_places_count_where_they_are_told_to():
    """Two halves of one colour can only be told apart by where they lie."""
    inside = np.zeros((2, 32, 32), bool)
    inside[:, 8:24, 2:30] = True
    grey = np.full((2, 32, 32, 3), 120, np.uint8)
    grey += np.random.default_rng(0).integers(0, 9, grey.shape, dtype=np.uint8)
    true = np.where(inside, np.arange(32) >= 16, -1).astype(int)
    assert segmentation_scores(coding.decode(grey, 2, inside=inside, place=1.0), true)["miou"] > 0.8
    assert segmentation_scores(coding.decode(grey, 2, inside=inside), true)["miou"] < 0.7


def test_more_parts_than_clusters_come_back_as_told():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    parts = coding.decode(pictures, 100, inside=np.ones((2, 40, 40), bool))
    assert parts.max() + 1 == 100
