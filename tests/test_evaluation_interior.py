"""Masks that scores are taken over."""

import numpy as np
import pytest

from sp4dlib import evaluation


def test_interior_is_what_a_border_does_not_reach():
    ids = np.full((1, 9, 9), -1)
    ids[:, :, 4:] = 3
    inside = evaluation.interior(ids, size=3)
    assert inside.shape == ids.shape
    assert not inside[0, :, 3:5].any() and inside[0, :, :3].all() and inside[0, :, 5:].all()
    with pytest.raises(ValueError, match="odd size"):
        evaluation.interior(ids, size=4)
