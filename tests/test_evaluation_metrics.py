"""Scores with known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import adjusted_rand_score

from sp4dlib.evaluation import segmentation_scores

ids = arrays.arrays(np.int16, (2, 3, 4, 5), elements=st.integers(-1, 5))


def test_known_answer():
    true = np.array([[0, 0, 0, 0, 1, 1, -1, -1]])
    predicted = np.array([[7, 7, 7, 3, 3, 3, 3, -1]])
    scores = segmentation_scores(predicted, true)
    assert scores["ids"] == [0, 1] and scores["matched"] == [7, 3]
    assert scores["iou"] == pytest.approx([3 / 4, 2 / 4])               # 3 also covers a 0 and a background pixel
    assert scores["miou"] == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert scores["f1"] == pytest.approx((2 * 3 / (3 + 4) + 2 * 2 / (4 + 2)) / 2)
    assert scores["macc"] == pytest.approx((3 / 4 + 1) / 2)
    assert scores["ari"] == pytest.approx(adjusted_rand_score([0, 0, 0, 0, 1, 1], [7, 7, 7, 3, 3, 3]))
    assert (scores["num_parts"], scores["num_predicted"]) == (2, 2)


def test_unmatched_parts_score_zero():
    scores = segmentation_scores(np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 1]]))
    assert scores["matched"] == [0, -1] and scores["miou"] == pytest.approx(3 / 8)
    nothing = segmentation_scores(np.full((2, 2), -1), np.array([[0, 1], [1, -1]]))
    assert nothing["miou"] == nothing["f1"] == nothing["macc"] == 0 and nothing["num_predicted"] == 0


def test_matching_is_the_best_in_sum_not_the_first_found():
    true = np.repeat([0, 1], [10, 6])[None]
    predicted = np.repeat([5, 4, 5], [5, 5, 6])[None]                   # 5 overlaps 1 more than 0, 4 only 0
    assert segmentation_scores(predicted, true)["matched"] == [4, 5]


def test_ids_must_hold_over_the_whole_clip():
    true = np.stack([np.full((4, 4), 0), np.full((4, 4), 0)])
    true[:, :, 2:] = 1
    swapped = true.copy()
    swapped[1] = 1 - swapped[1]
    assert segmentation_scores(true, true)["miou"] == 1
    assert segmentation_scores(swapped, true)["miou"] == pytest.approx(1 / 3)


def test_parts_that_image_0_does_not_show_are_left_out():
    true = np.zeros((2, 2, 2, 4), int)
    true[0, 0, :, 2:] = 1
    true[1, 1] = 2
    predicted = np.where(true == 2, 0, true)
    scores = segmentation_scores(predicted, true)
    assert scores["ids"] == [0, 1]
    assert scores["miou"] == scores["f1"] == scores["macc"] == scores["ari"] == 1


@settings(max_examples=60, deadline=None)
@given(ids, ids, st.permutations(range(6)))
def test_bounds_renaming_and_scikit_learn(predicted, true, names):
    true[0, 0, 0, 0] = 0
    scores = segmentation_scores(predicted, true)
    for name in ("miou", "f1", "macc"):
        assert 0 <= scores[name] <= 1
    assert scores["miou"] <= scores["f1"] and -1 <= scores["ari"] <= 1
    renamed = np.where(predicted >= 0, np.array(names)[predicted] + 40, -1)
    assert segmentation_scores(renamed, true)["miou"] == pytest.approx(scores["miou"])
    counted = np.isin(true, scores["ids"])
    assert scores["ari"] == pytest.approx(adjusted_rand_score(true[counted], predicted[counted]))
    perfect = segmentation_scores(np.where(true >= 0, 9 - true, -1), true)
    assert all(perfect[name] == pytest.approx(1) for name in ("miou", "f1", "macc", "ari"))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="one shape"):
        segmentation_scores(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="integer ids"):
        segmentation_scores(np.zeros((2, 2)), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="no true part"):
        segmentation_scores(np.zeros((2, 2), int), np.full((2, 2), -1))
